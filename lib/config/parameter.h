/// The table of all parameters, made from parameters.tsv at build time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace postern {

/// What a value is, and with it what its getter returns.
enum class ParameterKind : std::uint8_t {
    boolean,     ///< bool: yes or no
    number,      ///< long
    duration,    ///< Seconds
    text,        ///< const std::string&, after $-expansion
    raw,         ///< const std::string&, as written: somebody else expands it, per message
    read_only,   ///< const std::string&, computed; main.cf cannot set it
};

enum class ParameterStatus : std::uint8_t {
    in_force,    ///< the code obeys it
    known,       ///< accepted, no effect yet
    retired,     ///< accepted, no effect, and none will come
};

/// One row of the table.
struct ParameterInfo {
    std::string_view name;
    ParameterKind kind;
    ParameterStatus status;
    char unit;                        ///< of a duration without a suffix; '-' for other kinds
    long minimum, maximum;            ///< 0: no limit (Postfix's rule)
    std::string_view default_value;   ///< before expansion
    std::string_view section;
    std::string_view description;
};

/// Names a row: the position in the sorted table.
enum class Parameter : std::uint16_t {
#define POSTERN_PARAMETER(name, getter, ...) getter,
#include "getters.inc"
#undef POSTERN_PARAMETER
};

inline constexpr std::size_t kParameterCount = 0
#define POSTERN_PARAMETER(...) +1
#include "getters.inc"
#undef POSTERN_PARAMETER
    ;

const ParameterInfo& parameter_info(Parameter parameter);

/// The row of that exact name (case matters, as in Postfix).
std::optional<Parameter> find_parameter(std::string_view name);

/// For a delivery transport's own setting such as relay_destination_rate_delay: the row that rules when it is not
/// set (default_destination_rate_delay).  Nothing when `name` does not end in one of the suffixes that Postfix
/// knows for transports.  A name with a row of its own is not a transport's setting here.
std::optional<Parameter> transport_parameter(std::string_view name);

/// A setting that every delivery transport has: its name is the transport's with `suffix` behind it.
struct TransportRow {
    std::string_view suffix;   ///< with its '_'
    Parameter fallback;
};
std::span<const TransportRow> transport_rows();

}  // namespace postern
