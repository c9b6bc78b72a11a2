#include "lib/table/blocking_socket.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace postern {
namespace {

/// Deadlines hold for each single read, write and connect.
void set_deadline(int fd, int seconds) {
    timeval limit{};
    limit.tv_sec = seconds;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

}  // namespace

Error BlockingSocket::fail(Errc code, const char* what) {
    close();
    buffer_.clear();
    return Error(code, what);
}

Result<void> BlockingSocket::connect_unix(const std::string& path, int timeout_seconds) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return Error(Errc::config, "connect " + path + ": path too long");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size());
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) {
        return errno_error("socket");
    }
    set_deadline(fd.get(), timeout_seconds);
    while (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        if (errno != EINTR) {
            return errno_error("connect " + path);
        }
    }
    buffer_.clear();
    fd_ = std::move(fd);
    return {};
}

Result<void> BlockingSocket::connect_tcp(const std::string& host, const std::string& port, int timeout_seconds) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list); error != 0) {
        return Error(Errc::temporary, "connect " + host + ":" + port + ": " + gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, freeaddrinfo);
    for (const addrinfo* one = list; one; one = one->ai_next) {
        UniqueFd fd(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (!fd) {
            continue;
        }
        set_deadline(fd.get(), timeout_seconds);
        if (connect(fd.get(), one->ai_addr, one->ai_addrlen) == 0) {
            buffer_.clear();
            fd_ = std::move(fd);
            return {};
        }
    }
    return errno_error("connect " + host + ":" + port);
}

Result<void> BlockingSocket::write_all(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return errno == EAGAIN ? fail(Errc::timeout, "timeout") : fail(Errc::closed, strerror(errno));
        }
        bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return {};
}

Result<void> BlockingSocket::fill() {
    char chunk[4096];
    for (;;) {
        const ssize_t got = recv(fd_.get(), chunk, sizeof chunk, 0);
        if (got > 0) {
            buffer_.append(chunk, static_cast<std::size_t>(got));
            return {};
        }
        if (got == 0) {
            return fail(Errc::closed, "connection closed");
        }
        if (errno != EINTR) {
            return errno == EAGAIN ? fail(Errc::timeout, "timeout") : fail(Errc::closed, strerror(errno));
        }
    }
}

Result<std::string> BlockingSocket::read_exactly(std::size_t size) {
    while (buffer_.size() < size) {
        if (const Result<void> filled = fill(); !filled) {
            return filled.error();
        }
    }
    std::string bytes = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return bytes;
}

Result<std::string> BlockingSocket::read_line(std::size_t limit) {
    for (;;) {
        const std::size_t end = buffer_.find('\n');
        if (end != std::string::npos && end <= limit) {
            std::string line = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
            return line;
        }
        if (buffer_.size() > limit) {
            return fail(Errc::too_big, "line too long");
        }
        if (const Result<void> filled = fill(); !filled) {
            return filled.error();
        }
    }
}

}  // namespace postern
