#include <fmt/format.h>

#include "imapd/commands.h"
#include "imapd/response.h"
#include "lib/async/offload.h"

namespace postern::imapd {

namespace {

/// SELECT and EXAMINE (RFC 3501 sections 6.3.1 and 6.3.2):
///
///     select = "SELECT" SP mailbox [SP "(CONDSTORE)"]
///
/// The mailbox that was selected before is closed, without expunging, whatever comes of this.
Task<std::string> open_mailbox(Session& session, Command& command, store::Access access) {
    SelectArguments arguments;
    if (!parse_select(command.parser, arguments)) {
        co_return command.bad();
    }
    if (session.mailbox() != nullptr) {
        session.close();
        session.out() += "* OK [CLOSED] Previous mailbox closed.\r\n";
    }
    store::Account& account = session.account();
    const Result<std::string> name = session.names().from_client(arguments.mailbox);
    if (!name) {
        co_return reply_for(name.error());
    }
    auto work = [&account, &name, access] { return account.select(*name, access); };
    Result<std::unique_ptr<store::Mailbox>> opened = co_await offload(std::move(work));
    if (!opened) {
        co_return reply_for(opened.error());
    }
    session.open(std::move(*opened));
    store::Mailbox& mailbox = *session.mailbox();
    session.write_flags_lines();
    std::string& out = session.out();
    out += fmt::format("* {} EXISTS\r\n* {} RECENT\r\n", mailbox.exists(), mailbox.recent());
    const Result<std::uint32_t> unseen = mailbox.first_unseen();
    if (unseen && *unseen != 0) {
        out += fmt::format("* OK [UNSEEN {}] First unseen.\r\n", *unseen);
    }
    out += fmt::format("* OK [UIDVALIDITY {}] UIDs valid\r\n* OK [UIDNEXT {}] Predicted next UID\r\n",
                       mailbox.uidvalidity(), mailbox.uidnext());
    if (arguments.condstore && !session.condstore()) {
        session.enable_condstore();
    } else {
        out += fmt::format("* OK [HIGHESTMODSEQ {}] Highest\r\n", mailbox.highest_modseq());
    }
    const std::string_view verb = access == store::Access::read_only ? "Examine" : "Select";
    co_return fmt::format("OK [{}] {} completed.", mailbox.read_only() ? "READ-ONLY" : "READ-WRITE", verb);
}

}  // namespace

Task<std::string> cmd_select(Session& session, Command& command) {
    co_return co_await open_mailbox(session, command, store::Access::read_write);
}

Task<std::string> cmd_examine(Session& session, Command& command) {
    co_return co_await open_mailbox(session, command, store::Access::read_only);
}

}  // namespace postern::imapd
