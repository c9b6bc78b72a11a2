/// Opening the services' databases (LMDB) in data_directory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/store/lmdb_env.h"

namespace postern::tlspolicy {

/// A data file with these databases.  It is made when missing; one that LMDB finds damaged is renamed to PATH.corrupt, with a
/// warning.  Afterwards no file is looked up any more, so that the process may change its root and user.
/// Errors: denied, no_space, io.
Result<std::shared_ptr<store::Env>> open_database(const std::string& path, std::vector<const char*> names, std::size_t map_size);

}  // namespace postern::tlspolicy
