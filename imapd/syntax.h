/// The arguments of the larger IMAP commands as values, and the functions that parse them.
///
/// Each parse function begins after the command's name and the space that follows it, and takes all that
/// is left of the command.  On false, parser.error() has the text for BAD.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "imapd/parser.h"

namespace postern::imapd {

// --- FETCH (RFC 3501 section 6.4.5, RFC 3516, RFC 7162) ------------------------------------------------------

/// What a section names after its part numbers.
enum class SectionText { whole, header, header_fields, header_fields_not, text, mime };

struct SectionSpec {
    std::vector<std::uint32_t> part;           ///< empty: the message itself
    SectionText text = SectionText::whole;
    std::vector<std::string> fields;           ///< as the client wrote them
};

struct Partial {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct FetchItem {
    enum class Kind {
        flags, uid, internal_date, size, envelope, body, body_structure, modseq,
        section,                               ///< BODY[...]
        rfc822, rfc822_header, rfc822_text,
        binary, binary_size,
    };
    Kind kind = Kind::flags;
    bool peek = true;                          ///< false: \Seen is set
    SectionSpec section;
    std::optional<Partial> partial;
};

struct FetchArguments {
    SequenceSet set;
    std::vector<FetchItem> items;
    std::optional<std::uint64_t> changed_since;
};

bool parse_fetch(Parser& parser, FetchArguments& out);

// --- STORE (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3) ---------------------------------------------------

struct StoreArguments {
    enum class Mode { replace, add, remove };
    SequenceSet set;
    Mode mode = Mode::replace;
    bool silent = false;
    FlagList flags;
    std::optional<std::uint64_t> unchanged_since;
};

bool parse_store(Parser& parser, StoreArguments& out);

// --- SEARCH (RFC 3501 section 6.4.4, RFC 4731, 5032, 5182, 7162) -----------------------------------------------

struct SearchKey {
    enum class Kind {
        all, sequence, uid, flags_set, flags_clear, keyword, unkeyword, recent, old, new_message,
        before, on, since, sent_before, sent_on, sent_since, larger, smaller, older, younger,
        header, body, text, modseq, and_all, or_any, negate,
    };
    Kind kind = Kind::all;
    std::uint32_t flags = 0;                   ///< flags_set, flags_clear
    std::string field;                         ///< header: the field's name
    std::string value;                         ///< keyword, header, body, text
    std::uint64_t number = 0;                  ///< larger, smaller, older, younger, modseq
    std::int64_t day = 0;                      ///< before, on, since and the sent forms
    SequenceSet set;
    std::vector<SearchKey> children;           ///< and_all, or_any, negate
};

/// Whether the key or one below it is of `kind`.
bool mentions(const SearchKey& key, SearchKey::Kind kind);

struct SearchArguments {
    bool extended = false;                     ///< RETURN was given: answer with ESEARCH
    bool min = false, max = false, all = false, count = false, save = false;
    std::string charset;                       ///< upper case; empty: US-ASCII
    SearchKey root;
};

bool parse_search(Parser& parser, SearchArguments& out);

/// One SORT criterion (RFC 5256 section 3).
struct SortKey {
    enum class Kind { arrival, cc, date, from, size, subject, to, display_from, display_to };
    Kind kind = Kind::arrival;
    bool reverse = false;
};

struct SortArguments {
    std::vector<SortKey> keys;
    SearchArguments search;
};

bool parse_sort(Parser& parser, SortArguments& out);

struct ThreadArguments {
    std::string algorithm;                     ///< upper case
    SearchArguments search;
};

bool parse_thread(Parser& parser, ThreadArguments& out);

// --- mailboxes -------------------------------------------------------------------------------------------------

/// What STATUS may be asked for, as bits.
enum StatusItem : unsigned {
    kStatusMessages = 1,
    kStatusRecent = 2,
    kStatusUidNext = 4,
    kStatusUidValidity = 8,
    kStatusUnseen = 16,
    kStatusHighestModseq = 32,
    kStatusSize = 64,
    kStatusAppendLimit = 128,
};

struct StatusArguments {
    std::string mailbox;
    unsigned items = 0;
};
bool parse_status(Parser& parser, StatusArguments& out);

/// SELECT and EXAMINE (RFC 3501 section 6.3.1, RFC 4466 select-param).
struct SelectArguments {
    std::string mailbox;
    bool condstore = false;
};
bool parse_select(Parser& parser, SelectArguments& out);

/// CREATE with its special uses (RFC 6154 section 3).
struct CreateArguments {
    std::string mailbox;
    std::vector<std::string> uses;             ///< with the backslash, as written
};
bool parse_create(Parser& parser, CreateArguments& out);

/// LIST (RFC 3501 section 6.3.8, RFC 5258, 5819, 6154).
struct ListArguments {
    std::string reference;
    std::vector<std::string> patterns;
    bool extended = false;                     ///< any of the extended syntax was used
    bool select_subscribed = false, select_remote = false, select_recursive = false, select_special = false;
    bool return_subscribed = false, return_children = false, return_special = false;
    unsigned status_items = 0;                 ///< RETURN (STATUS (...))
};
bool parse_list(Parser& parser, ListArguments& out);
bool parse_lsub(Parser& parser, ListArguments& out);

struct CopyArguments {
    SequenceSet set;
    std::string mailbox;
};
bool parse_copy(Parser& parser, CopyArguments& out);

/// ID (RFC 2971 section 3.1): pairs in order; a NIL value is empty.
bool parse_id(Parser& parser, std::vector<std::pair<std::string, std::string>>& out);

// --- APPEND (RFC 3501 section 6.3.11, RFC 3502) ------------------------------------------------------------------

/// What stands before one message's literal.
struct AppendItem {
    FlagList flags;
    std::optional<std::int64_t> date;          ///< seconds since the epoch
};

/// Parses " [flags] [date] " up to where the message's literal is announced; `parser` then stands there.
bool parse_append_item(Parser& parser, AppendItem& out);

}  // namespace postern::imapd
