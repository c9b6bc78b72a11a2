#include <algorithm>

#include "imapd/commands.h"
#include "imapd/fetch_body.h"
#include "imapd/response.h"
#include "imapd/targets.h"
#include "lib/async/offload.h"
#include "lib/log/log.h"
#include "lib/mail/date.h"

namespace postern::imapd {

namespace {

using Kind = FetchItem::Kind;

/// After so many messages without waiting for the client, others get their turn and old index pages go.
constexpr std::size_t kTurn = 2000;

/// A FETCH being answered.
struct Plan {
    std::vector<FetchItem> items;
    std::vector<std::string> labels;               ///< of items that need the text; else empty
    bool needs_summary = false;
    store::Need need = store::Need::size_and_date;
    store::UidSet uids;
    std::size_t gone = 0;                          ///< expunged by others meanwhile
    std::size_t failed = 0;
    std::size_t undecodable = 0;
    store::UidSet read;                            ///< get \Seen
    bool sets_seen = false;
};

void add_item(std::vector<FetchItem>& items, Kind kind) {
    const bool there = std::any_of(items.begin(), items.end(), [&](const FetchItem& item) { return item.kind == kind; });
    if (!there) {
        FetchItem item;
        item.kind = kind;
        items.insert(items.begin(), std::move(item));
    }
}

void prepare(Plan& plan, bool read_only) {
    for (const FetchItem& item : plan.items) {
        const bool heavy = item.kind == Kind::envelope || item.kind == Kind::body || item.kind == Kind::body_structure ||
                           item.kind == Kind::size;
        plan.needs_summary = plan.needs_summary || heavy || item.kind == Kind::internal_date;
        if (heavy && item.kind != Kind::size) {
            plan.need = store::Need::all;
        }
        plan.labels.push_back(needs_text(item) ? item_label(item) : std::string());
        plan.sets_seen = plan.sets_seen || (!item.peek && !read_only);
    }
}

void append_internal_date(std::string& out, std::int64_t seconds) {
    out += "INTERNALDATE \"";
    const std::string text = format_imap_date_time(local_date(seconds));
    out += text.size() > 1 && text[1] == '-' ? " " : "";   // date-day-fixed (RFC 3501 section 9)
    out += text;
    out += '"';
}

/// Items that come from the index: ready text is copied.
void write_simple(std::string& out, Kind kind, const store::Row& row, const store::Summary& summary,
                  const std::vector<std::string>& keywords) {
    switch (kind) {
    case Kind::flags:
        out += "FLAGS ";
        append_flags(out, row.flags, row.keywords, keywords);
        break;
    case Kind::uid:
        out += "UID ";
        append_number(out, row.uid);
        break;
    case Kind::modseq:
        out += "MODSEQ (";
        append_number(out, row.modseq);
        out += ')';
        break;
    case Kind::internal_date: append_internal_date(out, summary.internal_date); break;
    case Kind::size:
        out += "RFC822.SIZE ";
        append_number(out, summary.size);
        break;
    case Kind::envelope:
        out += "ENVELOPE ";
        out += summary.envelope;
        break;
    case Kind::body:
        out += "BODY ";
        out += summary.body;
        break;
    case Kind::body_structure:
        out += "BODYSTRUCTURE ";
        out += summary.bodystructure;
        break;
    default: break;
    }
}

/// The index entries for one message, or false when there is nothing to send for it.
bool look_up(Plan& plan, store::Reader& reader, store::Uid uid, store::Row& row, store::Summary& summary) {
    const Result<store::Row> found = reader.row(uid);
    if (!found) {
        (found.error().code == Errc::not_found ? plan.gone : plan.failed) += 1;
        return false;
    }
    row = *found;
    if (plan.needs_summary) {
        Result<store::Summary> known = reader.summary(uid, plan.need);
        if (!known) {
            if (known.error().code != Errc::not_found) {
                log_error("fetch: {}", known.error().what);
            }
            (known.error().code == Errc::not_found ? plan.gone : plan.failed) += 1;
            return false;
        }
        summary = *known;
    }
    return true;
}

void begin(std::string& out, const store::Row& row) {
    out += "* ";
    append_number(out, row.seq);
    out += " FETCH (";
}

/// One message when all of it comes from the index.
void write_from_index(Session& session, Plan& plan, store::Reader& reader, store::Uid uid) {
    store::Row row;
    store::Summary summary;
    if (!look_up(plan, reader, uid, row, summary)) {
        return;
    }
    std::string& out = session.out();
    begin(out, row);
    for (std::size_t i = 0; i < plan.items.size(); ++i) {
        if (i > 0) {
            out += ' ';
        }
        write_simple(out, plan.items[i].kind, row, summary, session.mailbox()->keywords());
    }
    out += ")\r\n";
}

/// One message with its text.  An item that fails before anything was sent takes the whole response back.
Task<bool> write_with_text(Session& session, Plan& plan, store::Reader& reader, store::Uid uid) {
    store::Row row;
    store::Summary summary;
    if (!look_up(plan, reader, uid, row, summary)) {
        co_return true;
    }
    const std::uint64_t sent_before = session.client().bytes_out();
    const std::size_t start = session.out().size();
    begin(session.out(), row);
    for (std::size_t i = 0; i < plan.items.size(); ++i) {
        if (i > 0) {
            session.out() += ' ';
        }
        if (plan.labels[i].empty()) {
            // The views of the summary end with the next call on the reader, so it is asked again.
            const Result<store::Summary> known = plan.needs_summary ? reader.summary(uid, plan.need) : summary;
            write_simple(session.out(), plan.items[i].kind, row, known ? *known : store::Summary{},
                         session.mailbox()->keywords());
            continue;
        }
        const Sent sent = co_await send_text_item(session, reader, uid, plan.items[i], plan.labels[i]);
        if (sent == Sent::done) {
            continue;
        }
        if (sent == Sent::lost) {
            co_return false;
        }
        (sent == Sent::gone ? plan.gone : sent == Sent::undecodable ? plan.undecodable : plan.failed) += 1;
        if (session.client().bytes_out() == sent_before) {
            session.out().resize(start);
            co_return true;
        }
        session.out() += plan.labels[i] + " NIL";
    }
    session.out() += ")\r\n";
    if (plan.sets_seen && (row.flags & store::kSeen) == 0) {
        plan.read.add(uid);
    }
    co_return true;
}

/// All messages of the plan.  False: the client is gone.
Task<bool> write_messages(Session& session, Plan& plan) {
    const bool text = std::any_of(plan.labels.begin(), plan.labels.end(), [](const auto& l) { return !l.empty(); });
    const auto reader = session.mailbox()->reader();
    std::size_t turn = 0;
    for (const store::UidRange& range : plan.uids.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            if (text) {
                const bool alive = co_await write_with_text(session, plan, *reader, static_cast<store::Uid>(uid));
                if (!alive) {
                    co_return false;
                }
            } else {
                write_from_index(session, plan, *reader, static_cast<store::Uid>(uid));
            }
            if (session.client().congested()) {
                reader->pause();                     // the client may take its time
                const bool alive = co_await session.relieve();
                if (!alive) {
                    co_return false;
                }
            }
            if (++turn == kTurn) {
                turn = 0;
                reader->pause();
                co_await yield_to_others();
            }
        }
    }
    co_return true;
}

Task<Result<void>> mark_seen(store::Mailbox& mailbox, const store::UidSet& uids) {
    store::FlagChange change;
    change.how = store::FlagChange::How::add;
    change.flags = store::kSeen;
    auto work = [&mailbox, &uids, &change] { return mailbox.store(uids, change); };
    const Result<store::StoreResult> stored = co_await offload(std::move(work));
    if (!stored) {
        co_return stored.error();
    }
    co_return Result<void>();
}

std::string conclusion(const Plan& plan) {
    if (plan.undecodable > 0) {
        return "NO [UNKNOWN-CTE] Some parts have a transfer encoding that is not known.";
    }
    if (plan.failed > 0) {
        return "NO [SERVERBUG] Some messages could not be read. Refer to server log for more information.";
    }
    if (plan.gone > 0) {
        return "OK [EXPUNGEISSUED] Some of the messages no longer exist.";
    }
    return "OK Fetch completed.";
}

}  // namespace

