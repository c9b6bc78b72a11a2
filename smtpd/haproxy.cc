#include "smtpd/haproxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <chrono>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/stream/request_time.h"

namespace postern::smtpd {

namespace {

constexpr std::size_t kPorts = 4;   // bytes: the client's, and the server's
constexpr std::size_t kRestOfHead = kProxyHead - 2;

Error bad(std::string_view what, std::string_view header) {
    return Error(Errc::syntax, fmt::format("{}: {}", what, printable(header, 200)));
}

std::uint8_t byte_at(std::string_view text, std::size_t at) { return static_cast<std::uint8_t>(text[at]); }

std::string port_at(std::string_view text, std::size_t at) { return std::to_string(byte_at(text, at) * 256 + byte_at(text, at + 1)); }

/// The address as we write it; an IPv4 address in IPv6's clothes as what it is, where IPv4 is spoken.
std::string text_of(int family, const void* bytes, InetProtocols protocols) {
    char text[INET6_ADDRSTRLEN] = "";
    const auto* const six = static_cast<const in6_addr*>(bytes);
    if (family == AF_INET6 && protocols.ipv4 && IN6_IS_ADDR_V4MAPPED(six)) {
        return text_of(AF_INET, six->s6_addr + 12, protocols);
    }
    return ::inet_ntop(family, bytes, text, sizeof text) != nullptr ? text : "";
}

/// Empty when it is none of that family.
std::string read_address(int family, const std::string& word, InetProtocols protocols) {
    in6_addr bytes{};
    return ::inet_pton(family, word.c_str(), &bytes) == 1 ? text_of(family, &bytes, protocols) : std::string();
}

/// Decimal, without superfluous zeros.
bool is_port(const std::string& word) {
    const auto number = parse_number(word);
    return number && *number <= 65535 && std::to_string(*number) == word;
}

}  // namespace

Result<ProxiedClient> parse_proxy_line(std::string_view line, InetProtocols protocols) {
    const std::vector<std::string> words = split(line, " ");
    const auto word = [&words](std::size_t at) { return at < words.size() ? words[at] : std::string(); };
    if (word(0) != "PROXY") {
        return bad("unrecognized protocol header", line);
    }
    const bool ipv4 = protocols.ipv4 && equals_ignoring_case(word(1), "TCP4");
    const bool ipv6 = protocols.ipv6 && equals_ignoring_case(word(1), "TCP6");
    if (!ipv4 && !ipv6) {
        return bad("bad or missing protocol type", line);
    }
    const int family = ipv4 ? AF_INET : AF_INET6;
    ProxiedClient client{read_address(family, word(2), protocols), word(4), read_address(family, word(3), protocols), word(5)};
    if (client.address.empty()) {
        return bad("bad or missing client address", line);
    }
    if (client.server_address.empty()) {
        return bad("bad or missing server address", line);
    }
    if (!is_port(client.port)) {
        return bad("bad or missing client port", line);
    }
    if (!is_port(client.server_port)) {
        return bad("bad or missing server port", line);
    }
    return client;
}

Result<std::size_t> proxy_body_size(std::string_view head) {
    if (head.size() != kProxyHead || head.substr(0, kProxySignature.size()) != kProxySignature) {
        return bad("unrecognized protocol header", head);
    }
    const std::size_t size = std::size_t{byte_at(head, 14)} * 256 + byte_at(head, 15);
    if (size > kMaxProxyBody) {
        return Error(Errc::too_big, fmt::format("version 2 protocol header of {} bytes", size + kProxyHead));
    }
    return size;
}

Result<std::optional<ProxiedClient>> parse_proxy_header(std::string_view head, std::string_view body, InetProtocols protocols) {
    constexpr std::uint8_t kVersion2 = 2, kLocal = 0, kProxy = 1, kTcp4 = 0x11, kTcp6 = 0x21;
    const Result<std::size_t> size = proxy_body_size(head);
    if (!size || *size != body.size()) {
        return size ? bad("short version 2 protocol header", head) : size.error();
    }
    if (byte_at(head, 12) >> 4 != kVersion2) {
        return bad("unrecognized protocol version", head);
    }
    const unsigned command = byte_at(head, 12) & 15U;
    if (command == kLocal) {
        return std::optional<ProxiedClient>();
    }
    if (command != kProxy) {
        return bad("bad command in proxy header", head);
    }
    const std::uint8_t protocol = byte_at(head, 13);
    if (protocol != kTcp4 && protocol != kTcp6) {
        return bad("unsupported network protocol", head);
    }
    if (protocol == kTcp4 ? !protocols.ipv4 : !protocols.ipv6) {
        return bad(protocol == kTcp4 ? "IPv4 support is disabled" : "IPv6 support is disabled", head);
    }
    const int family = protocol == kTcp4 ? AF_INET : AF_INET6;
    const std::size_t length = protocol == kTcp4 ? 4 : 16;
    if (body.size() < 2 * length + kPorts) {
        return bad("short address field", head);
    }
    in6_addr from{}, to{};
    std::memcpy(&from, body.data(), length);
    std::memcpy(&to, body.data() + length, length);
    return std::optional(ProxiedClient{text_of(family, &from, protocols), port_at(body, 2 * length), text_of(family, &to, protocols),
                                       port_at(body, 2 * length + 2)});
}

Task<Result<std::optional<ProxiedClient>>> read_proxied_client(Stream& stream, Millis timeout, InetProtocols protocols) {
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    const auto left = [begin, timeout] { return request_time_left(begin, timeout, 0, 1); };
    Result<std::string> line = co_await stream.read_line(kMaxProxyLine, timeout);
    if (!line && line.error().code == Errc::too_big) {
        co_return Error(Errc::syntax, "missing protocol header terminator");
    }
    if (!line) {
        co_return line.error();
    }
    if (!line->empty()) {
        Result<ProxiedClient> client = parse_proxy_line(*line, protocols);
        if (!client) {
            co_return client.error();
        }
        co_return std::optional(std::move(*client));
    }
    Result<std::string> rest = co_await stream.read_exact(kRestOfHead, left());
    if (!rest) {
        co_return rest.error();
    }
    const std::string head = "\r\n" + *rest;
    const Result<std::size_t> size = proxy_body_size(head);
    if (!size) {
        co_return size.error();
    }
    Result<std::string> body = co_await stream.read_exact(*size, left());
    if (!body) {
        co_return body.error();
    }
    co_return parse_proxy_header(head, *body, protocols);
}

}  // namespace postern::smtpd
