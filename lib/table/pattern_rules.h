/// The common frame of the regexp:, pcre: and cidr: files: rules with if/endif blocks and negation.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/table/text_file.h"
#include "lib/table/text_table.h"

namespace postern::table_type {

/// One rule; `jump` of an "if" is the index behind its "endif".
template <class Matcher>
struct Rule {
    Matcher matcher;
    bool negated = false;
    bool is_if = false;
    bool never = false;                        ///< an "if" that could not be understood: its block is not entered
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
/// A warning in the log: "TABLE, line LINE: WHAT".
void warn_about_rule(const std::string& table, int line, const std::string& what);

/// Reads rules from `text`.  `parse(table, rest, rule)` is called with what follows "if" and "!"; it fills matcher
/// and (unless rule.is_if) result.  As with Postfix, one wrong rule does not take the others' effect: it is left
/// out, an "if" with its whole block, and the log has table, line and reason.
template <class Matcher, class Parse>
std::vector<Rule<Matcher>> read_rules(const std::string& table, std::string_view text, Parse parse) {
    std::vector<Rule<Matcher>> rules;
    std::vector<std::size_t> open_ifs;
    MapLines lines(text);
    std::string line;
    while (lines.next(line)) {
        std::string_view rest = line;
        if (is_endif(rest)) {
            if (open_ifs.empty()) {
                warn_about_rule(table, lines.first_line(), "endif without if: skipping this line");
                continue;
            }
            rules[open_ifs.back()].jump = rules.size();
            open_ifs.pop_back();
            continue;
        }
        Rule<Matcher> rule;
        rule.line = lines.first_line();
        rule.is_if = take_if(rest);
        rule.negated = take_negation(rest);
        if (const Result<void> parsed = parse(table, rest, rule); !parsed) {
            warn_about_rule(table, rule.line,
                            parsed.error().what + (rule.is_if ? ": skipping the rules up to its endif" : ": skipping this rule"));
            if (!rule.is_if) {
                continue;
            }
            rule.never = true;
        }
        if (rule.is_if) {
            open_ifs.push_back(rules.size());
        }
        rules.push_back(std::move(rule));
    }
    for (const std::size_t open : open_ifs) {
        warn_about_rule(table, rules[open].line, "if without endif: it reaches to the end of the table");
        rules[open].jump = rules.size();
    }
    return rules;
}

/// The first rule that applies to the subject, or nullptr.  `matches(rule)` does not look at `negated`; a rule that is `never` is not asked.
template <class Matcher, class Matches>
const Rule<Matcher>* first_match(const std::vector<Rule<Matcher>>& rules, Matches matches) {
    std::size_t at = 0;
    while (at < rules.size()) {
        const Rule<Matcher>& rule = rules[at];
        const bool hit = !rule.never && matches(rule) != rule.negated;
        if (hit && !rule.is_if) {
            return &rule;
        }
        at = rule.is_if && !hit ? rule.jump : at + 1;
    }
    return nullptr;
}

/// `table` with the rules of the file `name`, or with those that `name` consists of: "{ { rule }, { rule } }".  Errors: as from_file().
Result<TablePtr> from_rules(std::unique_ptr<TextTable> table, std::string_view name);

}  // namespace postern::table_type
