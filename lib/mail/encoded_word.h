/// Encoded words in headers (RFC 2047).
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// Header text as UTF-8: unfolded, encoded words decoded, white space between adjacent ones dropped
/// (RFC 2047 section 6.2), a character split over two words of one charset joined, raw 8-bit bytes that are
/// not UTF-8 replaced.  Malformed words stay as they are.  White space at both ends is removed.
std::string decode_header_text(std::string_view raw);

/// The same for text that is already unfolded; white space at the ends is kept.
std::string decode_encoded_words(std::string_view text);

/// UTF-8 as header text: unchanged when it is printable ASCII that cannot be mistaken for an encoded word,
/// else as encoded words of at most 75 characters, joined by "\n " (RFC 2047 section 2).
/// `for_phrase` restricts the alphabet as display names need it (section 5 rule 3).  `charset` says what `text` is in when
/// that is not UTF-8; it is a token, and its characters are single bytes.
std::string encode_header_text(std::string_view text, bool for_phrase = false, std::string_view charset = "UTF-8");

}  // namespace postern
