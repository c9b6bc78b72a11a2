/// The syntax of main.cf: "name = value" in logical lines (lines.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern {

inline constexpr std::size_t kMaxConfigFile = 8 << 20;   ///< bytes of main.cf or master.cf

/// One definition as it stands in the file.
struct Setting {
    std::string name;
    std::string value;      ///< without white space at its ends; not expanded
    std::string where;      ///< "file:line"
};

struct MainCf {
    std::vector<Setting> settings;      ///< in the file's order; of a name given twice the last one counts
    std::vector<std::string> notices;   ///< "file:line: text", such as a name given twice
};

/// `file` is the name for messages.  Errors: config with "file:line: reason"; too_big.
Result<MainCf> parse_main_cf(std::string_view text, std::string_view file);

/// "name = value" or "name=value", as in main.cf, -o and postconf -e.  Errors: syntax.
Result<Setting> parse_assignment(std::string_view text);

/// The whole of a configuration file.  Errors: what open(2) said, too_big.
Result<std::string> read_config_file(const std::string& path);

}  // namespace postern
