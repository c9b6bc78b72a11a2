#include "lib/service/standard_input.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace postern {

namespace {

/// Copies what is there from one descriptor to another; false at the end of either.
bool carry(int from, int to) {
    std::array<char, 16384> buffer{};
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got <= 0) {
        return got < 0 && errno == EINTR;
    }
    for (ssize_t at = 0; at < got;) {
        const ssize_t put = ::write(to, buffer.data() + at, static_cast<std::size_t>(got - at));
        if (put < 0 && errno != EINTR) {
            return false;
        }
        at += put > 0 ? put : 0;
    }
    return true;
}

/// The child: until the service has said its last word.  The end of standard input is passed on, not the end of all.
[[noreturn]] void pump(int socket) {
    std::signal(SIGPIPE, SIG_IGN);
    std::array<pollfd, 2> watched{{{STDIN_FILENO, POLLIN, 0}, {socket, POLLIN, 0}}};
    for (;;) {
        if (::poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) {
            ::_exit(1);
        }
        if (watched[0].revents != 0 && !carry(STDIN_FILENO, socket)) {
            ::shutdown(socket, SHUT_WR);
            watched[0].fd = -1;
            watched[0].revents = 0;
        }
        if (watched[1].revents != 0 && !carry(socket, STDOUT_FILENO)) {
            ::_exit(0);
        }
    }
}

}  // namespace

Result<UniqueFd> standard_input_socket() {
    struct stat info {};
    if (::fstat(STDIN_FILENO, &info) == 0 && S_ISSOCK(info.st_mode)) {
        return UniqueFd(::dup(STDIN_FILENO));
    }
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
        return errno_error("socketpair");
    }
    UniqueFd ours(pair[0]);
    const UniqueFd theirs(pair[1]);
    const pid_t child = ::fork();
    if (child < 0) {
        return errno_error("fork");
    }
    // The pump is the parent, so that whoever started us waits until its output is complete.
    if (child > 0) {
        ours.reset();
        pump(theirs.get());
    }
    return ours;
}

}  // namespace postern
