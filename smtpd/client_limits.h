/// How many connections a client has, and how fast it makes them, sends messages and names recipients
/// (smtpd_client_*_limit).
///
/// Counts are kept by the process; the address is cut to smtpd_client_ipv4_prefix_length or _ipv6_.  A site whose
/// load needs several smtpd processes has each of them count its own share.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "lib/config/config.h"

namespace postern::smtpd {

/// What is counted per anvil_rate_time_unit.
enum class ClientEvent : unsigned char { connection, message, recipient, tls, auth };

class ClientLimits {
public:
    explicit ClientLimits(const Config& config) : config_(config) {}

    /// A connection opens; yields how many this client has now.
    long connected(const std::string& key);
    void disconnected(const std::string& key);
    /// Counts one event; yields how many there were within the time unit.
    long count(const std::string& key, ClientEvent event);
    /// The configured limit; 0 is none.
    long limit(ClientEvent event) const;
    long connection_limit() const { return config_.smtpd_client_connection_count_limit(); }

    /// The address or network that counts as one client.
    std::string key_for(const std::string& address) const;

private:
    static constexpr std::size_t kEvents = 5;
    struct Counts {
        long open = 0;
        long events[kEvents] = {};
        std::chrono::steady_clock::time_point since[kEvents] = {};
    };
    void forget_old();

    const Config& config_;
    std::map<std::string, Counts> clients_;
    std::chrono::steady_clock::time_point last_cleaning_{};
};

}  // namespace postern::smtpd
