#include <fmt/format.h>

#include "imapd/commands.h"
#include "imapd/response.h"
#include "lib/async/offload.h"

namespace postern::imapd {

namespace {

std::string copyuid(const store::Assigned& assigned) {
    return fmt::format("[COPYUID {} {} {}]", assigned.uidvalidity, format_uids(assigned.source),
                       format_uids(assigned.uids));
}

/// COPY (RFC 3501 section 6.4.7, RFC 4315 section 3) and MOVE (RFC 6851), with their UID forms:
///
///     copy = ("COPY" / "MOVE") SP sequence-set SP mailbox
Task<std::string> copy_or_move(Session& session, Command& command, bool move) {
    CopyArguments arguments;
    if (!parse_copy(command.parser, arguments)) {
        co_return command.bad();
    }
    store::Mailbox& mailbox = *session.mailbox();
    if (move && mailbox.read_only()) {
        co_return "NO [CANNOT] Mailbox is read-only.";
    }
    const Result<std::string> name = session.names().from_client(arguments.mailbox);
    if (!name) {
        co_return reply_for(name.error());
    }
    const std::optional<store::UidSet> uids = session.uids_named(arguments.set, command.head.uid);
    if (!uids) {
        co_return "BAD Error in IMAP command " + command.head.name + ": Invalid messageset";
    }
    auto work = [&mailbox, &uids, &name, move] {
        return move ? mailbox.move_to(*uids, *name) : mailbox.copy_to(*uids, *name);
    };
    const Result<store::Assigned> assigned = co_await offload(std::move(work));
    if (!assigned && assigned.error().code == Errc::not_found) {
        co_return "NO [TRYCREATE] Mailbox doesn't exist";
    }
    if (!assigned) {
        co_return reply_for(assigned.error());
    }
    if (*name == "Trash") {
        session.counters().trashed += assigned->uids.size();
    }
    if (assigned->uids.empty() && !uids->empty() && !command.head.uid) {   // RFC 2180 section 4.4: all that were named are gone
        co_return "NO [EXPUNGEISSUED] The messages no longer exist.";
    }
    if (assigned->uids.empty()) {
        co_return move ? "OK No messages moved." : "OK No messages copied.";
    }
    if (move) {
        session.counters().expunged += assigned->source.size();
        session.out() += "* OK " + copyuid(*assigned) + " Moved UIDs.\r\n";
        co_return "OK Move completed.";
    }
    co_return "OK " + copyuid(*assigned) + " Copy completed.";
}

}  // namespace

Task<std::string> cmd_copy(Session& session, Command& command) {
    co_return co_await copy_or_move(session, command, false);
}

Task<std::string> cmd_move(Session& session, Command& command) {
    co_return co_await copy_or_move(session, command, true);
}

}  // namespace postern::imapd
