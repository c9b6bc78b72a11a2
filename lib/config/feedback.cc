#include "lib/config/feedback.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "lib/base/strings.h"

namespace postern {
namespace {

/// "1", "0.25"; nothing for what is more, less than nothing, or out of all proportion.
std::optional<double> parse_fraction(std::string_view text) {
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    return whole && number >= 0 && number <= 1e6 ? std::optional(number) : std::nullopt;
}

}  // namespace

Result<Feedback> Feedback::parse(std::string_view text) {
    const std::size_t slash = text.find('/');
    const std::optional<double> numerator = parse_fraction(trim(text.substr(0, slash)));
    Feedback feedback;
    bool good = numerator.has_value();
    feedback.base = numerator.value_or(0);
    if (good && slash != text.npos) {
        const std::string_view divisor = trim(text.substr(slash + 1));
        const std::optional<double> number = parse_fraction(divisor);
        if (number && *number > 0) {
            feedback.base /= *number;
        } else if (equals_ignoring_case(divisor, "concurrency")) {
            feedback.per = Per::concurrency;
        } else if (equals_ignoring_case(divisor, "sqrt_concurrency")) {
            feedback.per = Per::square_root;
        } else {
            good = false;
        }
    }
    if (!good || feedback.base > 1) {
        return Error(Errc::config, "bad concurrency feedback \"" + std::string(text) +
                                       "\": " + std::string(kAcceptedFeedback));
    }
    return feedback;
}

double Feedback::amount(double window) const {
    switch (per) {
    case Per::concurrency:
        return base / window;
    case Per::square_root:
        return base / std::sqrt(window);
    case Per::constant:
        break;
    }
    return base;
}

}  // namespace postern
