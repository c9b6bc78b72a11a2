/// The commands of postern(1).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/config/config.h"

namespace postern::master {

struct ControlContext {
    std::string directory;   ///< of main.cf, absolute
    int verbosity = 0;
};

struct ControlCommand {
    std::string_view name;
    std::string_view help;
    int (*run)(const ControlContext& context);   ///< exit status
};

/// All commands, in the order in which help shows them.
const std::vector<ControlCommand>& control_commands();

}  // namespace postern::master
