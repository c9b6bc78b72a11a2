/// postmap(1) and postalias(1): turning a text file into an index file, and changing index files.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/table/index_file.h"

namespace postern::tools {

enum class SourceFormat : unsigned char {
    map,      ///< key value
    alias,    ///< name: value, value
};

struct MakeOptions {
    SourceFormat format = SourceFormat::map;
    Duplicates duplicates = Duplicates::warn;
    bool incremental = false;          ///< -i: from standard input into the present file
    bool fold_case = true;             ///< off with -f
    bool require_utf8 = true;          ///< off with -u
    bool inherit_mode = true;          ///< off with -p: rights of a new file are those of its source
    bool become_owner = true;          ///< off with -o: as root, write with the rights of the source's owner
    bool values_are_files = false;     ///< -F: a value lists files, whose content is stored in base64
    std::optional<bool> with_nul{};    ///< -N, -n
};

/// An index table by name: "lmdb:/etc/x", "hash:/etc/x", or with the default type "/etc/x".
struct IndexName {
    IndexType type = IndexType::lmdb;
    std::string source;                ///< the text file
    std::string file;                  ///< the index file
};
/// Errors: config (a type without index files).
Result<IndexName> parse_index_name(std::string_view spec, std::string_view default_type);

/// Makes or changes the index; what is wrong in the source is warned about and left out, as in Postfix.
/// Errors: whatever keeps the index from being written.
Result<void> make_index(const IndexName& name, const MakeOptions& options);

}  // namespace postern::tools
