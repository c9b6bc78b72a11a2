#include "local/virtual_delivery.h"

#include <fmt/format.h>
#include <unistd.h>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/address_lookup.h"
#include "lib/table/open_lists.h"

namespace postern::local {
namespace {

constexpr const char* kConfigurationError = "mail system configuration error";

/// A mapped path must stay below virtual_mailbox_base.
bool climbs(std::string_view path) {
    for (const std::string& part : split_exact(path, '/')) {
        if (part == "..") {
            return true;
        }
    }
    return false;
}

}  // namespace

Result<std::unique_ptr<VirtualDelivery>> VirtualDelivery::create(const Config& config, const TableContext& context) {
    std::unique_ptr<VirtualDelivery> delivery(new VirtualDelivery(config));
    // Neither a path nor whose rights are used is made of an address that a stranger wrote.
    const Result<void> opened = open_lists({{delivery->mailbox_maps_, "virtual_mailbox_maps", config.virtual_mailbox_maps()},
                                            {delivery->uid_maps_, "virtual_uid_maps", config.virtual_uid_maps()},
                                            {delivery->gid_maps_, "virtual_gid_maps", config.virtual_gid_maps()}},
                                           context.without_substitution());
    if (!opened) {
        return opened.error();
    }
    Result<MailboxRules> rules = mailbox_rules(config, config.virtual_mailbox_lock(), "virtual_mailbox_limit", config.virtual_mailbox_limit());
    if (!rules) {
        return rules.error();
    }
    delivery->rules_ = std::move(*rules);
    delivery->rules_.failure_dsn = "4.2.0";
    return delivery;
}

Result<std::optional<std::string>> VirtualDelivery::find(TableList& maps, const std::string& address) {
    AddressQuery query;
    query.address = address;
    query.keys = kKeyFull | kKeyNoExtension | kKeyAtDomain;
    query.delimiters = config_.recipient_delimiter();
    Result<std::optional<AddressHit>> hit = lookup_address(maps, query);
    if (!hit) {
        return hit.error();
    }
    return *hit ? std::optional(std::move((*hit)->value)) : std::nullopt;
}

std::optional<Outcome> VirtualDelivery::find_id(TableList& maps, const std::string& address, long minimum,
                                                std::uint32_t& id) {
    const Result<std::optional<std::string>> value = find(maps, address);
    if (!value) {
        log_warning("{}", value.error().what);
        return failed("4.3.5", kConfigurationError);
    }
    if (!*value) {
        log_warning("recipient {}: not found in {}", address, maps.title());
        return failed("4.3.5", kConfigurationError);
    }
    const std::optional<std::uint64_t> number = parse_number(trim(**value));
    if (!number || *number >= UINT32_MAX || static_cast<long>(*number) < minimum) {
        log_warning("recipient {}: bad value {} in {} (minimum {})", address, **value, maps.title(), minimum);
        return failed("4.3.5", kConfigurationError);
    }
    id = static_cast<std::uint32_t>(*number);
    return std::nullopt;
}

std::optional<Outcome> VirtualDelivery::find_rights(const std::string& address, UserIdentity& user) {
    if (!changes_user()) {
        user.uid = geteuid();
        user.gid = getegid();
        return std::nullopt;
    }
    if (std::optional<Outcome> trouble = find_id(uid_maps_, address, config_.virtual_minimum_uid(), user.uid)) {
        return trouble;
    }
    if (std::optional<Outcome> trouble = find_id(gid_maps_, address, 1, user.gid)) {
        return trouble;
    }
    user.groups = {user.gid};
    return std::nullopt;
}

Task<Outcome> VirtualDelivery::deliver(MessagePtr message, std::size_t index) {
    const queue::Recipient& recipient = message->recipient(index);
    const Result<std::optional<std::string>> mailbox = find(mailbox_maps_, recipient.address);
    if (!mailbox) {
        log_warning("{}", mailbox.error().what);
        co_return failed("4.3.5", kConfigurationError);
    }
    if (!*mailbox) {
        co_return failed("5.1.1", fmt::format("unknown user: \"{}\"", recipient.address));
    }
    if (climbs(**mailbox)) {
        log_warning("recipient {}: \"..\" in mailbox path {}", recipient.address, **mailbox);
        co_return failed("4.3.5", kConfigurationError);
    }
    const std::string& base = config_.virtual_mailbox_base();
    const std::string path = base.empty() ? **mailbox : base + "/" + **mailbox;
    UserIdentity user;
    if (std::optional<Outcome> trouble = find_rights(recipient.address, user)) {
        co_return std::move(*trouble);
    }
    const bool maildir = path.back() == '/';
    if (message->request().verify_only) {
        co_return sent(maildir ? "delivers to maildir" : "delivers to mailbox");
    }
    CopyHeaders wanted;
    wanted.from_line = !maildir;
    wanted.original_to = config_.enable_original_recipient();
    const std::string prefix = copy_headers(*message, recipient, recipient.address, wanted);
    const uid_t owner = user.uid;
    MailboxRules rules = rules_;
    rules.trouble_text = fmt::format("delivery failed to mailbox {}: ", path);
    std::function<Outcome()> work = [message, index, path, prefix, maildir, owner, rules = std::move(rules)] {
        return maildir ? deliver_maildir(*message, message->recipient(index), path, prefix, rules)
                       : deliver_mbox(*message, path, prefix, owner, rules);
    };
    co_return co_await work_as(std::move(user), std::move(work));
}

}  // namespace postern::local
