#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/config/expand.h"
#include "lib/log/log.h"
#include "lib/queue/pass.h"
#include "lib/table/text_file.h"
#include "local/local_delivery.h"

namespace postern::local {
namespace {

constexpr std::size_t kMaxForward = 1024 * 1024;
constexpr std::string_view kLuserRelay = "luser_relay";   ///< no name of an alias or user with which it came here

/// What was found where forward_path says.
struct ForwardFile {
    std::string path;           ///< empty: there is none
    std::string text;
    std::size_t which = 0;      ///< place in forward_path
};

/// Reads a .forward as its user.  False, with the reason in the log, when it cannot be trusted; an error when that cannot be known now.
Result<bool> read_forward(const std::string& path, uid_t user, std::string& text) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW));
    if (!fd && errno != ELOOP) {
        const int why = errno;
        if (file_error_dsn(why, "5.0.0").front() == '4') {
            return errno_error("open " + path, why);
        }
        log_warning("cannot open file {}: {}", path, strerror(why));
        return false;
    }
    struct stat info {};
    if (!fd || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
        log_warning("file {} is not a regular file", path);
        return false;
    }
    if (info.st_uid != 0 && info.st_uid != user) {
        log_warning("file {} has bad owner uid {}", path, info.st_uid);
        return false;
    }
    if (info.st_mode & S_IWOTH) {
        log_warning("file {} is world writable", path);
        return false;
    }
    Result<std::string> got = read_text_fd(fd.get(), path, kMaxForward);
    if (!got && got.error().code == Errc::too_big) {
        log_warning("{}", got.error().what);
        return false;
    }
    if (!got) {
        return got.error();
    }
    text = std::move(*got);
    return true;
}

/// The $names of forward_path, luser_relay and friends.
class LocalNames final : public NameSource {
public:
    LocalNames(const Branch& branch, const std::string& allowed) : branch_(branch), allowed_(allowed) {}

    std::optional<Value> find(std::string_view name) const override {
        std::string value;
        if (name == "extension") {
            used_extension = true;
            value = branch_.extension;
        } else if (name == "recipient_delimiter") {
            value = branch_.extension.empty() ? std::string() : branch_.local.substr(branch_.user.size(), 1);
        } else if (name == "home" || name == "shell") {
            value = !branch_.account ? std::string() : name == "home" ? branch_.account->home : branch_.account->shell;
        } else if (name == "user") {
            value = branch_.user;
        } else if (name == "local") {
            value = branch_.local;
        } else if (name == "domain") {
            value = branch_.domain;
        } else if (name == "recipient") {
            value = branch_.address;
        } else {
            return std::nullopt;
        }
        return Value{censored(value, allowed_), true};
    }

    mutable bool used_extension = false;

private:
    const Branch& branch_;
    const std::string& allowed_;
};

}  // namespace

Result<std::string> LocalDelivery::expand_for(const Branch& branch, const std::string& text, const std::string& allowed,
                                              bool* used_extension) const {
    const LocalNames names(branch, allowed);
    Result<std::string> expanded = expand(text, names);
    if (used_extension) {
        *used_extension = names.used_extension && !branch.extension.empty();
    }
    return expanded;
}

/// forward_path for this user, each path once.
std::vector<std::string> LocalDelivery::forward_paths(const Branch& branch, std::vector<bool>& uses_extension) const {
    std::vector<std::string> paths;
    for (const std::string& word : split_list(config_.forward_path())) {
        bool used = false;
        const Result<std::string> path = expand_for(branch, word, config_.forward_expansion_filter(), &used);
        if (!path) {
            log_warning("forward_path: {}", path.error().what);
            continue;
        }
        if (!path->empty() && path->front() == '/' && std::find(paths.begin(), paths.end(), *path) == paths.end()) {
            paths.push_back(*path);
            uses_extension.push_back(used);
        }
    }
    return paths;
}

