#include "local/biff.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/base/unique_fd.h"

namespace postern::local {

namespace {

constexpr std::uint16_t kUsualPort = 512;

}  // namespace

std::uint16_t biff_port() {
    const servent* const service = ::getservbyname("biff", "udp");
    return service != nullptr ? ntohs(static_cast<std::uint16_t>(service->s_port)) : kUsualPort;
}

void notify_biff(std::uint16_t port, const std::string& user, std::uint64_t offset) {
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const std::string text = user + "@" + std::to_string(offset);
    if (socket) {
        [[maybe_unused]] const ssize_t sent = ::sendto(socket.get(), text.c_str(), text.size() + 1, 0,
                                                       reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
}

}  // namespace postern::local
