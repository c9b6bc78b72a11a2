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

Outcome bad_include() { return failed("5.3.5", "mail system configuration error"); }

/// False with errno in `error`, which is 0 when the log has the reason.
Outcome read_include(const std::string& path, IncludeFile& file, int& error) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
    struct stat info {};
    error = 0;
    if (!fd || fstat(fd.get(), &info) != 0) {
        error = errno;
        return failed(file_error_dsn(error, "5.3.5"), "mail system configuration error");
    }
    if (!S_ISREG(info.st_mode) || (info.st_mode & S_IWOTH)) {
        log_warning(":include: file {} is {}", path, S_ISREG(info.st_mode) ? "world writable" : "not a regular file");
        return bad_include();
    }
    Result<std::string> text = read_text_fd(fd.get(), path, kMaxInclude);
    if (!text) {
        return failed("4.3.0", text.error().what);
    }
    file.text = std::move(*text);
    file.owner = info.st_uid;
    return sent({});
}

/// Who can get at a file that is closed to us, as we have no right to pass by modes: the owner of the file or of the
/// directory that is closed.
uid_t owner_of_obstacle(const std::string& path) {
    uid_t owner = 0;
    for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
        struct stat info {};
        if (stat(path.substr(0, at).c_str(), &info) != 0) {
            return owner;
        }
        owner = info.st_uid;
        if (at == std::string::npos) {
            return owner;
        }
    }
}

}  // namespace

LocalDelivery::LocalDelivery(LocalTables& shared, Agent& agent, MessagePtr message, std::size_t index)
    : shared_(shared), config_(shared.config), agent_(agent), message_(std::move(message)),
      recipient_(message_->recipient(index)) {}

