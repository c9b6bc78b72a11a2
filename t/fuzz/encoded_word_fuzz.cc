// Encoded words, parameters, character sets, modified UTF-7.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/base/utf8.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/parameters.h"
#include "lib/mail/transfer_encoding.h"
#include "lib/mail/utf7.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (!valid_utf8(decode_header_text(text)) || !valid_utf8(decode_encoded_words(text)) || !valid_utf8(sanitize_utf8(text))) {
        std::abort();
    }
    const ContentType type = parse_content_type(text);
    (void)decode_parameters(type.parameters);
    (void)parse_content_disposition(text);
    if (valid_utf8(text)) {
        if (decode_encoded_words(encode_header_text(text)).size() < text.size() / 2) {
            std::abort();
        }
        if (imap_utf7_to_utf8(*utf8_to_imap_utf7(text)) != text) {
            std::abort();
        }
    }
    const std::optional<std::string> name = imap_utf7_to_utf8(text);
    if (name && utf8_to_imap_utf7(*name) != text) {
        std::abort();
    }
    const std::string encoded = encode_quoted_printable(text);
    if (decode_quoted_printable(encoded) != text || decode_base64(encode_base64_lines(text)) != text) {
        std::abort();
    }
    return 0;
}
