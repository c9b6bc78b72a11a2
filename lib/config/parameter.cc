#include "lib/config/parameter.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace postern {
namespace {

constexpr ParameterInfo kTable[] = {
#define POSTERN_PARAMETER(name, getter, kind, value, minimum, maximum, unit, status, section, description) \
    {name, ParameterKind::kind, ParameterStatus::status, unit, minimum, maximum, value, section, description},
#include "parameters.inc"
#undef POSTERN_PARAMETER
};

constexpr bool is_sorted_table() {
    for (std::size_t i = 1; i < kParameterCount; ++i) {
        if (kTable[i].name <= kTable[i - 1].name) {
            return false;
        }
    }
    return true;
}
static_assert(is_sorted_table(), "generate.awk sorts the table by name");

constexpr TransportRow kTransportRows[] = {
    {"_delivery_slot_cost", Parameter::default_delivery_slot_cost},
    {"_delivery_slot_discount", Parameter::default_delivery_slot_discount},
    {"_delivery_slot_loan", Parameter::default_delivery_slot_loan},
    {"_destination_concurrency_failed_cohort_limit", Parameter::default_destination_concurrency_failed_cohort_limit},
    {"_destination_concurrency_limit", Parameter::default_destination_concurrency_limit},
    {"_destination_concurrency_negative_feedback", Parameter::default_destination_concurrency_negative_feedback},
    {"_destination_concurrency_positive_feedback", Parameter::default_destination_concurrency_positive_feedback},
    {"_destination_rate_delay", Parameter::default_destination_rate_delay},
    {"_destination_recipient_limit", Parameter::default_destination_recipient_limit},
    {"_extra_recipient_limit", Parameter::default_extra_recipient_limit},
    {"_initial_destination_concurrency", Parameter::initial_destination_concurrency},
    {"_minimum_delivery_slots", Parameter::default_minimum_delivery_slots},
    {"_recipient_limit", Parameter::default_recipient_limit},
    {"_recipient_refill_delay", Parameter::default_recipient_refill_delay},
    {"_recipient_refill_limit", Parameter::default_recipient_refill_limit},
    {"_time_limit", Parameter::command_time_limit},
    {"_transport_rate_delay", Parameter::default_transport_rate_delay},
};

}  // namespace

const ParameterInfo& parameter_info(Parameter parameter) { return kTable[static_cast<std::size_t>(parameter)]; }

std::optional<Parameter> find_parameter(std::string_view name) {
    const ParameterInfo* const row = std::lower_bound(
        std::begin(kTable), std::end(kTable), name,
        [](const ParameterInfo& info, std::string_view wanted) { return info.name < wanted; });
    if (row == std::end(kTable) || row->name != name) {
        return std::nullopt;
    }
    return static_cast<Parameter>(row - kTable);
}

std::span<const TransportRow> transport_rows() { return kTransportRows; }

std::optional<Parameter> transport_parameter(std::string_view name) {
    if (find_parameter(name)) {
        return std::nullopt;
    }
    const TransportRow* best = nullptr;   // of "_x_recipient_limit" and "_recipient_limit", the longer one
    for (const TransportRow& row : kTransportRows) {
        const bool fits = name.size() > row.suffix.size() && name.substr(name.size() - row.suffix.size()) == row.suffix;
        if (fits && (best == nullptr || row.suffix.size() > best->suffix.size())) {
            best = &row;
        }
    }
    return best == nullptr ? std::nullopt : std::optional(best->fallback);
}

}  // namespace postern
