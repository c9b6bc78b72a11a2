/// login_log_format and login_log_format_elements: the line about a login, in Dovecot's shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern {

/// `auth_user` is who has logged in, which may be a master user.
struct LoginFacts {
    std::string_view user, auth_user, method, remote_ip, local_ip, session_id, service;
    std::uint32_t pid = 0;             ///< of the session process; 0: none
    std::uint32_t remote_port = 0, local_port = 0;
    std::string_view security;         ///< "TLS", "secured" or ""
    std::string_view tls_protocol, tls_cipher;
};

/// The elements that have something to say, joined by ", ".  Those that name the user are always there.
std::string login_elements(std::string_view format, const LoginFacts& facts);

/// `format` with %$ for `what` and %s for the elements.
std::string login_line(std::string_view format, std::string_view what, std::string_view elements);

}  // namespace postern