/// Writes to home_mailbox or the system mailbox; runs with the user's rights.
std::function<Outcome()> LocalDelivery::mailbox_work(const Branch& branch) {
    const Account& account = *branch.account;
    std::string path;
    if (!config_.home_mailbox().empty()) {
        path = account.home + "/" + config_.home_mailbox();
    } else {
        const std::string& spool = config_.mail_spool_directory();
        const bool maildirs = !spool.empty() && spool.back() == '/';
        path = maildirs ? spool + branch.user + "/" : spool + "/" + branch.user;
    }
    const bool maildir = path.back() == '/';
    CopyHeaders wanted;
    wanted.original_to = config_.enable_original_recipient() && !branch.of_list;
    wanted.sender = branch.sender;
    wanted.from_line = !maildir;
    const std::string& delivered_to = config_.frozen_delivered_to() ? branch.delivered : branch.address;
    std::string prefix = copy_headers(*message_, shown(branch), delivered_to, wanted);
    const uid_t owner = changes_user() ? account.identity.uid : geteuid();
    MailboxRules rules = shared_.mailbox_rules_;
    rules.trouble_text = fmt::format("cannot update mailbox {} for user {}. ", path, branch.user);
    rules.biff_user = branch.user;
    return [this, path = std::move(path), prefix = std::move(prefix), maildir, owner, rules = std::move(rules), to = shown(branch)] {
        if (message_->request().verify_only) {
            return sent(maildir ? "delivers to maildir" : "delivers to mailbox");
        }
        return maildir ? deliver_maildir(*message_, to, path, prefix, rules)
                       : deliver_mbox(*message_, path, prefix, owner, rules);
    };
}

/// mailbox_transport(_maps), .forward, mailbox_command(_maps), home_mailbox, mail_spool_directory.  False when
/// there is no such user.
Task<bool> LocalDelivery::try_mailbox(Branch branch, bool forward_first) {
    const bool direct = config_.mailbox_transport().empty() && shared_.mailbox_transport_maps.empty() &&
                        config_.mailbox_command().empty() && shared_.mailbox_command_maps.empty();
    if (branch.account && forward_first) {
        const bool forwarded = co_await try_forward_file(branch);
        if (forwarded) {
            co_return true;
        }
    }
    if (!direct) {
        const Lookup transport = shared_.mailbox_transport_maps.lookup(branch.user);
        const Lookup command = transport ? shared_.mailbox_command_maps.lookup(branch.user) : transport;
        if (!command) {
            log_warning("{}", command.error().what);
            finish(branch, failed("4.3.0", "mailbox table lookup failure"));
            co_return true;
        }
        const std::string pass = transport->value_or(config_.mailbox_transport());
        if (!pass.empty()) {
            co_await deliver_pass(std::move(branch), pass);
            co_return true;
        }
        const std::string run = command->value_or(config_.mailbox_command());
        if (branch.account && !run.empty()) {
            branch.how = Expansion::none;
            branch.rights = branch.account->identity;
            branch.has_rights = true;
            co_await deliver_command(std::move(branch), run);
            co_return true;
        }
    }
    if (!branch.account) {
        co_return false;
    }
    if (seen_before("mailbox " + branch.local)) {
        co_return true;
    }
    UserIdentity user = branch.account->identity;
    if (config_.home_mailbox().empty()) {
        user.groups.push_back(shared_.spool_group);   // who may make files in /var/mail
    }
    std::function<Outcome()> work = mailbox_work(branch);
    Outcome outcome = co_await work_as(std::move(user), std::move(work));
    finish(branch, std::move(outcome));
    co_return true;
}

