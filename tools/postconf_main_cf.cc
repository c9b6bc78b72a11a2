#include <algorithm>
#include <cstdio>
#include <map>

#include <fmt/format.h>

#include "lib/config/check.h"
#include "lib/config/main_cf.h"
#include "tools/postconf.h"

namespace postern::postconf {
namespace {

/// Programs of master.cf that other programs hand no mail to: their services have no transport settings.
constexpr std::string_view kNotTransports[] = {"anvil", "auth", "bounce", "cleanup", "dnsblog", "flush", "imapd", "imapd-session",
                                               "pickup", "pop3d", "pop3d-session", "postlogd", "postscreen", "proxymap", "qmgr",
                                               "qmqpd", "scache", "showq", "smtpd", "spawn", "tlsmgr", "tlsproxy",
                                               "trivial-rewrite", "verify"};

/// Without a master.cf that can be read, none.
MasterCf services(const Request& request) {
    const std::string path = request.directory + "/master.cf";
    const Result<std::string> text = read_config_file(path);
    Result<MasterCf> file = text ? parse_master_cf(*text, path) : Result<MasterCf>(text.error());
    return file ? std::move(*file) : MasterCf{};
}

/// The settings that master.cf's transports have, with their defaults.
std::map<std::string, std::string> transport_settings(const MasterCf& services) {
    std::map<std::string, std::string> result;
    for (const MasterEntry& entry : services.entries) {
        const bool other = std::find(std::begin(kNotTransports), std::end(kNotTransports), entry.command) != std::end(kNotTransports);
        const bool runs_commands = entry.command == "pipe" || entry.command == "spawn";
        for (const TransportRow& row : transport_rows()) {
            const bool time_limit = row.fallback == Parameter::command_time_limit;
            const bool has = time_limit ? runs_commands : entry.type == ServiceType::unix_stream && !other;
            const std::string name = entry.name + std::string(row.suffix);
            if (has && !find_parameter(name)) {
                result[name] = "$" + std::string(parameter_info(row.fallback).name);
            }
        }
    }
    return result;
}

/// Everything that can be shown, by name.
class Shown {
public:
    Shown(const Request& request, const Config& config, const MasterCf& services)
        : request_(request), config_(config), transports_(transport_settings(services)), unused_(unused_names(config, services)) {}

    std::vector<std::string> names() const;
    std::optional<std::string> value(const std::string& name) const;

private:
    const Request& request_;
    const Config& config_;
    std::map<std::string, std::string> transports_;
    std::vector<std::string> unused_;
};

std::vector<std::string> Shown::names() const {
    std::set<std::string> result;
    for (std::size_t i = 0; i < kParameterCount && request_.classes.count("builtin") > 0; ++i) {
        result.emplace(parameter_info(static_cast<Parameter>(i)).name);
    }
    for (const auto& [name, unused] : transports_) {
        if (request_.classes.count("service") > 0) {
            result.insert(name);
        }
    }
    for (const std::string& name : config_.set_names()) {
        const bool own = !find_parameter(name) && transports_.count(name) == 0 && std::find(unused_.begin(), unused_.end(), name) == unused_.end();
        if (own && !request_.defaults && request_.classes.count("user") > 0) {
            result.insert(name);
        }
    }
    if (request_.only_set) {
        const bool show_directory = request_.directory_given;
        std::set<std::string> set;
        for (const std::string& name : result) {
            if (config_.is_set(name) || (show_directory && name == "config_directory")) {
                set.insert(name);
            }
        }
        result.swap(set);
    }
    return {result.begin(), result.end()};
}

std::optional<std::string> Shown::value(const std::string& name) const {
    const auto transport = transports_.find(name);
    if (transport != transports_.end() && !config_.is_set(name)) {
        if (!request_.expand) {
            return transport->second;
        }
    } else if (!find_parameter(name) && !config_.is_set(name)) {
        return std::nullopt;
    }
    const std::optional<std::string> raw = config_.raw_value(name);
    if (!raw || !request_.expand) {
        return raw;
    }
    const Result<std::string> expanded = config_.expand(*raw);
    if (!expanded) {
        fmt::print(stderr, "postconf: fatal: {} = {}: {}\n", name, *raw, expanded.error().what);
        std::exit(1);
    }
    return *expanded;
}

void warn(const Request& request) {
    for (const Finding& finding : check_configuration(request.directory)) {
        if (finding.severity != Severity::notice && !request.quiet) {
            fmt::print(stderr, "postconf: {}: {}\n", finding.severity == Severity::error ? "error" : "warning", finding.text);
        }
    }
}

}  // namespace

int show_main_cf(const Request& request) {
    Result<Config> config = Config::load_unchecked(request.directory, request.overrides);
    if (request.defaults) {
        config = Config::defaults();
    }
    if (!config) {
        fmt::print(stderr, "postconf: fatal: {}\n", config.error().what);
        return 1;
    }
    config->set_process("postconf", "");
    const Shown shown(request, *config, services(request));
    std::string out;
    int status = 0;
    for (const std::string& name : request.words.empty() ? shown.names() : request.words) {
        const std::optional<std::string> value = shown.value(name);
        if (value) {
            out += assignment_text(request, name, *value);
        } else {
            fmt::print(stderr, "postconf: warning: {}: unknown parameter\n", name);
        }
    }
    if (std::fwrite(out.data(), 1, out.size(), stdout) != out.size() || std::fflush(stdout) != 0) {
        status = 1;
    }
    if (!request.defaults && request.words.empty()) {
        warn(request);
    }
    return status;
}

}  // namespace postern::postconf
