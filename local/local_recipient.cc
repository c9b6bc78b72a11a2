#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/address_lookup.h"
#include "lib/table/text_file.h"
#include "local/local_delivery.h"

namespace postern::local {
namespace {

constexpr int kMaxLevel = 100;                       ///< nesting of aliases, includes and .forward files
constexpr std::size_t kMaxInclude = 64 * 1024 * 1024;

/// An :include: file as it was read on another thread.
struct IncludeFile {
    std::string text;
    uid_t owner = 0;
};

Outcome read_include(const std::string& path, IncludeFile& file) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    struct stat info {};
    if (!fd || fstat(fd.get(), &info) != 0) {
        return failed(file_error_dsn(errno, "5.2.4"), fmt::format("cannot open include file {}: {}", path, strerror(errno)));
    }
    if (!S_ISREG(info.st_mode) || (info.st_mode & S_IWOTH)) {
        log_warning("include file {} is {}", path, S_ISREG(info.st_mode) ? "world writable" : "not a regular file");
        return failed("4.3.5", "mail system configuration error");
    }
    Result<std::string> text = read_text_fd(fd.get(), path, kMaxInclude);
    if (!text) {
        return failed("4.3.0", text.error().what);
    }
    file.text = std::move(*text);
    file.owner = info.st_uid;
    return sent({});
}

}  // namespace

LocalDelivery::LocalDelivery(LocalTables& shared, Agent& agent, MessagePtr message, std::size_t index)
    : shared_(shared), config_(shared.config), agent_(agent), message_(std::move(message)), index_(index),
      recipient_(message_->recipient(index)) {}

Task<Outcome> LocalDelivery::run() {
    Branch start;
    start.sender = message_->request().sender;
    start.rights = shared_.default_rights;
    Branch branch = branch_for(start, recipient_.address);
    branch.level = 0;
    if (message_->was_delivered_to(recipient_.address)) {
        finish(branch, failed("5.4.6", "mail forwarding loop for " + recipient_.address));
        co_return combined();
    }
    co_await deliver_recipient(std::move(branch));
    if (!anything_deferred()) {
        co_await submit_forwards();
    }
    co_return combined();
}

/// The branch for a recipient that an expansion led to.
Branch LocalDelivery::branch_for(const Branch& parent, std::string address) const {
    Branch branch = parent;
    const AddressParts parts = split_address(address);
    branch.local = to_lower(parts.local);
    branch.domain = parts.domain;
    const std::size_t cut = extension_start(branch.local, config_.recipient_delimiter(), config_.owner_request_special());
    branch.user = branch.local.substr(0, cut);
    branch.extension = cut == std::string::npos ? std::string() : branch.local.substr(cut + 1);
    if (branch.extension.find('/') != std::string::npos) {   // forward_path and friends make file names of it
        log_warning("{}: {}: address with illegal extension", message_->request().queue_id, printable(branch.local, 200));
        branch.extension.clear();
    }
    branch.unmatched.clear();
    branch.address = std::move(address);
    branch.level = parent.level + 1;
    return branch;
}

