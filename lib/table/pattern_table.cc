/// regexp: (POSIX, regexp_table(5)) and pcre: (pcre_table(5)).
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <regex.h>

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/pattern_rules.h"
#include "lib/table/types.h"

namespace postern::table_type {
namespace {

/// Result text cut at its $n.
struct ResultPiece {
    std::string text;
    int group = -1;   ///< >= 0: the text that this group matched follows `text`
};
using ResultTemplate = std::vector<ResultPiece>;

struct Span {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool set = false;
};
using Spans = std::vector<Span>;

/// $1, ${1}, $(1) and $$ in the right-hand side.
Result<ResultTemplate> parse_template(std::string_view text, int highest_group) {
    ResultTemplate pieces;
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '$') {
            plain += text[i];
            continue;
        }
        if (i + 1 < text.size() && text[i + 1] == '$') {
            plain += '$';
            ++i;
            continue;
        }
        std::size_t at = i + 1;
        const char close = at < text.size() ? (text[at] == '{' ? '}' : text[at] == '(' ? ')' : '\0') : '\0';
        at += close ? 1 : 0;
        const std::size_t digits = at;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
            ++at;
        }
        const std::optional<std::uint64_t> number = parse_number(text.substr(digits, at - digits));
        if (!number || (close && (at >= text.size() || text[at] != close))) {
            return Error(Errc::config, "bad substitution syntax at \"" + std::string(text.substr(i)) + "\"");
        }
        if (*number > static_cast<std::uint64_t>(highest_group)) {
            return Error(Errc::config, "out of range replacement index \"" + std::to_string(*number) + "\"");
        }
        pieces.push_back({std::move(plain), static_cast<int>(*number)});
        plain.clear();
        i = at - (close ? 0 : 1);
    }
    pieces.push_back({std::move(plain), -1});
    return pieces;
}

std::string expand(const ResultTemplate& pieces, std::string_view subject, const Spans& spans) {
    std::string text;
    for (const ResultPiece& piece : pieces) {
        text += piece.text;
        if (piece.group >= 0 && static_cast<std::size_t>(piece.group) < spans.size()) {
            const Span& span = spans[static_cast<std::size_t>(piece.group)];
            if (span.set) {
                text += subject.substr(span.begin, span.end - span.begin);
            }
        }
    }
    return text;
}

/// "/pattern/flags rest" in its three parts.
struct PatternText {
    std::string pattern;
    std::string_view flags;
    std::string_view rest;
};

Result<PatternText> cut_pattern(std::string_view line) {
    if (line.empty() || isalnum(static_cast<unsigned char>(line.front())) || line.front() == '\\') {
        return Error(Errc::config, "need a pattern between delimiters, as in /pattern/flags");
    }
    const char delimiter = line.front();
    PatternText parts;
    std::size_t at = 1;
    for (; at < line.size() && line[at] != delimiter; ++at) {
        if (line[at] == '\\' && at + 1 < line.size()) {
            parts.pattern += line[at++];   // kept, so that an escaped delimiter stays an ordinary character
        }
        parts.pattern += line[at];
    }
    if (at >= line.size()) {
        return Error(Errc::config, std::string("no closing delimiter '") + delimiter + "'");
    }
    const std::size_t flags = at + 1;
    std::size_t end = flags;
    while (end < line.size() && line[end] != ' ' && line[end] != '\t') {
        ++end;
    }
    parts.flags = line.substr(flags, end - flags);
    parts.rest = trim(line.substr(end));
    return parts;
}

/// One POSIX regular expression.
class PosixPattern {
public:
    static Result<PosixPattern> compile(const PatternText& text) {
        int flags = REG_EXTENDED | REG_ICASE;
        for (const char flag : text.flags) {
            switch (flag) {
                case 'i': flags ^= REG_ICASE; break;
                case 'm': flags ^= REG_NEWLINE; break;
                case 'x': flags ^= REG_EXTENDED; break;
                default: return Error(Errc::config, std::string("unknown regexp option \"") + flag + "\"");
            }
        }
        PosixPattern pattern;
        pattern.regex_.reset(new regex_t{});
        if (const int error = regcomp(pattern.regex_.get(), text.pattern.c_str(), flags); error != 0) {
            char reason[256];
            regerror(error, pattern.regex_.get(), reason, sizeof reason);
            pattern.regex_.release_uncompiled();
            return Error(Errc::config, std::string("error in regexp: ") + reason);
        }
        return pattern;
    }

