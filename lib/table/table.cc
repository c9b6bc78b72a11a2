#include "lib/table/table.h"

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/table/types.h"

namespace postern {
namespace {

using Opener = Result<TablePtr> (*)(std::string_view name, const TableContext& context);

struct Type {
    std::string_view name;
    Opener open;   ///< nullptr: a type of Postfix that is refused, with `hint`
    std::string_view hint;
};

constexpr std::string_view kUseLmdb = "use lmdb: or cdb: and run postmap again";

constexpr Type kTypes[] = {
    {"btree", table_type::open_btree, {}},
    {"cdb", table_type::open_cdb, {}},
    {"cidr", table_type::open_cidr, {}},
    {"dbm", nullptr, kUseLmdb},
    {"debug", table_type::open_debug, {}},
    {"environ", table_type::open_environ, {}},
    {"fail", table_type::open_fail, {}},
    {"hash", table_type::open_hash, {}},
    {"inline", table_type::open_inline, {}},
    {"internal", table_type::open_internal, {}},
    {"lmdb", table_type::open_lmdb, {}},
    {"netinfo", nullptr, "there is no replacement"},
    {"pcre", table_type::open_pcre, {}},
    {"pipemap", table_type::open_pipemap, {}},
    {"proxy", table_type::open_proxy, {}},
    {"randmap", table_type::open_randmap, {}},
    {"regexp", table_type::open_regexp, {}},
    {"sdbm", nullptr, kUseLmdb},
    {"socketmap", table_type::open_socketmap, {}},
    {"static", table_type::open_static, {}},
    {"tcp", table_type::open_tcp, {}},
    {"texthash", table_type::open_texthash, {}},
    {"unionmap", table_type::open_unionmap, {}},
    {"unix", table_type::open_unix, {}},
};

std::string known_types() {
    std::string list;
    for (const std::string& type : table_types()) {
        list += (list.empty() ? "" : ", ") + type;
    }
    return list;
}

}  // namespace

std::vector<std::string> table_types() {
    std::vector<std::string> names;
    for (const Type& type : kTypes) {
        if (type.open) {
            names.emplace_back(type.name);
        }
    }
    return names;
}

namespace {

Result<TablePtr> open_now(std::string_view spec, const TableContext& context) {
    const std::size_t colon = spec.find(':');
    const std::string_view type_name = colon == std::string_view::npos ? context.default_type : spec.substr(0, colon);
    const std::string_view name = colon == std::string_view::npos ? spec : spec.substr(colon + 1);
    if (name.empty() && type_name != "fail" && type_name != "environ" && type_name != "internal") {
        return Error(Errc::config, "table \"" + std::string(spec) + "\": need type:name");
    }
    for (const Type& type : kTypes) {
        if (type.name != type_name) {
            continue;
        }
        if (!type.open) {
            return Error(Errc::unsupported, "table " + std::string(spec) + ": the type " + std::string(type_name) +
                                                " is not supported; " + std::string(type.hint));
        }
        return type.open(name, context);
    }
    return Error(Errc::unsupported, "table \"" + std::string(spec) + "\": unknown type \"" + std::string(type_name) +
                                        "\"; known types: " + known_types());
}

/// A mistake in main.cf or in a table's text ends a daemon always: time does not mend it.
bool may_pass(Errc code) { return code == Errc::not_found || code == Errc::denied || code == Errc::io || code == Errc::temporary; }

}  // namespace

Result<TablePtr> open_table(std::string_view spec, const TableContext& context) {
    Result<TablePtr> table = open_now(spec, context);
    if (table || context.open_error_is_fatal || !may_pass(table.error().code)) {
        return table;
    }
    return table_type::unavailable(spec, context, table.error());
}

Result<void> Table::for_each(const Visit&) const {
    return Error(Errc::unsupported, "table " + name_ + ": sequence operation is not supported");
}

Lookup Table::lookup(std::string_view key) {
    if (key.size() > kMaxKey && !pattern_) {
        return std::optional<std::string>();
    }
    if (!fold_case_ || pattern_ || std::none_of(key.begin(), key.end(), [](char c) { return c >= 'A' && c <= 'Z'; })) {
        return find(key);
    }
    return find(to_lower(key));
}

Result<TableList> TableList::open(std::string_view title, std::string_view specs, const TableContext& context) {
    TableList list;
    list.title_ = title;
    for (const std::string& spec : split_list(specs)) {
        Result<TablePtr> table = open_table(table_type::without_braces(spec), context);
        if (!table) {
            return Error(table.error().code, list.title_ + ": " + table.error().what);
        }
        list.tables_.push_back(std::move(*table));
    }
    return list;
}

namespace {
thread_local LookupWatch* the_watch = nullptr;
}

LookupWatch* watch_lookups(LookupWatch* watch) { return std::exchange(the_watch, watch); }

LookupWatch* lookup_watch() { return the_watch; }

Lookup TableList::lookup(std::string_view key, bool partial) {
    return lookup(key, partial, nullptr);
}

Lookup TableList::lookup(std::string_view key, bool partial, std::string* from) {
    if (key.empty()) {
        return std::optional<std::string>();
    }
    for (const TablePtr& table : tables_) {
        if (partial && table->is_pattern()) {
            continue;
        }
        Lookup answer = table->lookup(key);
        if (LookupWatch* const watch = lookup_watch()) {
            watch->looked_up(title_, table->name(), key, answer);
        }
        if (answer && !*answer) {
            continue;
        }
        if (from) {
            *from = table->name();
        }
        if (!answer) {
            return Error(Errc::temporary, title_ + ": " + answer.error().what);
        }
        if ((*answer)->empty()) {
            return Error(Errc::temporary, title_ + ": " + table->name() + ": lookup of " + std::string(key) +
                                              " returns an empty result; it should return NO RESULT");
        }
        return answer;
    }
    return std::optional<std::string>();
}

namespace table_type {

std::string_view without_braces(std::string_view text) {
    if (text.size() >= 2 && text.front() == '{' && text.back() == '}') {
        return trim(text.substr(1, text.size() - 2));
    }
    return text;
}

Result<std::vector<std::string>> braced_list(std::string_view text, std::string_view what) {
    const std::string_view whole = trim(text);
    if (whole.size() < 2 || whole.front() != '{' || whole.back() != '}') {
        return Error(Errc::config, std::string(what) + ": need a list in braces, as in {one, two}");
    }
    std::vector<std::string> elements;
    for (const std::string& element : split_list(whole.substr(1, whole.size() - 2))) {
        elements.emplace_back(without_braces(element));
    }
    if (elements.empty()) {
        return Error(Errc::config, std::string(what) + ": the list is empty");
    }
    return elements;
}

std::string full_name(std::string_view type, std::string_view name) {
    std::string full(type);
    full += ':';
    full += name;
    return full;
}

}  // namespace table_type
}  // namespace postern