/// What may have to be tried again comes first: commands and files, then what is forwarded, then mailboxes.  So a retry
/// repeats nothing that is done.
Task<Outcome> LocalDelivery::run() {
    Branch start;
    start.sender = message_->request().sender;
    start.delivered = recipient_.address;
    start.rights = shared_.default_rights;
    Branch branch = branch_for(start, recipient_.address);
    branch.level = 0;
    co_await deliver_recipient(branch);
    if (!anything_deferred()) {
        co_await submit_forwards();
    }
    if (!anything_deferred()) {
        co_await deliver_members();
        co_await submit_forwards();
    }
    if (outcomes_.empty()) {
        finish(branch, empty_list_ ? sent("nobody is on the list") : failed("5.4.6", "alias/include/forward loop: nobody is left"));
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

/// Takes the backslash off "\user" and says whether aliases come first.  Only what an alias or a user's file says may go by
/// them, not what came with the message.
bool LocalDelivery::aliases_first(Branch& branch) const {
    if (branch.user.front() != '\\') {
        return true;
    }
    branch.local.erase(0, 1);
    branch.user.erase(0, 1);
    branch.address.erase(0, 1);
    return branch.how == Expansion::none;
}

/// The alias for the whole local part, else the one for the user.  False when there is neither.
Task<bool> LocalDelivery::try_aliases(Branch branch) {
    const bool whole = co_await try_alias(branch, branch.local);
    if (whole || branch.extension.empty()) {
        co_return whole;
    }
    const std::string name = branch.user;
    branch.unmatched = shared_.propagates_extension(Expansion::alias) ? branch.extension : std::string();
    co_return co_await try_alias(std::move(branch), name);
}

/// local(8): "\user" goes to the mailbox; else aliases, then .forward, then the mailbox, then the rules for
/// unknown users.
Task<> LocalDelivery::deliver_recipient(Branch branch) {
    if (branch.level > kMaxLevel) {
        finish(branch, failed("5.4.6", "possible alias/include/forward loop: nested too deep"));
        co_return;
    }
    if (message_->was_delivered_to(branch.address)) {
        finish_for_owner(branch, failed("5.4.6", "mail forwarding loop for " + branch.address));
        co_return;
    }
    if (seen_before(fmt::format("recipient {} {} {} {}", to_lower(branch.address), static_cast<int>(branch.how), branch.expanded_from,
                                branch.owner))) {
        co_return;
    }
    const bool with_aliases = !branch.user.empty() && aliases_first(branch);
    if (branch.user.empty()) {
        finish(branch, failed("5.1.3", fmt::format("null username in \"{}\"", branch.address)));
        co_return;
    }
    if (with_aliases) {
        const bool by_alias = co_await try_aliases(branch);
        if (by_alias) {
            co_return;
        }
        // Somebody else whom a list or a .forward names: a message of its own, so that each recipient has its own fate.
        const bool other_user = !branch.owner.empty() && !equals_ignoring_case(branch.owner, branch.user);
        if (other_user || branch.how == Expansion::include) {
            forward(branch, branch.address);
            co_return;
        }
    }
    branch.mailbox_only = !with_aliases;
    if (branch.how == Expansion::alias && !serving_member_) {
        members_.push_back(std::move(branch));
        co_return;
    }
    co_await deliver_user(std::move(branch));
}

/// The user's .forward, mailbox, or what is done for users who are not there.
Task<> LocalDelivery::deliver_user(Branch branch) {
    Result<std::optional<Account>> account = co_await shared_.accounts.by_name(branch.user);
    if (!account) {
        finish(branch, failed("4.3.0", account.error().what));
        co_return;
    }
    const bool came_from_own_forward = branch.how == Expansion::forward;
    branch.account = std::move(*account);
    branch.unmatched = shared_.propagates_extension(Expansion::forward) ? branch.extension : std::string();
    const bool by_mailbox = co_await try_mailbox(branch, !came_from_own_forward && !branch.mailbox_only);
    if (!by_mailbox) {
        co_await deliver_unknown(std::move(branch));
    }
}

/// Users that aliases led to.
Task<> LocalDelivery::deliver_members() {
    const bool alone = members_.size() == 1 && outcomes_.empty();
    const std::vector<Branch> members = std::move(members_);
    members_.clear();
    for (const Branch& member : members) {
        serving_member_ = true;
        co_await deliver_user(member);
        serving_member_ = false;
        settle_member(member, alone);
    }
}

/// Takes a step of the expansion.  False when it was taken before: on this branch, which is a loop and a failure, or
/// on another, which makes this one a duplicate.
bool LocalDelivery::enter(Branch& branch, const std::string& step, const std::string& loop) {
    if (branch.leads_through(step)) {
        log_warning("{}", loop);
        finish(branch, failed("5.4.6", loop));
        return false;
    }
    branch.path.push_back(step);
    return !seen_before(step);
}

/// "owner-NAME" when alias_maps has it; with expand_owner_alias its value; else empty.
std::string LocalDelivery::list_owner(const std::string& alias) {
    if (!config_.owner_request_special() || starts_with_ignoring_case(alias, "owner-")) {
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

/// Commands, files and includes of what `uid` owns are done with that user's rights; root's, with default_privs.
Task<std::optional<Outcome>> LocalDelivery::take_rights(Branch& branch, uid_t uid) {
    branch.account.reset();
    branch.has_rights = false;
    branch.rights = shared_.default_rights;
    if (uid == 0 || !changes_user()) {
        co_return std::nullopt;
    }
    Result<std::optional<Account>> owner = co_await shared_.accounts.by_uid(uid);
    if (!owner || !*owner) {
        const std::string reason = owner ? "no passwd entry for uid " + std::to_string(uid) : owner.error().what;
        log_warning("{}", reason);
        co_return failed("4.3.5", "mail system configuration error");
    }
    branch.account = std::move(*owner);
    branch.rights = branch.account->identity;
    branch.has_rights = true;
    co_return std::nullopt;
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
    // A user's .forward may name the alias that led to the user: then the mailbox is meant.
    const std::string step = branch.how == Expansion::forward ? "alias " + name + " after " + branch.owner : "alias " + name;
    if (!enter(branch, step, "alias database loop for " + name)) {
        co_return true;
    }
    std::optional<Outcome> trouble = co_await take_rights(branch, LocalTables::table_owner(table));
    if (trouble) {
        finish(branch, std::move(*trouble));
        co_return true;
    }
    branch.how = Expansion::alias;
    branch.expanded_from = name;
    if (!config_.frozen_delivered_to()) {
        branch.delivered = branch.address;
    }
    const std::string owner = list_owner(name);
    if (!owner.empty()) {
        branch.sender = branch.owner = owner;
        branch.of_list = true;
    } else if (config_.reset_owner_alias()) {
        branch.owner.clear();
    }
    std::vector<AddressItem> items = parse_address_items(**value);
    if (items.empty()) {
        log_warning("no recipient in alias lookup result for {}", name);
        finish(branch, failed("4.3.0", "alias database unavailable"));
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
    finish(branch, failed("5.1.3", "bad recipient address syntax: " + printable(item.text, 200)));
}

/// Delivers here what this transport delivers; everything else becomes a new message.
Task<> LocalDelivery::deliver_address(Branch branch, std::string address) {
    const bool to_mailbox = !address.empty() && address.front() == '\\';
    std::string plain = to_mailbox ? address.substr(1) : address;
    if (!branch.unmatched.empty() && !to_mailbox) {
        const std::size_t at = std::min(plain.rfind('@'), plain.size());
        plain.insert(at, branch.local.substr(branch.user.size(), 1) + branch.unmatched);
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

/// Reads with the rights of the branch; a list of the system's own, with ours, and where these do not reach, with those of
/// who owns what is closed.
Task<Outcome> LocalDelivery::read_include_file(const Branch& branch, const std::string& path, std::shared_ptr<IncludeFile> file) {
    auto error = std::make_shared<int>(0);   // shared with the thread, as `file` is
    const std::function<Outcome()> work = [path, file, error] { return read_include(path, *file, *error); };
    UserIdentity reader = branch.rights;
    if (!branch.has_rights) {
        reader.uid = geteuid();
        reader.gid = getegid();
    }
    Outcome outcome = co_await work_as(std::move(reader), work);
    const uid_t owner = *error == EACCES && !branch.has_rights ? owner_of_obstacle(path) : 0;
    if (owner != 0 && changes_user()) {
        Branch closed = branch;
        std::optional<Outcome> trouble = co_await take_rights(closed, owner);
        if (!trouble) {
            outcome = co_await work_as(closed.rights, work);
        }
    }
    if (*error != 0) {
        log_warning("unable to lookup :include: file {}: {}", path, strerror(*error));
    }
    co_return outcome;
}

Task<> LocalDelivery::deliver_include(Branch branch, std::string path) {
    if (path.empty() || path.front() != '/') {
        log_warning(":include:{} uses a relative path", printable(path, 200));
        finish(branch, bad_include());
        co_return;
    }
    if (seen_before(fmt::format("include {} {}", branch.rights.uid, path))) {
        co_return;   // once for each user, as in Postfix; in a circle, too
    }
    auto file = std::make_shared<IncludeFile>();
    Outcome outcome = co_await read_include_file(branch, path, file);
    if (outcome.kind != queue::kDelivered) {
        finish(branch, std::move(outcome));
        co_return;
    }
    // Only a list of the system's own lends the rights of who owns the file.  A user's .forward must not: it can name
    // anybody's file.
    std::optional<Outcome> trouble;
    if (!branch.has_rights) {
        trouble = co_await take_rights(branch, file->owner);
    }
    if (trouble) {
        finish(branch, std::move(*trouble));
        co_return;
    }
    branch.how = Expansion::include;
    branch.expanded_from = branch.local;
    branch.owner = branch.owner.empty() ? branch.address : branch.owner;
    if (!shared_.propagates_extension(Expansion::include)) {
        branch.unmatched.clear();
    }
    ++branch.level;
    std::vector<AddressItem> items = parse_address_items(file->text);
    empty_list_ = empty_list_ || items.empty();
    co_await deliver_items(std::move(branch), std::move(items));
}

}  // namespace postern::local
