#include "cleanup/maps.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/table/open_lists.h"

namespace postern::cleanup {
namespace {

/// Canonical mapping is repeated until it changes nothing, at most so often.
constexpr int kMaxCanonicalSteps = 1000;

bool contains_ignoring_case(const std::vector<std::string>& list, std::string_view text) {
    return std::any_of(list.begin(), list.end(), [&](const std::string& item) { return equals_ignoring_case(item, text); });
}

Result<unsigned> parse_classes(std::string_view parameter, std::string_view value) {
    unsigned classes = 0;
    for (const std::string& name : split_list(value)) {
        if (equals_ignoring_case(name, "envelope_sender")) {
            classes |= kEnvelopeSender;
        } else if (equals_ignoring_case(name, "envelope_recipient")) {
            classes |= kEnvelopeRecipient;
        } else if (equals_ignoring_case(name, "header_sender")) {
            classes |= kHeaderSender;
        } else if (equals_ignoring_case(name, "header_recipient")) {
            classes |= kHeaderRecipient;
        } else {
            return Error(Errc::config, fmt::format("{}: unknown class \"{}\" (envelope_sender, envelope_recipient, "
                                                   "header_sender, header_recipient)",
                                                   parameter, name));
        }
    }
    return classes;
}

}  // namespace

Result<std::unique_ptr<AddressMaps>> AddressMaps::open(const Config& config, const TableContext& context,
                                                       Router& router) {
    std::unique_ptr<AddressMaps> maps(new AddressMaps(config, router));
    const Result<void> opened = maps->open_tables(context);
    if (!opened) {
        return opened.error();
    }
    const struct {
        const char* name;
        const std::string& value;
        unsigned& classes;
    } class_lists[] = {
        {"canonical_classes", config.canonical_classes(), maps->canonical_classes_},
        {"sender_canonical_classes", config.sender_canonical_classes(), maps->sender_canonical_classes_},
        {"recipient_canonical_classes", config.recipient_canonical_classes(), maps->recipient_canonical_classes_},
        {"masquerade_classes", config.masquerade_classes(), maps->masquerade_classes_},
    };
    for (const auto& list : class_lists) {
        const Result<unsigned> classes = parse_classes(list.name, list.value);
        if (!classes) {
            return classes.error();
        }
        list.classes = *classes;
    }
    const std::vector<std::string> propagate = split_list(config.propagate_unmatched_extensions());
    maps->propagate_canonical_ = contains_ignoring_case(propagate, "canonical");
    maps->propagate_virtual_ = contains_ignoring_case(propagate, "virtual");
    maps->masquerade_domains_ = split_list(to_lower(config.masquerade_domains()));
    maps->masquerade_exceptions_ = split_list(to_lower(config.masquerade_exceptions()));
    return maps;
}

Result<void> AddressMaps::open_tables(const TableContext& context) {
    return open_lists({{canonical_, "canonical_maps", config_.canonical_maps()},
                       {sender_canonical_, "sender_canonical_maps", config_.sender_canonical_maps()},
                       {recipient_canonical_, "recipient_canonical_maps", config_.recipient_canonical_maps()},
                       {virtual_alias_, "virtual_alias_maps", config_.virtual_alias_maps()},
                       {sender_bcc_, "sender_bcc_maps", config_.sender_bcc_maps()},
                       {recipient_bcc_, "recipient_bcc_maps", config_.recipient_bcc_maps()}},
                      context);
}

/// One lookup with all its address forms; the result is split, completed and given the extension (virtual(5)).
Result<std::vector<std::string>> AddressMaps::look_up(TableList& tables, std::string_view address, bool propagate) {
    AddressQuery query;
    query.address = address;
    query.delimiters = config_.recipient_delimiter();
    const AddressParts parts = split_address(address);
    if (parts.has_domain) {
        const Result<bool> local = router_.is_local(parts.domain);
        if (!local) {
            return local.error();
        }
        query.domain_is_local = *local || equals_ignoring_case(parts.domain, config_.myorigin());
    }
    const Result<std::optional<AddressHit>> hit = lookup_address(tables, query);
    if (!hit) {
        return hit.error();
    }
    std::vector<std::string> results;
    if (!hit->has_value()) {
        return results;
    }
    for (const ListAddress& entry : parse_address_list((*hit)->value)) {
        if (entry.kind != ListAddress::Kind::mailbox || entry.address().empty()) {
            continue;
        }
        Address result = entry.address();
        if (result.local.empty()) {   // "@other.domain": same user, another domain
            result.local = parts.local;
        } else if (propagate && !(*hit)->extension.empty()) {
            result.local += (*hit)->extension;
        }
        results.push_back(router_.rewrite_address(result.internal(), RewriteContext::local));
    }
    return results;
}

Result<std::string> AddressMaps::canonical(TableList& tables, std::string address) {
    for (int step = 0; step < kMaxCanonicalSteps; ++step) {
        const Result<std::vector<std::string>> found = look_up(tables, address, propagate_canonical_);
        if (!found) {
            return found.error();
        }
        if (found->empty()) {
            return address;
        }
        if (found->size() > 1) {
            log_warning("{}: multi-valued {} entry for {}", config_.config_directory(), tables.title(), address);
        }
        const bool settled = found->front() == address;
        address = found->front();
        if (settled) {
            return address;
        }
    }
    log_warning("unreasonable {} map nesting for {}", tables.title(), address);
    return address;
}

/// masquerade_domains: "host.example.com" becomes "example.com"; "!" in front makes an exception.
std::string AddressMaps::masquerade(std::string address) const {
    const std::size_t at = address.rfind('@');
    if (at == std::string::npos || contains_ignoring_case(masquerade_exceptions_, std::string_view(address).substr(0, at))) {
        return address;
    }
    const std::string domain = to_lower(std::string_view(address).substr(at + 1));
    for (const std::string& entry : masquerade_domains_) {
        const bool excluded = entry.starts_with('!');
        const std::string_view parent = std::string_view(entry).substr(excluded ? 1 : 0);
        if (domain == parent) {
            return address;
        }
        if (domain.size() > parent.size() && domain.ends_with(parent) && domain[domain.size() - parent.size() - 1] == '.') {
            return excluded ? address : address.substr(0, at + 1) + std::string(parent);
        }
    }
    return address;
}

Result<std::string> AddressMaps::rewrite(std::string_view address, AddressPlace place, bool map) {
    if (address.empty() && place == kEnvelopeSender) {
        return std::string();
    }
    std::string now = router_.rewrite_address(address, RewriteContext::local);
    if (!map) {
        return now;
    }
    const bool is_sender = (place & (kEnvelopeSender | kHeaderSender)) != 0;
    const struct {
        TableList& tables;
        bool use;
    } steps[] = {
        {sender_canonical_, is_sender && (sender_canonical_classes_ & place) != 0},
        {recipient_canonical_, !is_sender && (recipient_canonical_classes_ & place) != 0},
        {canonical_, (canonical_classes_ & place) != 0},
    };
    for (const auto& step : steps) {
        if (!step.use || step.tables.empty()) {
            continue;
        }
        Result<std::string> mapped = canonical(step.tables, std::move(now));
        if (!mapped) {
            return mapped;
        }
        now = std::move(*mapped);
    }
    if (!masquerade_domains_.empty() && (masquerade_classes_ & place) != 0) {
        now = masquerade(std::move(now));
    }
    return now;
}

/// Replaces all[at] by what it stands for until it stands for itself; further results go to the end of `all`.
Result<void> AddressMaps::expand_one(std::vector<std::string>& all, std::size_t at, std::vector<std::string>& settled) {
    for (long nesting = 0;; ++nesting) {
        if (std::find(settled.begin(), settled.end(), all[at]) != settled.end()) {
            return {};
        }
        if (nesting >= config_.virtual_alias_recursion_limit()) {
            return Error(Errc::temporary, fmt::format("unreasonable virtual_alias_maps map nesting for {}", all[at]));
        }
        const Result<std::vector<std::string>> found = look_up(virtual_alias_, all[at], propagate_virtual_);
        if (!found) {
            return found.error();
        }
        if (found->empty()) {
            return {};
        }
        const std::string before = all[at];
        for (std::size_t i = 0; i < found->size(); ++i) {
            const std::string& result = (*found)[i];
            if (result.size() > static_cast<std::size_t>(config_.virtual_alias_address_length_limit())) {
                return Error(Errc::temporary, fmt::format("unreasonable virtual_alias_maps result for {}", before));
            }
            if (i == 0) {
                all[at] = result;
            } else {
                all.push_back(result);
            }
            if (equals_ignoring_case(before, result)) {
                settled.push_back(before);   // an address may expand into itself once
            }
        }
        if (all.size() > static_cast<std::size_t>(config_.virtual_alias_expansion_limit())) {
            return Error(Errc::temporary, fmt::format("unreasonable virtual_alias_maps map expansion size for {}", before));
        }
    }
}

Result<std::vector<std::string>> AddressMaps::expand(const std::string& address) {
    std::vector<std::string> all{address};
    if (virtual_alias_.empty()) {
        return all;
    }
    std::vector<std::string> settled;
    for (std::size_t at = 0; at < all.size(); ++at) {
        const Result<void> done = expand_one(all, at, settled);
        if (!done) {
            return done.error();
        }
    }
    return all;
}

Result<std::vector<std::string>> AddressMaps::sender_bcc(std::string_view sender) {
    if (sender_bcc_.empty() || sender.empty()) {
        return std::vector<std::string>{};
    }
    return look_up(sender_bcc_, sender, false);
}

Result<std::vector<std::string>> AddressMaps::recipient_bcc(std::string_view recipient) {
    if (recipient_bcc_.empty()) {
        return std::vector<std::string>{};
    }
    return look_up(recipient_bcc_, recipient, false);
}

}  // namespace postern::cleanup
