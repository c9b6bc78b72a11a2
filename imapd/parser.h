/// The lexical part of IMAP: atoms, strings, literals, numbers, sets (RFC 3501 section 9, RFC 7888).
///
/// A command is parsed when all of it is there, literals included, as one text:
///
///     a1 LOGIN {5}\r\nfred1 "secret"
///
/// so parsing never waits and can be tested and fuzzed as a plain function.  Every list and every nesting
/// has a bound; the length of the whole text is bounded by whoever collected it (imap_max_line_length).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/store/uid_set.h"

namespace postern::imapd {

inline constexpr std::size_t kMaxTag = 256;
inline constexpr std::size_t kMaxPartDepth = 100;        ///< numbers in a section, BODY[1.2.3...]
inline constexpr std::size_t kMaxSearchDepth = 128;      ///< nesting of NOT, OR and parentheses
inline constexpr std::size_t kMaxHeaderNames = 500;      ///< names in HEADER.FIELDS (...)
inline constexpr std::size_t kMaxFetchItems = 200;
inline constexpr std::size_t kMaxKeywordLength = 100;    ///< bytes of one keyword flag

/// "3", "2:4", "7:*".  0 stands for "*".
struct SequenceRange {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
};

/// A sequence-set (RFC 3501 section 9) or "$", the saved search result (RFC 5182).
struct SequenceSet {
    std::vector<SequenceRange> ranges;
    bool saved = false;

    /// The set with "*" put in as `largest`.  With `largest` 0 (nothing there) "*" names nothing.
    store::UidSet resolve(std::uint32_t largest) const;
};

/// What a client named in a flag list.  \Recent cannot be set and is not accepted.
struct FlagList {
    std::uint32_t system = 0;          ///< of store::Flag
    std::vector<std::string> keywords;
};

/// Reads one text from left to right.  Each function takes what it names and returns true, or leaves a
/// message in error() and returns false; after that the parser is of no more use.  Functions named
/// "next_is" and "take" only look, or may fail without an error.
class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    bool at_end() const { return at_ == text_.size(); }
    bool next_is(char c) const { return at_ < text_.size() && text_[at_] == c; }
    bool next_is_word(std::string_view word) const;   ///< any case, a delimiter after it
    bool take(char c);
    std::string_view rest() const { return text_.substr(at_); }
    std::size_t position() const { return at_; }
    void rewind(std::size_t position) { at_ = position; }

    bool space();                      ///< exactly one SP
    bool expect(char c);
    bool end();                        ///< nothing may follow (trailing spaces are forgiven)
    bool tag(std::string& out);
    bool atom(std::string& out);
    bool astring(std::string& out);
    bool string(std::string& out);     ///< quoted or literal
    bool nstring(std::string& out, bool& nil);
    bool list_mailbox(std::string& out);   ///< list-char or string: % and * may occur
    bool number(std::uint32_t& out);
    bool number64(std::uint64_t& out);     ///< up to 2^63-1 (RFC 7162 mod-sequence-valzer)
    bool nonzero(std::uint32_t& out);
    bool set(SequenceSet& out);
    bool flag(FlagList& out);
    bool flag_list(FlagList& out);         ///< "(" [flag *(SP flag)] ")"
    /// date, quoted or not: the day's number since 1970-01-01.
    bool date(std::int64_t& day);
    /// date-time in quotes: seconds since the epoch and the zone's offset in minutes.
    bool date_time(std::int64_t& seconds, int& zone_minutes);
    /// A word made of letters, digits and ".-=" for names of items and options; upper case.
    bool word(std::string& out);

    const std::string& error() const { return error_; }
    bool fail(std::string_view message);

private:
    bool quoted(std::string& out);
    bool literal(std::string& out);
    bool digits(std::uint64_t limit, std::uint64_t& out);
    bool set_number(std::uint32_t& out);
    bool fixed_digits(std::size_t count, int& out);
    bool month(int& out);

    std::string_view text_;
    std::size_t at_ = 0;
    std::string error_;
};

/// How a line that announces a literal ends: "{n}", "{n+}", "{n-}" (RFC 7888), "~{n}" (RFC 3516).
struct LiteralHeader {
    std::uint64_t size = 0;
    std::size_t start = 0;            ///< where "{" (or "~{") begins in the line
    bool waits = true;                ///< the client waits for "+"
    bool binary = false;              ///< literal8
    bool overflow = false;            ///< the number does not fit; `size` is meaningless
};

/// Finds the literal announced at the end of `line` (without its CRLF); false when there is none.
/// A line inside a quoted string that merely ends in "{3}" cannot be told apart here and needs no telling:
/// a quoted string may not contain a line end, so such a line is wrong either way.
bool ends_in_literal(std::string_view line, LiteralHeader& header);

}  // namespace postern::imapd
