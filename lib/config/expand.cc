#include "lib/config/expand.h"

#include <charconv>
#include <vector>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/level.h"

namespace postern {
namespace {

constexpr int kMaxNesting = 100;
constexpr std::size_t kMaxResult = 1 << 20;
constexpr int kMaxLookups = 100'000;

bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }

/// What stands between ${ and }, read from left to right.
class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) {}

    void skip_space() {
        while (at_ < text_.size() && is_space(text_[at_])) {
            ++at_;
        }
    }
    bool at_end() const { return at_ >= text_.size(); }
    char peek() const { return at_end() ? '\0' : text_[at_]; }
    bool take(std::string_view token) {
        if (text_.substr(at_).substr(0, token.size()) != token) {
            return false;
        }
        at_ += token.size();
        return true;
    }
    std::string_view take_name() {
        const std::size_t start = at_;
        while (at_ < text_.size() && is_name_byte(text_[at_])) {
            ++at_;
        }
        return text_.substr(start, at_ - start);
    }
    std::string_view rest() {
        const std::string_view all = text_.substr(at_);
        at_ = text_.size();
        return all;
    }
    /// The inside of { }, which may nest, without white space at its ends.  Nothing when it does not close.
    std::optional<std::string_view> take_braces() {
        int depth = 0;
        for (std::size_t i = at_; i < text_.size(); ++i) {
            if (text_[i] == '{') {
                ++depth;
            } else if (text_[i] == '}' && --depth == 0) {
                const std::string_view inside = text_.substr(at_ + 1, i - at_ - 1);
                at_ = i + 1;
                return trim(inside);
            }
        }
        return std::nullopt;
    }
    Error error(std::string_view why) const {
        return {Errc::syntax, fmt::format("{} at \"{}>>>{}\"", why, printable(text_.substr(0, at_), 100),
                                          printable(text_.substr(at_), 100))};
    }

private:
    std::string_view text_;
    std::size_t at_ = 0;
};

/// One of the comparisons, without its "level" suffix.
enum class Compare { equal, unequal, less, less_equal, greater, greater_equal };

std::optional<Compare> take_comparison(Scanner& scanner) {
    struct Row {
        std::string_view token;
        Compare compare;
    };
    static constexpr Row kRows[] = {{"==", Compare::equal},         {"!=", Compare::unequal}, {"<=", Compare::less_equal},
                                    {">=", Compare::greater_equal}, {"<", Compare::less},     {">", Compare::greater}};
    for (const Row& row : kRows) {
        if (scanner.take(row.token)) {
            return row.compare;
        }
    }
    return std::nullopt;
}

bool holds(Compare compare, int order) {
    switch (compare) {
    case Compare::equal: return order == 0;
    case Compare::unequal: return order != 0;
    case Compare::less: return order < 0;
    case Compare::less_equal: return order <= 0;
    case Compare::greater: return order > 0;
    case Compare::greater_equal: return order >= 0;
    }
    return false;
}

bool all_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

template <class T>
int order_of(const T& a, const T& b) {
    return a < b ? -1 : (b < a ? 1 : 0);
}

class Expander {
public:
    explicit Expander(const NameSource& names) : names_(names) {}

    Result<void> run(std::string_view text, std::string& out);

private:
    Result<void> reference(std::string_view inside, std::string& out);
    Result<void> choose(Scanner& scanner, bool truth, std::string& out);
    Result<void> comparison(Scanner& scanner, std::string& out);
    Result<bool> compare(Compare how, bool levels, const std::string& left, const std::string& right) const;
    Result<void> function(std::string_view name, Scanner& scanner, std::string& out);
    Result<void> value_of(std::string_view name, std::string& out);
    Result<void> append(std::string_view text, std::string& out) const;
    Result<std::string> separately(std::string_view text);

    const NameSource& names_;
    int nesting_ = 0;
    int lookups_ = 0;
};

Result<void> Expander::append(std::string_view text, std::string& out) const {
    if (out.size() + text.size() > kMaxResult) {
        return Error(Errc::too_big, "the expanded value is too long");
    }
    out.append(text);
    return {};
}

Result<std::string> Expander::separately(std::string_view text) {
    std::string out;
    if (Result<void> done = run(text, out); !done) {
        return done.error();
    }
    return out;
}

/// The position after the bracket that closes text[open]; npos when there is none.
std::size_t closing(std::string_view text, std::size_t open) {
    const char left = text[open];
    const char right = left == '{' ? '}' : ')';
    int depth = 0;
    for (std::size_t i = open; i < text.size(); ++i) {
        if (text[i] == left) {
            ++depth;
        } else if (text[i] == right && --depth == 0) {
            return i;
        }
    }
    return std::string_view::npos;
}

Result<void> Expander::run(std::string_view text, std::string& out) {
    if (++nesting_ > kMaxNesting) {
        return Error(Errc::too_big, "values are nested more than 100 deep, or one refers to itself");
    }
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t dollar = std::min(text.find('$', at), text.size());
        Result<void> done = append(text.substr(at, dollar - at), out);
        at = dollar + 1;
        if (done && dollar < text.size()) {
            const char next = at < text.size() ? text[at] : '\0';
            if (next == '$') {
                done = append("$", out);
                ++at;
            } else if (next == '{' || next == '(') {
                const std::size_t end = closing(text, at);
                if (end == std::string_view::npos) {
                    return Error(Errc::syntax, fmt::format("no end of \"{}\"", printable(text.substr(dollar), 100)));
                }
                done = reference(text.substr(at + 1, end - at - 1), out);
                at = end + 1;
            } else {
                Scanner scanner(text.substr(at));
                const std::string_view name = scanner.take_name();
                if (name.empty()) {
                    return Error(Errc::syntax, fmt::format("no name after $ in \"{}\"", printable(text, 100)));
                }
                done = value_of(name, out);
                at += name.size();
            }
        }
        if (!done) {
            return done;
        }
    }
    --nesting_;
    return {};
}

