/// What a server keeps about a password for SCRAM (RFC 5802 section 3, RFC 7677), and how it is derived.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

enum class ScramHash : unsigned char { sha1, sha256 };

/// RFC 7677 section 4 asks for at least 4096 rounds.
constexpr std::uint32_t kScramIterations = 4096;
/// Upper bound for stored iteration counts: each login costs the client this much work too.
constexpr std::uint32_t kMaxScramIterations = 10'000'000;

/// Binary, not base64.  Lets the server check a client, not impersonate one.
struct ScramKeys {
    std::uint32_t iterations = kScramIterations;
    std::string salt;
    std::string stored_key;
    std::string server_key;
};

std::size_t scram_digest_size(ScramHash hash);

/// SASLprep (RFC 4013) of a password or name, with unassigned code points allowed (a query, not stored
/// data).  Errors: syntax for malformed UTF-8, prohibited characters, mixed directions, an embedded NUL.
Result<std::string> saslprep(std::string_view text);

/// RFC 5802 section 3.  The password goes through SASLprep first; one that SASLprep refuses is used as
/// it is, as Dovecot and most clients do, so that passwords in other character sets keep working.
/// Takes about a millisecond for every 4096 iterations.
ScramKeys derive_scram_keys(ScramHash hash, std::string_view password, std::string salt, std::uint32_t iterations);

/// "iterations,salt,stored key,server key" (base64), Dovecot's {SCRAM-SHA-1} and {SCRAM-SHA-256}.
std::string format_scram_keys(const ScramKeys& keys);
/// Errors: syntax.
Result<ScramKeys> parse_scram_keys(ScramHash hash, std::string_view text);

/// HMAC with the hash of the mechanism; `key` and `message` are bytes.
std::string scram_hmac(ScramHash hash, std::string_view key, std::string_view message);
/// The hash itself.
std::string scram_digest(ScramHash hash, std::string_view message);

}  // namespace postern
