#include "master/endpoint.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "lib/base/inet_protocols.h"
#include "lib/base/strings.h"
#include "lib/base/tcp_window.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"

namespace postern::master {
namespace {

/// Ports by name where known_tcp_ports and /etc/services say nothing (a container often has no such file).
struct KnownPort {
    std::string_view name;
    std::uint16_t port;
};
constexpr KnownPort kKnownPorts[] = {{"pop3", 110},  {"imap", 143},  {"imap2", 143}, {"imaps", 993},
                                     {"pop3s", 995}, {"sieve", 4190}, {"lmtp", 24},  {"smtp", 25}};

/// known_tcp_ports: "lmtp=24, smtps=submissions=465": names before the last '=' have that port.
std::optional<std::uint64_t> port_in_list(const std::string& name, const std::string& list) {
    for (const std::string& element : split(list, ", \t\r\n")) {
        const std::vector<std::string> words = split_exact(element, '=');
        for (std::size_t i = 0; i + 1 < words.size(); ++i) {
            if (equals_ignoring_case(words[i], name)) {
                return parse_number(words.back());
            }
        }
    }
    return std::nullopt;
}

Result<std::uint16_t> port_number(const std::string& name, const Config& config) {
    std::optional<std::uint64_t> port = parse_number(name);
    if (!port) {
        port = port_in_list(name, config.known_tcp_ports());
    }
    if (!port) {
        if (const servent* entry = ::getservbyname(name.c_str(), "tcp")) {
            port = ntohs(static_cast<std::uint16_t>(entry->s_port));
        }
    }
    for (const KnownPort& known : kKnownPorts) {
        if (!port && equals_ignoring_case(known.name, name)) {
            port = known.port;
        }
    }
    if (!port || *port == 0 || *port > 65535) {
        return Error(Errc::config, fmt::format("unknown port \"{}\"; accepted: a number, or a name in known_tcp_ports or "
                                               "/etc/services", printable(name, 100)));
    }
    return static_cast<std::uint16_t>(*port);
}

/// The numeric addresses of `host`, which may be one itself.
Result<std::vector<std::string>> addresses_of(const std::string& host, const InetProtocols& protocols) {
    addrinfo hints{};
    hints.ai_family = protocols.ipv4 == protocols.ipv6 ? AF_UNSPEC : (protocols.ipv4 ? AF_INET : AF_INET6);
    hints.ai_socktype = SOCK_STREAM;
    const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
    const std::string name = brackets ? host.substr(1, host.size() - 2) : host;
    addrinfo* list = nullptr;
    const int status = ::getaddrinfo(name.c_str(), nullptr, &hints, &list);
    if (status != 0) {
        return Error(Errc::config, fmt::format("host \"{}\": {} (inet_protocols = {}{})", printable(host, 100),
                                               ::gai_strerror(status), protocols.ipv4 ? "ipv4 " : "",
                                               protocols.ipv6 ? "ipv6" : ""));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, ::freeaddrinfo);
    std::vector<std::string> result;
    for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
        char text[NI_MAXHOST] = "";
        if (::getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
            result.emplace_back(text);
        }
    }
    return result;
}

void add_endpoint(std::vector<Endpoint>& list, std::string address, std::uint16_t port, bool optional) {
    Endpoint endpoint{ServiceType::inet, std::move(address), port, optional};
    for (const Endpoint& known : list) {
        if (known.key() == endpoint.key()) {
            return;
        }
    }
    list.push_back(std::move(endpoint));
}

Result<std::vector<Endpoint>> inet_endpoints(const MasterEntry& entry, const Config& config) {
    const Result<InetName> name = parse_inet_name(entry.name);
    if (!name) {
        return name.error();
    }
    const Result<std::uint16_t> port = port_number(name->port, config);
    if (!port) {
        return port.error();
    }
    const InetProtocols protocols = InetProtocols::parse(config.inet_protocols());
    std::vector<Endpoint> result;
    const std::vector<std::string> hosts = name->host.empty() ? split(config.inet_interfaces(), ", \t\r\n")
                                                              : std::vector<std::string>{name->host};
    for (const std::string& host : hosts) {
        const bool all = equals_ignoring_case(host, "all");
        if (all || equals_ignoring_case(host, "loopback-only")) {
            if (protocols.ipv4) {
                add_endpoint(result, all ? "0.0.0.0" : "127.0.0.1", *port, protocols.ipv6);
            }
            if (protocols.ipv6) {
                add_endpoint(result, all ? "::" : "::1", *port, protocols.ipv4);
            }
            continue;
        }
        const Result<std::vector<std::string>> addresses = addresses_of(host, protocols);
        if (!addresses) {
            return addresses.error();
        }
        for (const std::string& address : *addresses) {
            add_endpoint(result, address, *port, false);
        }
    }
    if (result.empty()) {
        return Error(Errc::config, "inet_interfaces and inet_protocols leave no address to listen on");
    }
    return result;
}

/// A socket address and its length.
struct Bindable {
    sockaddr_storage storage{};
    socklen_t size = 0;
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Result<Bindable> inet_address(const Endpoint& endpoint) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    const int status = ::getaddrinfo(endpoint.address.c_str(), std::to_string(endpoint.port).c_str(), &hints, &list);
    if (status != 0) {
        return Error(Errc::config, fmt::format("address {}: {}", endpoint.key(), ::gai_strerror(status)));
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(list, ::freeaddrinfo);
    Bindable result;
    std::memcpy(&result.storage, list->ai_addr, list->ai_addrlen);
    result.size = list->ai_addrlen;
    return result;
}

Result<Bindable> unix_address(const std::string& path) {
    Bindable result;
    auto* address = reinterpret_cast<sockaddr_un*>(&result.storage);
    address->sun_family = AF_UNIX;
    if (path.size() >= sizeof(address->sun_path)) {
        return Error(Errc::config, fmt::format("{}: the path of a socket has at most {} bytes", path, sizeof(address->sun_path) - 1));
    }
    std::memcpy(address->sun_path, path.c_str(), path.size() + 1);
    result.size = sizeof(sockaddr_un);
    return result;
}

Result<UniqueFd> open_inet(const Endpoint& endpoint, int backlog, long window_bytes) {
    const Result<Bindable> address = inet_address(endpoint);
    if (!address) {
        return address.error();
    }
    const int family = address->storage.ss_family;
    UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        const int why = errno;
        const bool missing = endpoint.optional && (why == EAFNOSUPPORT || why == EPROTONOSUPPORT);
        return missing ? Error(Errc::unsupported, endpoint.key() + ": the kernel has no such protocol")
                       : errno_error("socket for " + endpoint.key(), why);
    }
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6) {
        ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (::bind(fd.get(), address->get(), address->size) != 0) {
        const int why = errno;
        const bool missing = endpoint.optional && why == EADDRNOTAVAIL;
        return missing ? Error(Errc::unsupported, endpoint.key() + ": the host has no such address")
                       : errno_error("bind " + endpoint.key(), why);
    }
    if (Result<void> sized = set_tcp_window(fd.get(), window_bytes); !sized) {   // the connections it accepts have it too
        log_warning("{}: {}", endpoint.key(), sized.error().what);
    }
    if (::listen(fd.get(), backlog) != 0) {
        return errno_error("listen on " + endpoint.key());
    }
    return fd;
}

/// Only a socket or FIFO is removed: whatever else has the name was put there by somebody for a reason.
Result<void> remove_stale(const std::string& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) {
        return errno == ENOENT ? Result<void>() : errno_error("stat " + path);
    }
    if (!S_ISSOCK(info.st_mode) && !S_ISFIFO(info.st_mode)) {
        return Error(Errc::exists, path + ": exists and is not a socket");
    }
    return ::unlink(path.c_str()) == 0 ? Result<void>() : errno_error("remove " + path);
}

