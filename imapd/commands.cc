#include "imapd/commands.h"

#include <array>

namespace postern::imapd {

namespace {

constexpr bool kAnyState = false;
constexpr bool kSelected = true;

constexpr std::array<CommandRow, 32> kCommands = {{
    {"APPEND", cmd_append, kAnyState, After::show, Uid::never, News::tell},
    {"AUTHENTICATE", cmd_logged_in, kAnyState, After::nothing},
    {"CAPABILITY", cmd_capability, kAnyState, After::nothing},
    {"CHECK", cmd_check, kSelected, After::show, Uid::never, News::tell},
    {"CLOSE", cmd_close, kSelected, After::nothing},
    {"COPY", cmd_copy, kSelected, After::show, Uid::also},
    {"CREATE", cmd_create, kAnyState, After::show},
    {"DELETE", cmd_delete, kAnyState, After::show},
    {"ENABLE", cmd_enable, kAnyState, After::nothing},
    {"EXAMINE", cmd_examine, kAnyState, After::nothing},
    {"EXPUNGE", cmd_expunge, kSelected, After::show, Uid::also, News::tell},
    {"FETCH", cmd_fetch, kSelected, After::hold, Uid::also},
    {"ID", cmd_id, kAnyState, After::nothing},
    {"IDLE", cmd_idle, kAnyState, After::show, Uid::never, News::tell},
    {"LIST", cmd_list, kAnyState, After::show},
    {"LOGIN", cmd_logged_in, kAnyState, After::nothing},
    {"LOGOUT", cmd_logout, kAnyState, After::nothing},
    {"LSUB", cmd_lsub, kAnyState, After::show},
    {"MOVE", cmd_move, kSelected, After::show, Uid::also},
    {"NAMESPACE", cmd_namespace, kAnyState, After::show},
    {"NOOP", cmd_noop, kAnyState, After::show, Uid::never, News::tell},
    {"RENAME", cmd_rename, kAnyState, After::show},
    {"SEARCH", cmd_search, kSelected, After::hold, Uid::also},
    {"SELECT", cmd_select, kAnyState, After::nothing},
    {"SORT", cmd_sort, kSelected, After::hold, Uid::also},
    {"STARTTLS", cmd_logged_in, kAnyState, After::nothing},
    {"STATUS", cmd_status, kAnyState, After::show},
    {"STORE", cmd_store, kSelected, After::hold, Uid::also},
    {"SUBSCRIBE", cmd_subscribe, kAnyState, After::show},
    {"THREAD", cmd_thread, kSelected, After::hold, Uid::also},
    {"UNSELECT", cmd_unselect, kSelected, After::nothing},
    {"UNSUBSCRIBE", cmd_unsubscribe, kAnyState, After::show},
}};

}  // namespace

const CommandRow* find_command(std::string_view upper_case_name) {
    for (const CommandRow& row : kCommands) {
        if (row.name == upper_case_name) {
            return &row;
        }
    }
    return nullptr;
}

}  // namespace postern::imapd
