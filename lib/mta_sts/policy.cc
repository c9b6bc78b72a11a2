#include "lib/mta_sts/policy.h"

#include <algorithm>
#include <cctype>

#include "lib/base/strings.h"
#include "lib/mail/address.h"

namespace postern {
namespace {

constexpr std::size_t kMaxRecord = 4096, kMaxId = 32, kMaxName = 32;

bool alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view without_blanks(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) {
        text.remove_prefix(1);
    }
    while (!text.empty() && is_blank(text.back())) {
        text.remove_suffix(1);
    }
    return text;
}

/// sts-ext-name and sts-policy-ext-name; all known names follow it too.
bool valid_name(std::string_view name) {
    return !name.empty() && name.size() <= kMaxName && alphanumeric(name.front()) &&
           std::all_of(name.begin(), name.end(), [](char c) { return alphanumeric(c) || c == '_' || c == '-' || c == '.'; });
}

bool valid_id(std::string_view id) {
    return !id.empty() && id.size() <= kMaxId && std::all_of(id.begin(), id.end(), alphanumeric);
}

/// sts-ext-value: no "=", ";", blank or control character.
bool valid_record_value(std::string_view value) {
    return !value.empty() && std::all_of(value.begin(), value.end(), [](char c) { return c > ' ' && c < 127 && c != '=' && c != ';'; });
}

/// sts-policy-ext-value: no control characters; UTF-8 is not looked into, since nobody acts on it.
bool valid_policy_value(std::string_view value) {
    return !value.empty() &&
           std::none_of(value.begin(), value.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; });
}

bool valid_pattern(std::string_view pattern) {
    return valid_hostname(pattern.substr(0, 2) == "*." ? pattern.substr(2) : pattern);
}

Error bad(std::string_view what, std::string_view value) {
    return Error(Errc::syntax, "bad " + std::string(what) + " \"" + printable(value, 100) + "\"");
}

/// The fields of a policy as they come.
class PolicyReader {
public:
    Result<void> take(std::string_view name, std::string_view value) {
        if (name == "version") {
            return version(value);
        }
        if (name == "mode") {
            return mode(value);
        }
        if (name == "max_age") {
            return max_age(value);
        }
        if (name == "mx") {
            return mx(value);
        }
        return {};
    }

    Result<StsPolicy> finish() {
        if (!has_version_ || !has_mode_ || !has_age_) {
            return Error(Errc::syntax, !has_version_ ? "no version" : !has_mode_ ? "no mode" : "no max_age");
        }
        if (policy_.mx.empty() && policy_.mode != StsMode::none) {
            return Error(Errc::syntax, "no mx");
        }
        return std::move(policy_);
    }

private:
    void keep(std::string_view name, std::string_view value) {
        policy_.lines.push_back(std::string(name) + ": " + std::string(value));
    }

    Result<void> version(std::string_view value) {
        if (has_version_) {
            return {};
        }
        if (value != "STSv1") {
            return bad("version", value);
        }
        has_version_ = true;
        keep("version", value);
        return {};
    }

    Result<void> mode(std::string_view value) {
        if (has_mode_) {
            return {};
        }
        for (const StsMode each : {StsMode::none, StsMode::testing, StsMode::enforce}) {
            if (equals_ignoring_case(value, sts_mode_name(each))) {
                policy_.mode = each;
                has_mode_ = true;
            }
        }
        if (!has_mode_) {
            return bad("mode", value);
        }
        keep("mode", value);
        return {};
    }

    Result<void> max_age(std::string_view value) {
        if (has_age_) {
            return {};
        }
        const auto number = value.size() <= 10 ? parse_number(value) : std::nullopt;
        if (!number) {
            return bad("max_age", value);
        }
        policy_.max_age = std::min(*number, kMaxStsAge);   // meant to be long: without TLS because of that, nobody is served
        has_age_ = true;
        keep("max_age", value);
        return {};
    }

