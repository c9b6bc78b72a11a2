#include "smtp/connect.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "lib/base/tcp_window.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"

namespace postern::smtp {
namespace {

constexpr Millis kTryAgain(10);

struct Endpoint {
    sockaddr_storage storage{};
    socklen_t length = 0;
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Result<Endpoint> endpoint(const std::string& address, std::uint16_t port, bool unix_socket) {
    Endpoint out;
    auto* local = reinterpret_cast<sockaddr_un*>(&out.storage);
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
    if (unix_socket) {
        if (address.size() >= sizeof local->sun_path) {
            return Error(Errc::too_big, "unix-domain name too long");
        }
        local->sun_family = AF_UNIX;
        std::memcpy(local->sun_path, address.data(), address.size());
        out.length = sizeof *local;
    } else if (::inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        out.length = sizeof *v4;
    } else if (::inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        out.length = sizeof *v6;
    } else {
        return Error(Errc::syntax, "bad address");
    }
    return out;
}

Error reason(int number) {
    return Error(number == ETIMEDOUT ? Errc::timeout : Errc::closed, std::strerror(number));
}

/// Waits for a connection in progress.
Task<Result<void>> wait_connected(int fd, Millis timeout) {
    FdEvents events;
    events.open(fd);
    const Wake wake = co_await events.writable(timeout);
    if (wake == Wake::timed_out) {
        co_return reason(ETIMEDOUT);
    }
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error != 0) {
        co_return reason(error);
    }
    co_return Result<void>();
}

}  // namespace

Result<std::unique_ptr<SocketConnector>> SocketConnector::create(const Settings& settings) {
    for (const std::string* address : {&settings.bind_address(), &settings.bind_address6()}) {
        const bool ipv6 = address == &settings.bind_address6();
        if (!address->empty() && (!valid_ip_address(*address) || (address->find(':') != std::string::npos) != ipv6)) {
            return Error(Errc::config, "bad " + settings.prefix() + "_bind_address" + (ipv6 ? "6" : "") + " parameter: " + *address);
        }
    }
    return std::unique_ptr<SocketConnector>(new SocketConnector(settings));
}

/// Without smtp_bind_address_enforce, a source address that cannot be had costs a warning.
Result<void> SocketConnector::bind_source(int fd, const HostAddress& to) const {
    const std::string& source = to.is_ipv6() ? settings_.bind_address6() : settings_.bind_address();
    if (source.empty() || to.is_unix()) {
        return {};
    }
    const Result<Endpoint> from = endpoint(source, 0, false);
    if (from && ::bind(fd, from->get(), from->length) == 0) {
        return {};
    }
    const std::string why = "bind " + source + ": " + (from ? std::strerror(errno) : from.error().what);
    if (settings_.bind_address_enforce()) {
        return Error(Errc::config, why);
    }
    log_warning("{}", why);
    return {};
}

Task<Result<std::unique_ptr<Stream>>> SocketConnector::connect(const HostAddress& to) {
    const Result<Endpoint> there = endpoint(to.address, to.port, to.is_unix());
    if (!there) {
        co_return there.error();
    }
    UniqueFd fd(::socket(there->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        co_return errno_error("socket");
    }
    if (!to.is_unix()) {
        const Result<void> sized = set_tcp_window(fd.get(), settings_.config().tcp_windowsize());
        if (!sized) {
            log_warning("{}", sized.error().what);
        }
    }
    const Result<void> bound = bind_source(fd.get(), to);
    if (!bound) {
        co_return bound.error();
    }
    const Seconds patience = settings_.connect_timeout();
    const Millis timeout = patience.count() == 0 ? kForever : Millis(patience);
    Millis waited(0);
    int status = ::connect(fd.get(), there->get(), there->length);
    while (status != 0 && errno == EAGAIN && waited < timeout) {   // a Unix socket whose backlog is full
        co_await sleep_for(kTryAgain);
        waited += kTryAgain;
        status = ::connect(fd.get(), there->get(), there->length);
    }
    if (status != 0) {
        if (errno != EINPROGRESS) {
            co_return reason(errno == EAGAIN ? ETIMEDOUT : errno);
        }
        const Result<void> connected = co_await wait_connected(fd.get(), timeout);
        if (!connected) {
            co_return connected.error();
        }
    }
    co_return make_socket_stream(std::move(fd));
}

}  // namespace postern::smtp
