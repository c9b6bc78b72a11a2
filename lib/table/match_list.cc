#include "lib/table/match_list.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/table/text_file.h"
#include "lib/table/types.h"

namespace postern {
namespace {

constexpr int kMaxFileDepth = 10;

std::string address_text(int family, const unsigned char* bytes) {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(family, bytes, text, sizeof text);
    return text;
}

/// Zeroes the bits after `bits`; true when there was nothing to zero.
bool clear_host_bits(unsigned char* bytes, int size, int bits) {
    bool clean = true;
    for (int i = 0; i < size; ++i) {
        const int kept = std::clamp(bits - i * 8, 0, 8);
        const auto mask = static_cast<unsigned char>(0xff << (8 - kept));
        clean = clean && (bytes[i] & ~mask) == 0;
        bytes[i] = static_cast<unsigned char>(bytes[i] & mask);
    }
    return clean;
}

bool is_mapped_ipv4(const unsigned char* bytes) {
    static constexpr unsigned char kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(bytes, kPrefix, sizeof kPrefix) == 0;
}

/// A client's address; false when `text` is none.
bool parse_host(std::string_view text, Network& host) {
    const std::string copy(text.substr(0, 64));
    if (inet_pton(AF_INET, copy.c_str(), host.address) == 1) {
        host.family = AF_INET;
        return true;
    }
    if (inet_pton(AF_INET6, copy.c_str(), host.address) != 1) {
        return false;
    }
    host.family = AF_INET6;
    if (is_mapped_ipv4(host.address)) {
        host.family = AF_INET;
        std::memmove(host.address, host.address + 12, 4);
    }
    return true;
}

bool looks_like_address(std::string_view text) {
    return text.front() == '[' || (text.find_first_not_of("0123456789./") == std::string_view::npos);
}

bool is_or_is_below(std::string_view name, std::string_view pattern, bool parents) {
    if (name == pattern) {
        return true;
    }
    if (name.size() <= pattern.size() || name.substr(name.size() - pattern.size()) != pattern) {
        return false;
    }
    if (pattern.front() == '.') {
        return true;
    }
    return parents && name[name.size() - pattern.size() - 1] == '.';
}

}  // namespace

bool Network::contains(int address_family, const unsigned char* bytes) const {
    if (address_family != family) {
        return false;
    }
    const int whole = prefix_bits / 8;
    if (std::memcmp(address, bytes, static_cast<std::size_t>(whole)) != 0) {
        return false;
    }
    const int rest = prefix_bits % 8;
    const auto mask = static_cast<unsigned char>(0xff << (8 - rest));
    return rest == 0 || (bytes[whole] & mask) == address[whole];
}

Result<Network> parse_network(std::string_view text) {
    const std::string quoted = "\"" + std::string(text.substr(0, 100)) + "\"";
    std::string_view host = text;
    std::string_view length;
    const std::size_t slash = text.rfind('/');
    if (slash != std::string_view::npos) {
        host = text.substr(0, slash);
        length = text.substr(slash + 1);
    }
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    Network network;
    const std::string address(host.substr(0, 64));
    if (inet_pton(AF_INET, address.c_str(), network.address) == 1) {
        network.family = AF_INET;
    } else if (inet_pton(AF_INET6, address.c_str(), network.address) == 1) {
        network.family = AF_INET6;
    } else {
        return Error(Errc::syntax, "bad address or network " + quoted);
    }
    const int bytes = network.family == AF_INET ? 4 : 16;
    network.prefix_bits = bytes * 8;
    if (slash != std::string_view::npos) {
        const std::optional<std::uint64_t> bits = parse_number(length);
        if (!bits || *bits > static_cast<std::uint64_t>(bytes) * 8) {
            return Error(Errc::syntax, "bad prefix length in " + quoted);
        }
        network.prefix_bits = static_cast<int>(*bits);
    }
    if (!clear_host_bits(network.address, bytes, network.prefix_bits)) {
        const std::string right = address_text(network.family, network.address) + "/" + std::string(length);
        return Error(Errc::syntax, "non-null host address bits in " + quoted + ", perhaps you should use \"" + right +
                                       "\" instead");
    }
    return network;
}

Result<MatchList> MatchList::open(std::string_view title, std::string_view patterns, MatchKind kind, bool parents,
                                  const TableContext& context) {
    MatchList list;
    list.title_ = title;
    list.kind_ = kind;
    list.parents_ = parents;
    if (const Result<void> added = list.add(patterns, false, 0, context); !added) {
        return Error(added.error().code, list.title_ + ": " + added.error().what);
    }
    return list;
}

Result<void> MatchList::add(std::string_view patterns, bool negated, int depth, const TableContext& context) {
    for (const std::string& item : split_list(patterns)) {
        std::string_view pattern = item;
        bool turned = negated;
        while (!pattern.empty() && pattern.front() == '!') {
            turned = !turned;
            pattern.remove_prefix(1);
        }
        if (pattern.empty()) {
            return Error(Errc::config, "no pattern after '!'");
        }
        if (pattern.front() != '/') {
            if (Result<void> added = add_element(table_type::without_braces(pattern), turned, context); !added) {
                return added;
            }
            continue;
        }
        if (depth >= kMaxFileDepth) {
            return Error(Errc::config, "files nested too deep at " + std::string(pattern));
        }
        const Result<std::string> text = read_text_file(std::string(pattern));
        if (!text) {
            return text.error();
        }
        MapLines lines(*text);
        std::string line;
        while (lines.next(line)) {
            if (const Result<void> added = add(line, turned, depth + 1, context); !added) {
                return Error(added.error().code, std::string(pattern) + ", line " + std::to_string(lines.first_line()) +
                                                     ": " + added.error().what);
            }
        }
    }
    return {};
}

Result<void> MatchList::add_element(std::string_view pattern, bool negated, const TableContext& context) {
    Element element;
    element.negated = negated;
    if (pattern.empty()) {
        return Error(Errc::config, "empty pattern");
    }
    if (pattern.front() != '[' && pattern.find(':') != std::string_view::npos) {
        Result<TablePtr> table = open_table(pattern, context);
        if (!table) {
            return table.error();
        }
        element.text = pattern;
        element.table = std::move(*table);
        elements_.push_back(std::move(element));
        return {};
    }
    element.text = to_lower(pattern);
    const bool takes_address = kind_ == MatchKind::address || kind_ == MatchKind::name_and_address;
    if (takes_address && (kind_ == MatchKind::address || looks_like_address(pattern))) {
        const Result<Network> network = parse_network(pattern);
        if (!network) {
            return Error(Errc::config, network.error().what);
        }
        element.is_network = true;
        element.network = *network;
    }
    elements_.push_back(std::move(element));
    return {};
}

Result<bool> MatchList::name_matches(Element& element, std::string_view lower_name) const {
    if (lower_name.empty() || element.is_network) {
        return false;
    }
    if (!element.table) {
        return kind_ == MatchKind::string ? lower_name == element.text
                                          : is_or_is_below(lower_name, element.text, parents_);
    }
    std::string_view key = lower_name;
    for (;;) {
        const Lookup answer = element.table->lookup(key);
        if (LookupWatch* const watch = lookup_watch()) {
            watch->looked_up(title_, element.text, key, answer);
        }
        if (!answer) {
            return Error(Errc::temporary, title_ + ": " + answer.error().what);
        }
        if (*answer) {
            return true;
        }
        if (kind_ == MatchKind::string || element.table->is_pattern()) {
            return false;
        }
        const std::size_t dot = key.find('.', 1);
        if (dot == std::string_view::npos) {
            return false;
        }
        key.remove_prefix(parents_ ? dot + 1 : dot);
        if (key.empty()) {
            return false;
        }
    }
}

Result<bool> MatchList::address_matches(Element& element, std::string_view address, const Network* parsed) const {
    if (address.empty()) {
        return false;
    }
    if (element.table) {
        const Lookup answer = element.table->lookup(address);
        if (LookupWatch* const watch = lookup_watch()) {
            watch->looked_up(title_, element.text, address, answer);
        }
        if (!answer) {
            return Error(Errc::temporary, title_ + ": " + answer.error().what);
        }
        return answer->has_value();
    }
    if (element.is_network) {
        return parsed && element.network.contains(parsed->family, parsed->address);
    }
    return equals_ignoring_case(element.text, address);
}

Result<bool> MatchList::matches(std::string_view text) {
    const std::string lower_text = to_lower(text);
    for (Element& element : elements_) {
        const Result<bool> hit = name_matches(element, lower_text);
        if (!hit) {
            return hit;
        }
        if (*hit) {
            if (LookupWatch* const watch = lookup_watch(); watch != nullptr && !element.table) {
                watch->listed(title_, (element.negated ? "!" : "") + element.text, text);
            }
            return !element.negated;
        }
    }
    return false;
}

Result<bool> MatchList::matches(std::string_view name, std::string_view address) {
    if (elements_.empty()) {
        return false;
    }
    const std::string lower_name = kind_ == MatchKind::name_and_address ? to_lower(name) : std::string();
    Network host;
    const bool parsed = parse_host(address, host);
    const bool only_networks = std::all_of(elements_.begin(), elements_.end(), [](const Element& e) { return e.is_network; });
    const std::string shown = parsed && !only_networks ? address_text(host.family, host.address) : std::string(address);
    for (Element& element : elements_) {
        Result<bool> hit = name_matches(element, lower_name);
        if (hit && !*hit) {
            hit = address_matches(element, shown, parsed ? &host : nullptr);
        }
        if (!hit) {
            return hit;
        }
        if (*hit) {
            return !element.negated;
        }
    }
    return false;
}

bool matches_subdomains(const Config& config, std::string_view name) {
    for (const std::string& listed : split_list(config.parent_domain_matches_subdomains())) {
        if (equals_ignoring_case(listed, name)) {
            return true;
        }
    }
    return false;
}

}  // namespace postern