Result<UniqueFd> open_unix(const Endpoint& endpoint, int backlog) {
    const Result<Bindable> address = unix_address(endpoint.address);
    if (!address) {
        return address.error();
    }
    const bool stream = endpoint.type != ServiceType::unix_dgram;
    UniqueFd fd(::socket(AF_UNIX, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return errno_error("socket for " + endpoint.address);
    }
    if (::bind(fd.get(), address->get(), address->size) != 0) {
        return errno_error("bind " + endpoint.address);
    }
    // The directory says who gets here (public/, private/).
    if (::chmod(endpoint.address.c_str(), 0666) != 0) {
        return errno_error("chmod " + endpoint.address);
    }
    if (stream && ::listen(fd.get(), backlog) != 0) {
        return errno_error("listen on " + endpoint.address);
    }
    return fd;
}

Result<UniqueFd> open_fifo(const Endpoint& endpoint) {
    if (::mkfifo(endpoint.address.c_str(), 0600) != 0 || ::chmod(endpoint.address.c_str(), 0622) != 0) {
        return errno_error("make FIFO " + endpoint.address);
    }
    // Also open for writing, so that it does not report its end when a writer goes.
    UniqueFd fd(::open(endpoint.address.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    return fd ? Result<UniqueFd>(std::move(fd)) : errno_error("open " + endpoint.address);
}

}  // namespace

std::string Endpoint::key() const {
    if (!is_inet()) {
        return address;
    }
    return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port) : fmt::format("[{}]:{}", address, port);
}

std::string Endpoint::listen_name() const {
    std::string name = key();
    for (char& c : name) {
        c = c == ':' ? '.' : c;
    }
    return name;
}

Result<std::vector<Endpoint>> endpoints_of(const MasterEntry& entry, const Config& config) {
    if (entry.type == ServiceType::inet) {
        return inet_endpoints(entry, config);
    }
    Endpoint endpoint;
    endpoint.type = entry.type;
    endpoint.address = (entry.is_private ? "private/" : "public/") + entry.name;
    return std::vector<Endpoint>{endpoint};
}

Result<UniqueFd> open_endpoint(const Endpoint& endpoint, int backlog, long window_bytes) {
    if (endpoint.is_inet()) {
        return open_inet(endpoint, backlog, window_bytes);
    }
    if (Result<void> removed = remove_stale(endpoint.address); !removed) {
        return removed.error();
    }
    return endpoint.type == ServiceType::fifo ? open_fifo(endpoint) : open_unix(endpoint, backlog);
}

Result<void> wake_endpoint(const Endpoint& endpoint) {
    if (endpoint.type == ServiceType::fifo) {
        const UniqueFd fd(::open(endpoint.address.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
        const bool written = fd && (::write(fd.get(), "W", 1) == 1 || errno == EAGAIN);
        return written ? Result<void>() : errno_error("wake " + endpoint.address);
    }
    const Result<Bindable> address = endpoint.is_inet() ? inet_address(endpoint) : unix_address(endpoint.address);
    if (!address) {
        return address.error();
    }
    const bool stream = endpoint.type != ServiceType::unix_dgram;
    const UniqueFd fd(::socket(address->storage.ss_family, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd || (::connect(fd.get(), address->get(), address->size) != 0 && errno != EINPROGRESS)) {
        return errno == EAGAIN ? Result<void>() : errno_error("wake " + endpoint.key());
    }
    if (endpoint.is_inet()) {
        return {};   // the connection alone wakes: there is nothing that could be said in every protocol
    }
    const std::size_t size = stream ? sizeof(kTriggerFrame) : 1;
    if (::send(fd.get(), kTriggerFrame, size, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
        return errno_error("wake " + endpoint.key());
    }
    return {};
}

}  // namespace postern::master
