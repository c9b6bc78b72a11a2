/// Values with parameters: Content-Type and Content-Disposition (RFC 2045 section 5.1, RFC 2183), and
/// their extended parameters (RFC 2231).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postern {

struct MimeParameter {
    std::string name;    ///< as written
    std::string value;   ///< quoting undone
    bool operator==(const MimeParameter&) const = default;
};
using MimeParameters = std::vector<MimeParameter>;

inline constexpr std::size_t kMaxParameters = 200;

struct ContentType {
    std::string type;      ///< as written; empty when the value makes no sense
    std::string subtype;   ///< as written; empty when missing
    MimeParameters parameters; ///< in order, RFC 2231 sections not yet joined
};
struct ContentDisposition {
    std::string type;      ///< as written; empty when the value makes no sense
    MimeParameters parameters;
};

/// `type/subtype; name=value`, folded or not, with comments.  Tolerates missing semicolons' values, spaces in
/// unquoted values, bad characters in tokens, a missing closing quote.
ContentType parse_content_type(std::string_view value);
ContentDisposition parse_content_disposition(std::string_view value);
/// What follows the first `;`.
MimeParameters parse_parameters(std::string_view text);

/// RFC 2231 sections 3 and 4: joins `name*0`, `name*1*` and decodes `name*`, to UTF-8.  A decoded form
/// replaces the plain one of the same name.  With `encoded_words`, RFC 2047 words in plain values are decoded too
/// (not allowed there, but common).
MimeParameters decode_parameters(const MimeParameters& raw, bool encoded_words = true);

/// RFC 2231 section 6, for IMAP: joins `name*0` and `name*1` into `name`, or, where one of them is encoded, into `name*`;
/// nothing is decoded.  What cannot be joined stays as it is.
MimeParameters join_parameters(const MimeParameters& raw);

/// The value of `name` (case ignored), or nullptr.
const std::string* find_parameter(const MimeParameters& parameters, std::string_view name);

}  // namespace postern
