// The structure of hostile messages: every byte that goes in comes out, however it is cut, and who only scans hears the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/checks/mime_walker.h"

using namespace postern;

namespace {

std::string walk(std::string_view mail, std::size_t cut, std::string& kinds, bool to_seven_bit = false) {
    MimeWalker::Limits limits;
    limits.to_seven_bit = to_seven_bit;
    limits.line = 100;
    limits.field = 300;
    limits.nesting = 5;
    MimeWalker walker(limits), scanner(limits);
    std::string out;
    const auto take = [&] {
        for (const MimeWalker::Piece& piece : walker.take_pieces()) {
            out += piece.text;
            kinds += piece.rest ? 'R' : static_cast<char>('0' + static_cast<int>(piece.kind));
        }
    };
    for (std::size_t at = 0; at < mail.size(); at += cut) {
        walker.feed(mail.substr(at, cut));
        scanner.scan(mail.substr(at, cut));
        take();
    }
    walker.finish();
    scanner.finish();
    take();
    if (walker.declares_eight_bit() != scanner.declares_eight_bit()) {
        std::abort();
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view mail(reinterpret_cast<const char*>(data), size);
    std::string whole, pieces;
    if (walk(mail, size + 1, whole) != mail || walk(mail, 3, pieces) != mail || whole != pieces) {
        std::abort();
    }
    if (walk(mail, size + 1, whole, true) != walk(mail, 3, pieces, true)) {   // what is encoded is so however it came
        std::abort();
    }
    return 0;
}
