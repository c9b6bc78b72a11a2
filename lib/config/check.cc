#include "lib/config/check.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/main_cf.h"

namespace postern {
namespace {

bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// Damerau's distance (neighbours may be swapped), bounded by `limit`.
std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit) {
    if (a.size() > b.size() + limit || b.size() > a.size() + limit) {
        return limit + 1;
    }
    std::vector<std::size_t> two_back(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        last[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        now[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            now[j] = std::min({replace, last[j] + 1, now[j - 1] + 1});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                now[j] = std::min(now[j], two_back[j - 2] + 1);
            }
        }
        two_back.swap(last);
        last.swap(now);
    }
    return last[b.size()];
}

/// Names that older releases of Postfix had; defaults in the table still refer to them.
constexpr std::string_view kOldNames[] = {
    "authorized_verp_clients", "fallback_relay", "lmtp_per_record_deadline", "postscreen_blacklist_action",
    "postscreen_dnsbl_ttl", "postscreen_dnsbl_whitelist_threshold", "postscreen_whitelist_interfaces",
    "smtp_per_record_deadline", "smtpd_client_connection_limit_exceptions", "smtpd_per_record_deadline",
    "tlsproxy_client_level", "tlsproxy_client_policy", "virtual_maps"};

/// Settings that are missing here mean what they say elsewhere, under another name.
struct Hint {
    std::string_view name, use;
};
constexpr Hint kHints[] = {{"ssl_cert", "ssl_cert_file"},         {"ssl_key", "ssl_key_file"},
                           {"passdb", "auth_passdbs"},            {"userdb", "auth_userdbs"},
                           {"listen", "inet_interfaces"},         {"log_path", "maillog_file"},
                           {"auth_default_domain", "auth_default_realm"}, {"mail_path", "mail_location"},
                           {"auth_allow_cleartext", "disable_plaintext_auth"}};

/// Collects findings about one configuration.
class Checker {
public:
    Checker(const Config& config, const MasterCf& master) : config_(config), master_(master) {
        collect_references();
    }
    std::vector<Finding> run();
    /// A name without a row that is nevertheless meant: old, referred to, a setting of a transport or of a lookup table.
    bool is_own_name(const std::string& name) const;

private:
    void add(Severity severity, std::string text) { findings_.push_back({severity, std::move(text)}); }
    void collect_references();
    bool is_of_transport(const std::string& name) const;
    void check_name(const std::string& name, const std::string& where);
    void check_references(const std::string& where, const std::string& name, const std::string& value);
    void check_entry(const MasterEntry& entry);
    void check_services();

