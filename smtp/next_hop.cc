#include "smtp/next_hop.h"

#include <netdb.h>
#include <netinet/in.h>

#include "lib/base/strings.h"
#include "lib/dns/ascii_name.h"

namespace postern::smtp {

Services::Services() {
    ports_ = {{"smtp", 25}, {"submission", 587}, {"submissions", 465}, {"smtps", 465}, {"lmtp", 24}};
    setservent(0);
    while (const servent* entry = getservent()) {
        if (std::string_view(entry->s_proto) != "tcp") {
            continue;
        }
        const std::uint16_t number = ntohs(static_cast<std::uint16_t>(entry->s_port));
        ports_.emplace(entry->s_name, number);
        for (char** alias = entry->s_aliases; *alias != nullptr; ++alias) {
            ports_.emplace(*alias, number);
        }
    }
    endservent();
}

Result<std::uint16_t> Services::port(std::string_view text) const {
    if (const auto number = parse_number(text)) {
        if (*number >= 1 && *number <= 65535) {
            return static_cast<std::uint16_t>(*number);
        }
    } else if (const auto found = ports_.find(text); found != ports_.end()) {
        return found->second;
    }
    return Error(Errc::config, "unknown service: " + std::string(text) + "/tcp");
}

std::vector<std::string> next_hop_list(std::string_view text) {
    return split(text, ", \t\r\n");
}

namespace {

Error bad(std::string_view text, std::string_view why) {
    return Error(Errc::config, std::string(why) + " in server description: " + std::string(text));
}

}  // namespace

Result<NextHop> parse_next_hop(std::string_view text, const Settings& settings, const Services& services) {
    NextHop hop;
    hop.text = text;
    std::string_view rest = text;
    if (settings.lmtp() && rest.substr(0, 5) == "unix:") {
        hop.socket_path = hop.listed_as = rest.substr(5);
        return hop.socket_path.empty() ? Result<NextHop>(bad(text, "missing socket path")) : hop;
    }
    if (settings.lmtp() && rest.substr(0, 5) == "inet:") {
        rest.remove_prefix(5);
    }
    std::string_view port;
    if (!rest.empty() && rest.front() == '[') {
        const std::size_t end = rest.find(']');
        if (end == std::string_view::npos) {
            return bad(text, "missing \"]\"");
        }
        hop.literal_host = true;
        hop.domain = rest.substr(1, end - 1);
        rest.remove_prefix(end + 1);
        if (!rest.empty() && rest.front() != ':') {
            return bad(text, "garbage after \"]\"");
        }
        port = rest.empty() ? rest : rest.substr(1);
        if (starts_with_ignoring_case(hop.domain, "IPv6:")) {
            hop.domain.erase(0, 5);
        }
    } else {
        const std::size_t colon = rest.find(':');
        hop.domain = rest.substr(0, colon);
        port = colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1);
    }
    if (hop.domain.empty()) {
        return bad(text, "missing host");
    }
    hop.listed_as = hop.domain;
    const IdnaRules rules = settings.config().enable_idna2003_compatibility() ? IdnaRules::transitional : IdnaRules::current;
    hop.domain = ascii_name(hop.domain, rules).value_or(hop.domain);
    hop.service = port.empty() ? std::string_view(settings.tcp_port()) : port;
    const Result<std::uint16_t> number = services.port(hop.service);
    if (!number) {
        return number.error();
    }
    hop.port = *number;
    return hop;
}

}  // namespace postern::smtp