    int groups() const { return static_cast<int>(regex_.get()->re_nsub); }

    bool match(std::string_view subject, Spans* spans) const {
        const std::size_t count = spans ? static_cast<std::size_t>(groups()) + 1 : 1;
        std::vector<regmatch_t> found(count);
        found[0].rm_so = 0;
        found[0].rm_eo = static_cast<regoff_t>(subject.size());
        const char* text = subject.data() ? subject.data() : "";
        if (regexec(regex_.get(), text, spans ? count : 0, found.data(), REG_STARTEND) != 0) {
            return false;
        }
        if (spans) {
            spans->clear();
            for (const regmatch_t& one : found) {
                const bool set = one.rm_so >= 0;
                spans->push_back({set ? static_cast<std::size_t>(one.rm_so) : 0, set ? static_cast<std::size_t>(one.rm_eo) : 0, set});
            }
        }
        return true;
    }

private:
    /// regfree() for what regcomp() accepted.
    class Holder {
    public:
        Holder() = default;
        Holder(Holder&& other) noexcept : regex_(std::exchange(other.regex_, nullptr)) {}
        Holder& operator=(Holder&& other) noexcept {
            std::swap(regex_, other.regex_);
            return *this;
        }
        ~Holder() {
            if (regex_) {
                regfree(regex_);
                delete regex_;
            }
        }
        void reset(regex_t* regex) { regex_ = regex; }
        void release_uncompiled() {
            delete regex_;
            regex_ = nullptr;
        }
        regex_t* get() const { return regex_; }

    private:
        regex_t* regex_ = nullptr;
    };
    Holder regex_;
};

struct Pcre2Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

/// One Perl-compatible regular expression.
class PerlPattern {
public:
    static Result<PerlPattern> compile(const PatternText& text) {
        std::uint32_t options = PCRE2_CASELESS | PCRE2_DOTALL;
        for (const char flag : text.flags) {
            switch (flag) {
                case 'i': options ^= PCRE2_CASELESS; break;
                case 'm': options ^= PCRE2_MULTILINE; break;
                case 's': options ^= PCRE2_DOTALL; break;
                case 'x': options ^= PCRE2_EXTENDED; break;
                case 'A': options ^= PCRE2_ANCHORED; break;
                case 'E': options ^= PCRE2_DOLLAR_ENDONLY; break;
                case 'U': options ^= PCRE2_UNGREEDY; break;
                case 'X': break;   // PCRE_EXTRA: always so in PCRE2
                default: return Error(Errc::config, std::string("unknown pcre option \"") + flag + "\"");
            }
        }
        int error = 0;
        PCRE2_SIZE offset = 0;
        PerlPattern pattern;
        pattern.code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.pattern.data()), text.pattern.size(),
                                          options, &error, &offset, nullptr));
        if (!pattern.code_) {
            PCRE2_UCHAR reason[256];
            pcre2_get_error_message(error, reason, sizeof reason);
            return Error(Errc::config, "error in pattern at offset " + std::to_string(offset) + ": " +
                                           reinterpret_cast<const char*>(reason));
        }
        pcre2_jit_compile(pattern.code_.get(), PCRE2_JIT_COMPLETE);   // slower without, not wrong
        pattern.data_.reset(pcre2_match_data_create_from_pattern(pattern.code_.get(), nullptr));
        return pattern;
    }

    int groups() const {
        std::uint32_t count = 0;
        pcre2_pattern_info(code_.get(), PCRE2_INFO_CAPTURECOUNT, &count);
        return static_cast<int>(count);
    }

    bool match(std::string_view subject, Spans* spans) const {
        const int status = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(subject.data() ? subject.data() : ""),
                                       subject.size(), 0, 0, data_.get(), nullptr);
        if (status < 0) {
            if (status != PCRE2_ERROR_NOMATCH) {
                PCRE2_UCHAR reason[256];
                pcre2_get_error_message(status, reason, sizeof reason);
                log_warning("pcre match: {}; taken as no match", reinterpret_cast<const char*>(reason));
            }
            return false;
        }
        if (spans) {
            spans->clear();
            const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
            for (int i = 0; i < status; ++i) {
                const PCRE2_SIZE begin = offsets[2 * i];
                spans->push_back({begin, offsets[2 * i + 1], begin != PCRE2_UNSET});
            }
        }
        return true;
    }

