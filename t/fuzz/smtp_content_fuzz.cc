/// DATA and BDAT decoding: the result must not depend on where the bytes are cut.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "smtpd/content.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::smtpd;
    if (size < 2) {
        return 0;
    }
    const auto policy = static_cast<BareNewline>(data[0] & 3);
    const std::string_view wire(reinterpret_cast<const char*>(data) + 2, size - 2);
    const std::size_t cut = wire.empty() ? 0 : data[1] % (wire.size() + 1);
    DataDecoder whole(policy);
    std::string whole_content;
    const std::size_t whole_used = whole.feed(wire, whole_content);
    DataDecoder pieces(policy);
    std::string content;
    std::size_t used = pieces.feed(wire.substr(0, cut), content);
    if (!pieces.finished()) {
        used += pieces.feed(wire.substr(cut), content);
    }
    if (used != whole_used || content != whole_content || pieces.finished() != whole.finished()) {
        std::abort();
    }
    return 0;
}
