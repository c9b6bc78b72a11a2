/// Tables whose whole content is in memory: texthash, inline, static, environ, internal, fail, randmap.
#include <map>
#include <unordered_map>
#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/text_file.h"
#include "lib/table/text_table.h"
#include "lib/table/types.h"

namespace postern::table_type {
namespace {

struct ViewHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using Entries = std::unordered_map<std::string, std::string, ViewHash, std::equal_to<>>;

std::optional<std::string> value_of(const Entries& entries, std::string_view key) {
    const auto found = entries.find(key);
    if (found == entries.end()) {
        return std::nullopt;
    }
    return found->second;
}

void visit_entries(const Entries& entries, const Table::Visit& visit) {
    for (const auto& [key, value] : std::map<std::string_view, std::string_view>(entries.begin(), entries.end())) {
        visit(key, value);   // in order: a listing should not change from run to run
    }
}

/// texthash: a postmap(1) source file, used as it is.
class TextHash final : public TextTable {
public:
    TextHash(std::string name, bool fold) : TextTable(std::move(name), false, fold) {}

    /// Errors: config, when there are lines but not one is an entry.
    Result<void> take(const std::string& text) override {
        Entries entries;
        MapLines lines(text);
        std::string line;
        while (lines.next(line)) {
            Result<MapEntry> entry = parse_map_line(line);
            if (!entry) {
                log_warning("{}, line {}: {} -- ignoring this line", name(), lines.first_line(), entry.error().what);
                continue;
            }
            std::string key = fold_case() ? to_lower(entry->key) : entry->key;
            if (!entries.emplace(std::move(key), std::move(entry->value)).second) {
                log_warning("{}, line {}: duplicate entry: \"{}\"", name(), lines.first_line(), entry->key);
            }
        }
        if (entries.empty() && lines.first_line() > 0) {
            return Error(Errc::config, name() + ": no line is an entry: expected format: key whitespace value");
        }
        entries_ = std::move(entries);
        return {};
    }

    Result<void> for_each(const Visit& visit) const override {
        visit_entries(entries_, visit);
        return {};
    }

protected:
    Lookup find(std::string_view key) override {
        follow_file();
        return value_of(entries_, key);
    }

private:
    Entries entries_;
};

/// inline: and internal:.
class MemoryTable final : public Table {
public:
    MemoryTable(std::string name, bool fold, Entries entries)
        : Table(std::move(name), false, fold), entries_(std::move(entries)) {}

    Result<void> for_each(const Visit& visit) const override {
        visit_entries(entries_, visit);
        return {};
    }

protected:
    Lookup find(std::string_view key) override { return value_of(entries_, key); }

private:
    Entries entries_;
};

class StaticTable final : public Table {
public:
    StaticTable(std::string name, std::string value) : Table(std::move(name), false, false), value_(std::move(value)) {}

protected:
    Lookup find(std::string_view) override { return std::optional(value_); }

private:
    std::string value_;
};

class EnvironTable final : public Table {
public:
    EnvironTable(std::string name, bool fold) : Table(std::move(name), false, fold) {}

protected:
    Lookup find(std::string_view key) override {
        const char* value = getenv(std::string(key).c_str());
        return value ? std::optional<std::string>(value) : std::nullopt;
    }
};

class FailTable final : public Table {
public:
    explicit FailTable(std::string name) : Table(std::move(name), false, false) {}

protected:
    Lookup find(std::string_view) override { return Error(Errc::temporary, name() + ": lookup error"); }
};

class RandomTable final : public Table {
public:
    RandomTable(std::string name, std::vector<std::string> values)
        : Table(std::move(name), true, false), values_(std::move(values)) {}

protected:
    Lookup find(std::string_view) override {
        const std::string bytes = random_bytes(4);
        std::uint32_t number = 0;
        for (const char c : bytes) {
            number = number << 8 | static_cast<unsigned char>(c);
        }
        return std::optional(values_[number % values_.size()]);
    }

private:
    std::vector<std::string> values_;
};

}  // namespace

Result<TablePtr> open_texthash(std::string_view name, const TableContext& context) {
    return from_file(std::make_unique<TextHash>(full_name("texthash", name), context.fold_case), name);
}

Result<TablePtr> open_inline(std::string_view name, const TableContext& context) {
    const std::string title = full_name("inline", name);
    const Result<std::vector<std::string>> pieces = braced_list(name, title);
    if (!pieces) {
        return pieces.error();
    }
    Entries entries;
    for (const std::string& piece : *pieces) {
        const std::size_t equals = piece.find('=');
        const std::string_view key = trim(std::string_view(piece).substr(0, equals));
        if (equals == std::string::npos || key.empty()) {
            return Error(Errc::config, title + ": need \"key = value\", not \"" + piece + "\"");
        }
        entries[context.fold_case ? to_lower(key) : std::string(key)] = trim(std::string_view(piece).substr(equals + 1));
    }
    return TablePtr(std::make_unique<MemoryTable>(title, context.fold_case, std::move(entries)));
}

Result<TablePtr> open_static(std::string_view name, const TableContext&) {
    std::string_view value = name;
    if (!name.empty() && name.front() == '{') {
        if (name.back() != '}' || name.size() < 2) {
            return Error(Errc::config, full_name("static", name) + ": missing '}'");
        }
        value = without_braces(name);
    }
    return TablePtr(std::make_unique<StaticTable>(full_name("static", name), std::string(value)));
}

Result<TablePtr> open_environ(std::string_view name, const TableContext& context) {
    return TablePtr(std::make_unique<EnvironTable>(full_name("environ", name), context.fold_case));
}

Result<TablePtr> open_internal(std::string_view name, const TableContext& context) {
    return TablePtr(std::make_unique<MemoryTable>(full_name("internal", name), context.fold_case, Entries{}));
}

Result<TablePtr> open_fail(std::string_view name, const TableContext&) {
    return TablePtr(std::make_unique<FailTable>(full_name("fail", name)));
}

Result<TablePtr> open_randmap(std::string_view name, const TableContext&) {
    Result<std::vector<std::string>> values = braced_list(name, full_name("randmap", name));
    if (!values) {
        return values.error();
    }
    return TablePtr(std::make_unique<RandomTable>(full_name("randmap", name), std::move(*values)));
}

}  // namespace postern::table_type
