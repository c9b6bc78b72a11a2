/// Schemes that nobody should choose today, but that old password files have: checked as Dovecot does.
#pragma once

#include "lib/sasl/password_scheme.h"

namespace postern {

/// PLAIN-MD4: the MD4 of the password (RFC 1320).  Errors: unsupported where OpenSSL's legacy provider cannot be loaded.
Result<bool> verify_md4(const StoredPassword& stored, std::string_view password);

/// DIGEST-MD5 (RFC 2831): the MD5 of "user:realm:password"; the log-in name is "user@realm", or has no realm.
Result<bool> verify_digest_md5(const StoredPassword& stored, std::string_view password);

/// OTP (RFC 2289): "algorithm sequence seed hash", checked with the pass phrase itself, which the hash was made from.  Nothing is
/// used up by that.  Errors: as verify_md4() for md4.
Result<bool> verify_otp(const StoredPassword& stored, std::string_view password);

}  // namespace postern
