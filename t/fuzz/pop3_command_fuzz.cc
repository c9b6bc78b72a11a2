// POP3 command lines, unique id formats, dot-stuffing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "pop3d/command.h"
#include "pop3d/dot_writer.h"
#include "pop3d/logout_format.h"
#include "pop3d/uidl_format.h"

using namespace postern;
using namespace postern::pop3d;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
    const Command command = split_command(text);
    for (const std::string_view word : words(command.argument)) {
        const Result<std::uint32_t> number = parse_message_number(word, 1000);
        if (number && (*number == 0 || *number > 1000)) {
            std::abort();
        }
        (void)parse_line_count(word);
    }
    if (const Result<UidlFormat> format = UidlFormat::parse(text)) {
        std::string id;
        UidlValues values;
        values.uid = data[0];
        values.name = text;
        (void)format->append(id, values);
        if (id.size() > kMaxUidl || id.find_first_of("\r\n \0") != std::string::npos) {
            std::abort();
        }
    }
    (void)logout_text(text, {});
    // Whole or cut into pieces: the same, and a client can undo it.
    std::string whole;
    DotWriter at_once;
    at_once.write(text, whole);
    at_once.finish(whole);
    std::string pieces;
    DotWriter in_pieces;
    for (std::size_t at = 0; at < text.size(); at += data[0] + 1u) {
        in_pieces.write(text.substr(at, data[0] + 1u), pieces);
    }
    in_pieces.finish(pieces);
    if (whole != pieces || whole.find("\r\n.\r\n") < (whole.size() < 5 ? 0 : whole.size() - 5) || whole.size() < 3) {
        std::abort();
    }
    return 0;
}
