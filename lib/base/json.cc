#include "lib/base/json.h"

#include "lib/base/utf8.h"

namespace postern {

void append_json_string(std::string& out, std::string_view text) {
    static constexpr char kHex[] = "0123456789abcdef";
    while (!text.empty()) {
        const auto c = static_cast<unsigned char>(text.front());
        std::size_t length = 1;
        if (c == '"' || c == '\\') {
            out += '\\';
            out += text.front();
        } else if (c < 0x20 || c == 0x7F) {
            out += "\\u00";
            out += kHex[c >> 4];
            out += kHex[c & 15];
        } else {
            const int character = utf8_character(text);
            length = static_cast<std::size_t>(character < 0 ? -character : character);
            out += character < 0 ? kReplacementCharacter : text.substr(0, length);
        }
        text.remove_prefix(length);
    }
}

std::string json_quoted(std::string_view text) {
    std::string out = "\"";
    append_json_string(out, text);
    return out + '"';
}

}  // namespace postern
