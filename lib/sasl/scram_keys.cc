#include "lib/sasl/scram_keys.h"

#include <fmt/format.h>
#include <gsasl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <vector>

#include "lib/base/strings.h"

namespace postern {

namespace {

constexpr std::size_t kMaxSalt = 1024;

const EVP_MD* digest_of(ScramHash hash) {
    return hash == ScramHash::sha1 ? EVP_sha1() : EVP_sha256();
}

const unsigned char* bytes(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

std::size_t scram_digest_size(ScramHash hash) {
    return hash == ScramHash::sha1 ? 20 : 32;
}

Result<std::string> saslprep(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) {
        return {Errc::syntax, "text contains a NUL"};
    }
    const std::string terminated(text);
    char* prepared = nullptr;
    const int code = gsasl_saslprep(terminated.c_str(), GSASL_ALLOW_UNASSIGNED, &prepared, nullptr);
    if (code != GSASL_OK) {
        return {Errc::syntax, fmt::format("SASLprep: {}", gsasl_strerror(code))};
    }
    std::string result(prepared);
    gsasl_free(prepared);
    return result;
}

std::string scram_hmac(ScramHash hash, std::string_view key, std::string_view message) {
    std::string out(scram_digest_size(hash), '\0');
    unsigned int size = 0;
    if (HMAC(digest_of(hash), key.data(), static_cast<int>(key.size()), bytes(message), message.size(),
             reinterpret_cast<unsigned char*>(out.data()), &size) == nullptr) {
        std::abort();   // only when memory is exhausted
    }
    return out;
}

std::string scram_digest(ScramHash hash, std::string_view message) {
    std::string out(scram_digest_size(hash), '\0');
    if (EVP_Digest(message.data(), message.size(), reinterpret_cast<unsigned char*>(out.data()), nullptr,
                   digest_of(hash), nullptr) != 1) {
        std::abort();
    }
    return out;
}

ScramKeys derive_scram_keys(ScramHash hash, std::string_view password, std::string salt, std::uint32_t iterations) {
    const Result<std::string> prepared = saslprep(password);
    const std::string_view secret = prepared ? std::string_view(*prepared) : password;
    std::string salted(scram_digest_size(hash), '\0');
    if (PKCS5_PBKDF2_HMAC(secret.data(), static_cast<int>(secret.size()), bytes(salt), static_cast<int>(salt.size()),
                          static_cast<int>(iterations), digest_of(hash), static_cast<int>(salted.size()),
                          reinterpret_cast<unsigned char*>(salted.data())) != 1) {
        std::abort();
    }
    ScramKeys keys;
    keys.iterations = iterations;
    keys.salt = std::move(salt);
    keys.stored_key = scram_digest(hash, scram_hmac(hash, salted, "Client Key"));
    keys.server_key = scram_hmac(hash, salted, "Server Key");
    return keys;
}

std::string format_scram_keys(const ScramKeys& keys) {
    return fmt::format("{},{},{},{}", keys.iterations, base64_encode(keys.salt), base64_encode(keys.stored_key),
                       base64_encode(keys.server_key));
}

Result<ScramKeys> parse_scram_keys(ScramHash hash, std::string_view text) {
    const Error bad(Errc::syntax, "SCRAM keys are not \"iterations,salt,StoredKey,ServerKey\"");
    const std::vector<std::string> parts = split_exact(text, ',');
    if (parts.size() != 4) {
        return bad;
    }
    const auto iterations = parse_number(parts[0]);
    auto salt = base64_decode(parts[1]);
    auto stored = base64_decode(parts[2]);
    auto server = base64_decode(parts[3]);
    if (!iterations || *iterations == 0 || *iterations > kMaxScramIterations || !salt || salt->empty() ||
        salt->size() > kMaxSalt || !stored || stored->size() != scram_digest_size(hash) || !server ||
        server->size() != scram_digest_size(hash)) {
        return bad;
    }
    ScramKeys keys;
    keys.iterations = static_cast<std::uint32_t>(*iterations);
    keys.salt = std::move(*salt);
    keys.stored_key = std::move(*stored);
    keys.server_key = std::move(*server);
    return keys;
}

}  // namespace postern
