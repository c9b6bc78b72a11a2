#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <vector>

#include "imapd/commands.h"
#include "imapd/find_messages.h"
#include "imapd/response.h"
#include "imapd/search.h"
#include "lib/mail/charset.h"

namespace postern::imapd {

namespace {

/// Work for this long, then let others run: a search of bodies can take seconds.
constexpr std::chrono::milliseconds kTurn{20};
constexpr std::size_t kLookAtClock = 16;

/// The numbers to answer with: UIDs, or sequence numbers of the snapshot.
std::uint32_t number_of(const store::Mailbox& mailbox, store::Uid uid, bool by_uid) {
    return by_uid ? uid : mailbox.seq_of(uid);
}

store::Modseq highest(const std::vector<Found>& found) {
    store::Modseq out = 0;
    for (const Found& message : found) {
        out = std::max(out, message.modseq);
    }
    return out;
}

void write_search(Session& session, const std::vector<Found>& found, bool by_uid, bool with_modseq) {
    std::string& out = session.out();
    out += "* SEARCH";
    for (const Found& message : found) {
        out += ' ';
        append_number(out, number_of(*session.mailbox(), message.uid, by_uid));
    }
    if (with_modseq && !found.empty()) {
        out += " (MODSEQ ";
        append_number(out, highest(found));
        out += ')';
    }
    out += "\r\n";
}

/// The mod-sequence that an ESEARCH answer carries (RFC 7162 section 3.1.10): of the messages it names.
store::Modseq answer_modseq(const SearchArguments& asked, const std::vector<Found>& found) {
    if (asked.all || asked.count) {
        return highest(found);
    }
    store::Modseq out = 0;
    if (asked.min) {
        out = found.front().modseq;
    }
    return asked.max ? std::max(out, found.back().modseq) : out;
}

/// ESEARCH (RFC 4731 section 3.1).
void write_esearch(Session& session, const Command& command, const SearchArguments& asked,
                   const std::vector<Found>& found, bool with_modseq) {
    const store::Mailbox& mailbox = *session.mailbox();
    const bool by_uid = command.head.uid;
    std::string& out = session.out();
    out += "* ESEARCH (TAG \"" + command.head.tag + "\")";
    out += by_uid ? " UID" : "";
    if (!found.empty() && asked.min) {
        out += fmt::format(" MIN {}", number_of(mailbox, found.front().uid, by_uid));
    }
    if (!found.empty() && asked.max) {
        out += fmt::format(" MAX {}", number_of(mailbox, found.back().uid, by_uid));
    }
    if (!found.empty() && asked.all) {
        store::UidSet set;
        for (const Found& message : found) {
            set.add(number_of(mailbox, message.uid, by_uid));
        }
        out += " ALL " + set.text();
    }
    if (asked.count) {
        out += fmt::format(" COUNT {}", found.size());
    }
    if (with_modseq && !found.empty() && (asked.all || asked.count || asked.min || asked.max)) {
        out += fmt::format(" MODSEQ {}", answer_modseq(asked, found));
    }
    out += "\r\n";
}

/// What "$" will mean (RFC 5182 section 2.1): all that was found, or only the ends that were asked for.
void save_result(Session& session, const SearchArguments& asked, const std::vector<Found>& found) {
    store::UidSet& saved = session.search_result();
    saved.clear();
    const bool ends_only = (asked.min || asked.max) && !asked.all && !asked.count;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const bool end = (asked.min && i == 0) || (asked.max && i + 1 == found.size());
        if (!ends_only || end) {
            saved.add(found[i].uid);
        }
    }
}

}  // namespace

Task<Result<std::vector<Found>>> find_messages(Session& session, const SearchArguments& asked) {
    if (!asked.charset.empty() && !to_utf8(asked.charset, "")) {
        co_return Error(Errc::unsupported, "unknown charset");   // whether or not there is a string in it
    }
    store::Mailbox& mailbox = *session.mailbox();
    const SearchContext context{mailbox, session.search_result(), asked.charset, std::time(nullptr)};
    const Result<Condition> condition = compile(asked.root, context);
    if (!condition) {
        co_return condition.error();
    }
    const auto reader = mailbox.reader();
    Matcher matcher(*condition, *reader);
    const store::UidSet uids = candidates(*condition, mailbox.uids());
    std::vector<Found> found;
    auto turn = std::chrono::steady_clock::now();
    std::size_t looked = 0;
    for (const store::UidRange& range : uids.ranges()) {
        for (std::uint64_t uid = range.first; uid <= range.last; ++uid) {
            Found message{static_cast<store::Uid>(uid), 0};
            if (matcher.matches(message.uid, message.modseq)) {
                found.push_back(message);
            }
            if (++looked % kLookAtClock == 0 && std::chrono::steady_clock::now() - turn > kTurn) {
                co_await yield_to_others();
                turn = std::chrono::steady_clock::now();
            }
        }
    }
    co_return found;
}

std::string search_failure(const Error& error) {
    if (error.code == Errc::unsupported) {
        return "NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset";
    }
    return reply_for(error);
}

/// SEARCH and UID SEARCH (RFC 3501 section 6.4.4, RFC 4731, RFC 5032, RFC 5182, RFC 7162 section 3.1.5):
///
///     search = "SEARCH" [SP "RETURN (" options ")"] [SP "CHARSET" SP charset] 1*(SP search-key)
Task<std::string> cmd_search(Session& session, Command& command) {
    SearchArguments asked;
    if (!parse_search(command.parser, asked)) {
        co_return command.bad();
    }
    const bool with_modseq = mentions(asked.root, SearchKey::Kind::modseq);
    if (with_modseq) {
        session.enable_condstore();
    }
    const Result<std::vector<Found>> found = co_await find_messages(session, asked);
    if (!found) {
        if (asked.save) {
            session.search_result().clear();
        }
        co_return search_failure(found.error());
    }
    if (asked.save) {
        save_result(session, asked, *found);
    }
    const bool only_save = asked.save && !asked.min && !asked.max && !asked.all && !asked.count;
    if (!asked.extended) {
        write_search(session, *found, command.head.uid, with_modseq);
    } else if (!only_save) {
        write_esearch(session, command, asked, *found, with_modseq);
    }
    co_return "OK Search completed.";
}

}  // namespace postern::imapd
