/// What a proxy in front says of a client: HAProxy's protocol, versions 1 and 2 (smtpd_upstream_proxy_protocol = haproxy).
///
/// Who is believed is the administrator's business: the service must be reached by the proxy alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/base/inet_protocols.h"
#include "lib/stream/stream.h"

namespace postern::smtpd {

struct ProxiedClient {
    std::string address, port;
    std::string server_address, server_port;   ///< where the client connected to
};

/// Bytes of a line of version 1 and of what follows the length in version 2, which may have attributes that are not looked at.
inline constexpr std::size_t kMaxProxyLine = 255;
inline constexpr std::size_t kMaxProxyBody = 4096;
/// Version 2 begins with these.  The first two end a line that is empty, which no line of version 1 is.
inline constexpr std::string_view kProxySignature{"\r\n\r\n\0\r\nQUIT\n", 12};
/// ... and with version and command, protocol, and the length of the rest (two bytes, the higher first).
inline constexpr std::size_t kProxyHead = 16;

/// "PROXY TCP4 192.0.2.1 198.51.100.1 1234 25", without its line end.  More words are allowed, as by Postfix.
/// A client of a protocol that is not among `protocols` is refused; IPv4 in IPv6's clothes counts as IPv6.
/// Errors: syntax, in Postfix's words.
Result<ProxiedClient> parse_proxy_line(std::string_view line, InetProtocols protocols);

/// The 16 bytes of the head: how many follow.  Errors: syntax, too_big.
Result<std::size_t> proxy_body_size(std::string_view head);

/// Head and body.  Nothing: the connection is the proxy's own, which asks whether we live.  Errors: syntax.
Result<std::optional<ProxiedClient>> parse_proxy_header(std::string_view head, std::string_view body, InetProtocols protocols);

/// Reads either from the start of a connection; `timeout` is for the whole.  Errors: as above; timeout and closed; the text is for
/// the log.
Task<Result<std::optional<ProxiedClient>>> read_proxied_client(Stream& stream, Millis timeout, InetProtocols protocols);

}  // namespace postern::smtpd
