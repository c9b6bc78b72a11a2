/// Tables made of other tables: unionmap, pipemap, debug.
#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/types.h"

namespace postern::table_type {
namespace {

using Tables = std::vector<TablePtr>;

/// All parts are pattern tables, so that the whole is one.
bool all_patterns(const Tables& tables) {
    for (const TablePtr& table : tables) {
        if (!table->is_pattern()) {
            return false;
        }
    }
    return true;
}

Result<Tables> open_parts(std::string_view list, const std::string& title, const TableContext& context) {
    const Result<std::vector<std::string>> specs = braced_list(list, title);
    if (!specs) {
        return specs.error();
    }
    Tables tables;
    for (const std::string& spec : *specs) {
        Result<TablePtr> table = open_table(spec, context);
        if (!table) {
            return Error(table.error().code, title + ": " + table.error().what);
        }
        tables.push_back(std::move(*table));
    }
    return tables;
}

/// Every table's answer, joined by commas.
class UnionTable final : public Table {
public:
    UnionTable(std::string name, Tables parts) : Table(std::move(name), all_patterns(parts), false), parts_(std::move(parts)) {}

protected:
    Lookup find(std::string_view key) override {
        std::optional<std::string> joined;
        for (const TablePtr& part : parts_) {
            Lookup answer = part->lookup(key);
            if (!answer) {
                return answer;
            }
            if (*answer) {
                joined = joined ? *joined + "," + **answer : std::move(**answer);
            }
        }
        return joined;
    }

private:
    Tables parts_;
};

/// Each answer is the next table's key.
class PipeTable final : public Table {
public:
    PipeTable(std::string name, Tables parts) : Table(std::move(name), all_patterns(parts), false), parts_(std::move(parts)) {}

protected:
    Lookup find(std::string_view key) override {
        std::optional<std::string> value(key);
        for (const TablePtr& part : parts_) {
            Lookup answer = part->lookup(*value);
            if (!answer || !*answer) {
                return answer;
            }
            value = std::move(*answer);
        }
        return value;
    }

private:
    Tables parts_;
};

/// Logs every lookup, as Postfix 3.11 does.
class DebugTable final : public Table {
public:
    DebugTable(std::string name, TablePtr inner)
        : Table(std::move(name), inner->is_pattern(), false), inner_(std::move(inner)) {}

protected:
    Lookup find(std::string_view key) override {
        Lookup answer = inner_->lookup(key);
        if (!answer) {
            log_info("{} lookup: \"{}\" = error: {}", inner_->name(), key, answer.error().what);
        } else {
            log_info("{} lookup: \"{}\" = {}{}{}", inner_->name(), key, *answer ? "\"" : "",
                     *answer ? **answer : "not found", *answer ? "\"" : "");
        }
        return answer;
    }

private:
    TablePtr inner_;
};

}  // namespace

Result<TablePtr> open_unionmap(std::string_view name, const TableContext& context) {
    std::string title = full_name("unionmap", name);
    Result<Tables> parts = open_parts(name, title, context);
    if (!parts) {
        return parts.error();
    }
    return TablePtr(std::make_unique<UnionTable>(std::move(title), std::move(*parts)));
}

Result<TablePtr> open_pipemap(std::string_view name, const TableContext& context) {
    std::string title = full_name("pipemap", name);
    Result<Tables> parts = open_parts(name, title, context);
    if (!parts) {
        return parts.error();
    }
    return TablePtr(std::make_unique<PipeTable>(std::move(title), std::move(*parts)));
}

Result<TablePtr> open_debug(std::string_view name, const TableContext& context) {
    Result<TablePtr> inner = open_table(name, context);
    if (!inner) {
        return inner;
    }
    return TablePtr(std::make_unique<DebugTable>(full_name("debug", name), std::move(*inner)));
}

}  // namespace postern::table_type
