#include "lib/log/delivery.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/log/log.h"

namespace postern {

std::string format_delay(std::int64_t microseconds) {
    const std::int64_t value = std::max<std::int64_t>(microseconds, 0);
    // Two significant digits: hundredths below a second, tenths below ten.
    const std::int64_t unit = value < 1'000'000 ? 10'000 : value < 10'000'000 ? 100'000 : 1'000'000;
    const std::int64_t hundredths = (value + unit / 2) / unit * (unit / 10'000);
    const std::int64_t whole = hundredths / 100;
    const std::int64_t rest = hundredths % 100;
    if (rest == 0) {
        return fmt::format("{}", whole);
    }
    return rest % 10 == 0 ? fmt::format("{}.{}", whole, rest / 10) : fmt::format("{}.{:02}", whole, rest);
}

std::string format_delivery_line(const DeliveryLine& line) {
    const DeliveryTimes& t = line.times;
    const std::int64_t connected = t.connected != 0 ? t.connected : t.handed;
    fmt::memory_buffer out;
    auto at = std::back_inserter(out);
    fmt::format_to(at, "{}: to=<{}>", line.queue_id, line.to);
    if (!line.orig_to.empty() && line.orig_to != line.to) {
        fmt::format_to(at, ", orig_to=<{}>", line.orig_to);
    }
    fmt::format_to(at, ", relay={}, delay={}, delays={}/{}/{}/{}{}{}, dsn={}, status={} ({})",
                   line.relay.empty() ? std::string_view("none") : line.relay, format_delay(t.done - t.arrival),
                   format_delay(t.active - t.arrival), format_delay(t.handed - t.active),
                   format_delay(connected - t.handed), format_delay(t.done - connected), line.tls.empty() ? "" : ", tls=", line.tls, line.dsn, line.status, line.text);
    return fmt::to_string(out);
}

void log_delivery(const DeliveryLine& line) { log_info("{}", format_delivery_line(line)); }

}  // namespace postern