/// local(8): "\user" goes to the mailbox; else aliases, then .forward, then the mailbox, then the rules for
/// unknown users.
Task<> LocalDelivery::deliver_recipient(Branch branch) {
    if (branch.level > kMaxLevel) {
        finish(branch, failed("5.4.6", "possible alias/include/forward loop: nested too deep"));
        co_return;
    }
    if (seen_before(fmt::format("recipient {} {} {}", to_lower(branch.address), static_cast<int>(branch.how), branch.expanded_from))) {
        co_return;
    }
    const bool to_mailbox = !branch.user.empty() && branch.user.front() == '\\';
    if (to_mailbox) {
        branch.local.erase(0, 1);
        branch.user.erase(0, 1);
        branch.address.erase(0, 1);
    } else {
        const bool whole = co_await try_alias(branch, branch.local);
        if (whole) {
            co_return;
        }
        if (!branch.extension.empty()) {
            Branch stripped = branch;
            stripped.unmatched = shared_.propagates_extension(Expansion::alias) ? branch.extension : std::string();
            const bool by_user = co_await try_alias(std::move(stripped), branch.user);
            if (by_user) {
                co_return;
            }
        }
        // Another user's name in an alias or .forward: a message of its own, so that each recipient has its own fate.
        const bool other_user = !branch.expanded_from.empty() && !equals_ignoring_case(branch.expanded_from, branch.user);
        if (other_user || branch.how == Expansion::include) {
            forward(branch, branch.address);
            co_return;
        }
    }
    Result<std::optional<Account>> account = co_await shared_.accounts.by_name(branch.user);
    if (!account) {
        finish(branch, failed("4.3.0", account.error().what));
        co_return;
    }
    const bool came_from_own_forward = branch.how == Expansion::forward;
    branch.account = std::move(*account);
    branch.unmatched = shared_.propagates_extension(Expansion::forward) ? branch.extension : std::string();
    const bool by_mailbox = co_await try_mailbox(branch, !came_from_own_forward && !to_mailbox);
    if (!by_mailbox) {
        co_await deliver_unknown(std::move(branch));
    }
}

/// Takes a step of the expansion.  False when it was taken before: on this branch, which is a loop and a failure, or
/// on another, which makes this one a duplicate.
bool LocalDelivery::enter(Branch& branch, const std::string& step) {
    if (branch.leads_through(step)) {
        finish(branch, failed("5.4.6", "alias/include/forward loop: " + step));
        return false;
    }
    branch.path.push_back(step);
    return !seen_before(step);
}

/// "owner-NAME" when alias_maps has it; with expand_owner_alias its value; else empty.
std::string LocalDelivery::list_owner(const std::string& alias) {
    if (starts_with_ignoring_case(alias, "owner-") || message_->request().sender.empty()) {
        return {};
    }
    const std::string owner = "owner-" + alias;
    const Lookup found = shared_.alias_maps.lookup(owner);
    if (!found || !*found) {
        return {};
    }
    std::string address = owner;
    if (config_.expand_owner_alias()) {
        const std::vector<AddressItem> items = parse_address_items(**found);
        if (items.size() == 1 && items.front().kind == AddressItem::Kind::address) {
            address = items.front().text;
        }
    }
    return shared_.router->rewrite_address(address, RewriteContext::local);
}

Task<Result<UserIdentity>> LocalDelivery::rights_of_owner(uid_t uid) {
    if (uid == 0 || !changes_user()) {
        co_return shared_.default_rights;
    }
    Result<std::optional<Account>> owner = co_await shared_.accounts.by_uid(uid);
    if (!owner) {
        co_return owner.error();
    }
    if (!*owner) {
        co_return Error(Errc::temporary, "no passwd entry for uid " + std::to_string(uid));
    }
    co_return (*owner)->identity;
}

/// Expands `name` when it is an alias.  False when it is none.
Task<bool> LocalDelivery::try_alias(Branch branch, std::string name) {
    if (name.empty() || equals_ignoring_case(name, branch.expanded_from)) {
        co_return false;
    }
    std::string table;
    const Lookup value = shared_.alias_maps.lookup(name, false, &table);
    if (!value) {
        log_warning("{}", value.error().what);
        finish(branch, failed("4.3.0", "alias database unavailable"));
        co_return true;
    }
    if (!*value) {
        co_return false;
    }
    if (!enter(branch, "alias " + name)) {
        co_return true;
    }
    const uid_t table_owner = LocalTables::table_owner(table);
    Result<UserIdentity> rights = co_await rights_of_owner(table_owner);
    if (!rights) {
        finish(branch, failed("4.3.0", rights.error().what));
        co_return true;
    }
    branch.rights = std::move(*rights);
    branch.has_rights = table_owner != 0;
    branch.account.reset();
    branch.how = Expansion::alias;
    branch.expanded_from = name;
    const std::string owner = list_owner(name);
    if (!owner.empty()) {
        branch.sender = owner;
    } else if (config_.reset_owner_alias()) {
        branch.sender = message_->request().sender;
    }
    std::vector<AddressItem> items = parse_address_items(**value);
    if (items.empty()) {
        log_warning("no recipient in alias lookup result for {}", name);
        finish(branch, failed("5.3.5", "mail system configuration error: alias " + name + " is empty"));
        co_return true;
    }
    co_await deliver_items(std::move(branch), std::move(items));
    co_return true;
}

