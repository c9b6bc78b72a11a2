#include "pop3d/logout_format.h"

namespace postern::pop3d {

std::string logout_text(std::string_view format, const LogoutFacts& facts) {
    struct Variable {
        char letter;
        std::string_view name;
        std::uint64_t value;
    };
    const Variable variables[] = {
        {'t', "top_count", facts.top_count},         {'p', "top_bytes", facts.top_bytes},
        {'r', "retr_count", facts.retr_count},       {'b', "retr_bytes", facts.retr_bytes},
        {'d', "deleted_count", facts.deleted_count}, {'\0', "deleted_bytes", facts.deleted_bytes},
        {'m', "message_count", facts.message_count}, {'s', "message_bytes", facts.message_bytes},
        {'i', "input", facts.input},                 {'o', "output", facts.output},
    };
    std::string out;
    for (std::size_t i = 0; i < format.size(); ++i) {
        if (format[i] != '%' || i + 1 == format.size()) {
            out += format[i];
            continue;
        }
        if (format[i + 1] == '%') {
            out += '%';
            ++i;
            continue;
        }
        const std::size_t end = format[i + 1] == '{' ? format.find('}', i) : std::string_view::npos;
        const std::string_view name = end == std::string_view::npos ? std::string_view() : format.substr(i + 2, end - i - 2);
        bool found = false;
        for (const Variable& variable : variables) {
            if (name.empty() ? variable.letter == format[i + 1] : variable.name == name) {
                out += std::to_string(variable.value);
                i = name.empty() ? i + 1 : end;
                found = true;
                break;
            }
        }
        out += found ? "" : "%";
    }
    return out;
}

}  // namespace postern::pop3d
