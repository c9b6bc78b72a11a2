/// The commands that take a few lines each.

#include "imapd/capability.h"
#include "imapd/commands.h"
#include "imapd/id_response.h"
#include "imapd/response.h"
#include "imapd/targets.h"
#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/imap_structure.h"
#include "lib/mail/utf7.h"

namespace postern::imapd {

/// CAPABILITY (RFC 3501 section 6.1.1).
Task<std::string> cmd_capability(Session& session, Command& command) {
    if (!command.parser.end()) {
        co_return command.bad();
    }
    session.out() += "* CAPABILITY " + session_capabilities(session.config()) + "\r\n";
    co_return "OK Capability completed.";
}

/// NOOP (section 6.1.2): the way to hear about changes.
Task<std::string> cmd_noop(Session&, Command& command) {
    co_return command.parser.end() ? "OK NOOP completed." : command.bad();
}

/// CHECK (section 6.4.1): everything is on disk already.
Task<std::string> cmd_check(Session&, Command& command) {
    co_return command.parser.end() ? "OK Check completed." : command.bad();
}

/// LOGOUT (section 6.1.3).
Task<std::string> cmd_logout(Session& session, Command& command) {
    if (!command.parser.end()) {
        co_return command.bad();
    }
    session.out() += "* BYE Logging out\r\n";
    co_return "OK Logout completed.";
}

/// LOGIN, AUTHENTICATE and STARTTLS are over (section 6.2).
Task<std::string> cmd_logged_in(Session&, Command&) { co_return "BAD Already logged in."; }

/// ID (RFC 2971).
Task<std::string> cmd_id(Session& session, Command& command) {
    std::vector<std::pair<std::string, std::string>> pairs;
    if (!parse_id(command.parser, pairs)) {
        co_return command.bad();
    }
    const std::string logged = id_for_log(pairs, session.config().imap_id_log());
    if (!logged.empty()) {
        log_info("imap({})<{}><{}>: ID sent: {}", session.info().user, ::getpid(), session.info().session_id, logged);
    }
    session.out() += id_response(session.config().imap_id_send());
    co_return "OK ID completed.";
}

/// ENABLE (RFC 5161): unknown names are ignored.
Task<std::string> cmd_enable(Session& session, Command& command) {
    std::string enabled;
    bool any = false;
    while (!command.parser.at_end()) {
        std::string name;
        if (!command.parser.atom(name)) {
            co_return command.bad();
        }
        any = true;
        if (equals_ignoring_case(name, "CONDSTORE")) {
            enabled = " CONDSTORE";
        }
        if (!command.parser.take(' ') && !command.parser.end()) {
            co_return command.bad();
        }
    }
    if (!any) {
        co_return "BAD Missing arguments";
    }
    session.out() += "* ENABLED" + enabled + "\r\n";
    if (!enabled.empty()) {
        session.enable_condstore();
    }
    co_return "OK Enabled.";
}

/// NAMESPACE (RFC 2342): one personal namespace.
Task<std::string> cmd_namespace(Session& session, Command& command) {
    if (!command.parser.end()) {
        co_return command.bad();
    }
    session.out() += "* NAMESPACE ((";
    const auto prefix = utf8_to_imap_utf7(session.names().prefix());
    append_imap_string(session.out(), prefix ? *prefix : session.names().prefix());
    session.out() += ' ';
    append_separator(session.out(), session.account().separator());
    session.out() += ")) NIL NIL\r\n";
    co_return "OK Namespace completed.";
}

/// CLOSE (section 6.4.2): expunges without telling, then as UNSELECT.
Task<std::string> cmd_close(Session& session, Command& command) {
    if (!command.parser.end()) {
        co_return command.bad();
    }
    store::Mailbox& mailbox = *session.mailbox();
    if (!mailbox.read_only()) {
        const Result<store::UidSet> deleted = mailbox.deleted();
        if (deleted && !deleted->empty()) {
            auto work = [&mailbox, &deleted] { return mailbox.expunge(*deleted); };
            const Result<void> done = co_await offload(std::move(work));
            if (!done) {
                co_return reply_for(done.error());
            }
            session.counters().expunged += deleted->size();
        }
    }
    session.close();
    co_return "OK Close completed.";
}

/// UNSELECT (RFC 3691).
Task<std::string> cmd_unselect(Session& session, Command& command) {
    if (!command.parser.end()) {
        co_return command.bad();
    }
    session.close();
    co_return "OK Unselect completed.";
}

/// EXPUNGE (section 6.4.3) and UID EXPUNGE (RFC 4315 section 2.1).
Task<std::string> cmd_expunge(Session& session, Command& command) {
    SequenceSet set;
    const bool parsed = (!command.head.uid || command.parser.set(set)) && command.parser.end();
    if (!parsed) {
        co_return command.bad();
    }
    store::Mailbox& mailbox = *session.mailbox();
    if (mailbox.read_only()) {
        co_return "NO [CANNOT] Mailbox is read-only.";
    }
    std::optional<store::UidSet> among;
    if (command.head.uid) {
        among = session.uids_named(set, true);
    }
    const Result<store::UidSet> deleted = mailbox.deleted(among ? &*among : nullptr);
    if (!deleted) {
        co_return reply_for(deleted.error());
    }
    if (!deleted->empty()) {
        auto work = [&mailbox, &deleted] { return mailbox.expunge(*deleted); };
        const Result<void> done = co_await offload(std::move(work));
        if (!done) {
            co_return reply_for(done.error());
        }
        session.counters().expunged += deleted->size();
    }
    co_return "OK Expunge completed.";
}

}  // namespace postern::imapd
