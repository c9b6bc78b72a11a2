/// What master is to run: master.cf with its addresses worked out and everything checked that can be checked
/// before a socket is opened.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/config/master_cf.h"
#include "master/endpoint.h"

namespace postern::master {

struct PlannedService {
    MasterEntry entry;
    std::vector<Endpoint> endpoints;
    std::string program;        ///< path
    long process_limit = 100;   ///< 0: none
};

struct Plan {
    std::vector<PlannedService> services;
    std::vector<std::string> notices;
};

/// Services that master_service_disable names ("smtp/inet", "inet") are left out; of two with one label the last one
/// stays.  Programs are looked for in daemon_directory.
/// Errors: config, naming the line of master.cf, for the first mistake; also a bad value behind -o.
Result<Plan> make_plan(const Config& config, MasterCf file);

/// Reads main.cf and master.cf in `directory` and makes the plan.
struct LoadedPlan {
    Config config;
    Plan plan;
};
Result<LoadedPlan> load_plan(const std::string& directory);

}  // namespace postern::master
