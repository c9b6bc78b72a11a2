/// Cipher grades and curve grades of main.cf as OpenSSL's lists (postconf(5), smtpd_tls_ciphers, smtpd_tls_eecdh_grade).
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern {

/// TLS 1.2 and older: the list of `grade` without the ciphers in `excluded`, which are separated by blanks, commas or colons.
/// The grades low and export are medium, since nothing weaker exists any more.  Errors: config, naming the grade.
Result<std::string> tls_cipher_list(const Config& config, std::string_view grade, std::string_view excluded);

/// Key exchange groups, best first, separated by blanks: elliptic curves of `grade` (auto, strong, ultra, none), then
/// tls_ffdhe_auto_groups; empty: OpenSSL's own choice.  Errors: config, naming the grade.
Result<std::string> tls_group_list(const Config& config, std::string_view grade);

}  // namespace postern
