#include "master/plan.h"

#include <unistd.h>

#include <unordered_map>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/main_cf.h"

namespace postern::master {
namespace {

bool is_disabled(const MasterEntry& entry, const std::vector<std::string>& disabled) {
    for (const std::string& word : disabled) {
        const std::string_view type = service_type_name(entry.type);
        if (word == entry.label() || word == type || word == entry.name + "." + std::string(type)) {
            return true;
        }
    }
    return false;
}

Result<PlannedService> plan_service(const Config& config, MasterEntry entry) {
    PlannedService service;
    const std::string where = entry.where;
    const auto fail = [&where](const std::string& why) { return Error(Errc::config, where + ": " + why); };
    Result<std::vector<Endpoint>> endpoints = endpoints_of(entry, config);
    if (!endpoints) {
        return fail(endpoints.error().what);
    }
    service.program = config.daemon_directory() + "/" + entry.command;
    if (::access(service.program.c_str(), X_OK) != 0) {
        return fail(errno_error("program " + service.program).what);
    }
    if (entry.type == ServiceType::inet && entry.wakeup_seconds > 0) {
        return fail("a service of type inet cannot have a wakeup time; accepted: -");
    }
    const Result<Config> with_overrides = Config::load(config.config_directory(), entry.overrides());
    if (!with_overrides) {
        return fail(with_overrides.error().what);
    }
    service.endpoints = *std::move(endpoints);
    service.process_limit = entry.process_limit >= 0 ? entry.process_limit : config.default_process_limit();
    service.entry = std::move(entry);
    return service;
}

}  // namespace

Result<Plan> make_plan(const Config& config, MasterCf file) {
    Plan plan;
    plan.notices = std::move(file.notices);
    const std::vector<std::string> disabled = split(config.master_service_disable(), ", \t\r\n");
    std::unordered_map<std::string, std::size_t> last;
    for (std::size_t i = 0; i < file.entries.size(); ++i) {
        last[file.entries[i].label()] = i;
    }
    std::unordered_map<std::string, std::string> taken;
    for (std::size_t i = 0; i < file.entries.size(); ++i) {
        MasterEntry& entry = file.entries[i];
        if (last[entry.label()] != i || is_disabled(entry, disabled)) {
            continue;
        }
        if (entry.type == ServiceType::fifo && (entry.command == "pickup" || entry.command == "qmgr")) {
            plan.notices.push_back(fmt::format("{}: Postfix before 3.0 woke {} by a FIFO; here it is talked to: taken as type unix",
                                               entry.where, entry.command));
            entry.type = ServiceType::unix_stream;
        }
        Result<PlannedService> service = plan_service(config, std::move(entry));
        if (!service) {
            return service.error();
        }
        for (const Endpoint& endpoint : service->endpoints) {
            const auto [at, is_new] = taken.try_emplace(endpoint.key(), service->entry.where);
            if (!is_new) {
                return Error(Errc::config, fmt::format("{}: {} is already taken by the service of {}", service->entry.where,
                                                       endpoint.key(), at->second));
            }
        }
        plan.services.push_back(*std::move(service));
    }
    return plan;
}

Result<LoadedPlan> load_plan(const std::string& directory) {
    Result<Config> config = Config::load(directory);
    if (!config) {
        return config.error();
    }
    const std::string path = directory + "/master.cf";
    const Result<std::string> text = read_config_file(path);
    if (!text) {
        return text.error();
    }
    Result<MasterCf> file = parse_master_cf(*text, path);
    if (!file) {
        return file.error();
    }
    Result<Plan> plan = make_plan(*config, *std::move(file));
    if (!plan) {
        return plan.error();
    }
    return LoadedPlan{*std::move(config), *std::move(plan)};
}

}  // namespace postern::master
