/// The release, as mail_version, `postern version` and log lines show it.
#pragma once

namespace postern {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace postern