/// FETCH and UID FETCH (RFC 3501 section 6.4.5, RFC 3516, RFC 7162 section 3.1.4):
///
///     fetch = "FETCH" SP sequence-set SP items [SP "(CHANGEDSINCE" SP number ")"]
///
/// Flags, dates, sizes, ENVELOPE and BODYSTRUCTURE are copied from the index in wire form.  \Seen is set after
/// the text was sent, for all messages in one commit; the new flags are told by the look for changes after.
Task<std::string> cmd_fetch(Session& session, Command& command) {
    FetchArguments arguments;
    if (!parse_fetch(command.parser, arguments)) {
        co_return command.bad();
    }
    store::Mailbox& mailbox = *session.mailbox();
    std::optional<store::UidSet> uids = session.uids_named(arguments.set, command.head.uid);
    if (!uids) {
        co_return "BAD Error in IMAP command FETCH: Invalid messageset";
    }
    Plan plan;
    plan.items = std::move(arguments.items);
    if (arguments.changed_since) {
        const Result<store::UidSet> changed = mailbox.changed_since(*arguments.changed_since);
        if (!changed) {
            co_return reply_for(changed.error());
        }
        uids = intersection(*uids, *changed);
        add_item(plan.items, Kind::modseq);
    }
    if (command.head.uid) {
        add_item(plan.items, Kind::uid);
    }
    for (const FetchItem& item : plan.items) {
        if (item.kind == Kind::modseq) {
            session.enable_condstore();
        }
    }
    plan.uids = std::move(*uids);
    prepare(plan, mailbox.read_only());
    const bool alive = co_await write_messages(session, plan);
    if (!alive) {
        co_return std::string();
    }
    if (!plan.read.empty()) {
        const Result<void> marked = co_await mark_seen(mailbox, plan.read);
        if (!marked) {
            co_return reply_for(marked.error());
        }
    }
    co_return conclusion(plan);
}

}  // namespace postern::imapd
