#include <array>
#include <string_view>
#include <utility>

#include "imapd/syntax.h"
#include "lib/base/strings.h"

namespace postern::imapd {

namespace {

inline constexpr std::size_t kMaxPatterns = 100;
inline constexpr std::size_t kMaxIdPairs = 30;     ///< RFC 2971 section 3.3

constexpr std::array<std::pair<std::string_view, unsigned>, 8> kStatusItems = {{
    {"MESSAGES", kStatusMessages},
    {"RECENT", kStatusRecent},
    {"UIDNEXT", kStatusUidNext},
    {"UIDVALIDITY", kStatusUidValidity},
    {"UNSEEN", kStatusUnseen},
    {"HIGHESTMODSEQ", kStatusHighestModseq},
    {"SIZE", kStatusSize},
    {"APPENDLIMIT", kStatusAppendLimit},
}};

bool parse_status_items(Parser& parser, unsigned& items) {
    if (!parser.expect('(')) {
        return false;
    }
    do {
        std::string word;
        if (!parser.word(word)) {
            return false;
        }
        unsigned bit = 0;
        for (const auto& [name, value] : kStatusItems) {
            if (name == word) {
                bit = value;
            }
        }
        if (bit == 0) {
            return parser.fail("Unknown STATUS item");
        }
        items |= bit;
    } while (parser.take(' '));
    return parser.expect(')');
}

/// "(" [option *(SP option)] ")" with a function that knows the options.
template <class Option>
bool parse_options(Parser& parser, Option&& option) {
    if (!parser.expect('(')) {
        return false;
    }
    if (parser.take(')')) {
        return true;
    }
    do {
        std::string word;
        if (!parser.word(word) || !option(word)) {
            return false;
        }
    } while (parser.take(' '));
    return parser.expect(')');
}

bool parse_list_select(Parser& parser, ListArguments& out) {
    out.extended = true;
    const bool parsed = parse_options(parser, [&](const std::string& word) {
        if (word == "SUBSCRIBED") {
            out.select_subscribed = true;
        } else if (word == "REMOTE") {
            out.select_remote = true;
        } else if (word == "RECURSIVEMATCH") {
            out.select_recursive = true;
        } else if (word == "SPECIAL-USE") {
            out.select_special = true;
        } else {
            return parser.fail("Unknown LIST selection option");
        }
        return true;
    });
    if (!parsed) {
        return false;
    }
    // RFC 5258 section 3: RECURSIVEMATCH needs another option that selects something.
    if (out.select_recursive && !out.select_subscribed && !out.select_special) {
        return parser.fail("RECURSIVEMATCH must not be the only selection option");
    }
    return true;
}

bool parse_list_return(Parser& parser, ListArguments& out) {
    out.extended = true;
    return parse_options(parser, [&](const std::string& word) {
        if (word == "SUBSCRIBED") {
            out.return_subscribed = true;
        } else if (word == "CHILDREN") {
            out.return_children = true;
        } else if (word == "SPECIAL-USE") {
            out.return_special = true;
        } else if (word == "STATUS") {
            return parser.space() && parse_status_items(parser, out.status_items);
        } else {
            return parser.fail("Unknown LIST return option");
        }
        return true;
    });
}

bool parse_patterns(Parser& parser, ListArguments& out) {
    const bool list = parser.take('(');
    out.extended = out.extended || list;
    do {
        std::string pattern;
        if (!parser.list_mailbox(pattern)) {
            return false;
        }
        if (out.patterns.size() >= kMaxPatterns) {
            return parser.fail("Too many patterns");
        }
        out.patterns.push_back(std::move(pattern));
    } while (list && parser.take(' '));
    return !list || parser.expect(')');
}

}  // namespace

bool parse_status(Parser& parser, StatusArguments& out) {
    return parser.astring(out.mailbox) && parser.space() && parse_status_items(parser, out.items) &&
           parser.end();
}

bool parse_select(Parser& parser, SelectArguments& out) {
    if (!parser.astring(out.mailbox)) {
        return false;
    }
    if (parser.take(' ') && !parser.at_end()) {
        const bool parsed = parse_options(parser, [&](const std::string& word) {
            out.condstore = out.condstore || word == "CONDSTORE";
            return word == "CONDSTORE" || parser.fail("Unknown SELECT parameter");
        });
        if (!parsed) {
            return false;
        }
    }
    return parser.end();
}

bool parse_create(Parser& parser, CreateArguments& out) {
    if (!parser.astring(out.mailbox)) {
        return false;
    }
    if (!parser.take(' ') || parser.at_end()) {
        return parser.end();
    }
    const bool parsed = parse_options(parser, [&](const std::string& word) {
        if (word != "USE" || !out.uses.empty()) {
            return parser.fail("Unknown CREATE parameter");
        }
        if (!parser.space() || !parser.expect('(')) {
            return false;
        }
        if (parser.take(')')) {
            return true;
        }
        do {
            std::string use;
            if (!parser.expect('\\') || !parser.atom(use)) {
                return false;
            }
            if (out.uses.size() >= 20) {
                return parser.fail("Too many special uses");
            }
            out.uses.push_back("\\" + use);
        } while (parser.take(' '));
        return parser.expect(')');
    });
    return parsed && parser.end();
}

bool parse_list(Parser& parser, ListArguments& out) {
    if (parser.next_is('(') && !(parse_list_select(parser, out) && parser.space())) {
        return false;
    }
    if (!parser.astring(out.reference) || !parser.space() || !parse_patterns(parser, out)) {
        return false;
    }
    if (parser.take(' ') && !parser.at_end()) {
        std::string word;
        if (!parser.word(word)) {
            return false;
        }
        if (word != "RETURN") {
            return parser.fail("Unexpected argument");
        }
        if (!parser.space() || !parse_list_return(parser, out)) {
            return false;
        }
    }
    return parser.end();
}

bool parse_lsub(Parser& parser, ListArguments& out) {
    std::string pattern;
    if (!parser.astring(out.reference) || !parser.space() || !parser.list_mailbox(pattern)) {
        return false;
    }
    out.patterns.push_back(std::move(pattern));
    return parser.end();
}

bool parse_copy(Parser& parser, CopyArguments& out) {
    return parser.set(out.set) && parser.space() && parser.astring(out.mailbox) && parser.end();
}

bool parse_id(Parser& parser, std::vector<std::pair<std::string, std::string>>& out) {
    if (parser.next_is_word("NIL")) {
        parser.rewind(parser.position() + 3);
        return parser.end();
    }
    if (!parser.expect('(')) {
        return false;
    }
    while (parser.take(' ')) {
    }
    if (parser.take(')')) {
        return parser.end();
    }
    do {
        std::string key;
        std::string value;
        bool nil = false;
        if (!parser.string(key) || !parser.space() || !parser.nstring(value, nil)) {
            return false;
        }
        if (out.size() < kMaxIdPairs) {            // more are allowed to be sent, none need be kept
            out.emplace_back(key.substr(0, 30), value.substr(0, 1024));
        }
    } while (parser.take(' '));
    return parser.expect(')') && parser.end();
}

bool parse_append_item(Parser& parser, AppendItem& out) {
    if (!parser.space()) {
        return false;
    }
    if (parser.next_is('(') && !(parser.flag_list(out.flags) && parser.space())) {
        return false;
    }
    if (parser.next_is('"')) {
        std::int64_t seconds = 0;
        int zone = 0;
        if (!parser.date_time(seconds, zone) || !parser.space()) {
            return false;
        }
        out.date = seconds;
    }
    return parser.next_is('{') || parser.next_is('~') || parser.fail("Message literal expected");
}

}  // namespace postern::imapd
