/// Making and changing the index files of lmdb: and cdb: tables; for postmap(1) and postalias(1).
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

enum class IndexType : unsigned char { lmdb, cdb };

/// What to do with a key that is there already.
enum class Duplicates : unsigned char {
    warn,      ///< keep the first, put() answers exists
    ignore,    ///< keep the first, put() succeeds
    replace,   ///< the new value wins
};

struct IndexOptions {
    IndexType type = IndexType::lmdb;
    bool incremental = false;                    ///< change the file; else make a new one in its place
    Duplicates duplicates = Duplicates::warn;
    std::optional<bool> with_nul{};              ///< store a NUL after key and value; default: lmdb yes, cdb no
    mode_t mode = 0644;
    std::size_t expected_bytes = 0;              ///< of text that will be stored
};

/// An index file being written.  Readers see the whole old content until commit(), then the whole new one.
class IndexWriter {
public:
    virtual ~IndexWriter() = default;
    /// Errors: exists (see Duplicates), too_big (lmdb: keys over 511 bytes), no_space, io.
    virtual Result<void> put(std::string_view key, std::string_view value) = 0;
    /// Makes it durable and visible.  Without commit() nothing has happened.
    virtual Result<void> commit() = 0;
};

/// `path` is the file itself, with ".lmdb" or ".cdb".  A new file is written beside it and renamed; an
/// incremental change of an lmdb file is one transaction in it, under the lock that Postfix's tools take too.
/// Errors: as open(2); unsupported (incremental change of cdb).
Result<std::unique_ptr<IndexWriter>> open_index_writer(const std::string& path, const IndexOptions& options);

/// Removes `key` (in either spelling of its end) from an lmdb file.  False: it was not there.
Result<bool> remove_from_index(const std::string& path, IndexType type, std::string_view key);

/// Calls `visit` for every entry, without NULs, in the file's order.
Result<void> for_each_in_index(const std::string& path, IndexType type,
                               const std::function<void(std::string_view key, std::string_view value)>& visit);

/// ".lmdb" or ".cdb".
std::string_view index_suffix(IndexType type);

}  // namespace postern