    const Config& config_;
    const MasterCf& master_;
    std::set<std::string> references_;
    std::set<std::string> own_names_;   ///< set in main.cf or by a -o
    std::vector<Finding> findings_;
};

void Checker::collect_references() {
    const auto refer = [this](std::string_view text) {
        for (std::string& name : referenced_names(text)) {
            references_.insert(std::move(name));
        }
    };
    for (const std::string& name : config_.set_names()) {
        refer(config_.raw_value(name).value_or(""));
        own_names_.insert(name);
    }
    for (const MasterEntry& entry : master_.entries) {
        for (const std::string& argument : entry.arguments) {
            refer(argument);
        }
        for (const auto& [name, value] : entry.overrides()) {
            own_names_.insert(name);
        }
    }
    for (const std::string& name : split(config_.smtpd_restriction_classes(), ", \t\r\n")) {
        references_.insert(name);   // each class is a parameter of its own
    }
}

/// "x_recipient_limit", where there is a service "x"; without a master.cf, wherever it could be.
bool Checker::is_of_transport(const std::string& name) const {
    if (!transport_parameter(name)) {
        return false;
    }
    return master_.entries.empty() || std::any_of(master_.entries.begin(), master_.entries.end(), [&name](const MasterEntry& entry) {
               return name.size() > entry.name.size() && name.compare(0, entry.name.size() + 1, entry.name + "_") == 0;
           });
}

bool Checker::is_own_name(const std::string& name) const {
    const bool old = std::find(std::begin(kOldNames), std::end(kOldNames), name) != std::end(kOldNames);
    if (old || references_.count(name) > 0 || is_of_transport(name)) {
        return true;
    }
    // Settings of a lookup table that main.cf names, as in mysql:aliases -> aliases_hosts = ...
    for (std::size_t at = name.find('_'); at != std::string::npos; at = name.find('_', at + 1)) {
        const std::string table = ":" + name.substr(0, at);
        for (const std::string& set : config_.set_names()) {
            const std::string value = config_.raw_value(set).value_or("");
            const std::size_t found = value.find(table);
            const std::size_t end = found + table.size();
            if (found != std::string::npos && (end == value.size() || !is_name_byte(value[end]))) {
                return true;
            }
        }
    }
    return false;
}

void Checker::check_name(const std::string& name, const std::string& where) {
    const std::optional<Parameter> row = find_parameter(name);
    if (!row) {
        if (is_own_name(name)) {
            return;
        }
        std::string text = fmt::format("{}: unknown parameter \"{}\"", where, printable(name, 100));
        if (transport_parameter(name)) {
            add(Severity::warning, text + ": master.cf has no service with the name that it begins with");
            return;
        }
        std::string nearest = nearest_parameter(name);
        for (const Hint& hint : kHints) {
            nearest = hint.name == name ? std::string(hint.use) : nearest;
        }
        if (!nearest.empty()) {
            text += fmt::format("; did you mean \"{}\"?", nearest);
        }
        add(Severity::warning, std::move(text));
        return;
    }
    const ParameterInfo& info = parameter_info(*row);
    if (info.kind == ParameterKind::read_only) {
        add(Severity::warning, fmt::format("{}: \"{}\" is read-only: what is set here has no effect", where, name));
    } else if (info.status == ParameterStatus::known) {
        add(Severity::notice, fmt::format("{}: \"{}\" is known but not in force yet: it has no effect", where, name));
    } else if (info.status == ParameterStatus::retired) {
        add(Severity::notice, fmt::format("{}: \"{}\" has no effect here: {}", where, name, info.description));
    }
}

void Checker::check_references(const std::string& where, const std::string& name, const std::string& value) {
    const std::optional<Parameter> row = find_parameter(name);
    if (row && parameter_info(*row).kind == ParameterKind::raw) {
        return;   // its names get their values elsewhere ($home, $user)
    }
    for (const std::string& used : referenced_names(value)) {
        const bool known = find_parameter(used) || own_names_.count(used) > 0 || transport_parameter(used) ||
                           std::find(std::begin(kOldNames), std::end(kOldNames), used) != std::end(kOldNames);
        if (!known) {
            add(Severity::warning, fmt::format("{}: {} refers to \"{}\", which has no value", where, name, used));
        }
    }
}

void Checker::check_entry(const MasterEntry& entry) {
    for (const auto& [name, value] : entry.overrides()) {
        check_name(name, entry.where + ": -o");
        check_references(entry.where + ": -o", name, value);
    }
    const Result<Config> config = Config::load_unchecked(config_.config_directory(), entry.overrides());
    if (!config) {
        return;   // main.cf itself, reported already
    }
    for (const Error& problem : config->bad_values()) {
        if (problem.what.compare(0, 3, "-o:") == 0) {
            add(Severity::error, entry.where + ": " + problem.what);
        }
    }
}

/// Master.cf files that come from Postfix, or from before a service existed, lack services that settings want.
void Checker::check_services() {
    const auto runs = [this](std::string_view program) {
        return std::any_of(master_.entries.begin(), master_.entries.end(), [program](const MasterEntry& entry) {
            return std::string_view(entry.command).substr(entry.command.rfind('/') + 1) == program;
        });
    };
    const std::string& level = config_.smtp_tls_security_level();
    bool verifies = false;
    for (const std::string* rules : {&config_.smtpd_sender_restrictions(), &config_.smtpd_recipient_restrictions(), &config_.smtpd_relay_restrictions(),
                                     &config_.smtpd_data_restrictions(), &config_.smtpd_client_restrictions(), &config_.smtpd_helo_restrictions()}) {
        verifies = verifies || rules->find("reject_unverified_") != std::string::npos;
    }
    struct Wanted {
        bool wanted;
        std::string_view client, service, without;
    };
    const Wanted services[] = {
        {(level == "may" || level == "dane") && config_.smtp_tls_mta_sts_enable(), "smtp", "mta-sts",
         "destinations are treated as without MTA-STS policy (smtp_tls_mta_sts_enable)"},
        {verifies, "smtpd", "verify", "reject_unverified_sender and reject_unverified_recipient refuse for now"},
        {config_.smtp_tlsrpt_enable(), "smtp", "tlsrpt", "TLS sessions are not counted (smtp_tlsrpt_enable)"},
    };
    for (const Wanted& each : services) {
        if (each.wanted && runs(each.client) && !runs(each.service)) {
            add(Severity::warning, fmt::format("master.cf: no service \"{}\": {}", each.service, each.without));
        }
    }
}

std::vector<Finding> Checker::run() {
    for (const std::string& notice : config_.notices()) {
        add(Severity::warning, notice);
    }
    for (const Error& problem : config_.bad_values()) {
        add(Severity::error, problem.what);
    }
    for (const std::string& name : config_.set_names()) {
        check_name(name, config_.value_line(name));
        check_references(config_.value_line(name), name, config_.raw_value(name).value_or(""));
    }
    for (const std::string& notice : master_.notices) {
        add(Severity::warning, notice);
    }
    for (const MasterEntry& entry : master_.entries) {
        check_entry(entry);
    }
    check_services();
    return std::move(findings_);
}

}  // namespace

