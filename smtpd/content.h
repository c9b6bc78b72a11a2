/// The content of DATA (RFC 5321 section 4.1.1.4) taken off the wire: dots unstuffed, lines ended by LF, the end found.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::smtpd {

/// What a LF without CR before it means (smtpd_forbid_bare_newline).
enum class BareNewline : unsigned char {
    accept,      ///< a line end, also around the final dot: only for clients that are trusted (exclusions)
    normalize,   ///< a line end inside the message; only CRLF.CRLF ends the message
    reject,      ///< as normalize, and the message is refused at its end
    note,        ///< as accept; only noted
};

/// Fed with bytes as they come, cut anywhere.  What is kept: every byte but the CR of a CRLF and the first of two
/// dots that begin a line.  A CR elsewhere is ordinary.
class DataDecoder {
public:
    explicit DataDecoder(BareNewline policy) : policy_(policy) {}

    /// Decodes from `wire` into `content` (appended) until the end of data or of `wire`.  Returns how many bytes
    /// of `wire` were used; after finished() the rest is the next command.
    std::size_t feed(std::string_view wire, std::string& content);

    bool finished() const { return finished_; }
    /// A LF came without its CR.
    bool saw_bare_newline() const { return bare_newline_; }

private:
    enum class At : unsigned char {
        line_start,     ///< after CRLF (or the DATA command's reply)
        bare_start,     ///< after a LF without CR
        dot,            ///< a dot began the line
        dot_cr,         ///< CR after that dot
        text,
        text_cr,        ///< CR inside a line: kept back until it is clear whether LF follows
    };
    void end_line(bool had_cr, std::string& content);
    bool dot_may_end(bool newline_is_bare) const;

    BareNewline policy_;
    At at_ = At::line_start;
    bool started_bare_ = false;   ///< the line with the dot began after a bare LF
    bool bare_newline_ = false;
    bool finished_ = false;
};

/// BDAT content (RFC 3030): CRLF becomes LF, every other byte stays.  `pending_cr` carries a CR at the end of one
/// piece over to the next; the caller appends it at the end of the message.  True when a LF came without its CR.
bool unix_lines(std::string_view wire, bool& pending_cr, std::string& content);

}  // namespace postern::smtpd
