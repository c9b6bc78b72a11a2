/// How many connections a client may have, and how fast it may make them, send messages and name recipients
/// (smtpd_client_*_limit).
///
/// anvil(8) counts for all processes of the service.  A connection costs one question, when it opens; messages and
/// recipients are asked about only when they are limited, else their number goes along when the connection closes.  Clients
/// that are exempt (smtpd_client_event_limit_exceptions, local, XCLIENT) cost nothing.
#pragma once

#include <memory>
#include <string>

#include "lib/config/config.h"
#include "lib/limits/client_counts.h"

namespace postern::smtpd {

/// What is shared by the sessions of a process.
class ClientLimits {
public:
    ClientLimits(const Config& config, std::string service, std::unique_ptr<ClientCounts> counts);

    /// Any limit is set: clients are counted.
    bool in_use() const { return in_use_; }
    /// The configured limit; 0 is none.
    long limit(ClientEvent event) const { return limits_[static_cast<std::size_t>(event)]; }
    long connection_limit() const { return connection_limit_; }
    ClientCounts& counts() { return *counts_; }
    void set_counts(std::unique_ptr<ClientCounts> counts) { counts_ = std::move(counts); }

    /// "service:address", the address cut to smtpd_client_ipv4_prefix_length or _ipv6_.
    std::string key_for(const std::string& address) const;

private:
    std::string service_;
    std::unique_ptr<ClientCounts> counts_;
    std::array<long, kClientEvents> limits_{};
    long connection_limit_;
    long ipv4_prefix_;
    long ipv6_prefix_;
    bool in_use_ = false;
};

/// One client's connection in the books; closing is reported by the destructor.
class CountedClient {
public:
    explicit CountedClient(ClientLimits& limits) : limits_(limits) {}
    ~CountedClient();
    CountedClient(const CountedClient&) = delete;
    CountedClient& operator=(const CountedClient&) = delete;

    /// The connection opens; call it at most once, and not for clients that are exempt.
    Task<> open(std::string address);
    /// Connections that the client has, this one included, and its rate of connections; 0 when not counted.
    long connections() const { return numbers_.open; }
    long connection_rate() const { return numbers_.rate; }

    /// Counts an event; its rate when that passes the limit, else 0.
    Task<long> count(ClientEvent event);
    /// The rate of an event that is not counted yet, when it has passed the limit; else 0.
    Task<long> look(ClientEvent event);

private:
    ClientLimits& limits_;
    std::string key_;            ///< empty: not counted
    ClientNumbers numbers_;
    EventTally uncounted_{};
};

}  // namespace postern::smtpd
