/// Stored passwords in Dovecot's notation, {SCHEME} or {SCHEME.ENCODING} before the hash.
///
/// Schemes: PLAIN, CLEARTEXT, CLEAR, PLAIN-TRUNC, CRYPT (whatever crypt(3) knows by its $id$), DES-CRYPT,
/// MD5-CRYPT, SHA256-CRYPT, SHA512-CRYPT, BLF-CRYPT, YESCRYPT, MD5, PLAIN-MD5, LDAP-MD5, SMD5, SHA, SHA1,
/// SHA256, SHA512, SSHA, SSHA256, SSHA512, PBKDF2, SCRAM-SHA-1, SCRAM-SHA-256, CRAM-MD5, HMAC-MD5, DIGEST-MD5, OTP, PLAIN-MD4
/// (where OpenSSL has its legacy provider), and, where the build found libsodium (HAVE_SODIUM), ARGON2I and ARGON2ID.
/// Encodings: HEX, B64 (also BASE64).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/sasl/scram_keys.h"

namespace postern {

/// What this build cannot do for want of a library, in words for "postern check" and the log; empty for nothing.
#ifdef HAVE_SODIUM
inline constexpr std::string_view kMissingSchemes = "";
#else
inline constexpr std::string_view kMissingSchemes =
    "built without libsodium: ARGON2I and ARGON2ID passwords cannot be checked, their owners cannot log in";
#endif

/// A longer password is refused before any hash sees it.
constexpr std::size_t kMaxPassword = 4096;

/// "{SCHEME.ENC}data" cut in two; without braces the whole text belongs to `default_scheme`.
struct StoredPassword {
    std::string scheme;     ///< upper case, without encoding, such as "SSHA256"
    std::string encoding;   ///< "", "HEX" or "B64"
    std::string data;       ///< as stored
    std::string user{};     ///< the log-in name, which DIGEST-MD5 hashes too
};
/// Errors: syntax for a brace that never closes or an unknown encoding.
Result<StoredPassword> split_stored_password(std::string_view stored, std::string_view default_scheme);

/// Whether `password` is the one `stored` was made from.  Every comparison takes the same time whatever
/// the outcome; a crypt(3) or PBKDF2 scheme takes its full cost.  Safe to call from several threads.
/// `user` is the log-in name.
/// Errors: unsupported for an unknown scheme (named in the text) and for a hash that wants too much (password_cost()), syntax
/// for data that does not fit the scheme.
Result<bool> verify_password(std::string_view stored, std::string_view default_scheme, std::string_view password,
                             std::string_view user = {});

/// SCRAM keys from a stored password: kept ones, or derived when the stored form is the password itself.
/// nothing when neither is possible (a one-way hash of another kind); `salt` is used for derived keys.
std::optional<ScramKeys> scram_keys_of(std::string_view stored, std::string_view default_scheme, ScramHash hash,
                                       std::string salt);

/// What verify_password() takes.
enum class PasswordCost : unsigned char {
    cheap,       ///< nothing to speak of
    expensive,   ///< long enough that it belongs in another thread
    heavy,       ///< about a second, or more than a hundred megabytes of memory: few at a time
};
/// Errors: unsupported, with the number, for a hash that wants so much that it is not checked at all.
Result<PasswordCost> password_cost(std::string_view stored, std::string_view default_scheme);
/// The same for a scheme that is not cheap.
Result<PasswordCost> cost_of_hash(const StoredPassword& stored);

/// "{SCHEME}..." for a passwd-file.  `scheme` may name an encoding.  `rounds` 0 means the scheme's
/// default.  Errors: unsupported, syntax (a password the scheme cannot hold, rounds out of range).
Result<std::string> make_password(std::string_view scheme, std::string_view password, unsigned long rounds = 0);

/// Names make_password accepts, in alphabetic order.
std::vector<std::string_view> password_schemes();

/// Same bytes, compared in a time that depends on the sizes only.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace postern
