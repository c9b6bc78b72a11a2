/// One address that master listens on for a service.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/config/master_cf.h"

namespace postern::master {

struct Endpoint {
    ServiceType type = ServiceType::unix_stream;
    std::string address;      ///< a numeric address (inet), or a path relative to queue_directory
    std::uint16_t port = 0;   ///< inet only
    bool optional = false;    ///< half of "all": left out where the kernel has no such protocol

    /// Two endpoints with one key are the same socket; also its name in the log.
    std::string key() const;
    /// The name in LISTEN_FDNAMES, where ':' separates names.
    std::string listen_name() const;
    bool is_inet() const { return type == ServiceType::inet; }
};

/// Where a service of master.cf listens: inet_interfaces and inet_protocols for a port alone, the host's addresses
/// for host:port; public/NAME or private/NAME for others.
/// Errors: config, for an unknown host or port, or when inet_protocols leaves no address.
Result<std::vector<Endpoint>> endpoints_of(const MasterEntry& entry, const Config& config);

/// Binds and listens, non-blocking and close-on-exec; removes a socket or FIFO that a dead master left behind.
/// The current directory is queue_directory.  `backlog` is listen_backlog, `window_bytes` tcp_windowsize.
/// Errors: what the kernel said, with the address; unsupported when an optional endpoint's protocol is missing.
Result<UniqueFd> open_endpoint(const Endpoint& endpoint, int backlog, long window_bytes = 0);

/// Wakes the service that listens there: ipc's trigger frame, or a byte for a FIFO or datagram socket.
/// A full queue is no error: then the service has enough to wake up for.
Result<void> wake_endpoint(const Endpoint& endpoint);

}  // namespace postern::master
