/// Commands on mailboxes as a whole: CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS.
#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "imapd/commands.h"
#include "imapd/response.h"
#include "imapd/status_response.h"
#include "lib/async/offload.h"
#include "lib/base/strings.h"

namespace postern::imapd {

namespace {

std::string reply_to(const Result<void>& result, std::string ok) {
    return result ? std::move(ok) : reply_for(result.error());
}

/// A single mailbox name as the whole argument.  False: `reply` is the answer.
bool one_name(Session& session, Command& command, std::string& name, std::string& reply) {
    std::string raw;
    if (!command.parser.astring(raw) || !command.parser.end()) {
        reply = command.bad();
        return false;
    }
    Result<std::string> decoded = session.names().from_client(raw);
    if (!decoded) {
        reply = reply_for(decoded.error());
        return false;
    }
    name = std::move(*decoded);
    return true;
}

/// The uses as the store keeps them, in the words of RFC 6154 section 2; nothing when one of them is unknown or for
/// mailboxes that show other mailboxes' messages (\All, \Flagged), which are not made here.
std::optional<std::string> special_uses(const std::vector<std::string>& asked) {
    std::string uses;
    for (const std::string_view known : {"\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"}) {
        const bool wanted = std::any_of(asked.begin(), asked.end(),
                                        [known](const std::string& use) { return equals_ignoring_case(use, known); });
        if (wanted) {
            uses += uses.empty() ? "" : " ";
            uses += known;
        }
    }
    const bool all_known = std::all_of(asked.begin(), asked.end(), [&uses](const std::string& use) {
        return to_lower(uses + " ").find(to_lower(use) + " ") != std::string::npos;
    });
    return all_known ? std::optional(std::move(uses)) : std::nullopt;
}

/// Whether `name` is selected by this session; then it is closed first, as others that have it selected will
/// notice at their next command.
void close_if_selected(Session& session, const std::string& name) {
    if (session.mailbox() != nullptr && session.mailbox()->name() == name) {
        session.close();
    }
}

}  // namespace

/// CREATE (RFC 3501 section 6.3.3, RFC 6154 section 3).  A name that ends in the separator only says that
/// mailboxes below it will follow.
Task<std::string> cmd_create(Session& session, Command& command) {
    CreateArguments arguments;
    if (!parse_create(command.parser, arguments)) {
        co_return command.bad();
    }
    store::Account& account = session.account();
    const bool parent_only = arguments.mailbox.size() > 1 && arguments.mailbox.back() == account.separator();
    if (parent_only) {
        arguments.mailbox.pop_back();
    }
    const Result<std::string> name = session.names().from_client(arguments.mailbox);
    if (!name) {
        const bool above = name.error().code == Errc::not_found;   // of the prefix: always there
        co_return above ? std::string("NO [ALREADYEXISTS] Mailbox already exists") : reply_for(name.error());
    }
    const std::optional<std::string> uses = special_uses(arguments.uses);
    if (!uses) {
        co_return "NO [USEATTR] No mailbox can be made for this special use.";
    }
    if (parent_only && account.exists(*name)) {
        co_return "NO [ALREADYEXISTS] Mailbox already exists";
    }
    auto work = [&account, &name, &uses] { return account.create(*name, *uses); };
    const Result<void> created = co_await offload(std::move(work));
    co_return reply_to(created, "OK Create completed.");
}

/// DELETE (section 6.3.4).
Task<std::string> cmd_delete(Session& session, Command& command) {
    std::string name;
    std::string reply;
    if (!one_name(session, command, name, reply)) {
        co_return reply;
    }
    if (name == "INBOX") {
        co_return "NO [CANNOT] INBOX can't be deleted.";
    }
    close_if_selected(session, name);
    store::Account& account = session.account();
    auto work = [&account, &name] { return account.remove(name); };
    const Result<void> removed = co_await offload(std::move(work));
    co_return reply_to(removed, "OK Delete completed.");
}

/// RENAME (section 6.3.5).
Task<std::string> cmd_rename(Session& session, Command& command) {
    std::string from;
    std::string to;
    if (!command.parser.astring(from) || !command.parser.space() || !command.parser.astring(to) ||
        !command.parser.end()) {
        co_return command.bad();
    }
    store::Account& account = session.account();
    if (to.size() > 1 && to.back() == account.separator()) {
        to.pop_back();
    }
    const Result<std::string> old_name = session.names().from_client(from);
    const Result<std::string> new_name = session.names().from_client(to);
    if (!old_name || !new_name) {
        co_return reply_for(!old_name ? old_name.error() : new_name.error());
    }
    if (*old_name != "INBOX") {
        close_if_selected(session, *old_name);
    }
    auto work = [&account, &old_name, &new_name] { return account.rename(*old_name, *new_name); };
    const Result<void> renamed = co_await offload(std::move(work));
    co_return reply_to(renamed, "OK Rename completed.");
}

/// SUBSCRIBE (section 6.3.6).  The mailbox must exist, as in Dovecot.
Task<std::string> cmd_subscribe(Session& session, Command& command) {
    std::string name;
    std::string reply;
    if (!one_name(session, command, name, reply)) {
        co_return reply;
    }
    if (!session.account().exists(name)) {
        co_return "NO [NONEXISTENT] Mailbox doesn't exist";
    }
    co_return reply_to(session.account().subscribe(name, true), "OK Subscribe completed.");
}

/// UNSUBSCRIBE (section 6.3.7).
Task<std::string> cmd_unsubscribe(Session& session, Command& command) {
    std::string name;
    std::string reply;
    if (!one_name(session, command, name, reply)) {
        co_return reply;
    }
    co_return reply_to(session.account().subscribe(name, false), "OK Unsubscribe completed.");
}

/// STATUS (section 6.3.10, RFC 7162, RFC 7889, RFC 8438).
Task<std::string> cmd_status(Session& session, Command& command) {
    StatusArguments arguments;
    if (!parse_status(command.parser, arguments)) {
        co_return command.bad();
    }
    const Result<std::string> name = session.names().from_client(arguments.mailbox);
    if (!name) {
        co_return reply_for(name.error());
    }
    const Result<void> written = write_status(session, *name, arguments.items);
    co_return reply_to(written, "OK Status completed.");
}

}  // namespace postern::imapd
