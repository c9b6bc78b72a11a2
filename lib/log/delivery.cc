#include "lib/log/delivery.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/log/log.h"

namespace postern {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr int kMaxDecimals = 6;   // times are in microseconds

}  // namespace

std::string format_delay(std::int64_t microseconds, int decimals) {
    const std::int64_t value = std::max<std::int64_t>(microseconds, 0);
    std::int64_t unit = 1;   // of the last digit that is shown
    for (int i = decimals; i < kMaxDecimals; ++i) {
        unit *= 10;
    }
    for (std::int64_t most = 100 * unit; value >= most && unit < kSecond; most *= 10) {
        unit *= 10;
    }
    const std::int64_t rounded = (value + unit / 2) / unit * unit;
    std::string text = fmt::format("{}.{:06}", rounded / kSecond, rounded % kSecond);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') {
        text.pop_back();
    }
    return text;
}

std::string format_delivery_line(const DeliveryLine& line) {
    const DeliveryTimes& t = line.times;
    const std::int64_t connected = t.connected != 0 ? t.connected : t.handed;
    const auto delay = [&line](std::int64_t time) { return format_delay(time, line.resolution); };
    fmt::memory_buffer out;
    auto at = std::back_inserter(out);
    fmt::format_to(at, "{}: to=<{}>", line.queue_id, line.to);
    if (!line.orig_to.empty() && line.orig_to != line.to) {
        fmt::format_to(at, ", orig_to=<{}>", line.orig_to);
    }
    fmt::format_to(at, ", relay={}, delay={}, delays={}/{}/{}/{}{}{}, dsn={}, status={} ({})",
                   line.relay.empty() ? std::string_view("none") : line.relay, delay(t.done - t.arrival),
                   delay(t.active - t.arrival), delay(t.handed - t.active),
                   delay(connected - t.handed), delay(t.done - connected), line.tls.empty() ? "" : ", tls=", line.tls, line.dsn, line.status, line.text);
    return fmt::to_string(out);
}

void log_delivery(const DeliveryLine& line) { log_info("{}", format_delivery_line(line)); }

}  // namespace postern