/// Expands the user's .forward.  False when there is none with anything in it and the mailbox is next.
Task<bool> LocalDelivery::try_forward_file(Branch branch) {
    std::vector<bool> uses_extension;
    const std::vector<std::string> paths = forward_paths(branch, uses_extension);
    auto file = std::make_shared<ForwardFile>();   // shared with the thread that reads it
    const std::string home = branch.account->home;
    const bool home_required = config_.require_home_directory();
    const uid_t owner = changes_user() ? branch.account->identity.uid : geteuid();
    std::function<Outcome()> work = [paths, file, owner, home, home_required]() -> Outcome {
        struct stat info {};
        if (home_required && stat(home.c_str(), &info) != 0) {
            return failed("4.3.0", fmt::format("cannot access home directory {}: {}", home, strerror(errno)));
        }
        for (std::size_t i = 0; i < paths.size(); ++i) {
            if (lstat(paths[i].c_str(), &info) == 0) {   // the first that is there counts, whatever is wrong with it
                const Result<bool> found = read_forward(paths[i], owner, file->text);
                if (!found) {
                    return failed("4.3.0", found.error().what);
                }
                file->path = *found ? paths[i] : std::string();
                file->which = i;
                break;
            }
        }
        return sent({});
    };
    UserIdentity user = branch.account->identity;
    Outcome outcome = co_await work_as(std::move(user), std::move(work));
    if (outcome.kind != queue::kDelivered) {
        finish(branch, std::move(outcome));
        co_return true;
    }
    std::vector<AddressItem> items = parse_address_items(file->text);
    if (file->path.empty() || items.empty()) {
        co_return false;
    }
    const std::string step = "forward file " + file->path;
    if (branch.leads_through(step)) {
        co_return false;   // an alias in it led back to its user: the mailbox is meant
    }
    branch.path.push_back(step);
    if (seen_before(step)) {
        co_return true;
    }
    if (uses_extension[file->which]) {
        branch.unmatched.clear();   // the extension has chosen the file
    }
    branch.how = Expansion::forward;
    branch.expanded_from = branch.local;
    branch.owner = branch.user;
    if (!config_.frozen_delivered_to()) {
        branch.delivered = branch.address;
    }
    branch.rights = branch.account->identity;
    branch.has_rights = true;
    co_await deliver_items(std::move(branch), std::move(items));
    co_return true;
}

std::vector<std::pair<std::string, std::string>> LocalDelivery::command_environment(const Branch& branch) const {
    const queue::Deliver& request = message_->request();
    auto environment = exported_environment(config_.export_environment());
    const std::string original = branch.of_list ? std::string() : recipient_.original.empty() ? recipient_.address : recipient_.original;
    const std::pair<const char*, std::string> known[] = {
        {"HOME", branch.account ? branch.account->home : std::string()},
        {"SHELL", branch.account ? branch.account->shell : std::string()},
        {"LOGNAME", branch.user},
        {"USER", branch.user},
        {"LOCAL", branch.local},
        {"DOMAIN", branch.domain},
        {"EXTENSION", branch.extension},
        {"RECIPIENT", branch.address},
        {"ORIGINAL_RECIPIENT", original},
        {"SENDER", branch.sender.empty() ? "MAILER-DAEMON" : branch.sender},
        {"ENVID", request.dsn_envid},
        {"CLIENT_ADDRESS", request.client.address},
        {"CLIENT_HELO", request.client.helo},
        {"CLIENT_HOSTNAME", request.client.name},
        {"CLIENT_PROTOCOL", request.client.protocol},
        {"SASL_METHOD", request.client.sasl_method},
        {"SASL_SENDER", request.client.sasl_sender},
        {"SASL_USERNAME", request.client.sasl_username}};
    for (const auto& [name, value] : known) {
        const bool always = std::string_view(name) == "SENDER" || std::string_view(name) == "RECIPIENT";
        if (!value.empty() || always) {
            environment.emplace_back(name, censored(value, config_.command_expansion_filter()));
        }
    }
    return environment;
}

Task<> LocalDelivery::deliver_command(Branch branch, std::string text) {
    if (branch.how != Expansion::none && !shared_.may_run_commands(branch.how)) {
        finish(branch, failed("5.7.1", "mail to command is restricted"));
        co_return;
    }
    if (seen_before(fmt::format("command {}:{} {}", branch.user, branch.rights.uid, text))) {
        co_return;
    }
    if (message_->request().verify_only) {
        finish(branch, sent("delivers to command: " + text));
        co_return;
    }
    Command command;
    command.shell_text = text;
    command.shell = config_.local_command_shell();
    command.user = branch.rights.uid == 0 ? shared_.default_rights : branch.rights;
    command.environment = command_environment(branch);
    const std::string& directory = config_.command_execution_directory();
    if (!directory.empty()) {
        const Result<std::string> expanded = expand_for(branch, directory, config_.execution_directory_expansion_filter());
        command.directory = expanded ? *expanded : std::string();
    }
    CopyHeaders wanted;
    wanted.original_to = config_.enable_original_recipient() && !branch.of_list;
    wanted.sender = branch.sender;
    wanted.from_line = true;
    wanted.delivered_to = shared_.prepends_delivered("command");
    command.prefix = copy_headers(*message_, shown(branch), branch.delivered, wanted);
    command.time_limit = config_.command_time_limit();
    command.success_text = "delivered to command: " + text;
    Outcome outcome = co_await run_command(std::move(command), message_);
    finish_for_owner(branch, std::move(outcome));
}

