/// The common frame of the regexp:, pcre: and cidr: files: rules with if/endif blocks and negation.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/text_file.h"

namespace postern::table_type {

/// One rule; `jump` of an "if" is the index behind its "endif".
template <class Matcher>
struct Rule {
    Matcher matcher;
    bool negated = false;
    bool is_if = false;
    std::string result;
    std::size_t jump = 0;
    int line = 0;
};

/// "endif", alone on its line; comments have been removed before.
bool is_endif(std::string_view line);
/// Removes "if" with its white space from the front of `line`; false when it does not begin so.
bool take_if(std::string_view& line);
/// Removes "!" and white space; true when there was an odd number of them.
bool take_negation(std::string_view& line);

/// Reads rules from `text`.  `parse(rest, rule)` is called with what follows "if" and "!"; it fills matcher
/// and (unless rule.is_if) result.  Errors: config, naming table and line.
template <class Matcher, class Parse>
Result<std::vector<Rule<Matcher>>> read_rules(const std::string& table, std::string_view text, Parse parse) {
    std::vector<Rule<Matcher>> rules;
    std::vector<std::size_t> open_ifs;
    MapLines lines(text);
    std::string line;
    const auto failure = [&](const std::string& what) {
        return Error(Errc::config, table + ", line " + std::to_string(lines.first_line()) + ": " + what);
    };
    while (lines.next(line)) {
        std::string_view rest = line;
        if (is_endif(rest)) {
            if (open_ifs.empty()) {
                return failure("endif without if");
            }
            rules[open_ifs.back()].jump = rules.size();
            open_ifs.pop_back();
            continue;
        }
        Rule<Matcher> rule;
        rule.line = lines.first_line();
        rule.is_if = take_if(rest);
        rule.negated = take_negation(rest);
        const Result<void> parsed = parse(rest, rule);
        if (!parsed) {
            return failure(parsed.error().what);
        }
        if (rule.is_if) {
            open_ifs.push_back(rules.size());
        }
        rules.push_back(std::move(rule));
    }
    if (!open_ifs.empty()) {
        return Error(Errc::config, table + ", line " + std::to_string(rules[open_ifs.back()].line) + ": if without endif");
    }
    return rules;
}

/// The first rule that applies to the subject, or nullptr.  `matches(rule)` does not look at `negated`.
template <class Matcher, class Matches>
const Rule<Matcher>* first_match(const std::vector<Rule<Matcher>>& rules, Matches matches) {
    std::size_t at = 0;
    while (at < rules.size()) {
        const Rule<Matcher>& rule = rules[at];
        const bool hit = matches(rule) != rule.negated;
        if (hit && !rule.is_if) {
            return &rule;
        }
        at = rule.is_if && !hit ? rule.jump : at + 1;
    }
    return nullptr;
}

/// The rules of a table without a file, "type:{ { rule }, { rule } }", one a line.  Nothing when `name` is a file's.
std::optional<std::string> inline_rules(std::string_view name);

}  // namespace postern::table_type
