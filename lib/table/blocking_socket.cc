#include "lib/table/blocking_socket.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "lib/async/loop.h"
#include "lib/async/offload.h"
#include "lib/async/wait_here.h"

namespace postern {
namespace {

struct Found {
    int error = 0;
    std::shared_ptr<addrinfo> list;   ///< of all who wait for the same search
};

Found find_addresses(const std::string& host, const std::string& port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    Found found;
    found.error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
    if (list != nullptr) {
        found.list.reset(list, freeaddrinfo);
    }
    return found;
}

/// A search that goes on whether anybody still waits for it.
struct Search {
    std::optional<Found> found;
    Notice news;
};
/// By host and port.  Who asks again while a search has not come to its end joins it: however slow the name servers are, a name
/// keeps one thread busy.
using Searches = std::map<std::pair<std::string, std::string>, std::shared_ptr<Search>>;   // the others are the search itself, and who waits

Searches& searches() {
    thread_local Searches under_way;
    return under_way;
}

Task<> search_for(std::shared_ptr<Search> search, std::string host, std::string port) {
    auto work = [host, port] { return find_addresses(host, port); };
    Found found = co_await offload(std::move(work));
    search->found = std::move(found);
    searches().erase({host, port});
    search->news.notify_all();
}

Task<std::optional<Found>> found_within(std::shared_ptr<Search> search, Millis patience) {
    if (!search->found && patience > Millis(0)) {
        co_await search->news.wait(patience);
    }
    co_return search->found;
}

/// The same, by name servers that may be slow, while others go on.  Nothing when there is no answer in time.
std::optional<Found> find_addresses_here(const std::string& host, const std::string& port, Millis patience) {
    if (!can_wait_here()) {
        return find_addresses(host, port);
    }
    std::shared_ptr<Search>& known = searches()[{host, port}];
    std::shared_ptr<Search> search = known;
    if (!search) {
        search = known = std::make_shared<Search>();
        spawn(search_for(search, host, port));
    }
    return wait_here(found_within(std::move(search), patience));
}

Task<Wake> wait_for(int fd, bool for_read, Millis patience) {
    FdEvents events;
    events.open(fd);
    if (for_read) {
        const Wake wake = co_await events.readable(patience);
        co_return wake;
    }
    const Wake wake = co_await events.writable(patience);
    co_return wake;
}

/// False at the deadline.
bool poll_for(int fd, bool for_read, Millis patience) {
    pollfd one{};
    one.fd = fd;
    one.events = for_read ? POLLIN : POLLOUT;
    int ready = 0;
    do {
        ready = ::poll(&one, 1, static_cast<int>(patience.count()));
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

Task<bool> nap(Millis how_long) {
    co_await sleep_for(how_long);
    co_return true;
}

/// Until the next attempt.
void pause() {
    constexpr Millis kPause(20);
    if (can_wait_here()) {
        wait_here(nap(kPause));
    } else {
        ::poll(nullptr, 0, static_cast<int>(kPause.count()));
    }
}

}  // namespace

Error BlockingSocket::fail(Errc code, const char* what) {
    close();
    return Error(code, what);
}

void BlockingSocket::close() {
    fd_.reset();
    buffer_.clear();
}

void BlockingSocket::set_deadline(int seconds) {
    deadline_ = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
}

Result<void> BlockingSocket::wait(bool for_read) {
    const auto left = std::chrono::ceil<Millis>(deadline_ - std::chrono::steady_clock::now());
    const Millis patience = std::max(left, Millis(0));
    const bool ready = can_wait_here() && left > Millis(0) ? wait_here(wait_for(fd_.get(), for_read, patience)) == Wake::ready
                                                           : poll_for(fd_.get(), for_read, patience);
    return ready ? Result<void>() : fail(Errc::timeout, "timeout");
}

/// connect(2) is over at once, or when the socket can be written.
Result<void> BlockingSocket::connect_to(UniqueFd fd, const void* address, unsigned size) {
    close();
    const int outcome = connect(fd.get(), static_cast<const sockaddr*>(address), size);
    if (outcome != 0 && errno != EINPROGRESS && errno != EINTR) {
        return Error(errno == EAGAIN ? Errc::temporary : Errc::io, strerror(errno));
    }
    fd_ = std::move(fd);
    if (outcome == 0) {
        return {};
    }
    if (const Result<void> writable = wait(false); !writable) {
        return writable;
    }
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0) {
        return fail(Errc::io, strerror(error));
    }
    return {};
}

Result<void> BlockingSocket::connect_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return Error(Errc::config, "connect " + path + ": path too long");
    }
    std::memcpy(address.sun_path, path.c_str(), path.size());
    Result<void> connected;
    for (;;) {
        UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        connected = fd ? connect_to(std::move(fd), &address, sizeof address) : Result<void>(errno_error("socket"));
        // EAGAIN: the server has too many clients to accept, and offers nothing to wait for.
        if (connected || connected.error().code != Errc::temporary || std::chrono::steady_clock::now() >= deadline_) {
            break;
        }
        pause();
    }
    return connected ? connected : Error(connected.error().code, "connect " + path + ": " + connected.error().what);
}

Result<void> BlockingSocket::connect_tcp(const std::string& host, const std::string& port) {
    const std::string title = "connect " + host + ":" + port + ": ";
    const auto left = std::chrono::ceil<Millis>(deadline_ - std::chrono::steady_clock::now());
    const std::optional<Found> found = find_addresses_here(host, port, left);
    if (!found) {
        return Error(Errc::timeout, title + "no address found in time");
    }
    if (found->error != 0) {
        return Error(Errc::temporary, title + gai_strerror(found->error));
    }
    Result<void> connected = Error(Errc::io, "no address");
    for (const addrinfo* one = found->list.get(); one; one = one->ai_next) {
        UniqueFd fd(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        connected = fd ? connect_to(std::move(fd), one->ai_addr, one->ai_addrlen) : Result<void>(errno_error("socket"));
        if (connected) {
            return connected;
        }
    }
    return Error(connected.error().code, title + connected.error().what);
}

Result<void> BlockingSocket::write_all(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN) {
            if (const Result<void> writable = wait(false); !writable) {
                return writable;
            }
        } else if (errno != EINTR) {
            return fail(Errc::closed, strerror(errno));
        }
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
        if (errno == EAGAIN) {
            if (const Result<void> readable = wait(true); !readable) {
                return readable;
            }
        } else if (errno != EINTR) {
            return fail(Errc::closed, strerror(errno));
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
