#include <array>
#include <string_view>
#include <utility>

#include "imapd/syntax.h"
#include "lib/base/strings.h"

namespace postern::imapd {

namespace {

using Kind = FetchItem::Kind;

struct SimpleItem {
    std::string_view name;
    Kind kind;
    bool peek;
};

constexpr std::array<SimpleItem, 11> kSimple = {{
    {"FLAGS", Kind::flags, true},
    {"UID", Kind::uid, true},
    {"INTERNALDATE", Kind::internal_date, true},
    {"RFC822.SIZE", Kind::size, true},
    {"ENVELOPE", Kind::envelope, true},
    {"BODY", Kind::body, true},
    {"BODYSTRUCTURE", Kind::body_structure, true},
    {"MODSEQ", Kind::modseq, true},
    {"RFC822", Kind::rfc822, false},
    {"RFC822.HEADER", Kind::rfc822_header, true},
    {"RFC822.TEXT", Kind::rfc822_text, false},
}};

/// section-part: 1.2.3, and a dot before the text that may follow (left to be taken by the caller).
bool parse_part(Parser& parser, std::vector<std::uint32_t>& part) {
    for (;;) {
        std::uint32_t number = 0;
        if (!parser.nonzero(number)) {
            return false;
        }
        if (part.size() >= kMaxPartDepth) {
            return parser.fail("Section too deep");
        }
        part.push_back(number);
        const std::size_t dot = parser.position();
        if (!parser.take('.')) {
            return true;
        }
        const std::string_view rest = parser.rest();
        if (rest.empty() || rest.front() < '0' || rest.front() > '9') {
            parser.rewind(dot);
            return true;
        }
    }
}

bool parse_header_list(Parser& parser, std::vector<std::string>& fields) {
    if (!parser.space() || !parser.expect('(')) {
        return false;
    }
    do {
        std::string name;
        if (!parser.astring(name)) {
            return false;
        }
        if (fields.size() >= kMaxHeaderNames) {
            return parser.fail("Too many header names");
        }
        if (name.find_first_of("\r\n") != std::string::npos) {
            return parser.fail("Invalid header name");
        }
        fields.push_back(std::move(name));
    } while (parser.take(' '));
    return parser.expect(')');
}

/// section-spec without the brackets.  MIME needs a part before it.
bool parse_section_text(Parser& parser, SectionSpec& section) {
    std::string word;
    if (!parser.word(word)) {
        return parser.fail("Invalid section");
    }
    if (word == "HEADER") {
        section.text = SectionText::header;
    } else if (word == "TEXT") {
        section.text = SectionText::text;
    } else if (word == "MIME" && !section.part.empty()) {
        section.text = SectionText::mime;
    } else if (word == "HEADER.FIELDS" || word == "HEADER.FIELDS.NOT") {
        section.text = word.size() == 13 ? SectionText::header_fields : SectionText::header_fields_not;
        return parse_header_list(parser, section.fields);
    } else {
        return parser.fail("Unknown section");
    }
    return true;
}

bool parse_section(Parser& parser, SectionSpec& section, bool binary) {
    if (!parser.expect('[')) {
        return false;
    }
    if (parser.take(']')) {
        return true;
    }
    const char first = parser.at_end() ? ' ' : parser.rest().front();
    const bool numbered = first >= '0' && first <= '9';
    if (numbered && !parse_part(parser, section.part)) {
        return false;
    }
    if (!binary && (!numbered || parser.take('.')) && !parse_section_text(parser, section)) {
        return false;
    }
    return parser.expect(']');
}

/// "<offset.length>"; in a request the length is there and not 0 (RFC 3501 section 9, fetch-att).
bool parse_partial(Parser& parser, std::optional<Partial>& out) {
    if (!parser.take('<')) {
        return true;
    }
    Partial partial;
    if (!parser.number64(partial.offset) || !parser.expect('.') || !parser.number64(partial.length)) {
        return false;
    }
    if (partial.length == 0) {
        return parser.fail("Partial length must not be 0");
    }
    out = partial;
    return parser.expect('>');
}

bool parse_sectioned(Parser& parser, const std::string& name, FetchItem& item) {
    if (name == "BODY" || name == "BODY.PEEK") {
        item.kind = Kind::section;
        item.peek = name.size() > 4;
        return parse_section(parser, item.section, false) && parse_partial(parser, item.partial);
    }
    if (name == "BINARY" || name == "BINARY.PEEK") {
        item.kind = Kind::binary;
        item.peek = name.size() > 6;
        return parse_section(parser, item.section, true) && parse_partial(parser, item.partial);
    }
    if (name == "BINARY.SIZE") {
        item.kind = Kind::binary_size;
        return parse_section(parser, item.section, true);
    }
    return parser.fail("Unknown FETCH item");
}

bool parse_item(Parser& parser, FetchItem& item) {
    std::string name;
    if (!parser.word(name)) {
        return false;
    }
    if (parser.next_is('[')) {
        return parse_sectioned(parser, name, item);
    }
    for (const SimpleItem& simple : kSimple) {
        if (simple.name == name) {
            item.kind = simple.kind;
            item.peek = simple.peek;
            return true;
        }
    }
    return parser.fail("Unknown FETCH item");
}

/// ALL, FAST and FULL stand alone, outside parentheses.
bool parse_macro(Parser& parser, std::vector<FetchItem>& items) {
    const auto add = [&](std::initializer_list<Kind> kinds) {
        for (const Kind kind : kinds) {
            FetchItem item;
            item.kind = kind;
            items.push_back(std::move(item));
        }
    };
    if (parser.next_is_word("ALL")) {
        add({Kind::flags, Kind::internal_date, Kind::size, Kind::envelope});
        parser.rewind(parser.position() + 3);
    } else if (parser.next_is_word("FAST")) {
        add({Kind::flags, Kind::internal_date, Kind::size});
        parser.rewind(parser.position() + 4);
    } else if (parser.next_is_word("FULL")) {
        add({Kind::flags, Kind::internal_date, Kind::size, Kind::envelope, Kind::body});
        parser.rewind(parser.position() + 4);
    }
    return !items.empty();
}

bool parse_items(Parser& parser, std::vector<FetchItem>& items) {
    if (parse_macro(parser, items)) {
        return true;
    }
    const bool list = parser.take('(');
    do {
        FetchItem item;
        if (!parse_item(parser, item)) {
            return false;
        }
        if (items.size() >= kMaxFetchItems) {
            return parser.fail("Too many FETCH items");
        }
        items.push_back(std::move(item));
    } while (list && parser.take(' '));
    return !list || parser.expect(')');
}

/// " (CHANGEDSINCE n)" (RFC 7162 section 3.1.4.1).
bool parse_modifiers(Parser& parser, FetchArguments& out) {
    if (parser.at_end() || !parser.take(' ')) {
        return true;
    }
    if (parser.at_end()) {
        return true;                           // a forgiven trailing space
    }
    if (!parser.expect('(')) {
        return false;
    }
    do {
        std::string name;
        std::uint64_t value = 0;
        if (!parser.word(name)) {
            return false;
        }
        if (name != "CHANGEDSINCE") {
            return parser.fail("Unknown FETCH modifier");
        }
        if (!parser.space() || !parser.number64(value)) {
            return false;
        }
        out.changed_since = value;
    } while (parser.take(' '));
    return parser.expect(')');
}

}  // namespace

bool parse_fetch(Parser& parser, FetchArguments& out) {
    return parser.set(out.set) && parser.space() && parse_items(parser, out.items) &&
           parse_modifiers(parser, out) && parser.end();
}

bool parse_store(Parser& parser, StoreArguments& out) {
    if (!parser.set(out.set) || !parser.space()) {
        return false;
    }
    if (parser.take('(')) {
        std::string name;
        std::uint64_t value = 0;
        if (!parser.word(name)) {
            return false;
        }
        if (name != "UNCHANGEDSINCE") {
            return parser.fail("Unknown STORE modifier");
        }
        if (!parser.space() || !parser.number64(value) || !parser.expect(')') || !parser.space()) {
            return false;
        }
        out.unchanged_since = value;
    }
    if (parser.take('+')) {
        out.mode = StoreArguments::Mode::add;
    } else if (parser.take('-')) {
        out.mode = StoreArguments::Mode::remove;
    }
    std::string word;
    if (!parser.word(word)) {
        return false;
    }
    if (word != "FLAGS" && word != "FLAGS.SILENT") {
        return parser.fail("Unknown STORE item");
    }
    out.silent = word.size() > 5;
    if (!parser.space()) {
        return false;
    }
    if (parser.next_is('(')) {
        return parser.flag_list(out.flags) && parser.end();
    }
    do {
        if (!parser.flag(out.flags)) {
            return false;
        }
    } while (parser.take(' ') && !parser.at_end());
    return parser.end();
}

}  // namespace postern::imapd
