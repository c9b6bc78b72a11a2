#include <cstdio>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/main_cf.h"
#include "tools/postconf.h"

namespace postern::postconf {
namespace {

/// Values of master.cf that may refer to main.cf's parameters.
std::string shown_value(const Request& request, const Config* config, const std::string& value) {
    if (!request.expand || config == nullptr) {
        return value;
    }
    const Result<std::string> expanded = config->expand(value);
    if (!expanded) {
        fmt::print(stderr, "postconf: fatal: {}: {}\n", value, expanded.error().what);
        std::exit(1);
    }
    return *expanded;
}

std::string shown_entry(const Request& request, const Config* config, MasterEntry entry) {
    if (request.expand) {
        // Only settings: what else stands there is the program's own, as ${recipient} is pipe's.
        for (std::size_t i = 1; i < entry.arguments.size(); ++i) {
            if (entry.arguments[i - 1] == "-o") {
                entry.arguments[i] = shown_value(request, config, entry.arguments[i]);
            }
        }
    }
    return to_text(entry, request.fold) + "\n";
}

std::string shown_fields(const Request& request, const MasterEntry& entry, const ServicePattern& pattern) {
    std::string out;
    for (std::size_t i = 0; i < std::size(kFieldNames); ++i) {
        if (pattern.rest == "*" || pattern.rest == kFieldNames[i]) {
            out += assignment_text(request, entry.label() + "/" + std::string(kFieldNames[i]), field_value(entry, i));
        }
    }
    return out;
}

std::string shown_parameters(const Request& request, const Config* config, const MasterEntry& entry,
                             const ServicePattern& pattern) {
    std::string out;
    for (const auto& [name, value] : entry.overrides()) {
        if (pattern.rest == "*" || pattern.rest == name) {
            out += assignment_text(request, entry.label() + "/" + name, shown_value(request, config, value));
        }
    }
    return out;
}

}  // namespace

ServicePattern parse_pattern(std::string_view text) {
    ServicePattern pattern;
    const std::vector<std::string> parts = split_exact(text, '/');
    pattern.name = parts.empty() || parts[0].empty() ? "*" : parts[0];
    pattern.type = parts.size() > 1 ? parts[1] : "*";
    if (parts.size() > 2) {
        pattern.rest = parts[2];
    }
    return pattern;
}

bool ServicePattern::matches(const MasterEntry& entry) const {
    return (name == "*" || name == entry.name) && (type == "*" || type == service_type_name(entry.type));
}

std::string field_value(const MasterEntry& entry, std::size_t field) {
    if (field < entry.columns.size()) {
        return entry.columns[field];
    }
    MasterEntry only_command;   // the columns' widths are the same for all: cut them off
    only_command.columns = entry.columns;
    return to_text(entry).substr(to_text(only_command).size());
}

int show_master_cf(const Request& request) {
    const std::string path = request.directory + "/master.cf";
    const Result<std::string> text = read_config_file(path);
    const Result<MasterCf> file = text ? parse_master_cf(*text, path) : Result<MasterCf>(text.error());
    if (!file) {
        fmt::print(stderr, "postconf: fatal: {}\n", file.error().what);
        return 1;
    }
    const Result<Config> config = Config::load_unchecked(request.directory, request.overrides);
    if (!config && request.expand) {
        fmt::print(stderr, "postconf: fatal: {}\n", config.error().what);
        return 1;
    }
    const Config* const values = config ? &*config : nullptr;
    std::vector<ServicePattern> patterns;
    for (const std::string& word : request.words) {
        patterns.push_back(parse_pattern(word));
    }
    if (patterns.empty()) {
        patterns.emplace_back();
    }
    std::string out;
    for (const ServicePattern& pattern : patterns) {
        bool any = false;
        for (const MasterEntry& entry : file->entries) {
            if (!pattern.matches(entry)) {
                continue;
            }
            any = true;
            switch (request.target) {
            case Request::Target::master_fields: out += shown_fields(request, entry, pattern); break;
            case Request::Target::master_parameters: out += shown_parameters(request, values, entry, pattern); break;
            default: out += shown_entry(request, values, entry); break;
            }
        }
        if (!any && !request.words.empty()) {
            fmt::print(stderr, "postconf: warning: unmatched request: \"{}/{}\"\n", pattern.name, pattern.type);
        }
    }
    return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() && std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace postern::postconf
