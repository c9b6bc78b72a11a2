#include "lib/dns/trust_anchor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "lib/base/strings.h"

namespace postern {
namespace {

constexpr std::size_t kMaxFile = 256 * 1024;

/// ";;state=2 [  VALID  ]" of unbound's auto-trust-anchor-file; VALID and MISSING keys are trusted (RFC 5011 section 4.2).
bool state_is_trusted(std::string_view comment) {
    constexpr std::string_view kState = ";;state=";
    const std::size_t at = comment.find(kState);
    if (at == std::string_view::npos || at + kState.size() >= comment.size()) {
        return true;
    }
    const char state = comment[at + kState.size()];
    return state == '2' || state == '3';
}

bool is_anchor(const std::vector<std::string>& words) {
    const auto type = std::find_if(words.begin() + 1, words.end(), [](const std::string& word) {
        return equals_ignoring_case(word, "DS") || equals_ignoring_case(word, "DNSKEY");
    });
    return words.end() - type >= 5;   // type and four fields
}

}  // namespace

Result<std::vector<std::string>> parse_trust_anchors(std::string_view text) {
    std::vector<std::string> out;
    std::size_t number = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        ++number;
        const std::size_t comment = std::min(line.find(';'), line.size());
        const std::vector<std::string> words = split(line.substr(0, comment), " \t\r");
        if (words.empty()) {
            continue;
        }
        if (!is_anchor(words)) {
            return Error(Errc::config, fmt::format("line {}: not a DS or DNSKEY record on one line", number));
        }
        if (state_is_trusted(line.substr(comment))) {
            std::string record;
            for (const std::string& word : words) {
                record += (record.empty() ? "" : " ") + word;
            }
            out.push_back(std::move(record));
        }
    }
    if (out.empty()) {
        return Error(Errc::config, "no DS or DNSKEY record that is valid");
    }
    return out;
}

Result<std::vector<std::string>> read_trust_anchors(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
        errno = 0;
        std::ifstream file(path);
        if (!file && errno == ENOENT) {
            continue;
        }
        std::ostringstream text;
        if (!file || !(text << file.rdbuf()) || text.view().size() > kMaxFile) {
            return Error(Errc::config, fmt::format("cannot read {}: {}", path, errno != 0 ? std::strerror(errno) : "not such a file"));
        }
        Result<std::vector<std::string>> anchors = parse_trust_anchors(text.view());
        if (!anchors) {
            return Error(Errc::config, path + ": " + anchors.error().what);
        }
        return anchors;
    }
    std::string tried;
    for (const std::string& path : paths) {
        tried += (tried.empty() ? "" : ", ") + path;
    }
    return Error(Errc::config, "no DNSSEC trust anchor: there is no file " + (tried.empty() ? "named" : tried));
}

}  // namespace postern
