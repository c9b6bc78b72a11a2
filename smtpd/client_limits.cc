#include "smtpd/client_limits.h"

#include <arpa/inet.h>

#include <array>

namespace postern::smtpd {

namespace {

using Clock = std::chrono::steady_clock;

/// Clears the bits after the first `prefix`.
void mask(unsigned char* bytes, std::size_t size, long prefix) {
    for (std::size_t i = 0; i < size; ++i) {
        const long bits = prefix - static_cast<long>(i) * 8;
        if (bits <= 0) {
            bytes[i] = 0;
        } else if (bits < 8) {
            bytes[i] = static_cast<unsigned char>(bytes[i] & (0xff << (8 - bits)));
        }
    }
}

}  // namespace

std::string ClientLimits::key_for(const std::string& address) const {
    std::array<unsigned char, 16> bytes{};
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) {
        mask(bytes.data(), 4, config_.smtpd_client_ipv4_prefix_length());
        return ::inet_ntop(AF_INET, bytes.data(), text.data(), text.size());
    }
    if (::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) {
        mask(bytes.data(), 16, config_.smtpd_client_ipv6_prefix_length());
        return ::inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
    }
    return address;
}

long ClientLimits::connected(const std::string& key) {
    forget_old();
    return ++clients_[key].open;
}

void ClientLimits::disconnected(const std::string& key) {
    const auto found = clients_.find(key);
    if (found != clients_.end() && found->second.open > 0) {
        --found->second.open;
    }
}

long ClientLimits::count(const std::string& key, ClientEvent event) {
    Counts& counts = clients_[key];
    const auto index = static_cast<std::size_t>(event);
    const auto now = Clock::now();
    if (now - counts.since[index] >= config_.anvil_rate_time_unit()) {
        counts.since[index] = now;
        counts.events[index] = 0;
    }
    return ++counts.events[index];
}

long ClientLimits::limit(ClientEvent event) const {
    switch (event) {
    case ClientEvent::connection:
        return config_.smtpd_client_connection_rate_limit();
    case ClientEvent::message:
        return config_.smtpd_client_message_rate_limit();
    case ClientEvent::recipient:
        return config_.smtpd_client_recipient_rate_limit();
    case ClientEvent::tls:
        return config_.smtpd_client_new_tls_session_rate_limit();
    case ClientEvent::auth:
        return config_.smtpd_client_auth_rate_limit();
    }
    return 0;
}

/// Once per time unit, drops clients that have nothing open and nothing recent.
void ClientLimits::forget_old() {
    const auto now = Clock::now();
    const auto unit = config_.anvil_rate_time_unit();
    if (now - last_cleaning_ < unit) {
        return;
    }
    last_cleaning_ = now;
    for (auto it = clients_.begin(); it != clients_.end();) {
        bool recent = it->second.open > 0;
        for (const auto& since : it->second.since) {
            recent = recent || now - since < unit;
        }
        it = recent ? std::next(it) : clients_.erase(it);
    }
}

}  // namespace postern::smtpd