std::string nearest_parameter(std::string_view name) {
    const std::size_t limit = std::max<std::size_t>(1, std::min<std::size_t>(4, name.size() / 4));
    std::size_t best = limit + 1;
    std::string_view nearest;
    for (std::size_t i = 0; i < kParameterCount; ++i) {
        const std::string_view candidate = parameter_info(static_cast<Parameter>(i)).name;
        const std::size_t distance = edit_distance(name, candidate, limit);
        if (distance < best) {
            best = distance;
            nearest = candidate;
        }
    }
    return std::string(nearest);
}

std::vector<std::string> referenced_names(std::string_view text) {
    std::vector<std::string> names;
    for (std::size_t at = text.find('$'); at != std::string_view::npos; at = text.find('$', at)) {
        ++at;
        const char next = at < text.size() ? text[at] : '\0';
        const bool bracket = next == '{' || next == '(';
        at += bracket || next == '$' ? 1 : 0;
        while (bracket && at < text.size() && text[at] == ' ') {
            ++at;
        }
        std::size_t end = at;
        while (next != '$' && end < text.size() && is_name_byte(text[end])) {
            ++end;
        }
        const bool function = bracket && end < text.size() && text[end] == '{';   // also ${{ comparison
        if (end > at && !function) {
            names.emplace_back(text.substr(at, end - at));
        }
    }
    return names;
}

std::vector<std::string> unused_names(const Config& config, const MasterCf& master) {
    const Checker checker(config, master);
    std::vector<std::string> names = config.set_names();
    std::erase_if(names, [&checker](const std::string& name) { return find_parameter(name) || checker.is_own_name(name); });
    return names;
}

std::vector<Finding> check_configuration(const std::string& directory) {
    std::vector<Finding> findings;
    const Result<Config> config = Config::load_unchecked(directory);
    if (!config) {
        findings.push_back({Severity::error, config.error().what});
    }
    const std::string path = directory + "/master.cf";
    const Result<std::string> text = read_config_file(path);
    Result<MasterCf> master = text ? parse_master_cf(*text, path) : Result<MasterCf>(text.error());
    if (!master) {
        findings.push_back({Severity::error, master.error().what});
    }
    if (config) {
        std::vector<Finding> more = Checker(*config, master ? *master : MasterCf{}).run();
        findings.insert(findings.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    }
    return findings;
}

}  // namespace postern
