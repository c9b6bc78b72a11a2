/// How each table type is opened; only lib/table includes this.
///
/// Every function takes what follows "type:" in the table's name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/table/table.h"

namespace postern::table_type {

/// One file a type, by what it rests on.
Result<TablePtr> open_lmdb(std::string_view name, const TableContext& context);      // index_tables.cc
Result<TablePtr> open_cdb(std::string_view name, const TableContext& context);
Result<TablePtr> open_hash(std::string_view name, const TableContext& context);
Result<TablePtr> open_btree(std::string_view name, const TableContext& context);
Result<TablePtr> open_texthash(std::string_view name, const TableContext& context);  // memory_tables.cc
Result<TablePtr> open_inline(std::string_view name, const TableContext& context);
Result<TablePtr> open_static(std::string_view name, const TableContext& context);
Result<TablePtr> open_environ(std::string_view name, const TableContext& context);
Result<TablePtr> open_internal(std::string_view name, const TableContext& context);
Result<TablePtr> open_fail(std::string_view name, const TableContext& context);
Result<TablePtr> open_randmap(std::string_view name, const TableContext& context);
Result<TablePtr> open_regexp(std::string_view name, const TableContext& context);    // pattern_table.cc
Result<TablePtr> open_pcre(std::string_view name, const TableContext& context);
Result<TablePtr> open_cidr(std::string_view name, const TableContext& context);      // cidr_table.cc
Result<TablePtr> open_unix(std::string_view name, const TableContext& context);      // unix_table.cc
Result<TablePtr> open_unionmap(std::string_view name, const TableContext& context);  // wrapper_tables.cc
Result<TablePtr> open_pipemap(std::string_view name, const TableContext& context);
Result<TablePtr> open_debug(std::string_view name, const TableContext& context);
Result<TablePtr> open_proxy(std::string_view name, const TableContext& context);     // proxy_client.cc
Result<TablePtr> open_socketmap(std::string_view name, const TableContext& context); // socket_tables.cc
Result<TablePtr> open_tcp(std::string_view name, const TableContext& context);

/// A table in place of one that could not be opened (`why` is logged): lookups fail for now, until it can be.
TablePtr unavailable(std::string_view spec, const TableContext& context, const Error& why);   // unavailable_table.cc

/// The elements of "{a, {b c}}": the outer braces are required, those of an element are removed.
/// Errors: config, naming `what`.
Result<std::vector<std::string>> braced_list(std::string_view text, std::string_view what);

/// Removes one pair of { } around `text`, and the white space inside.
std::string_view without_braces(std::string_view text);

/// "type:name" as in messages.
std::string full_name(std::string_view type, std::string_view name);

}  // namespace postern::table_type
