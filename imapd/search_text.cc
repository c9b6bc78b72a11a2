/// Searching the text of a message: header fields with encoded words decoded, bodies with transfer encoding and
/// character set undone.
#include <algorithm>
#include <cstring>

#include "imapd/fold.h"
#include "imapd/search.h"
#include "lib/base/strings.h"
#include "lib/mail/charset.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/header.h"
#include "lib/mail/mime.h"
#include "lib/mail/transfer_encoding.h"

namespace postern::imapd {

namespace {

bool header_contains(std::string_view header, const std::string& needle) {
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        if (contains_folded(decode_header_text(field.whole), needle)) {
            return true;
        }
    }
    return false;
}

bool plain_charset(std::string_view charset) {
    return charset.empty() || equals_ignoring_case(charset, "us-ascii") || equals_ignoring_case(charset, "utf-8");
}

bool is_text(const MimePart& part) { return equals_ignoring_case(part.type.type, "text"); }

bool part_contains(const MimeTree& tree, const MimePart& part, const std::string& needle) {
    std::string_view body = part.body.of(tree.message());
    std::string decoded;
    const TransferEncoding encoding = parse_transfer_encoding(part.transfer_encoding);
    if (encoding == TransferEncoding::base64 || encoding == TransferEncoding::quoted_printable) {
        decoded = decode_transfer(encoding, body);
        body = decoded;
    }
    const std::string* const charset = find_parameter(part.type.parameters, "charset");
    if (charset != nullptr && !plain_charset(*charset)) {
        return contains_folded(to_utf8_or_guess(*charset, body), needle);
    }
    return contains_folded(body, needle);
}

}  // namespace

bool message_contains(std::string_view message, const std::string& needle, bool header) {
    const MimeTree tree = MimeTree::parse(message);
    for (std::size_t i = 0; i < tree.parts().size(); ++i) {
        const MimePart& part = tree.parts()[i];
        // Headers of parts and of enclosed messages belong to the body (RFC 3501 section 6.4.4, BODY).
        if ((i > 0 || header) && header_contains(part.header.of(message), needle)) {
            return true;
        }
        if (!part.is_multipart && !part.is_message && is_text(part) && part_contains(tree, part, needle)) {
            return true;
        }
    }
    return false;
}

}  // namespace postern::imapd
