#include "lib/dns/resolv_conf.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "lib/base/strings.h"

namespace postern {
namespace {

constexpr std::size_t kMaxServers = 3;
constexpr std::size_t kMaxDomains = 32;

void take_option(const std::string& word, ResolvConf& out) {
    const std::size_t colon = word.find(':');
    const auto number = colon == std::string::npos ? std::nullopt : parse_number(std::string_view(word).substr(colon + 1));
    if (!number) {
        return;
    }
    const std::string_view name = std::string_view(word).substr(0, colon);
    const auto at_most = [&](std::uint64_t limit) { return static_cast<unsigned>(std::min(*number, limit)); };
    if (name == "timeout") {
        out.timeout = std::max(1U, at_most(30));
    } else if (name == "attempts") {
        out.attempts = std::max(1U, at_most(5));
    } else if (name == "ndots") {
        out.ndots = at_most(15);
    }
}

std::string without_final_dot(std::string name) {
    if (name.size() > 1 && name.back() == '.') {
        name.pop_back();
    }
    return name;
}

std::string own_domain() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0) {
        return "";
    }
    const std::string_view host = name.data();
    const std::size_t dot = host.find('.');
    return dot == std::string_view::npos ? "" : std::string(host.substr(dot + 1));
}

}  // namespace

Millis ResolvConf::patience() const {
    std::uint64_t seconds = 0;
    const std::uint64_t count = std::max<std::uint64_t>(servers, 1);
    for (std::uint64_t server = 0; server < count; ++server) {
        const std::uint64_t each = std::uint64_t{timeout} << server;
        seconds += server == 0 ? each : std::max<std::uint64_t>(each / count, 1);
    }
    return std::chrono::seconds(seconds * attempts);
}

ResolvConf parse_resolv_conf(std::string_view text, std::string_view domain) {
    ResolvConf out;
    for (const std::string& line : split(text, "\n")) {
        if (line.front() == '#' || line.front() == ';') {
            continue;
        }
        std::vector<std::string> words = split(line, " \t\r");
        if (words.size() < 2) {
            continue;
        }
        const std::string keyword = words.front();
        words.erase(words.begin());
        if (keyword == "nameserver") {
            out.servers = std::min(out.servers + 1, kMaxServers);
        } else if (keyword == "domain" || keyword == "search") {
            words.resize(std::min(words.size(), keyword == "domain" ? std::size_t{1} : kMaxDomains));
            std::transform(words.begin(), words.end(), words.begin(), without_final_dot);
            out.search = std::move(words);
        } else if (keyword == "options") {
            for (const std::string& word : words) {
                take_option(word, out);
            }
        }
    }
    if (out.search.empty() && !domain.empty()) {
        out.search.emplace_back(domain);
    }
    return out;
}

ResolvConf read_resolv_conf(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return parse_resolv_conf(text.str(), own_domain());
}

}  // namespace postern
