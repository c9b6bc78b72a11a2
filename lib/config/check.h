/// What can be said about a configuration without running it: "postern check".
#pragma once

#include <string>
#include <vector>

#include "lib/config/config.h"
#include "lib/config/master_cf.h"

namespace postern {

enum class Severity : unsigned char {
    error,     ///< the configuration is refused
    warning,   ///< likely a mistake
    notice,    ///< something that an administrator may want to know
};

struct Finding {
    Severity severity;
    std::string text;   ///< "file:line: ..."
};

/// Reads main.cf and master.cf in `directory` and reports everything about them, not only the first mistake: bad
/// syntax and values, unknown parameters (with the nearest known name; one that is referred to as $name elsewhere
/// counts as the administrator's own), parameters that have no effect yet, doubled definitions, references to
/// nothing, services that settings want and master.cf lacks.
std::vector<Finding> check_configuration(const std::string& directory);

/// What main.cf sets that is no parameter and that nothing refers to.
std::vector<std::string> unused_names(const Config& config, const MasterCf& master);

/// The known parameter whose name is nearest to `name` by insertions, deletions, replacements and swaps; empty when
/// none is near.
std::string nearest_parameter(std::string_view name);

/// Names that `text` refers to as $name, ${name...} or $(name...).
std::vector<std::string> referenced_names(std::string_view text);

}  // namespace postern
