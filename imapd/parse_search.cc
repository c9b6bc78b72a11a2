#include <array>
#include <string_view>
#include <utility>

#include "imapd/syntax.h"
#include "lib/base/strings.h"
#include "lib/store/store.h"

namespace postern::imapd {

namespace {

using Kind = SearchKey::Kind;

enum class Takes { nothing, text, date, number, number64, field_text, keyword, uid_set, key, two_keys, modseq };

struct KeyName {
    std::string_view name;
    Kind kind;
    Takes takes;
    std::uint32_t flags = 0;
    std::string_view field = {};
};

constexpr std::array<KeyName, 38> kKeys = {{
    {"ALL", Kind::all, Takes::nothing},
    {"ANSWERED", Kind::flags_set, Takes::nothing, store::kAnswered},
    {"BCC", Kind::header, Takes::text, 0, "Bcc"},
    {"BEFORE", Kind::before, Takes::date},
    {"BODY", Kind::body, Takes::text},
    {"CC", Kind::header, Takes::text, 0, "Cc"},
    {"DELETED", Kind::flags_set, Takes::nothing, store::kDeleted},
    {"DRAFT", Kind::flags_set, Takes::nothing, store::kDraft},
    {"FLAGGED", Kind::flags_set, Takes::nothing, store::kFlagged},
    {"FROM", Kind::header, Takes::text, 0, "From"},
    {"HEADER", Kind::header, Takes::field_text},
    {"KEYWORD", Kind::keyword, Takes::keyword},
    {"LARGER", Kind::larger, Takes::number64},
    {"MODSEQ", Kind::modseq, Takes::modseq},
    {"NEW", Kind::new_message, Takes::nothing},
    {"NOT", Kind::negate, Takes::key},
    {"OLD", Kind::old, Takes::nothing},
    {"OLDER", Kind::older, Takes::number},
    {"ON", Kind::on, Takes::date},
    {"OR", Kind::or_any, Takes::two_keys},
    {"RECENT", Kind::recent, Takes::nothing},
    {"SEEN", Kind::flags_set, Takes::nothing, store::kSeen},
    {"SENTBEFORE", Kind::sent_before, Takes::date},
    {"SENTON", Kind::sent_on, Takes::date},
    {"SENTSINCE", Kind::sent_since, Takes::date},
    {"SINCE", Kind::since, Takes::date},
    {"SMALLER", Kind::smaller, Takes::number64},
    {"SUBJECT", Kind::header, Takes::text, 0, "Subject"},
    {"TEXT", Kind::text, Takes::text},
    {"TO", Kind::header, Takes::text, 0, "To"},
    {"UID", Kind::uid, Takes::uid_set},
    {"UNANSWERED", Kind::flags_clear, Takes::nothing, store::kAnswered},
    {"UNDELETED", Kind::flags_clear, Takes::nothing, store::kDeleted},
    {"UNDRAFT", Kind::flags_clear, Takes::nothing, store::kDraft},
    {"UNFLAGGED", Kind::flags_clear, Takes::nothing, store::kFlagged},
    {"UNKEYWORD", Kind::unkeyword, Takes::keyword},
    {"UNSEEN", Kind::flags_clear, Takes::nothing, store::kSeen},
    {"YOUNGER", Kind::younger, Takes::number},
}};

const KeyName* find_key(std::string_view name) {
    for (const KeyName& key : kKeys) {
        if (key.name == name) {
            return &key;
        }
    }
    return nullptr;
}

bool parse_key(Parser& parser, SearchKey& out, std::size_t depth);

/// search-key *(SP search-key), which all must hold; ends before ")" or at the end.
bool parse_keys(Parser& parser, SearchKey& out, std::size_t depth) {
    out.kind = Kind::and_all;
    do {
        SearchKey key;
        if (!parse_key(parser, key, depth)) {
            return false;
        }
        out.children.push_back(std::move(key));
    } while (parser.take(' ') && !parser.at_end());
    return true;
}

/// "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer (RFC 7162 section 3.1.5).  Postern has
/// one mod-sequence for all flags of a message, so the entry makes no difference.
bool parse_modseq(Parser& parser, SearchKey& out) {
    if (parser.next_is('"')) {
        std::string entry;
        std::string type;
        if (!parser.string(entry) || !parser.space() || !parser.word(type) || !parser.space()) {
            return false;
        }
        if (!starts_with_ignoring_case(entry, "/flags/") ||
            (type != "ALL" && type != "PRIV" && type != "SHARED")) {
            return parser.fail("Invalid MODSEQ entry");
        }
    }
    return parser.number64(out.number);
}

bool take_word(Parser& parser, std::string_view word) {
    if (!parser.next_is_word(word)) {
        return false;
    }
    parser.rewind(parser.position() + word.size());
    return true;
}

bool parse_argument(Parser& parser, const KeyName& name, SearchKey& out, std::size_t depth) {
    if (name.takes == Takes::nothing) {
        return true;
    }
    if (!parser.space()) {
        return false;
    }
    std::uint32_t number = 0;
    switch (name.takes) {
    case Takes::nothing: return true;
    case Takes::text: return parser.astring(out.value);
    case Takes::date: return parser.date(out.day);
    case Takes::number:
        if (!parser.nonzero(number)) {
            return false;
        }
        out.number = number;
        return true;
    case Takes::number64: return parser.number64(out.number);
    case Takes::field_text: return parser.astring(out.field) && parser.space() && parser.astring(out.value);
    case Takes::keyword: return parser.atom(out.value);
    case Takes::uid_set: return parser.set(out.set);
    case Takes::modseq: return parse_modseq(parser, out);
    case Takes::key: {
        SearchKey child;
        if (!parse_key(parser, child, depth + 1)) {
            return false;
        }
        out.children.push_back(std::move(child));
        return true;
    }
    case Takes::two_keys: {
        do {   // "OR a OR b OR c d": clients write long lists of alternatives so, each inside the one before
            SearchKey left;
            if (!parse_key(parser, left, depth + 1) || !parser.space()) {
                return false;
            }
            out.children.push_back(std::move(left));
        } while (take_word(parser, "OR") && parser.space());
        SearchKey last;
        if (!parse_key(parser, last, depth + 1)) {
            return false;
        }
        out.children.push_back(std::move(last));
        return true;
    }
    }
    return false;
}

bool parse_key(Parser& parser, SearchKey& out, std::size_t depth) {
    if (depth > kMaxSearchDepth) {
        return parser.fail("Search too deeply nested");
    }
    if (parser.take('(')) {
        return parse_keys(parser, out, depth + 1) && parser.expect(')');
    }
    const char first = parser.at_end() ? ' ' : parser.rest().front();
    if ((first >= '0' && first <= '9') || first == '*' || first == '$') {
        out.kind = Kind::sequence;
        return parser.set(out.set);
    }
    std::string word;
    if (!parser.word(word)) {
        return parser.fail("Search key expected");
    }
    const KeyName* const name = find_key(word);
    if (name == nullptr) {
        return parser.fail("Unknown search key " + word.substr(0, 40));
    }
    out.kind = name->kind;
    out.flags = name->flags;
    out.field = name->field;
    return parse_argument(parser, *name, out, depth);
}

/// "RETURN (" [option *(SP option)] ")" (RFC 4731 section 3.1, RFC 5182 section 2.1).
bool parse_return(Parser& parser, SearchArguments& out) {
    out.extended = true;
    if (!parser.space() || !parser.expect('(')) {
        return false;
    }
    if (!parser.take(')')) {
        do {
            std::string option;
            if (!parser.word(option)) {
                return false;
            }
            bool* const wanted = option == "MIN"     ? &out.min
                                 : option == "MAX"   ? &out.max
                                 : option == "ALL"   ? &out.all
                                 : option == "COUNT" ? &out.count
                                 : option == "SAVE"  ? &out.save
                                                     : nullptr;
            if (wanted == nullptr) {
                return parser.fail("Unknown RETURN option");
            }
            *wanted = true;
        } while (parser.take(' '));
        if (!parser.expect(')')) {
            return false;
        }
    }
    if (!out.min && !out.max && !out.count && !out.save) {
        out.all = true;
    }
    return parser.space();
}

bool parse_charset(Parser& parser, SearchArguments& out) {
    std::string charset;
    if (!parser.astring(charset)) {
        return false;
    }
    out.charset = to_upper(charset);
    return true;
}

}  // namespace

bool mentions(const SearchKey& key, SearchKey::Kind kind) {
    if (key.kind == kind) {
        return true;
    }
    for (const SearchKey& child : key.children) {
        if (mentions(child, kind)) {
            return true;
        }
    }
    return false;
}

bool parse_search(Parser& parser, SearchArguments& out) {
    if (take_word(parser, "RETURN") && !parse_return(parser, out)) {
        return false;
    }
    if (take_word(parser, "CHARSET") && !(parser.space() && parse_charset(parser, out) && parser.space())) {
        return false;
    }
    return parse_keys(parser, out.root, 0) && parser.end();
}

bool parse_sort(Parser& parser, SortArguments& out) {
    constexpr std::array<std::pair<std::string_view, SortKey::Kind>, 9> kNames = {{
        {"ARRIVAL", SortKey::Kind::arrival}, {"CC", SortKey::Kind::cc}, {"DATE", SortKey::Kind::date},
        {"FROM", SortKey::Kind::from}, {"SIZE", SortKey::Kind::size}, {"SUBJECT", SortKey::Kind::subject},
        {"TO", SortKey::Kind::to}, {"DISPLAYFROM", SortKey::Kind::display_from},
        {"DISPLAYTO", SortKey::Kind::display_to},
    }};
    if (!parser.expect('(')) {
        return false;
    }
    bool reverse = false;
    do {
        std::string word;
        if (!parser.word(word)) {
            return false;
        }
        if (word == "REVERSE" && !reverse) {
            reverse = true;
            continue;
        }
        const auto* found = kNames.begin();
        while (found != kNames.end() && found->first != word) {
            ++found;
        }
        if (found == kNames.end() || out.keys.size() >= 20) {
            return parser.fail("Unknown sort key");
        }
        out.keys.push_back({found->second, reverse});
        reverse = false;
    } while (parser.take(' '));
    if (reverse) {
        return parser.fail("REVERSE without a sort key");
    }
    return parser.expect(')') && parser.space() && parse_charset(parser, out.search) && parser.space() &&
           parse_keys(parser, out.search.root, 0) && parser.end();
}

bool parse_thread(Parser& parser, ThreadArguments& out) {
    return parser.word(out.algorithm) && parser.space() && parse_charset(parser, out.search) && parser.space() &&
           parse_keys(parser, out.search.root, 0) && parser.end();
}

}  // namespace postern::imapd
