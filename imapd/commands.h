/// All IMAP commands of a logged-in client: where to begin reading.
#pragma once

#include <string>
#include <string_view>

#include "imapd/session.h"

namespace postern::imapd {

/// Runs a command and gives the reply without its tag: "OK Fetch completed.".  Empty: the session has ended.
using Handler = Task<std::string> (*)(Session& session, Command& command);

enum class Uid : unsigned char { never, also };///< may stand after "UID"
enum class After : unsigned char {
    show,          ///< all changes are told before the reply
    hold,          ///< all but EXPUNGE (RFC 3501 section 7.4.1), unless it was the UID form
    nothing,       ///< the command has told them, or changes the mailbox it has selected
};

enum class News : unsigned char {
    may_wait,      ///< with delay-newmail (imap_client_workarounds) new messages are told by another command
    tell,          ///< as in Dovecot
};

struct CommandRow {
    std::string_view name;
    Handler handler;
    bool selected;                 ///< needs a selected mailbox; all others need a login only
    After after;
    Uid uid = Uid::never;
    News news = News::may_wait;
};

/// Null when there is no such command.
const CommandRow* find_command(std::string_view upper_case_name);

Task<std::string> cmd_append(Session& session, Command& command);
Task<std::string> cmd_capability(Session& session, Command& command);
Task<std::string> cmd_check(Session& session, Command& command);
Task<std::string> cmd_close(Session& session, Command& command);
Task<std::string> cmd_copy(Session& session, Command& command);
Task<std::string> cmd_create(Session& session, Command& command);
Task<std::string> cmd_delete(Session& session, Command& command);
Task<std::string> cmd_enable(Session& session, Command& command);
Task<std::string> cmd_examine(Session& session, Command& command);
Task<std::string> cmd_expunge(Session& session, Command& command);
Task<std::string> cmd_fetch(Session& session, Command& command);
Task<std::string> cmd_id(Session& session, Command& command);
Task<std::string> cmd_idle(Session& session, Command& command);
Task<std::string> cmd_list(Session& session, Command& command);
Task<std::string> cmd_logged_in(Session& session, Command& command);
Task<std::string> cmd_logout(Session& session, Command& command);
Task<std::string> cmd_lsub(Session& session, Command& command);
Task<std::string> cmd_move(Session& session, Command& command);
Task<std::string> cmd_namespace(Session& session, Command& command);
Task<std::string> cmd_noop(Session& session, Command& command);
Task<std::string> cmd_rename(Session& session, Command& command);
Task<std::string> cmd_search(Session& session, Command& command);
Task<std::string> cmd_select(Session& session, Command& command);
Task<std::string> cmd_sort(Session& session, Command& command);
Task<std::string> cmd_status(Session& session, Command& command);
Task<std::string> cmd_store(Session& session, Command& command);
Task<std::string> cmd_subscribe(Session& session, Command& command);
Task<std::string> cmd_thread(Session& session, Command& command);
Task<std::string> cmd_unselect(Session& session, Command& command);
Task<std::string> cmd_unsubscribe(Session& session, Command& command);

}  // namespace postern::imapd
