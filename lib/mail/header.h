/// Message headers (RFC 5322 section 2.2, RFC 6532): splitting, searching, streaming.
///
/// Lines may end in LF or CRLF.  Nothing is copied or changed unless a function says so; all views
/// point into the caller's text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postern {

/// One field.  `whole` is the field as it stands, folded, without its last line end; `name` without the
/// colon and without obsolete white space before it; `value` is all after the colon, folded, with its
/// leading white space.
struct HeaderField {
    std::string_view name;
    std::string_view value;
    std::string_view whole;
};

/// Where header and body are.  `header` ends with the line end of its last field; the separating empty
/// line is in neither; `body` is empty when there is none.
struct MessageParts {
    std::string_view header;
    std::string_view body;
    bool has_separator = false;   ///< the empty line exists
};

/// Splits at the first empty line.  A line in the header that is no field does not end it (IMAP and POP3
/// clients must see the same bytes that were stored).
MessageParts split_message(std::string_view message);

/// Walks over a header block, one field at a time, until its end or an empty line.  A leading `From `
/// line of an mbox is skipped.  A line that is no field is delivered with an empty name and its text as
/// value.
class HeaderReader {
public:
    explicit HeaderReader(std::string_view header) : rest_(header) {}
    /// False at the end of the header; `rest()` is then what follows the empty line.
    bool next(HeaderField& field);
    std::string_view rest() const { return rest_; }
    bool saw_separator() const { return separator_; }

private:
    std::string_view rest_;
    bool separator_ = false;
    bool first_ = true;
};

/// All fields of a header block, at most `max_fields`.
std::vector<HeaderField> split_header(std::string_view header, std::size_t max_fields = 10000);
/// The first field called `name` (case ignored), or one with an empty `whole`.
HeaderField find_field(std::string_view header, std::string_view name);

/// RFC 5322 section 2.2.3: removes line ends that are followed by white space (the white space stays),
/// and white space at both ends.
std::string unfold(std::string_view value);
/// Without comments and with runs of white space outside quoted strings as one space (RFC 5322 section
/// 3.2.2): for structured fields such as Content-Transfer-Encoding, of which only tokens matter.
std::string strip_comments(std::string_view value);

/// True when `line` begins a header field: a name of printable ASCII without space, then optional white
/// space, then a colon (RFC 5322 sections 3.6.8 and 4.5.8; Postfix's is_header()).  Returns the length of
/// the name, 0 when it is none.
std::size_t header_name_length(std::string_view line);

struct HeaderLimits {
    std::size_t max_field_bytes = 102400;      ///< header_size_limit: what is longer is cut off
    std::size_t max_header_bytes = 16u << 20;  ///< of all fields; beyond it the header ends as if by force
    std::size_t max_fields = 20000;
};

/// Finds the fields of a message that arrives in pieces of any size.
///
///     HeaderScanner scanner(limits);
///     std::string_view body = scanner.feed(piece);   // until scanner.done()
///     for (std::string& field : scanner.take_fields()) ...
///     write(scanner.body_start()); write(body);      // once done
///
/// Lines are expected to end in LF (a CR before it is kept out of the fields; inside folded fields the
/// line ends become LF).  The header ends at an empty line, at a line that can be no header field (the
/// empty line is then missing, and that line belongs to the body), or at the end of the message.
class HeaderScanner {
public:
    explicit HeaderScanner(HeaderLimits limits = {}) : limits_(limits) {}

    /// Takes the next bytes of the message; returns those that belong to the body, empty while the header
    /// goes on.  After done() everything is returned.
    std::string_view feed(std::string_view piece);
    /// The message ends here.
    void finish();

    bool done() const { return done_; }
    /// Fields completed since the last call, in order, each as in HeaderField::whole.
    std::vector<std::string> take_fields();
    /// Body bytes that had been taken for header; they come before what feed() returned.  After done().
    const std::string& body_start() const { return body_start_; }
    bool missing_separator() const { return missing_separator_; }   ///< ended without an empty line
    bool truncated() const { return truncated_; }                   ///< a field was longer than allowed
    const std::string& mbox_from() const { return mbox_from_; }     ///< `From ` line before the header

private:
    void line_complete(bool has_newline);
    void end_field();
    void end_header(bool missing_separator);

    HeaderLimits limits_;
    std::string line_;            ///< the line being collected
    std::string field_;           ///< the field being collected
    std::vector<std::string> fields_;
    std::string body_start_;
    std::string mbox_from_;
    std::size_t header_bytes_ = 0;
    std::size_t field_count_ = 0;
    bool in_field_ = false;
    bool first_line_ = true;
    bool done_ = false;
    bool missing_separator_ = false;
    bool truncated_ = false;
};

}  // namespace postern
