#include "lib/base/strings.h"
#include "tools/postconf.h"

namespace postern::postconf {
namespace {

constexpr std::size_t kLineLimit = 80;   // as Postfix's postconf

}  // namespace

std::string folded(std::string_view text, bool fold) {
    std::string out;
    std::size_t column = 0;
    for (const std::string& word : split(text, " \t\r\n")) {
        if (column > 0 && fold && column + 1 + word.size() > kLineLimit) {
            out += "\n    ";
            column = 4;
        } else if (column > 0) {
            out += ' ';
            ++column;
        }
        out += word;
        column += word.size();
    }
    return out;
}

std::string assignment_text(const Request& request, std::string_view name, std::string_view value) {
    if (request.hide_values) {
        return std::string(name) + "\n";
    }
    if (request.hide_names) {
        return folded(value, request.fold) + "\n";
    }
    const std::string text = folded(std::string(name) + " = " + std::string(value), request.fold);
    return text + "\n";
}

}  // namespace postern::postconf
