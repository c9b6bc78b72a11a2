#include "imapd/list_match.h"

#include <vector>

#include "lib/base/strings.h"

namespace postern::imapd {

bool matches_pattern(std::string_view pattern, std::string_view name, char separator) {
    const bool inbox = starts_with_ignoring_case(name, "INBOX") && (name.size() == 5 || name[5] == separator);
    // reached[j]: the pattern so far can match the first j characters of the name.
    std::vector<bool> reached(name.size() + 1, false);
    reached[0] = true;
    for (const char c : pattern) {
        if (c == '*' || c == '%') {
            for (std::size_t j = 1; j <= name.size(); ++j) {
                if (reached[j - 1] && (c == '*' || name[j - 1] != separator)) {
                    reached[j] = true;
                }
            }
            continue;
        }
        for (std::size_t j = name.size(); j > 0; --j) {
            const char at = name[j - 1];
            const bool same = at == c || (inbox && j <= 5 && upper(at) == upper(c));
            reached[j] = reached[j - 1] && same;
        }
        reached[0] = false;
    }
    return reached[name.size()];
}

}  // namespace postern::imapd
