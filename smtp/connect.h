/// Opening connections to servers.
#pragma once

#include <memory>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/stream/stream.h"
#include "smtp/hosts.h"
#include "smtp/settings.h"

namespace postern::smtp {

/// Tests put conversations in memory here.
class Connector {
public:
    virtual ~Connector() = default;
    /// Errors: what the log says behind "connect to host[address]:port: ".
    virtual Task<Result<std::unique_ptr<Stream>>> connect(const HostAddress& to) = 0;
};

/// TCP and Unix sockets: smtp_bind_address, smtp_bind_address6, smtp_connect_timeout.
class SocketConnector final : public Connector {
public:
    /// `settings` outlives this.  Errors: config, for a bind address that is none.
    static Result<std::unique_ptr<SocketConnector>> create(const Settings& settings);
    Task<Result<std::unique_ptr<Stream>>> connect(const HostAddress& to) override;

private:
    explicit SocketConnector(const Settings& settings) : settings_(settings) {}
    Result<void> bind_source(int fd, const HostAddress& to) const;

    const Settings& settings_;
};

}  // namespace postern::smtp
