#include "lib/service/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"

namespace postern {

namespace {

/// Connections taken at one wake-up before others get their turn.
constexpr int kAcceptBatch = 16;

SocketAddress address_text(const sockaddr_storage& storage) {
    SocketAddress out;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (storage.ss_family == AF_INET) {
        const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
        out.ip = ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
        out.port = ntohs(v4.sin_port);
    } else if (storage.ss_family == AF_INET6) {
        const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
        const auto* bytes = reinterpret_cast<const unsigned char*>(&v6.sin6_addr);
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
            out.ip = ::inet_ntop(AF_INET, bytes + 12, text.data(), text.size());
        } else {
            out.ip = ::inet_ntop(AF_INET6, bytes, text.data(), text.size());
        }
        out.port = ntohs(v6.sin6_port);
    }
    return out;
}

}  // namespace

void describe_peer(Connection& connection) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (::getpeername(connection.fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) == 0) {
        connection.peer = address_text(storage);
    }
    if (storage.ss_family == AF_UNIX) {
        ucred who{};
        socklen_t who_size = sizeof who;
        if (::getsockopt(connection.fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &who_size) == 0) {
            connection.peer_uid = who.uid;
        }
        return;
    }
    storage = {};
    size = sizeof storage;
    if (::getsockname(connection.fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) == 0) {
        connection.local = address_text(storage);
    }
}

Listener::Listener(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
    ::fcntl(fd_.get(), F_SETFD, FD_CLOEXEC);
    ::fcntl(fd_.get(), F_SETFL, ::fcntl(fd_.get(), F_GETFL) | O_NONBLOCK);
    int listening = 0;
    socklen_t size = sizeof listening;
    accepts_ = ::getsockopt(fd_.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
}

Listener::~Listener() {
    pause();
}

void Listener::start(std::function<void(Connection)> accepted) {
    accepted_ = std::move(accepted);
    event_assign(&event_, Loop::current().base(), fd_.get(), EV_READ | EV_PERSIST, &Listener::fired, this);
    resume();
}

void Listener::pause() {
    if (active_) {
        event_del(&event_);
        active_ = false;
    }
}

void Listener::close() {
    pause();
    fd_.reset();
}

void Listener::resume() {
    if (!active_ && accepted_ && fd_) {
        active_ = event_add(&event_, nullptr) == 0;
    }
}

void Listener::fired(int, short, void* self) {
    auto* listener = static_cast<Listener*>(self);
    if (listener->accepts_) {
        listener->accept_some();
    } else {
        listener->drain_triggers();
    }
    Loop::current().run_ready();
}

void Listener::accept_some() {
    for (int i = 0; i < kAcceptBatch && active_; ++i) {
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        UniqueFd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                log_warning("accept {}: {}", name_, errno_error("connection not taken").what);
                ::usleep(100000);   // the listener stays readable: do not spin while descriptors are short
            }
            return;   // EAGAIN: a sibling was faster; ECONNABORTED: the client gave up
        }
        Connection connection(std::move(fd), name_);
        describe_peer(connection);
        accepted_(std::move(connection));
    }
}

/// FIFO or datagram socket: whatever came, somebody wants attention.
void Listener::drain_triggers() {
    std::array<char, 512> buffer{};
    bool any = false;
    while (::read(fd_.get(), buffer.data(), buffer.size()) > 0) {
        any = true;
    }
    std::array<int, 2> pair{};
    if (!any || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) != 0) {
        return;
    }
    Connection connection{UniqueFd(pair[0]), name_};
    const UniqueFd other(pair[1]);
    if (::send(other.get(), kTriggerFrame, sizeof kTriggerFrame, MSG_NOSIGNAL) == sizeof kTriggerFrame) {
        accepted_(std::move(connection));
    }
}

Result<std::vector<std::unique_ptr<Listener>>> inherited_listeners() {
    std::vector<std::unique_ptr<Listener>> out;
    const char* count_text = std::getenv("LISTEN_FDS");
    const char* pid_text = std::getenv("LISTEN_PID");
    if (count_text == nullptr || (pid_text != nullptr && parse_number(pid_text) != static_cast<std::uint64_t>(::getpid()))) {
        return out;
    }
    const auto count = parse_number(count_text);
    if (!count || *count > 1000) {
        return Error(Errc::config, "LISTEN_FDS is not a sensible number");
    }
    const char* names_text = std::getenv("LISTEN_FDNAMES");
    const std::vector<std::string> names = split_exact(names_text != nullptr ? names_text : "", ':');
    for (std::size_t i = 0; i < *count; ++i) {
        const int fd = static_cast<int>(3 + i);
        if (::fcntl(fd, F_GETFD) < 0) {
            return Error(Errc::config, "LISTEN_FDS promises descriptor " + std::to_string(fd) + ", which is not open");
        }
        out.push_back(std::make_unique<Listener>(UniqueFd(fd), i < names.size() ? names[i] : "socket"));
    }
    ::unsetenv("LISTEN_FDS");
    ::unsetenv("LISTEN_PID");
    ::unsetenv("LISTEN_FDNAMES");
    return out;
}

}  // namespace postern