Task<> LocalDelivery::deliver_file(Branch branch, std::string path) {
    if (branch.how != Expansion::none && !shared_.may_write_files(branch.how)) {
        finish(branch, failed("5.7.1", "mail to file is restricted"));
        co_return;
    }
    if (path.front() == '~') {
        if (!branch.account) {
            finish(branch, failed("5.1.3", "unknown home directory for: " + path));
            co_return;
        }
        path = branch.account->home + path.substr(1);
    }
    if (seen_before(fmt::format("file {}:{}", branch.rights.uid, path))) {
        co_return;
    }
    if (message_->request().verify_only) {
        finish(branch, sent("delivers to file: " + path));
        co_return;
    }
    const bool maildir = path.back() == '/';
    CopyHeaders wanted;
    wanted.original_to = config_.enable_original_recipient() && !branch.of_list;
    wanted.sender = branch.sender;
    wanted.from_line = !maildir;
    wanted.delivered_to = shared_.prepends_delivered("file");
    const std::string prefix = copy_headers(*message_, shown(branch), branch.delivered, wanted);
    MailboxRules rules = shared_.file_rules;
    rules.file_text = "file: " + path;
    rules.trouble_text = "cannot append message to file " + path + ": ";
    std::function<Outcome()> work = [this, path, prefix, maildir, rules, to = shown(branch)] {
        return maildir ? deliver_maildir(*message_, to, path, prefix, rules)
                       : deliver_mbox(*message_, path, prefix, 0, rules);
    };
    UserIdentity user = branch.rights.uid == 0 ? shared_.default_rights : branch.rights;
    Outcome outcome = co_await work_as(std::move(user), std::move(work));
    finish_for_owner(branch, std::move(outcome));
}

/// Hands the recipient to another delivery agent; that one logs the delivery.
Task<> LocalDelivery::deliver_pass(Branch branch, std::string transport) {
    queue::Deliver request = queue::copy_for_agent(message_->request());
    request.nexthop = branch.domain;
    queue::DeliverTo to;
    to.recipient = recipient_;
    to.recipient.address = branch.address;
    request.recipients.push_back(std::move(to));
    std::vector<queue::PassedOn> passed = co_await queue::pass_on(std::move(request), std::move(transport));
    queue::RecipientDone& done = passed.front().done;
    Outcome outcome{done.outcome, std::move(done.dsn), std::move(done.reason)};
    outcome.action = std::move(done.action);
    outcome.relay = std::move(done.relay);
    outcome.remote_mta = std::move(done.remote_mta);
    outcome.diagnostic = std::move(done.diagnostic);
    outcome.logged = passed.front().logged;
    finish(branch, std::move(outcome));
}

/// fallback_transport(_maps), luser_relay, or "unknown user".
Task<> LocalDelivery::deliver_unknown(Branch branch) {
    const Lookup mapped = shared_.fallback_transport_maps.lookup(branch.user);
    if (!mapped) {
        log_warning("{}", mapped.error().what);
        finish(branch, failed("4.3.0", "fallback_transport_maps lookup failure"));
        co_return;
    }
    const std::string transport = mapped->value_or(config_.fallback_transport());
    if (!transport.empty()) {
        co_return co_await deliver_pass(std::move(branch), transport);
    }
    if (!config_.luser_relay().empty() && branch.expanded_from != kLuserRelay) {
        const Result<std::string> relay = expand_for(branch, config_.luser_relay(), config_.forward_expansion_filter());
        if (!relay) {
            finish(branch, failed("4.3.5", "mail system configuration error: luser_relay"));
            co_return;
        }
        branch.unmatched.clear();
        branch.expanded_from = kLuserRelay;
        co_return co_await deliver_address(std::move(branch), *relay);   // an address, never a command or file
    }
    if (branch.user == "mailer-daemon" || branch.user == "postmaster" || branch.user == "double-bounce") {
        log_warning("required alias not found: {}", branch.user);
        finish(branch, sent("discarded"));
        co_return;
    }
    finish(branch, failed("5.1.1", fmt::format("unknown user: \"{}\"", branch.user)));
}

}  // namespace postern::local