private:
    std::unique_ptr<pcre2_code, Pcre2Free> code_;
    std::unique_ptr<pcre2_match_data, Pcre2Free> data_;
};

/// A compiled pattern with the result it leads to.
template <class Pattern>
struct Compiled {
    std::optional<Pattern> pattern;
    ResultTemplate result;
    bool needs_spans = false;
};

/// The right-hand side of a rule whose pattern has `groups`.
Result<ResultTemplate> parse_result(std::string_view text, int groups, bool negated, bool allow_substitution) {
    Result<ResultTemplate> result = parse_template(text, groups);
    if (result && result->size() > 1 && negated) {
        return Error(Errc::config, "$number is not possible with a negated pattern");
    }
    if (result && result->size() > 1 && !allow_substitution) {
        return Error(Errc::config, "regular expression substitution is not allowed");
    }
    return result;
}

template <class Pattern>
Result<void> parse_rule(const std::string& table, std::string_view rest, bool allow_substitution, Rule<Compiled<Pattern>>& rule) {
    Result<PatternText> text = cut_pattern(rest);
    if (!text) {
        return text.error();
    }
    Result<Pattern> pattern = Pattern::compile(*text);
    if (!pattern) {
        return pattern.error();
    }
    if (rule.is_if) {
        if (!text->rest.empty()) {
            return Error(Errc::config, "text after the pattern of if: \"" + std::string(text->rest) + "\"");
        }
        rule.matcher.pattern = std::move(*pattern);
        return {};
    }
    if (text->rest.empty()) {
        warn_about_rule(table, rule.line, "no result text after the pattern: using an empty string");
    }
    Result<ResultTemplate> result = parse_result(text->rest, pattern->groups(), rule.negated, allow_substitution);
    if (!result) {
        return result.error();
    }
    rule.matcher.needs_spans = result->size() > 1;
    rule.matcher.result = std::move(*result);
    rule.matcher.pattern = std::move(*pattern);
    return {};
}

template <class Pattern>
class PatternTable final : public TextTable {
public:
    PatternTable(std::string name, bool allow_substitution)
        : TextTable(std::move(name), true, false), allow_substitution_(allow_substitution) {}

    Result<void> take(const std::string& text) override {
        const auto parse = [this](const std::string& table, std::string_view rest, Rule<Compiled<Pattern>>& rule) {
            return parse_rule<Pattern>(table, rest, allow_substitution_, rule);
        };
        rules_ = read_rules<Compiled<Pattern>>(name(), text, parse);
        return {};
    }

protected:
    Lookup find(std::string_view key) override {
        follow_file();
        Spans spans;
        const auto* rule = first_match(rules_, [&](const Rule<Compiled<Pattern>>& one) {
            return one.matcher.pattern->match(key, one.matcher.needs_spans ? &spans : nullptr);
        });
        if (!rule) {
            return std::optional<std::string>();
        }
        return std::optional(expand(rule->matcher.result, key, spans));
    }

private:
    bool allow_substitution_;
    std::vector<Rule<Compiled<Pattern>>> rules_;
};

}  // namespace

Result<TablePtr> open_regexp(std::string_view name, const TableContext& context) {
    return from_rules(std::make_unique<PatternTable<PosixPattern>>(full_name("regexp", name), context.allow_substitution), name);
}

Result<TablePtr> open_pcre(std::string_view name, const TableContext& context) {
    return from_rules(std::make_unique<PatternTable<PerlPattern>>(full_name("pcre", name), context.allow_substitution), name);
}

}  // namespace postern::table_type
