/// Evaluates SEARCH keys on messages (RFC 3501 section 6.4.4).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "imapd/syntax.h"
#include "lib/base/result.h"
#include "lib/store/store.h"

namespace postern::imapd {

/// A key made ready: texts decoded and folded, sets resolved, cheap conditions before dear ones.
struct Condition {
    SearchKey::Kind kind = SearchKey::Kind::all;
    std::uint32_t flags = 0;
    std::vector<std::string> field;            ///< header: its name in lower case
    std::string needle;                        ///< folded UTF-8
    std::uint64_t keyword_bit = 0;             ///< 0: no message has the keyword
    std::uint64_t number = 0;
    std::int64_t day = 0;
    store::UidSet uids;                        ///< sequence and uid: the messages named, by UID
    std::vector<Condition> children;
    int cost = 0;
};

/// What a condition is resolved against.
struct SearchContext {
    const store::Mailbox& mailbox;
    const store::UidSet& saved;                ///< "$"
    std::string charset;                       ///< of texts, upper case; empty: US-ASCII
    std::int64_t now = 0;                      ///< seconds since the epoch, for OLDER and YOUNGER
};

/// Errors: unsupported (BADCHARSET).
Result<Condition> compile(const SearchKey& key, const SearchContext& context);

/// The messages that can match at all, judged by the sets in the condition's conjunction.
store::UidSet candidates(const Condition& condition, const store::UidSet& snapshot);

/// Looks at one message after another.
class Matcher {
public:
    Matcher(const Condition& condition, store::Reader& reader) : condition_(condition), reader_(reader) {}

    /// Nothing when the message is gone.  `modseq` is the message's, for SEARCH MODSEQ.
    bool matches(store::Uid uid, store::Modseq& modseq);

private:
    bool holds(const Condition& condition);
    bool holds_summary(const Condition& condition);
    bool holds_sent(const Condition& condition);
    bool holds_header(const Condition& condition);
    bool holds_text(const Condition& condition);
    const std::string* text();

    const Condition& condition_;
    store::Reader& reader_;
    store::Row row_;
    std::string text_;                         ///< of the present message, when it was needed
    bool text_loaded_ = false;
};

/// Whether `needle` (folded) is in the text of a message: in its decoded body parts, and with `header` also in
/// the decoded header fields.
bool message_contains(std::string_view message, const std::string& needle, bool header);

}  // namespace postern::imapd
