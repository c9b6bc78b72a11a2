#include "lib/config/config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/computed.h"
#include "lib/config/expand.h"
#include "lib/config/main_cf.h"
#include "lib/config/values.h"
#include "lib/config/version.h"

namespace postern {
namespace {

/// A value that was asked for.  Made once, kept until the Config goes.
struct Memo {
    std::string text;
    long number = 0;
};

}  // namespace

struct Config::State final : NameSource {
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() override {
        for (std::atomic<const Memo*>& slot : memos) {
            const std::unique_ptr<const Memo> owner(slot.load());
        }
    }

    std::optional<Value> find(std::string_view name) const override;
    const Setting* setting(std::string_view name) const;
    std::optional<std::string> computed(std::string_view name) const;
    Result<Memo> evaluate(const ParameterInfo& info) const;
    Memo evaluate_or_default(const ParameterInfo& info) const;
    const Memo& memo(Parameter parameter) const;
    void settle();
    std::optional<Error> problem_with(const ParameterInfo& info, std::string_view name, std::string_view raw,
                                      std::string_view where) const;

    std::string directory;
    std::string process_name, service_name;
    std::vector<Setting> settings;       ///< by name once settle() ran, one for each name
    std::vector<std::string> notices;
    /// Filled by whichever thread needs a value first; the others throw their copy away.
    mutable std::array<std::atomic<const Memo*>, kParameterCount> memos{};
};

/// Sorts by name; the last definition of a name stays.
void Config::State::settle() {
    std::stable_sort(settings.begin(), settings.end(), [](const Setting& a, const Setting& b) { return a.name < b.name; });
    std::vector<Setting> kept;
    kept.reserve(settings.size());
    for (Setting& one : settings) {
        if (!kept.empty() && kept.back().name == one.name) {
            kept.back() = std::move(one);
        } else {
            kept.push_back(std::move(one));
        }
    }
    settings = std::move(kept);
}

const Setting* Config::State::setting(std::string_view name) const {
    const auto at = std::lower_bound(settings.begin(), settings.end(), name,
                                     [](const Setting& one, std::string_view wanted) { return one.name < wanted; });
    return at != settings.end() && at->name == name ? &*at : nullptr;
}

/// Values that no file sets.
std::optional<std::string> Config::State::computed(std::string_view name) const {
    if (name == "config_directory") {
        return directory;
    }
    if (name == "mail_version") {
        return kVersion;
    }
    if (name == "process_name") {
        return process_name;
    }
    if (name == "service_name") {
        return service_name;
    }
    if (name == "process_id") {
        return std::to_string(::getpid());
    }
    const auto value = [this](std::string_view other) { return postern::expand(fmt::format("${{{}}}", other), *this); };
    if (name == "myhostname" && setting(name) == nullptr) {
        const Result<std::string> domain = setting("mydomain") != nullptr ? value("mydomain") : std::string();
        return default_myhostname(domain ? *domain : std::string());
    }
    if (name == "mydomain" && setting(name) == nullptr) {
        const Result<std::string> host = value("myhostname");
        return default_mydomain(host ? *host : std::string());
    }
    if (name == "mynetworks" && setting(name) == nullptr) {
        const Result<std::string> style = value("mynetworks_style");
        const Result<std::string> interfaces = value("inet_interfaces");
        const Result<std::string> protocols = value("inet_protocols");
        return style && interfaces && protocols ? default_mynetworks(*style, *interfaces, *protocols) : std::string();
    }
    return std::nullopt;
}

std::optional<NameSource::Value> Config::State::find(std::string_view name) const {
    if (std::optional<std::string> fixed = computed(name)) {
        return Value{*std::move(fixed), true};
    }
    if (const Setting* one = setting(name)) {
        return Value{one->value, false};
    }
    if (const std::optional<Parameter> row = find_parameter(name)) {
        return Value{std::string(parameter_info(*row).default_value), false};
    }
    if (const std::optional<Parameter> fallback = transport_parameter(name)) {
        return find(parameter_info(*fallback).name);
    }
    return std::nullopt;
}

Result<Memo> Config::State::evaluate(const ParameterInfo& info) const {
    const std::optional<Value> raw = find(info.name);
    Memo memo;
    if (raw->literal || info.kind == ParameterKind::raw) {
        memo.text = raw->text;
    } else {
        Result<std::string> text = postern::expand(raw->text, *this);
        if (!text) {
            return text.error();
        }
        memo.text = *std::move(text);
    }
    const Result<long> number = parse_value(info, memo.text);
    if (!number) {
        return number.error();
    }
    memo.number = *number;
    return memo;
}

/// For a value that load() would have refused: what the table says instead.
Memo Config::State::evaluate_or_default(const ParameterInfo& info) const {
    Result<Memo> value = evaluate(info);
    if (value) {
        return *std::move(value);
    }
    Memo memo;
    const Result<std::string> text = postern::expand(info.default_value, *this);
    memo.text = text ? *text : std::string();
    const Result<long> number = parse_value(info, memo.text);
    memo.number = number ? *number : info.minimum;
    return memo;
}

const Memo& Config::State::memo(Parameter parameter) const {
    std::atomic<const Memo*>& slot = memos[static_cast<std::size_t>(parameter)];
    if (const Memo* known = slot.load(std::memory_order_acquire)) {
        return *known;
    }
    std::unique_ptr<const Memo> fresh = std::make_unique<Memo>(evaluate_or_default(parameter_info(parameter)));
    const Memo* expected = nullptr;
    if (slot.compare_exchange_strong(expected, fresh.get(), std::memory_order_acq_rel)) {
        return *fresh.release();
    }
    return *expected;
}

std::optional<Error> Config::State::problem_with(const ParameterInfo& info, std::string_view name, std::string_view raw,
                                                 std::string_view where) const {
    const std::string at = fmt::format("{}{}{} = {}", where, where.empty() ? "" : ": ", name, printable(raw, 200));
    if (info.kind == ParameterKind::raw) {
        return std::nullopt;
    }
    const Result<std::string> text = postern::expand(raw, *this);
    if (!text) {
        return Error(Errc::config, fmt::format("{}: {}", at, text.error().what));
    }
    if (const Result<long> value = parse_value(info, *text); !value) {
        const std::string expanded = *text == raw ? "" : fmt::format(" (which is \"{}\")", printable(*text, 200));
        return Error(Errc::config, fmt::format("{}{}: {}", at, expanded, value.error().what));
    }
    return std::nullopt;
}

Config::Config(std::unique_ptr<State> state) : state_(std::move(state)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;
Config::~Config() = default;

std::string Config::default_directory() {
    const char* const from_environment = std::getenv("MAIL_CONFIG");
    return from_environment != nullptr && *from_environment != '\0' ? from_environment : "/etc/postern";
}

Result<Config> Config::make(std::string_view text, const std::string& file, const std::string& directory,
                            const Overrides& overrides, bool check) {
    Result<MainCf> parsed = parse_main_cf(text, file);
    if (!parsed) {
        return parsed.error();
    }
    auto state = std::make_unique<State>();
    state->directory = directory;
    state->settings = std::move(parsed->settings);
    state->notices = std::move(parsed->notices);
    for (const auto& [name, value] : overrides) {
        state->settings.push_back({name, value, "-o"});
    }
    state->settle();
    Config config(std::move(state));
    if (check) {
        const std::vector<Error> problems = config.bad_values();
        if (!problems.empty()) {
            return problems.front();
        }
    }
    return config;
}

Result<Config> Config::load(const std::string& directory, const Overrides& overrides) {
    const std::string path = directory + "/main.cf";
    const Result<std::string> text = read_config_file(path);
    return text ? make(*text, path, directory, overrides, true) : text.error();
}

Result<Config> Config::load_unchecked(const std::string& directory, const Overrides& overrides) {
    const std::string path = directory + "/main.cf";
    const Result<std::string> text = read_config_file(path);
    return text ? make(*text, path, directory, overrides, false) : text.error();
}

Result<Config> Config::from_text(std::string_view text, const Overrides& overrides) {
    return make(text, "main.cf", "/etc/postern", overrides, true);
}

Config Config::defaults() {
    auto state = std::make_unique<State>();
    state->directory = "/etc/postern";
    return Config(std::move(state));
}

/// maillog_file_prefixes keep a slip of the pen from writing log lines over something else.
std::optional<Error> Config::log_file_problem() const {
    const Result<std::string> file = expand("$maillog_file"), prefixes = expand("$maillog_file_prefixes");
    if (!file || !prefixes || file->empty()) {
        return std::nullopt;
    }
    for (const std::string& prefix : split_list(*prefixes)) {
        const bool whole = file->size() == prefix.size() || prefix.ends_with('/') || (*file)[prefix.size()] == '/';
        if (file->starts_with(prefix) && whole) {
            return std::nullopt;
        }
    }
    return Error(Errc::config, fmt::format("{}: maillog_file = {}: not below a directory of maillog_file_prefixes ({}); accepted: a "
                                           "file there, or its directory added to maillog_file_prefixes",
                                           value_line("maillog_file"), printable(*file, 200), printable(*prefixes, 200)));
}

std::vector<Error> Config::bad_values() const {
    std::vector<Error> problems;
    for (const Setting& one : state_->settings) {
        std::optional<Parameter> row = find_parameter(one.name);
        if (!row) {
            row = transport_parameter(one.name);
        }
        std::optional<Error> problem;
        if (row) {
            problem = state_->problem_with(parameter_info(*row), one.name, one.value, one.where);
        } else if (const Result<std::string> text = expand(one.value); !text) {
            problem = Error(Errc::config, fmt::format("{}: {} = {}: {}", one.where, one.name, printable(one.value, 200),
                                                      text.error().what));
        }
        if (problem) {
            problems.push_back(*std::move(problem));
        }
    }
    if (std::optional<Error> problem = log_file_problem()) {
        problems.push_back(*std::move(problem));
    }
    // Defaults that refer to what was set, such as $message_size_limit in imap_literal_size_limit.
    for (std::size_t i = 0; i < kParameterCount && problems.empty(); ++i) {
        const ParameterInfo& info = parameter_info(static_cast<Parameter>(i));
        const bool typed = info.kind != ParameterKind::text && info.kind != ParameterKind::raw &&
                           info.status == ParameterStatus::in_force;
        if (typed && info.default_value.find('$') != std::string_view::npos && !is_set(info.name)) {
            if (std::optional<Error> problem = state_->problem_with(info, info.name, info.default_value, "default")) {
                problems.push_back(*std::move(problem));
            }
        }
    }
    return problems;
}

void Config::set_process(std::string process_name, std::string service_name) {
    state_->process_name = std::move(process_name);
    state_->service_name = std::move(service_name);
}

long Config::number(Parameter parameter) const { return state_->memo(parameter).number; }
const std::string& Config::text(Parameter parameter) const { return state_->memo(parameter).text; }

std::optional<std::string> Config::lookup(std::string_view name) const {
    if (const std::optional<Parameter> row = find_parameter(name)) {
        return text(*row);
    }
    const std::optional<NameSource::Value> raw = state_->find(name);
    if (!raw) {
        return std::nullopt;
    }
    const Result<std::string> value = expand(raw->text);
    return value ? std::optional(*value) : std::nullopt;
}

std::optional<long> Config::lookup_number(std::string_view name) const {
    const std::optional<std::string> value = lookup(name);
    const Result<long> number = parse_integer(value.value_or(""));
    return number ? std::optional(*number) : std::nullopt;
}

std::optional<Seconds> Config::lookup_time(std::string_view name) const {
    std::optional<Parameter> row = find_parameter(name);
    if (!row) {
        row = transport_parameter(name);
    }
    const bool has_unit = row && parameter_info(*row).kind == ParameterKind::duration;
    const std::optional<std::string> value = lookup(name);
    const Result<long> seconds = parse_time(value.value_or(""), has_unit ? parameter_info(*row).unit : 's');
    return seconds ? std::optional(Seconds(*seconds)) : std::nullopt;
}

bool Config::is_set(std::string_view name) const { return state_->setting(name) != nullptr; }

std::string Config::value_line(std::string_view name) const {
    const Setting* one = state_->setting(name);
    return one == nullptr ? std::string() : one->where;
}

std::optional<std::string> Config::raw_value(std::string_view name) const {
    const std::optional<NameSource::Value> raw = state_->find(name);
    return raw ? std::optional(raw->text) : std::nullopt;
}

std::vector<std::string> Config::set_names() const {
    std::vector<std::string> names;
    for (const Setting& one : state_->settings) {
        names.push_back(one.name);
    }
    return names;
}

Result<std::string> Config::expand(std::string_view text) const { return postern::expand(text, *state_); }

const std::vector<std::string>& Config::notices() const { return state_->notices; }

}  // namespace postern
