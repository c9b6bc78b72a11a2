/// The small text files beside a user's mailboxes: read whole, replaced whole.
#pragma once

#include <optional>
#include <string>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern::store {

/// Nothing when there is no such file.  Errors: too_big (16 MB), denied, io.
Result<std::optional<std::string>> read_control_file(const std::string& path);
/// Durable when it returns; readers see the old text or the new one.  Errors: denied, no_space, io.
Result<void> replace_control_file(const std::string& path, const std::string& text);
/// Keeps other Postern processes from changing the file until the descriptor is closed.
Result<UniqueFd> lock_control_file(const std::string& path);

}  // namespace postern::store
