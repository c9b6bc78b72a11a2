/// Replies of SMTP and LMTP servers (RFC 5321 section 4.2, RFC 2034).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postern::smtp {

/// One whole reply.
struct Reply {
    int code = 0;        ///< 200 to 599; 0 before a reply was read
    std::string dsn;     ///< enhanced status code; "X.0.0" when the server gave none that fits the code
    std::string text;    ///< all lines with their codes, separated by LF; other control characters are replaced

    std::string one_line() const;   ///< as it stands in the log
    bool positive() const { return code / 100 == 2; }
    bool intermediate() const { return code / 100 == 3; }
    bool permanent() const { return code / 100 == 5; }
};

/// Puts a reply together line by line.
class ReplyParser {
public:
    enum class State : unsigned char {
        more,      ///< a continuation line: feed the next one
        done,      ///< reply() is complete
        garbage,   ///< the line is no reply line
    };
    /// `line` is without its line end.  After done, begins anew.
    State feed(std::string_view line);
    const Reply& reply() const { return reply_; }
    Reply take();

    /// What is kept of a reply's text; the rest is dropped (a server may send lines for ever).
    static constexpr std::size_t kMaxText = 16 * 1024;

private:
    Reply reply_;
    bool finished_ = true;
};

/// The length of an enhanced status code (RFC 3463 section 2) that `text` begins with and that is followed by a
/// blank or the end; 0 when there is none.
std::size_t enhanced_code_length(std::string_view text);

}  // namespace postern::smtp
