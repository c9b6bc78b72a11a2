#include "lib/sandbox/forked_child.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "lib/log/log.h"

namespace postern {

namespace {

/// Closes every descriptor from 3 on but these.
void close_all_but(std::vector<int> kept) {
    std::sort(kept.begin(), kept.end());
    unsigned from = 3;
    for (const int fd : kept) {
        if (fd < static_cast<int>(from)) {
            continue;
        }
        if (static_cast<unsigned>(fd) > from) {
            ::close_range(from, static_cast<unsigned>(fd) - 1, 0);
        }
        from = static_cast<unsigned>(fd) + 1;
    }
    ::close_range(from, ~0U, 0);
}

}  // namespace

Result<ForkedChild> fork_child(int type, std::vector<int> kept, const std::function<void(UniqueFd socket)>& run) {
    int pair[2] = {-1, -1};
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) != 0) {
        return errno_error("socketpair");
    }
    UniqueFd ours(pair[0]);
    UniqueFd theirs(pair[1]);
    const pid_t pid = ::fork();
    if (pid < 0) {
        return errno_error("fork");
    }
    if (pid == 0) {
        kept.push_back(theirs.get());
        kept.push_back(log_descriptor());
        close_all_but(std::move(kept));
        run(std::move(theirs));
        std::_Exit(0);
    }
    return ForkedChild{pid, std::move(ours)};
}

}  // namespace postern
