/// Texts that are one word, or a list of words, of a closed set.
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// True when `name` takes any text, or `value` is among what it takes.
bool is_choice(std::string_view name, std::string_view value);

/// "one of a, b, c" or "a list of a, b, c"; empty when `name` takes any text.
std::string choices_of(std::string_view name);

}  // namespace postern
