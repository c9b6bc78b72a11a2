/// Lists of patterns as main.cf has them: mydestination, mynetworks, relay_domains, debug_peer_list, ...
///
/// A list is separated by comma and white space.  An element may be a pattern, "/file/name" (its content is
/// put there, one or more patterns a line, # comments), or "type:table" (matches when the key is found; the
/// value does not matter).  "!" before an element turns its answer round; the first element that matches
/// decides.  Nothing matches: false.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/table.h"

namespace postern {

/// An IPv4 or IPv6 network.
struct Network {
    unsigned char address[16] = {};
    int family = 0;          ///< AF_INET or AF_INET6
    int prefix_bits = 0;

    bool contains(int address_family, const unsigned char* bytes) const;
    bool operator==(const Network&) const = default;
};

/// "192.0.2.0/24", "192.0.2.1", "[2001:db8::]/32", "2001:db8::/32", "[::1]".  Host bits must be zero.
/// Errors: syntax, with what would be right.
Result<Network> parse_network(std::string_view text);

/// What the elements of a MatchList are.
enum class MatchKind : unsigned char {
    string,              ///< whole strings, ignoring case
    domain,              ///< a domain name; see `parents`
    address,             ///< an IP address against addresses and networks
    name_and_address,    ///< a client: by name as `domain`, by address as `address`
};

class MatchList {
public:
    MatchList() = default;
    MatchList(MatchList&&) noexcept = default;
    MatchList& operator=(MatchList&&) noexcept = default;

    /// `title` is the parameter's name.  With `parents` (the parameter is named in
    /// parent_domain_matches_subdomains), "example.com" also matches every name below it; without,
    /// ".example.com" does, and "example.com" matches itself only.
    /// Errors: config (bad network, unreadable file), and those of open_table().
    static Result<MatchList> open(std::string_view title, std::string_view patterns, MatchKind kind, bool parents,
                                  const TableContext& context);

    /// For string and domain lists.  Errors: temporary, naming the table.
    Result<bool> matches(std::string_view text);

    /// For address lists (`name` is not looked at) and name_and_address lists.  `address` is in text form,
    /// without brackets; an IPv4-mapped IPv6 address counts as IPv4.
    Result<bool> matches(std::string_view name, std::string_view address);

    bool empty() const { return elements_.empty(); }

private:
    struct Element {
        bool negated = false;
        std::string text;        ///< lower case; for a table: its name
        TablePtr table;
        bool is_network = false;
        Network network;
    };
    Result<void> add(std::string_view patterns, bool negated, int depth, const TableContext& context);
    Result<void> add_element(std::string_view pattern, bool negated, const TableContext& context);
    Result<bool> name_matches(Element& element, std::string_view lower_name) const;
    Result<bool> address_matches(Element& element, std::string_view address, const Network* parsed) const;

    std::string title_;
    MatchKind kind_ = MatchKind::string;
    bool parents_ = false;
    std::vector<Element> elements_;
};

/// Whether parameter `name` is listed in parent_domain_matches_subdomains.
bool matches_subdomains(const Config& config, std::string_view name);

}  // namespace postern
