#include <algorithm>

#include "imapd/commands.h"
#include "imapd/find_messages.h"
#include "imapd/response.h"
#include "imapd/sort_values.h"
#include "imapd/thread.h"

namespace postern::imapd {

namespace {

template <class T>
int order(const T& a, const T& b) {
    return a < b ? -1 : b < a ? 1 : 0;
}

int compare(const SortValues& a, const SortValues& b, SortKey::Kind kind) {
    switch (kind) {
    case SortKey::Kind::arrival: return order(a.arrival, b.arrival);
    case SortKey::Kind::cc: return order(a.cc, b.cc);
    case SortKey::Kind::date: return order(a.sent, b.sent);
    case SortKey::Kind::from: return order(a.from, b.from);
    case SortKey::Kind::size: return order(a.size, b.size);
    case SortKey::Kind::subject: return order(a.subject, b.subject);
    case SortKey::Kind::to: return order(a.to, b.to);
    case SortKey::Kind::display_from: return order(a.display_from, b.display_from);
    case SortKey::Kind::display_to: return order(a.display_to, b.display_to);
    }
    return 0;
}

/// Messages that are equal in all keys are in mailbox order (RFC 5256 section 3).
void sort_messages(std::vector<SortValues>& messages, const std::vector<SortKey>& keys) {
    std::stable_sort(messages.begin(), messages.end(), [&](const SortValues& a, const SortValues& b) {
        for (const SortKey& key : keys) {
            if (const int result = compare(a, b, key.kind); result != 0) {
                return key.reverse ? result > 0 : result < 0;
            }
        }
        return false;
    });
}

Task<std::vector<SortValues>> read_values(Session& session, std::vector<Found> found, bool for_threads) {
    std::vector<SortValues> out;
    const auto reader = session.mailbox()->reader();
    for (std::size_t i = 0; i < found.size(); ++i) {
        SortValues values;
        if (read_sort_values(*reader, found[i].uid, for_threads, values)) {
            out.push_back(std::move(values));
        }
        if (i % 1000 == 999) {
            co_await yield_to_others();
        }
    }
    co_return out;
}

}  // namespace

/// SORT and UID SORT (RFC 5256 section 3, RFC 5957):
///
///     sort = "SORT" SP "(" criteria ")" SP charset 1*(SP search-key)
Task<std::string> cmd_sort(Session& session, Command& command) {
    SortArguments asked;
    if (!parse_sort(command.parser, asked)) {
        co_return command.bad();
    }
    const bool with_modseq = mentions(asked.search.root, SearchKey::Kind::modseq);
    if (with_modseq) {
        session.enable_condstore();
    }
    Result<std::vector<Found>> found = co_await find_messages(session, asked.search);
    if (!found) {
        co_return search_failure(found.error());
    }
    store::Modseq highest = 0;
    for (const Found& message : *found) {
        highest = std::max(highest, message.modseq);
    }
    std::vector<SortValues> messages = co_await read_values(session, std::move(*found), false);
    sort_messages(messages, asked.keys);
    std::string& out = session.out();
    out += "* SORT";
    for (const SortValues& message : messages) {
        out += ' ';
        append_number(out, command.head.uid ? message.uid : session.mailbox()->seq_of(message.uid));
    }
    if (with_modseq && !messages.empty()) {
        out += " (MODSEQ ";
        append_number(out, highest);
        out += ')';
    }
    out += "\r\n";
    co_return "OK Sort completed.";
}

/// THREAD and UID THREAD (RFC 5256 section 3):
///
///     thread = "THREAD" SP ("ORDEREDSUBJECT" / "REFERENCES") SP charset 1*(SP search-key)
Task<std::string> cmd_thread(Session& session, Command& command) {
    ThreadArguments asked;
    if (!parse_thread(command.parser, asked)) {
        co_return command.bad();
    }
    const bool by_references = asked.algorithm == "REFERENCES";
    if (!by_references && asked.algorithm != "ORDEREDSUBJECT") {
        co_return "BAD Unknown thread algorithm";
    }
    Result<std::vector<Found>> found = co_await find_messages(session, asked.search);
    if (!found) {
        co_return search_failure(found.error());
    }
    const std::vector<SortValues> messages = co_await read_values(session, std::move(*found), true);
    const Forest forest = by_references ? thread_by_references(messages) : thread_by_subject(messages);
    const store::Mailbox& mailbox = *session.mailbox();
    const bool by_uid = command.head.uid;
    const auto number = [&mailbox, by_uid](store::Uid uid) { return by_uid ? uid : mailbox.seq_of(uid); };
    session.out() += "* THREAD";
    session.out() += forest.roots.empty() ? "" : " ";
    append_forest(session.out(), forest, number);
    session.out() += "\r\n";
    co_return "OK Thread completed.";
}

}  // namespace postern::imapd