Task<> LocalDelivery::deliver_items(Branch branch, std::vector<AddressItem> items) {
    for (AddressItem& item : items) {
        co_await deliver_item(branch, std::move(item));
    }
}

Task<> LocalDelivery::deliver_item(Branch branch, AddressItem item) {
    switch (item.kind) {
        case AddressItem::Kind::command: co_return co_await deliver_command(std::move(branch), std::move(item.text));
        case AddressItem::Kind::file: co_return co_await deliver_file(std::move(branch), std::move(item.text));
        case AddressItem::Kind::include: co_return co_await deliver_include(std::move(branch), std::move(item.text));
        case AddressItem::Kind::address: co_return co_await deliver_address(std::move(branch), std::move(item.text));
        case AddressItem::Kind::invalid: break;
    }
    finish(branch, failed("5.1.3", "bad address syntax: " + printable(item.text, 200)));
}

/// Delivers here what this transport delivers; everything else becomes a new message.
Task<> LocalDelivery::deliver_address(Branch branch, std::string address) {
    const bool to_mailbox = !address.empty() && address.front() == '\\';
    std::string plain = to_mailbox ? address.substr(1) : address;
    if (!branch.unmatched.empty() && !to_mailbox) {
        const std::size_t at = std::min(plain.rfind('@'), plain.size());
        plain.insert(at, config_.recipient_delimiter().substr(0, 1) + branch.unmatched);
    }
    const std::string complete = shared_.router->rewrite_address(plain, RewriteContext::local);
    const Result<Route> route = shared_.router->resolve(branch.sender, complete);
    if (!route) {
        log_warning("{}", route.error().what);
        finish(branch, failed("4.3.0", "address resolver failure"));
        co_return;
    }
    if (route->transport != message_->request().transport) {
        forward(branch, complete);
        co_return;
    }
    Branch next = branch_for(branch, (to_mailbox ? "\\" : "") + route->recipient);
    co_await deliver_recipient(std::move(next));
}

Task<> LocalDelivery::deliver_include(Branch branch, std::string path) {
    if (branch.level > kMaxLevel) {
        finish(branch, failed("5.4.6", "possible alias/include/forward loop: nested too deep"));
        co_return;
    }
    if (path.empty() || path.front() != '/') {
        finish(branch, failed("4.3.5", "mail system configuration error: include file \"" + printable(path, 200) +
                                           "\" is no absolute path"));
        co_return;
    }
    if (!enter(branch, "include " + path)) {
        co_return;
    }
    auto file = std::make_shared<IncludeFile>();   // shared with the thread that reads it
    std::function<Outcome()> work = [path, file] { return read_include(path, *file); };
    UserIdentity reader = branch.rights;
    if (!branch.has_rights) {
        reader.uid = geteuid();   // a list of the system's own: read with our own rights
        reader.gid = getegid();
    }
    Outcome outcome = co_await work_as(std::move(reader), std::move(work));
    if (outcome.kind != queue::kDelivered) {
        finish(branch, std::move(outcome));
        co_return;
    }
    Result<UserIdentity> rights = co_await rights_of_owner(file->owner);
    if (!rights) {
        finish(branch, failed("4.3.0", rights.error().what));
        co_return;
    }
    branch.rights = std::move(*rights);
    branch.has_rights = branch.has_rights || file->owner != 0;
    branch.how = Expansion::include;
    ++branch.level;
    std::vector<AddressItem> items = parse_address_items(file->text);
    co_await deliver_items(std::move(branch), std::move(items));
}

}  // namespace postern::local