    Result<void> mx(std::string_view value) {
        if (!valid_pattern(value) || policy_.mx.size() >= kMaxStsPatterns) {
            return bad("mx", value);
        }
        policy_.mx.push_back(to_lower(value));
        keep("mx", value);
        return {};
    }

    StsPolicy policy_;
    bool has_version_ = false, has_mode_ = false, has_age_ = false;
};

}  // namespace

std::string_view sts_mode_name(StsMode mode) {
    return mode == StsMode::enforce ? "enforce" : mode == StsMode::testing ? "testing" : "none";
}

std::optional<std::string> parse_sts_record(std::string_view text) {
    constexpr std::string_view kVersion = "v=STSv1";
    if (text.size() > kMaxRecord || text.substr(0, kVersion.size()) != kVersion) {
        return std::nullopt;
    }
    std::string_view rest = text.substr(kVersion.size());
    std::string id;
    while (!rest.empty()) {
        while (!rest.empty() && is_blank(rest.front())) {
            rest.remove_prefix(1);
        }
        if (rest.empty() || rest.front() != ';') {
            return std::nullopt;
        }
        const std::size_t end = std::min(rest.find(';', 1), rest.size());
        const std::string_view field = without_blanks(rest.substr(1, end - 1));
        rest.remove_prefix(end);
        if (field.empty() && rest.empty()) {
            break;   // a delimiter at the end
        }
        const std::size_t equals = field.find('=');
        if (equals == std::string_view::npos || !valid_name(field.substr(0, equals))) {
            return std::nullopt;
        }
        const std::string_view value = field.substr(equals + 1);
        const bool is_id = field.substr(0, equals) == "id";
        if (is_id ? !valid_id(value) : !valid_record_value(value)) {
            return std::nullopt;
        }
        if (is_id && id.empty()) {
            id = value;
        }
    }
    return id.empty() ? std::nullopt : std::optional(id);
}

std::optional<std::string> find_sts_id(const std::vector<std::string>& records) {
    const std::string* found = nullptr;
    for (const std::string& record : records) {
        // Section 3.1: what does not begin like this is another protocol's.
        const std::string_view text = record;
        const std::size_t delimiter = text.find_first_not_of(" \t", 7);
        if (text.substr(0, 7) != "v=STSv1" || delimiter == std::string_view::npos || text[delimiter] != ';') {
            continue;
        }
        if (found != nullptr) {
            return std::nullopt;
        }
        found = &record;
    }
    return found != nullptr ? parse_sts_record(*found) : std::nullopt;
}

Result<StsPolicy> parse_sts_policy(std::string_view text) {
    if (text.size() > kMaxStsPolicy) {
        return Error(Errc::too_big, "the policy is too long");
    }
    PolicyReader reader;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (!line.empty() && line.back() == '\r') {
            line.remove_suffix(1);
        }
        while (!line.empty() && is_blank(line.back())) {
            line.remove_suffix(1);
        }
        if (line.empty()) {
            continue;
        }
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos || !valid_name(line.substr(0, colon))) {
            return bad("line", line);
        }
        const std::string_view value = without_blanks(line.substr(colon + 1));
        if (!valid_policy_value(value)) {
            return bad("value", line);
        }
        if (Result<void> taken = reader.take(line.substr(0, colon), value); !taken) {
            return taken.error();
        }
    }
    return reader.finish();
}

bool sts_pattern_matches(std::string_view pattern, std::string_view host) {
    if (!host.empty() && host.back() == '.') {
        host.remove_suffix(1);
    }
    if (pattern.substr(0, 2) != "*.") {
        return !pattern.empty() && equals_ignoring_case(pattern, host);
    }
    const std::size_t dot = host.find('.');
    return dot != std::string_view::npos && dot > 0 && equals_ignoring_case(host.substr(dot), pattern.substr(1));
}

bool StsPolicy::allows(std::string_view host) const {
    return std::any_of(mx.begin(), mx.end(), [host](const std::string& pattern) { return sts_pattern_matches(pattern, host); });
}

}  // namespace postern
