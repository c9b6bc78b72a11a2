/// Cuts a message that arrives in pieces into header fields and body, keeping every byte.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::cleanup {

/// Feed it pieces cut anywhere; it hands out whole fields, then everything else as body.
///
/// The header ends at the empty line, at a line that is no header field (Postfix's rule), or at finish().  The body
/// starts with the empty line.  A message that begins with something else than a field has no header: then, and
/// only then, an empty line that was not there is put before the body, as Postfix does, so that fields put in
/// front of it stay apart from it.
class ContentSplitter {
public:
    /// `field_limit` is header_size_limit: what a field has beyond it is dropped up to its last line end.
    /// `header_limit` bounds all fields together.
    ContentSplitter(std::size_t field_limit, std::size_t header_limit)
        : field_limit_(field_limit), header_limit_(header_limit) {}

    /// Takes a piece.  Completed fields are added to fields(), body bytes to body().
    void feed(std::string_view piece);
    /// The message ends here; a last line without LF gets one (a message is made of lines).
    void finish();

    /// Fields since the last call: whole, folded, with their last LF.
    std::vector<std::string> take_fields() { return std::exchange(fields_, {}); }
    /// Body bytes since the last call.
    std::string take_body() { return std::exchange(body_, {}); }
    /// No more fields will come.
    bool header_done() const { return header_done_; }
    /// The header passed its limit: the message must be refused.
    bool header_too_big() const { return header_too_big_; }
    /// The body begins without an empty line, after at least one field.
    bool missing_separator() const { return missing_separator_; }
    /// "From " line of an mbox or the like at the very start, without LF; it is no field.
    bool starts_with_from_line() const { return from_line_; }

private:
    void header_line(std::string line);
    void end_field();

    std::size_t field_limit_, header_limit_;
    std::vector<std::string> fields_;
    std::string line_, field_, body_;
    std::size_t header_bytes_ = 0;
    std::size_t field_count_ = 0;
    bool header_done_ = false, header_too_big_ = false, missing_separator_ = false, from_line_ = false;
    char last_byte_ = '\n';
};

}  // namespace postern::cleanup
