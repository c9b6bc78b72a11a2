#include "imapd/commands.h"
#include "imapd/response.h"
#include "imapd/targets.h"
#include "lib/async/offload.h"

namespace postern::imapd {

namespace {

store::FlagChange change_for(StoreArguments& arguments) {
    store::FlagChange change;
    change.how = arguments.mode == StoreArguments::Mode::add      ? store::FlagChange::How::add
                 : arguments.mode == StoreArguments::Mode::remove ? store::FlagChange::How::remove
                                                                  : store::FlagChange::How::replace;
    change.flags = arguments.flags.system;
    change.keywords = std::move(arguments.flags.keywords);
    change.unchanged_since = arguments.unchanged_since;
    change.silent = arguments.silent;
    return change;
}

/// The set that [MODIFIED ...] names: sequence numbers or UIDs, as the command spoke.
std::string modified_text(const store::Mailbox& mailbox, const store::UidSet& modified, bool by_uid) {
    if (by_uid) {
        return modified.text();
    }
    store::UidSet numbers;
    for (const store::UidRange& range : modified.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            numbers.add(mailbox.seq_of(static_cast<store::Uid>(uid)));
        }
    }
    return numbers.text();
}

/// Tells the flags of the messages that already had what the command asked for: what the store changed is told
/// by the look for changes that follows.  A client that is not told waits for nothing (RFC 3501 section 6.4.6).
void write_unchanged(Session& session, const store::UidSet& uids, store::Modseq before, bool by_uid) {
    store::Mailbox& mailbox = *session.mailbox();
    const auto reader = mailbox.reader();
    std::string& out = session.out();
    for (const store::UidRange& range : uids.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            const Result<store::Row> row = reader->row(static_cast<store::Uid>(uid));
            if (!row || row->modseq > before) {
                continue;
            }
            out += "* ";
            append_number(out, row->seq);
            out += " FETCH (";
            if (by_uid) {
                out += "UID ";
                append_number(out, row->uid);
                out += ' ';
            }
            if (session.condstore()) {
                out += "MODSEQ (";
                append_number(out, row->modseq);
                out += ") ";
            }
            out += "FLAGS ";
            append_flags(out, row->flags, row->keywords, mailbox.keywords());
            out += ")\r\n";
        }
    }
}

}  // namespace

/// STORE and UID STORE (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3):
///
///     store = "STORE" SP sequence-set ["(UNCHANGEDSINCE" SP number ")"] SP ["+"/"-"] "FLAGS" [".SILENT"] SP flags
///
/// The new flags are told by the look for changes after the command.
Task<std::string> cmd_store(Session& session, Command& command) {
    StoreArguments arguments;
    if (!parse_store(command.parser, arguments)) {
        co_return command.bad();
    }
    store::Mailbox& mailbox = *session.mailbox();
    if (mailbox.read_only()) {
        co_return "NO [CANNOT] Mailbox is read-only.";
    }
    if (!session.keywords_fit(arguments.flags.keywords)) {
        co_return kKeywordTooLong;
    }
    const std::optional<store::UidSet> uids = session.uids_named(arguments.set, command.head.uid);
    if (!uids) {
        co_return "BAD Error in IMAP command STORE: Invalid messageset";
    }
    if (arguments.unchanged_since) {
        session.enable_condstore();
    }
    const store::Modseq before = mailbox.highest_modseq();
    const bool deletes = arguments.mode != StoreArguments::Mode::remove &&
                         (arguments.flags.system & store::kDeleted) != 0;
    const store::FlagChange change = change_for(arguments);
    auto work = [&mailbox, &uids, &change] { return mailbox.store(*uids, change); };
    const Result<store::StoreResult> stored = co_await offload(std::move(work));
    if (!stored) {
        co_return reply_for(stored.error());
    }
    if (deletes) {
        session.counters().deleted += uids->size();
    }
    if (!arguments.silent) {
        write_unchanged(session, difference(*uids, stored->modified), before, command.head.uid);
    }
    if (!stored->modified.empty()) {
        const std::string failed = modified_text(mailbox, stored->modified, command.head.uid);
        co_return "OK [MODIFIED " + failed + "] Conditional store failed for some messages.";
    }
    if (!stored->gone.empty()) {
        co_return "OK [EXPUNGEISSUED] Some of the messages no longer exist.";
    }
    co_return "OK Store completed.";
}

}  // namespace postern::imapd
