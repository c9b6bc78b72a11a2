/// Substitution of $names in configuration text, with Postfix's rules.
///
///     $name ${name} $(name)          the value, itself expanded; nothing when the name is not known
///     ${name?text} ${name?{text}}    text when the value is not empty
///     ${name:text} ${name:{text}}    text when the value is empty
///     ${name?{text}:{text}}          one or the other
///     ${{text} == {text} ? {text} : {text}}
///                                    == != < <= > >= compare numbers when both sides are numbers, else bytes;
///                                    ==level <level and so on compare versions such as 3.6
///     $$                             a dollar sign
///
/// White space around names, operators and braces is ignored.  Without a choice a true comparison is "true".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

/// Where names get their values.
class NameSource {
public:
    struct Value {
        std::string text;
        bool literal = false;   ///< used as it is; otherwise it is expanded in turn
    };
    virtual ~NameSource() = default;
    /// The value of `name`, or nothing when there is no such name (which expands to nothing).
    virtual std::optional<Value> find(std::string_view name) const = 0;
};

/// `text` with all names substituted.  Errors: syntax, with the place; too_big when a value refers to itself, or
/// more than 100 values are nested, or the result passes 1 MiB, or more than 100,000 names were looked up.
Result<std::string> expand(std::string_view text, const NameSource& names);

}  // namespace postern
