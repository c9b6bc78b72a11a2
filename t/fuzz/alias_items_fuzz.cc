// What users write: the right-hand sides of aliases, .forward and :include: files; and pipe(8)'s words.
#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/strings.h"
#include "local/address_items.h"
#include "local/message.h"
#include "local/pipe_attributes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    const std::string text(reinterpret_cast<const char*>(data), size);
    for (const local::AddressItem& item : local::parse_address_items(text)) {
        if (item.kind == local::AddressItem::Kind::file && !item.text.starts_with('/') && !item.text.starts_with("~/")) {
            __builtin_trap();
        }
    }
    if (Result<local::PipeAttributes> attributes = local::parse_pipe_attributes(split(text, " \n"))) {
        queue::Deliver request;
        request.recipients.resize(2);
        request.recipients[0].recipient.address = "user+x@example.com";
        (void)local::expand_pipe_argv(*attributes, request, "+").ok();
    }
    local::BodyFilter whole;
    whole.quote_from = whole.stuff_dots = true;
    local::BodyFilter pieces = whole;
    std::string at_once;
    std::string piecewise;
    whole.add(text, at_once);
    whole.finish(at_once);
    for (std::size_t at = 0; at < text.size(); ++at) {
        pieces.add(std::string_view(text).substr(at, 1), piecewise);
    }
    pieces.finish(piecewise);
    if (at_once != piecewise) {
        __builtin_trap();
    }
    return 0;
}