/// The inside of ${ } or $( ).
Result<void> Expander::reference(std::string_view inside, std::string& out) {
    Scanner scanner(inside);
    scanner.skip_space();
    if (scanner.peek() == '{') {
        return comparison(scanner, out);
    }
    const std::string_view name = scanner.take_name();
    if (name.empty()) {
        return scanner.error("a name is missing");
    }
    if (scanner.peek() == '{') {
        return function(name, scanner, out);
    }
    scanner.skip_space();
    if (scanner.at_end()) {
        return value_of(name, out);
    }
    if (scanner.peek() != '?' && scanner.peek() != ':') {
        return scanner.error("a name may be followed by ? or :");
    }
    std::string value;
    if (Result<void> done = value_of(name, value); !done) {
        return done;
    }
    return choose(scanner, !value.empty(), out);
}

/// From ? or : to the end.
Result<void> Expander::choose(Scanner& scanner, bool truth, std::string& out) {
    const bool when_true = scanner.take("?");
    if (!when_true && !scanner.take(":")) {
        return scanner.error("expected ? or :");
    }
    scanner.skip_space();
    std::string_view chosen;
    bool have = truth == when_true;
    if (scanner.peek() != '{') {
        chosen = scanner.rest();
    } else {
        const std::optional<std::string_view> first = scanner.take_braces();
        if (!first) {
            return scanner.error("no closing brace");
        }
        chosen = *first;
        scanner.skip_space();
        if (when_true && !scanner.at_end()) {
            if (!scanner.take(":")) {
                return scanner.error("expected :");
            }
            scanner.skip_space();
            const bool braces = scanner.peek() == '{';
            const std::optional<std::string_view> second = braces ? scanner.take_braces() : scanner.rest();
            if (!second) {
                return scanner.error("no closing brace");
            }
            chosen = truth ? chosen : *second;
            have = true;
        }
        scanner.skip_space();
        if (!scanner.at_end()) {
            return scanner.error("unexpected text");
        }
    }
    return have ? run(chosen, out) : Result<void>();
}

/// ${{text} == {text} ...}
Result<void> Expander::comparison(Scanner& scanner, std::string& out) {
    const std::optional<std::string_view> left = scanner.take_braces();
    if (!left) {
        return scanner.error("no closing brace");
    }
    scanner.skip_space();
    const std::optional<Compare> how = take_comparison(scanner);
    if (!how) {
        return scanner.error("expected ==, !=, <, <=, > or >=");
    }
    const bool levels = scanner.take("level");
    scanner.skip_space();
    if (scanner.peek() != '{') {
        return scanner.error("expected {");
    }
    const std::optional<std::string_view> right = scanner.take_braces();
    if (!right) {
        return scanner.error("no closing brace");
    }
    Result<std::string> left_value = separately(*left);
    if (!left_value) {
        return left_value.error();
    }
    Result<std::string> right_value = separately(*right);
    if (!right_value) {
        return right_value.error();
    }
    const Result<bool> truth = compare(*how, levels, *left_value, *right_value);
    if (!truth) {
        return truth.error();
    }
    scanner.skip_space();
    if (scanner.at_end()) {
        return *truth ? append("true", out) : Result<void>();
    }
    return choose(scanner, *truth, out);
}

Result<bool> Expander::compare(Compare how, bool levels, const std::string& left, const std::string& right) const {
    if (levels) {
        const Result<long> a = parse_level(left);
        const Result<long> b = parse_level(right);
        if (!a || !b) {
            return !a ? a.error() : b.error();
        }
        return holds(how, order_of(*a, *b));
    }
    if (!all_digits(left) || !all_digits(right)) {
        return holds(how, order_of(left, right));
    }
    const std::optional<std::uint64_t> a = parse_number(left);
    const std::optional<std::uint64_t> b = parse_number(right);
    if (!a || !b) {
        return Error(Errc::syntax, fmt::format("\"{}\" is too big a number to compare", printable(a ? right : left, 50)));
    }
    return holds(how, order_of(*a, *b));
}

/// ${domain_to_ascii{text}} and ${domain_to_utf8{text}}: domains that are ASCII already stay as they are.
Result<void> Expander::function(std::string_view name, Scanner& scanner, std::string& out) {
    if (name != "domain_to_ascii" && name != "domain_to_utf8") {
        return scanner.error("no such function");
    }
    const std::optional<std::string_view> argument = scanner.take_braces();
    scanner.skip_space();
    if (!argument || !scanner.at_end()) {
        return scanner.error("expected {text} and nothing more");
    }
    Result<std::string> value = separately(*argument);
    if (!value) {
        return value.error();
    }
    for (const char c : *value) {
        if (static_cast<unsigned char>(c) > 127) {
            return Error(Errc::unsupported, fmt::format("{}: write the domain in its xn-- form", name));
        }
    }
    return append(*value, out);
}

Result<void> Expander::value_of(std::string_view name, std::string& out) {
    if (++lookups_ > kMaxLookups) {
        return Error(Errc::too_big, "too many names are looked up for one value");
    }
    const std::optional<NameSource::Value> value = names_.find(name);
    if (!value) {
        return {};
    }
    return value->literal ? append(value->text, out) : run(value->text, out);
}

}  // namespace

Result<std::string> expand(std::string_view text, const NameSource& names) {
    std::string out;
    Expander expander(names);
    if (Result<void> done = expander.run(text, out); !done) {
        return done.error();
    }
    return out;
}

}  // namespace postern
