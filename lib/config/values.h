/// The text of one value read as its type, with Postfix's syntax and limits.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/config/parameter.h"

namespace postern {

/// yes or no, in any case.
Result<bool> parse_yes_no(std::string_view text);
/// A decimal number with an optional sign.
Result<long> parse_integer(std::string_view text);
/// A number with an optional suffix s, m, h, d or w; `default_unit` is one of these.  Seconds.
Result<long> parse_time(std::string_view text, char default_unit);

/// The expanded `value` of a parameter as number() returns it: 0 or 1, a number, seconds; 0 for a text.
/// Errors: syntax, with what would be accepted.
Result<long> parse_value(const ParameterInfo& info, std::string_view value);

/// What a parameter accepts, in words: "yes or no", "a number of at least 1", "one of a, b, c".
std::string accepted_values(const ParameterInfo& info);

}  // namespace postern
