#include "lib/table/pattern_rules.h"

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/types.h"

namespace postern::table_type {

bool is_endif(std::string_view line) {
    const std::string_view text = trim(line);
    return equals_ignoring_case(text.substr(0, 5), "endif") && (text.size() == 5 || text[5] == ' ' || text[5] == '\t');
}

bool take_if(std::string_view& line) {
    if (line.size() < 3 || !equals_ignoring_case(line.substr(0, 2), "if") || (line[2] != ' ' && line[2] != '\t')) {
        return false;
    }
    line = trim(line.substr(2));
    return true;
}

bool take_negation(std::string_view& line) {
    bool negated = false;
    line = trim(line);
    while (!line.empty() && line.front() == '!') {
        negated = !negated;
        line = trim(line.substr(1));
    }
    return negated;
}

void warn_about_rule(const std::string& table, int line, const std::string& what) {
    log_warning("{}, line {}: {}", table, line, what);
}

Result<TablePtr> from_rules(std::unique_ptr<TextTable> table, std::string_view name) {
    const std::string_view inside = trim(name);
    if (inside.size() < 2 || inside.front() != '{' || inside.back() != '}') {
        return from_file(std::move(table), name);
    }
    std::string lines;
    for (const std::string& rule : split_list(inside.substr(1, inside.size() - 2))) {
        lines += std::string(trim(without_braces(rule))) + "\n";
    }
    if (const Result<void> taken = table->take(lines); !taken) {
        return taken.error();
    }
    return TablePtr(std::move(table));
}

}  // namespace postern::table_type
