#include "lib/config/values.h"

#include <charconv>
#include <climits>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/choices.h"

namespace postern {
namespace {

/// The leading decimal number; `rest` is what follows.
std::optional<long> leading_number(std::string_view text, std::string_view& rest) {
    if (!text.empty() && text.front() == '+') {
        text.remove_prefix(1);
        if (!text.empty() && text.front() == '-') {
            return std::nullopt;
        }
    }
    long value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) {
        return std::nullopt;
    }
    rest = text.substr(static_cast<std::size_t>(end - text.data()));
    return value;
}

long unit_seconds(char unit) {
    switch (unit) {
    case 's': case 'S': return 1;
    case 'm': case 'M': return 60;
    case 'h': case 'H': return 3600;
    case 'd': case 'D': return 86400;
    case 'w': case 'W': return 7 * 86400;
    default: return 0;
    }
}

/// "a number", "a number of at least 1", "a number from 10 to 100"
std::string range_words(std::string_view what, long minimum, long maximum, std::string_view unit) {
    if (minimum != 0 && maximum != 0) {
        return fmt::format("{} from {}{} to {}{}", what, minimum, unit, maximum, unit);
    }
    if (minimum != 0) {
        return fmt::format("{} of at least {}{}", what, minimum, unit);
    }
    return maximum == 0 ? std::string(what) : fmt::format("{} of at most {}{}", what, maximum, unit);
}

}  // namespace

Result<bool> parse_yes_no(std::string_view text) {
    if (equals_ignoring_case(text, "yes")) {
        return true;
    }
    if (equals_ignoring_case(text, "no")) {
        return false;
    }
    return Error(Errc::syntax, "expected yes or no");
}

Result<long> parse_integer(std::string_view text) {
    std::string_view rest;
    const std::optional<long> value = leading_number(text, rest);
    if (!value || !rest.empty()) {
        return Error(Errc::syntax, "expected a number");
    }
    return *value;
}

Result<long> parse_time(std::string_view text, char default_unit) {
    std::string_view rest;
    const std::optional<long> value = leading_number(text, rest);
    const char unit = rest.empty() ? default_unit : rest.front();
    const long factor = rest.size() > 1 ? 0 : unit_seconds(unit);
    if (!value || *value < 0 || factor == 0) {
        return Error(Errc::syntax, "expected a time");
    }
    if (*value > INT_MAX / factor) {
        return Error(Errc::syntax, "the time is too long");
    }
    return *value * factor;
}

std::string accepted_values(const ParameterInfo& info) {
    switch (info.kind) {
    case ParameterKind::boolean: return "yes or no";
    case ParameterKind::number: return range_words("a number", info.minimum, info.maximum, "");
    case ParameterKind::duration:
        return fmt::format("{}, with s, m, h, d or w ({} without one)", range_words("a time", info.minimum, info.maximum, "s"),
                           info.unit);
    case ParameterKind::text:
    case ParameterKind::raw: break;
    case ParameterKind::read_only: return "nothing: the value is computed";
    }
    if (const std::string choices = choices_of(info.name); !choices.empty()) {
        return choices;
    }
    return info.minimum > 0 ? "a text that is not empty" : "a text";
}

Result<long> parse_value(const ParameterInfo& info, std::string_view value) {
    Result<long> number = 0L;
    switch (info.kind) {
    case ParameterKind::boolean: {
        const Result<bool> truth = parse_yes_no(value);
        number = truth ? Result<long>(*truth ? 1L : 0L) : truth.error();
        break;
    }
    case ParameterKind::number: number = parse_integer(value); break;
    case ParameterKind::duration: number = parse_time(value, info.unit); break;
    case ParameterKind::read_only: return 0L;
    case ParameterKind::text:
    case ParameterKind::raw:
        if (!is_choice(info.name, value) || static_cast<long>(value.size()) < info.minimum) {
            return Error(Errc::syntax, "accepted: " + accepted_values(info));
        }
        return 0L;
    }
    const bool in_range = number && (info.minimum == 0 || *number >= info.minimum) &&
                          (info.maximum == 0 || *number <= info.maximum);
    if (!in_range && info.kind != ParameterKind::boolean) {
        return Error(Errc::syntax, "accepted: " + accepted_values(info));
    }
    if (!number) {
        return Error(Errc::syntax, "accepted: " + accepted_values(info));
    }
    return number;
}

}  // namespace postern
