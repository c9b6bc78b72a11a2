// Header splitting and streaming: both agree, and no byte goes missing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/mail/header.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
    const std::size_t piece = data[0] + 1u;
    HeaderReader reader(text);
    HeaderField field;
    std::size_t fields = 0;
    while (reader.next(field)) {
        ++fields;
        (void)unfold(field.value);
        (void)strip_comments(field.value);
    }
    if (fields > text.size()) {
        std::abort();
    }
    std::string bodies[2];
    std::string scanned[2];
    for (int round = 0; round < 2; ++round) {
        HeaderScanner scanner;
        std::string body;
        const std::size_t step = round == 0 ? piece : text.size() + 1;
        for (std::size_t at = 0; at < text.size(); at += step) {
            body += scanner.feed(text.substr(at, step));
        }
        scanner.finish();
        bodies[round] = scanner.body_start() + body;
        for (const std::string& one : scanner.take_fields()) {
            scanned[round] += one + "\n";
        }
    }
    if (bodies[0] != bodies[1] || scanned[0] != scanned[1] || bodies[0].size() + scanned[0].size() > text.size() + 1) {
        std::abort();
    }
    const MessageParts parts = split_message(text);
    if (parts.header.size() + parts.body.size() > text.size()) {
        std::abort();
    }
    return 0;
}
