#include "imapd/id_response.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/config/version.h"
#include "lib/mail/imap_structure.h"

namespace postern::imapd {

std::string id_response(std::string_view imap_id_send) {
    const std::vector<std::string> words = split(imap_id_send, " \t,");
    std::string out = "* ID (";
    for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
        std::string value = words[i + 1];
        if (value == "*" && words[i] == "name") {
            value = "Postern";
        } else if (value == "*" && words[i] == "version") {
            value = kVersion;
        } else if (value == "*") {
            continue;
        }
        if (out.back() != '(') {
            out += ' ';
        }
        append_imap_string(out, words[i]);
        out += ' ';
        append_imap_string(out, value);
    }
    return out.back() == '(' ? "* ID NIL\r\n" : out + ")\r\n";
}

std::string id_for_log(const std::vector<std::pair<std::string, std::string>>& pairs, std::string_view imap_id_log) {
    const std::vector<std::string> wanted = split(imap_id_log, " \t,");
    std::string out;
    for (const auto& [key, value] : pairs) {
        const bool listed = std::any_of(wanted.begin(), wanted.end(), [&key = key](const std::string& name) {
            return name == "*" || equals_ignoring_case(name, key);
        });
        if (listed) {
            out += (out.empty() ? "" : ", ") + printable(key, 30) + "=" + printable(value, 200);
        }
    }
    return out;
}

}  // namespace postern::imapd
