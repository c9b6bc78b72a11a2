/// LMDB files of services: found by the names that settings have for them, and begun anew when they are damaged.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/store/lmdb_env.h"

namespace postern::store {

/// The file of the cache that setting `title` names: PATH.lmdb for lmdb:PATH, btree:PATH or hash:PATH, perhaps with "proxy:" in front,
/// which changes nothing: it is opened by the process itself.  Errors: config (another type of table).
Result<std::string> lmdb_file_of(const std::string& title, std::string_view name);

/// Env::open(); a file that LMDB finds damaged is renamed to PATH.corrupt, with a warning, and an empty one made in its place.
/// For what can be found out again.  Errors: denied, no_space, io.
Result<std::shared_ptr<Env>> open_or_begin_anew(const Env::Options& options);

}  // namespace postern::store
