/// The part of a service's command line that master writes (see service.h).
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern {

struct ServiceArguments {
    std::string service_name;
    std::string service_type = "unix";
    bool privileged = false;     ///< -P: master.cf says "n" in the unpriv column
    bool may_chroot = false;
    bool standard_input = false;
    int verbosity = 0;
    Config::Overrides overrides;
    std::vector<std::string> rest;
};

/// Errors: config, with the usage.
Result<ServiceArguments> parse_service_arguments(int argc, char** argv);

}  // namespace postern
