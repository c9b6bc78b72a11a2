// MIME structure, its IMAP forms, sections.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/mail/imap_structure.h"
#include "lib/mail/transfer_encoding.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const MimeTree tree = MimeTree::parse(text, {.max_depth = 8, .max_parts = 40});
    if (tree.parts().size() > 41 || tree.octets() != crlf_octets(text)) {
        std::abort();
    }
    for (const MimePart& part : tree.parts()) {
        if (part.header.begin > part.header.end || part.body.begin != part.header.end || part.body.end < part.body.begin ||
            part.body.end > size) {
            std::abort();
        }
        (void)decode_transfer(parse_transfer_encoding(part.transfer_encoding), part.body.of(text));
        (void)decode_parameters(part.type.parameters);
    }
    const std::string structure = imap_bodystructure(tree);
    if (body_from_bodystructure(structure) != imap_body(tree)) {
        std::abort();
    }
    (void)imap_envelope(tree.root().header.of(text));
    (void)body_from_bodystructure(text);
    for (const char* numbers : {"", "1", "1.1", "2", "1.2.1"}) {
        for (const auto what : {Section::What::whole, Section::What::header, Section::What::text, Section::What::mime}) {
            const std::optional<Section> section = find_section(tree, numbers, what);
            if (section && section->range.end > size) {
                std::abort();
            }
        }
    }
    return 0;
}
