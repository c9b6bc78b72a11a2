#include "smtp/seven_bit.h"

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/header.h"
#include "lib/mail/mime.h"
#include "lib/mail/transfer_encoding.h"
#include "smtp/content.h"

namespace postern::smtp {
namespace {

/// A header block up to and including its empty line, with another transfer encoding.
std::string with_encoding(std::string_view header, std::string_view encoding, bool is_root) {
    std::string out;
    HeaderReader reader(header);
    HeaderField field;
    bool has_version = false;
    while (reader.next(field)) {
        has_version = has_version || equals_ignoring_case(field.name, "MIME-Version");
        if (!equals_ignoring_case(field.name, "Content-Transfer-Encoding")) {
            out += field.whole;
            out += '\n';
        }
    }
    if (is_root && !has_version) {
        out += "MIME-Version: 1.0\n";
    }
    out += "Content-Transfer-Encoding: ";
    out += encoding;
    out += "\n\n";
    return out;
}

std::string encoded(const MimePart& part, std::string_view body, TransferEncoding encoding) {
    if (encoding == TransferEncoding::quoted_printable) {
        return encode_quoted_printable(body);
    }
    std::string canonical;   // the lines came with CRLF, and CRLF is what base64 has to give back
    append_crlf(canonical, body);
    std::string out = encode_base64_lines(canonical);
    const bool open_end = body.empty() || body.back() != '\n' || part.parent != MimePart::kNone;
    if (open_end && !out.empty()) {
        out.pop_back();      // the line end in front of a boundary belongs to the boundary
    }
    return out;
}

/// Writes one part and what is in it.
void convert(const MimeTree& tree, std::uint32_t index, std::string& out) {
    const MimePart& part = tree.part(index);
    const std::string_view message = tree.message();
    const std::string_view header = part.header.of(message), body = part.body.of(message);
    const bool is_root = part.parent == MimePart::kNone;
    const bool composite = part.first_child != MimePart::kNone;
    const TransferEncoding declared = parse_transfer_encoding(part.transfer_encoding);
    const bool says_more = declared == TransferEncoding::eight_bit || declared == TransferEncoding::binary;
    if (!has_eight_bit(body)) {
        out += says_more ? with_encoding(header, "7bit", is_root) : std::string(header);
        out += body;
        return;
    }
    if (declared == TransferEncoding::quoted_printable || declared == TransferEncoding::base64) {
        out += header;   // encoded once, badly; a second time would make it worse
        out += body;
        return;
    }
    if (!composite) {
        const bool text = equals_ignoring_case(part.type.type, "text");
        const TransferEncoding encoding = text ? TransferEncoding::quoted_printable : TransferEncoding::base64;
        out += with_encoding(header, transfer_encoding_name(encoding), is_root);
        out += encoded(part, body, encoding);
        return;
    }
    out += says_more ? with_encoding(header, "7bit", is_root) : std::string(header);
    std::size_t at = part.body.begin;
    for (std::uint32_t child = part.first_child; child != MimePart::kNone; child = tree.part(child).next_sibling) {
        const MimePart& inner = tree.part(child);
        out += message.substr(at, inner.header.begin - at);   // boundaries, preamble
        convert(tree, child, out);
        at = inner.body.end;
    }
    out += message.substr(at, part.body.end - at);
}

}  // namespace

std::string to_seven_bit(std::string_view message) {
    std::string out;
    out.reserve(message.size() + message.size() / 4);
    convert(MimeTree::parse(message), 0, out);
    return out;
}

}  // namespace postern::smtp
