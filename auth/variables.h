/// Dovecot's %variables in user database templates, file names and mail_location.
///
///     %u user@domain   %n user   %d domain   %s service   %h home   %r remote IP   %l local IP   %% percent
///
/// with the modifiers L and U (lower, upper case) before the letter (%Lu), and the long forms %{user},
/// %{username}, %{domain}, %{service}, %{home}, %{rip}, %{lip} and Dovecot 2.4's %{user | lower}.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

/// A template may grow to at most this many bytes.
constexpr std::size_t kMaxExpansion = 4096;

struct Variables {
    std::string_view user;        ///< whole login name
    std::string_view service;     ///< "imap", "pop3", "smtp"
    std::string_view home;
    std::string_view remote_ip;
    std::string_view local_ip;

    std::string_view name() const { return user.substr(0, user.find('@')); }
    std::string_view domain() const {
        const auto at = user.find('@');
        return at == std::string_view::npos ? std::string_view() : user.substr(at + 1);
    }
};

/// Errors: config for a variable that does not exist (named in the text), too_big.
Result<std::string> expand_variables(std::string_view text, const Variables& variables);

/// The same for a file name: values with a slash, a NUL, or consisting of dots only are refused with
/// denied, so that a login name cannot choose a file outside the place the template names.  %h is exempt.
Result<std::string> expand_path(std::string_view text, const Variables& variables);

}  // namespace postern
