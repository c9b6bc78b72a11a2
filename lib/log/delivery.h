/// The line that tells what became of one recipient, as Postfix's delivery agents write it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern {

/// The moments that delays= is made from, microseconds since 1970.
struct DeliveryTimes {
    std::int64_t arrival = 0;      ///< first contact with the message
    std::int64_t active = 0;       ///< the queue manager took it up
    std::int64_t handed = 0;       ///< an agent got it
    std::int64_t connected = 0;    ///< the agent had its connection; 0: it needed none
    std::int64_t done = 0;
};

struct DeliveryLine {
    std::string_view queue_id;
    std::string_view to;           ///< external form (quoted where needed), without < >
    std::string_view orig_to;      ///< likewise; left out when empty or the same as `to`
    std::string_view relay = "none";
    DeliveryTimes times;
    std::string_view tls{};        ///< what became of TLS and REQUIRETLS, as Postfix 3.11 writes it; left out when empty
    std::string_view dsn;          ///< "2.0.0"
    std::string_view status;       ///< sent, deferred, bounced, expired, undeliverable, deliverable
    std::string_view text;         ///< what stands in ( )
    int resolution = 2;            ///< delay_logging_resolution_limit
};

/// `4A1B2C: to=<a@b.example>, relay=none, delay=0.07, delays=0.05/0.01/0/0.01, dsn=2.0.0, status=sent (text)`
std::string format_delivery_line(const DeliveryLine& line);
/// The same, written to the log.
void log_delivery(const DeliveryLine& line);

/// A time in seconds with two significant digits and at most `decimals` digits behind the point
/// (delay_logging_resolution_limit, 0 to 6): with 2, 0.07, 1.2, 35, 1200.
std::string format_delay(std::int64_t microseconds, int decimals);

}  // namespace postern
