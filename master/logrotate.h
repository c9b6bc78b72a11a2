/// postern logrotate: begins a new maillog_file, as "postfix logrotate" does.
#pragma once

#include <functional>
#include <string>

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern::master {

/// Renames maillog_file to maillog_file.SUFFIX (maillog_file_rotate_suffix, by strftime(3)), calls `reopen`, which has the programs
/// open a new one, waits until nobody writes to the old one, and packs that with maillog_file_compressor.  A file that is still
/// written to, such as by sessions that began before, is left as it is: nothing that is logged is lost.  That is said in the result.
/// Errors: config (no maillog_file, or not a file), exists, io.
Result<std::string> rotate_log(const Config& config, const std::function<Result<void>()>& reopen);

}  // namespace postern::master
