/// What changed in the selected mailbox, told in the order RFC 3501 section 7 asks for.
#include <fmt/format.h>

#include "imapd/response.h"
#include "imapd/session.h"
#include "lib/log/log.h"

namespace postern::imapd {

void Session::write_flags_lines() {
    std::string flags = "\\Answered \\Flagged \\Deleted \\Seen \\Draft";
    for (const std::string& keyword : mailbox_->keywords()) {
        flags += ' ';
        flags += keyword;
    }
    std::string& to = out();
    to += "* FLAGS (" + flags + ")\r\n";
    if (mailbox_->read_only()) {
        to += "* OK [PERMANENTFLAGS ()] Read-only mailbox.\r\n";
    } else {
        to += "* OK [PERMANENTFLAGS (" + flags + (mailbox_->can_add_keywords() ? " \\*" : "") +
              ")] Flags permitted.\r\n";
    }
}

void Session::write_fetch_update(const store::Changes::FlagUpdate& update, bool with_uid) {
    if (update.silent && !condstore_) {
        return;
    }
    std::string& to = out();
    to += "* ";
    append_number(to, update.row.seq);
    to += " FETCH (";
    if (with_uid) {
        to += "UID ";
        append_number(to, update.row.uid);
        to += ' ';
    }
    if (condstore_) {
        to += "MODSEQ (";
        append_number(to, update.row.modseq);
        to += update.silent ? ")" : ") ";
    }
    if (!update.silent) {
        to += "FLAGS ";
        append_flags(to, update.row.flags, update.row.keywords, mailbox_->keywords());
    }
    to += ")\r\n";
}

bool Session::send_changes(store::Expunges expunges, bool with_uid, store::Arrivals arrivals) {
    const Result<store::Changes> found = mailbox_->sync(expunges, arrivals);
    if (!found) {
        if (found.error().code == Errc::not_found || found.error().code == Errc::corrupt) {
            bye("BYE Selected mailbox was deleted or replaced, have to disconnect.");
            return false;
        }
        log_error("sync: {}", found.error().what);
        return true;                                 // tried again after the next command
    }
    const store::Changes& changes = *found;
    if (changes.keywords_changed) {
        write_flags_lines();
    }
    std::string& to = out();
    for (const std::uint32_t seq : changes.expunged) {
        to += "* ";
        append_number(to, seq);
        to += " EXPUNGE\r\n";
    }
    for (const store::UidRange& range : changes.vanished.ranges()) {
        if (fetched_.uid >= range.first && fetched_.uid <= range.last) {
            fetched_ = FetchedMessage{};
        }
    }
    if (changes.exists) {
        to += fmt::format("* {} EXISTS\r\n", *changes.exists);
    }
    if (changes.recent) {
        to += fmt::format("* {} RECENT\r\n", *changes.recent);
    }
    for (const store::Changes::FlagUpdate& update : changes.flags) {
        write_fetch_update(update, with_uid);
    }
    return true;
}

}  // namespace postern::imapd
