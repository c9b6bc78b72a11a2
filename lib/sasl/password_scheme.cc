#include "lib/sasl/password_scheme.h"

#include <crypt.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>

#ifdef HAVE_SODIUM
#include <sodium.h>
#endif

#include "lib/base/strings.h"
#include "lib/sasl/cram_md5.h"
#include "lib/sasl/legacy_schemes.h"
#include "lib/sasl/stored_password.h"

namespace postern {

namespace {

using Verify = Result<bool> (*)(const StoredPassword&, std::string_view password);
using Make = Result<std::string> (*)(std::string_view password, unsigned long rounds);

/// One digest: scheme names it, its size tells hash and salt apart.
struct Digest {
    const EVP_MD* (*algorithm)();
    std::size_t size;
};
constexpr Digest kMd5{EVP_md5, 16};
constexpr Digest kSha1{EVP_sha1, 20};
constexpr Digest kSha256{EVP_sha256, 32};
constexpr Digest kSha512{EVP_sha512, 64};

constexpr std::size_t kSaltSize = 8;
constexpr unsigned long kPbkdf2Rounds = 5000;
constexpr unsigned long kMaxPbkdf2Rounds = 10'000'000;

std::string digest(const Digest& which, std::string_view a, std::string_view b = {}) {
    std::string text(a);
    text += b;
    std::string out(which.size, '\0');
    if (EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(out.data()), nullptr, which.algorithm(),
                   nullptr) != 1) {
        std::abort();
    }
    OPENSSL_cleanse(text.data(), text.size());
    return out;
}

Result<bool> verify_plain(const StoredPassword& stored, std::string_view password) {
    const auto text = text_of(stored);
    if (!text) {
        return bad_data(stored);
    }
    return equal_in_constant_time(*text, password);
}

/// "16-0123456789abcdef": only the first 16 characters of the password were kept.
Result<bool> verify_plain_trunc(const StoredPassword& stored, std::string_view password) {
    const auto text = text_of(stored);
    const std::size_t dash = text ? text->find('-') : std::string::npos;
    const auto length = dash == std::string::npos ? std::nullopt : parse_number(std::string_view(*text).substr(0, dash));
    if (!length) {
        return bad_data(stored);
    }
    const std::string_view kept = std::string_view(*text).substr(dash + 1);
    return equal_in_constant_time(kept, kept.size() == *length ? password.substr(0, *length) : password);
}

/// The program's own crypt(3) with its 32 KB of working memory off the stack.
std::optional<std::string> run_crypt(std::string_view password, const std::string& setting) {
    if (password.find('\0') != std::string_view::npos) {
        return std::nullopt;   // crypt(3) would see only what is before the NUL
    }
    const auto data = std::make_unique<crypt_data>();
    std::string secret(password);
    const char* hash = crypt_r(secret.c_str(), setting.c_str(), data.get());
    std::optional<std::string> result;
    if (hash != nullptr && hash[0] != '*') {
        result = hash;
    }
    OPENSSL_cleanse(secret.data(), secret.size());
    OPENSSL_cleanse(data.get(), sizeof(*data));
    return result;
}

Result<bool> verify_crypt(const StoredPassword& stored, std::string_view password) {
    const auto setting = text_of(stored);
    if (!setting || setting->find('\0') != std::string::npos) {
        return bad_data(stored);
    }
    if (setting->empty() || setting->front() == '*' || setting->front() == '!') {
        return false;   // a locked account, as in shadow(5)
    }
    const auto hash = run_crypt(password, *setting);
    if (!hash) {
        if (password.find('\0') != std::string_view::npos) {
            return false;
        }
        return Error(Errc::unsupported, "crypt(3) does not know this hash");
    }
    return equal_in_constant_time(*hash, *setting);
}

template <const Digest& which>
Result<bool> verify_digest(const StoredPassword& stored, std::string_view password) {
    const auto expected = digest_bytes(stored, which.size);
    if (!expected || expected->size() != which.size) {
        return bad_data(stored);
    }
    return equal_in_constant_time(*expected, digest(which, password));
}

template <const Digest& which>
Result<bool> verify_salted(const StoredPassword& stored, std::string_view password) {
    const auto expected = stored.encoding == "HEX" ? decode_hex(stored.data) : decode_base64(stored.data);
    if (!expected || expected->size() <= which.size) {
        return bad_data(stored);
    }
    const std::string_view all = *expected;
    return equal_in_constant_time(all.substr(0, which.size), digest(which, password, all.substr(which.size)));
}

/// LDAP-MD5 and PLAIN-MD5 differ only in their default encoding, which the length tells.
Result<bool> verify_md5(const StoredPassword& stored, std::string_view password) {
    if (stored.data.compare(0, 3, "$1$") == 0) {
        return verify_crypt(stored, password);
    }
    return verify_digest<kMd5>(stored, password);
}

Result<bool> verify_cram_md5(const StoredPassword& stored, std::string_view password) {
    const bool is_hex = stored.encoding == "HEX" || (stored.encoding.empty() && stored.data.size() == 2 * kCramMd5Size);
    const auto expected = is_hex ? decode_hex(stored.data) : decode_base64(stored.data);
    if (!expected || expected->size() != kCramMd5Size) {
        return bad_data(stored);
    }
    return equal_in_constant_time(*expected, cram_md5_states(password));
}

std::string pbkdf2(std::string_view password, std::string_view salt, unsigned long rounds) {
    std::string out(kSha1.size, '\0');
    if (PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()),
                          reinterpret_cast<const unsigned char*>(salt.data()), static_cast<int>(salt.size()),
                          static_cast<int>(rounds), EVP_sha1(), static_cast<int>(out.size()),
                          reinterpret_cast<unsigned char*>(out.data())) != 1) {
        std::abort();
    }
    return hex_encode(out);
}

/// "$1$salt$rounds$hex", PBKDF2 with HMAC-SHA-1.
Result<bool> verify_pbkdf2(const StoredPassword& stored, std::string_view password) {
    const auto text = text_of(stored);
    const auto parts = split_exact(text ? *text : std::string(), '$');
    if (parts.size() != 5 || !parts[0].empty() || parts[1] != "1") {
        return bad_data(stored);
    }
    const auto rounds = parse_number(parts[3]);
    if (!rounds || *rounds == 0 || *rounds > kMaxPbkdf2Rounds || parts[4].size() != 2 * kSha1.size) {
        return bad_data(stored);
    }
    return equal_in_constant_time(pbkdf2(password, parts[2], *rounds), parts[4]);
}

template <ScramHash hash>
Result<bool> verify_scram(const StoredPassword& stored, std::string_view password) {
    const auto text = text_of(stored);
    const Result<ScramKeys> keys = parse_scram_keys(hash, text ? *text : std::string());
    if (!keys) {
        return keys.error();
    }
    const ScramKeys tried = derive_scram_keys(hash, password, keys->salt, keys->iterations);
    return equal_in_constant_time(tried.server_key, keys->server_key);
}

#ifdef HAVE_SODIUM
Result<bool> verify_argon2(const StoredPassword& stored, std::string_view password) {
    const auto text = text_of(stored);
    if (!text || sodium_init() < 0) {
        return bad_data(stored);
    }
    return crypto_pwhash_str_verify(text->c_str(), password.data(), password.size()) == 0;
}

Result<std::string> make_argon2(std::string_view password, unsigned long) {
    std::array<char, crypto_pwhash_STRBYTES> out{};
    if (sodium_init() < 0 || crypto_pwhash_str(out.data(), password.data(), password.size(),
                                               crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                               crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0) {
        return {Errc::temporary, "not enough memory for ARGON2"};
    }
    return std::string(out.data());
}
#endif

Result<std::string> make_plain(std::string_view password, unsigned long) {
    return std::string(password);
}

template <const Digest& which>
Result<std::string> make_digest(std::string_view password, unsigned long) {
    return base64_encode(digest(which, password));
}

Result<std::string> make_hex_md5(std::string_view password, unsigned long) {
    return hex_encode(digest(kMd5, password));
}

template <const Digest& which>
Result<std::string> make_salted(std::string_view password, unsigned long) {
    const std::string salt = random_bytes(kSaltSize);
    return base64_encode(digest(which, password, salt) + salt);
}

/// `prefix` chooses the method: "$6$" and so on; "" is traditional DES.
Result<std::string> make_crypt(const char* prefix, std::string_view password, unsigned long rounds) {
    if (password.find('\0') != std::string_view::npos) {
        return {Errc::syntax, "crypt(3) cannot hold a password with a NUL"};
    }
    std::array<char, CRYPT_GENSALT_OUTPUT_SIZE> setting{};
    const std::string random = random_bytes(64);
    if (crypt_gensalt_rn(prefix, rounds, random.data(), static_cast<int>(random.size()), setting.data(),
                         static_cast<int>(setting.size())) == nullptr) {
        return {Errc::syntax, fmt::format("crypt(3) refuses {} rounds for this scheme", rounds)};
    }
    const auto hash = run_crypt(password, setting.data());
    if (!hash) {
        return {Errc::unsupported, "crypt(3) does not offer this scheme"};
    }
    return *hash;
}

/// The 16 characters Dovecot uses for PBKDF2 salts.
std::string text_salt() {
    constexpr std::string_view kAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    std::string salt = random_bytes(16);
    for (char& c : salt) {
        c = kAlphabet[static_cast<unsigned char>(c) % kAlphabet.size()];
    }
    return salt;
}

Result<std::string> make_pbkdf2(std::string_view password, unsigned long rounds) {
    if (rounds > kMaxPbkdf2Rounds) {
        return {Errc::syntax, "too many rounds"};
    }
    const unsigned long count = rounds == 0 ? kPbkdf2Rounds : rounds;
    const std::string salt = text_salt();
    return fmt::format("$1${}${}${}", salt, count, pbkdf2(password, salt, count));
}

template <ScramHash hash>
Result<std::string> make_scram(std::string_view password, unsigned long rounds) {
    if (rounds > kMaxScramIterations || (rounds != 0 && rounds < kScramIterations)) {
        return {Errc::syntax, fmt::format("SCRAM wants {} to {} iterations", kScramIterations, kMaxScramIterations)};
    }
    const auto count = rounds == 0 ? kScramIterations : static_cast<std::uint32_t>(rounds);
    return format_scram_keys(derive_scram_keys(hash, password, random_bytes(16), count));
}

struct Scheme {
    std::string_view name;
    Verify verify;
    Make make;            ///< null: can be checked, not made
    bool expensive;
};

constexpr Scheme kSchemes[] = {
#ifdef HAVE_SODIUM
    {"ARGON2I", verify_argon2, nullptr, true},
    {"ARGON2ID", verify_argon2, make_argon2, true},
#endif
    {"BLF-CRYPT", verify_crypt, [](std::string_view p, unsigned long r) { return make_crypt("$2y$", p, r); }, true},
    {"CLEAR", verify_plain, make_plain, false},
    {"CLEARTEXT", verify_plain, make_plain, false},
    {"CRAM-MD5", verify_cram_md5, nullptr, false},
    {"CRYPT", verify_crypt, [](std::string_view p, unsigned long r) { return make_crypt("$2y$", p, r); }, true},
    {"DES-CRYPT", verify_crypt, nullptr, true},
    {"DIGEST-MD5", verify_digest_md5, nullptr, false},
    {"HMAC-MD5", verify_cram_md5, nullptr, false},
    {"LDAP-MD5", verify_digest<kMd5>, make_digest<kMd5>, false},
    {"MD5", verify_md5, nullptr, true},
    {"MD5-CRYPT", verify_crypt, [](std::string_view p, unsigned long r) { return make_crypt("$1$", p, r); }, true},
    {"OTP", verify_otp, nullptr, true},
    {"PBKDF2", verify_pbkdf2, make_pbkdf2, true},
    {"PLAIN", verify_plain, make_plain, false},
    {"PLAIN-MD4", verify_md4, nullptr, false},
    {"PLAIN-MD5", verify_digest<kMd5>, make_hex_md5, false},
    {"PLAIN-TRUNC", verify_plain_trunc, nullptr, false},
    {"SCRAM-SHA-1", verify_scram<ScramHash::sha1>, make_scram<ScramHash::sha1>, true},
    {"SCRAM-SHA-256", verify_scram<ScramHash::sha256>, make_scram<ScramHash::sha256>, true},
    {"SHA", verify_digest<kSha1>, make_digest<kSha1>, false},
    {"SHA1", verify_digest<kSha1>, make_digest<kSha1>, false},
    {"SHA256", verify_digest<kSha256>, make_digest<kSha256>, false},
    {"SHA256-CRYPT", verify_crypt, [](std::string_view p, unsigned long r) { return make_crypt("$5$", p, r); }, true},
    {"SHA512", verify_digest<kSha512>, make_digest<kSha512>, false},
    {"SHA512-CRYPT", verify_crypt, [](std::string_view p, unsigned long r) { return make_crypt("$6$", p, r); }, true},
    {"SMD5", verify_salted<kMd5>, make_salted<kMd5>, false},
    {"SSHA", verify_salted<kSha1>, make_salted<kSha1>, false},
    {"SSHA256", verify_salted<kSha256>, make_salted<kSha256>, false},
    {"SSHA512", verify_salted<kSha512>, make_salted<kSha512>, false},
    {"YESCRYPT", verify_crypt, [](std::string_view p, unsigned long r) { return make_crypt("$y$", p, r); }, true},
};

const Scheme* find_scheme(std::string_view name) {
    const auto* found = std::find_if(std::begin(kSchemes), std::end(kSchemes),
                                     [name](const Scheme& scheme) { return scheme.name == name; });
    return found == std::end(kSchemes) ? nullptr : found;
}

Error unknown_scheme(std::string_view name) {
    if (name == "ARGON2I" || name == "ARGON2ID") {
        return Error(Errc::unsupported, fmt::format("Unknown scheme {} ({})", name, kMissingSchemes));
    }
    return Error(Errc::unsupported, fmt::format("Unknown scheme {}", printable(name, 40)));
}

}  // namespace

bool equal_in_constant_time(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Result<StoredPassword> split_stored_password(std::string_view stored, std::string_view default_scheme) {
    std::string_view name = default_scheme;
    std::string_view data = stored;
    if (!stored.empty() && stored.front() == '{') {
        const std::size_t close = stored.find('}');
        if (close == std::string_view::npos) {
            return {Errc::syntax, "password starts with '{' but has no '}'"};
        }
        name = stored.substr(1, close - 1);
        data = stored.substr(close + 1);
    }
    StoredPassword result;
    const std::size_t dot = name.find('.');
    result.scheme = to_upper(name.substr(0, dot));
    result.encoding = dot == std::string_view::npos ? "" : to_upper(name.substr(dot + 1));
    if (result.encoding == "BASE64") {
        result.encoding = "B64";
    }
    if (!result.encoding.empty() && result.encoding != "B64" && result.encoding != "HEX") {
        return {Errc::syntax, fmt::format("Unknown password encoding {}", printable(result.encoding, 40))};
    }
    result.data = data;
    return result;
}

Result<bool> verify_password(std::string_view stored, std::string_view default_scheme, std::string_view password,
                             std::string_view user) {
    Result<StoredPassword> parts = split_stored_password(stored, default_scheme);
    if (!parts) {
        return parts.error();
    }
    const Scheme* scheme = find_scheme(parts->scheme);
    if (scheme == nullptr) {
        return unknown_scheme(parts->scheme);
    }
    if (password.size() > kMaxPassword) {
        return false;
    }
    if (scheme->expensive) {
        const Result<PasswordCost> cost = cost_of_hash(*parts);
        if (!cost) {
            return cost.error();
        }
    }
    parts->user = user;
    return scheme->verify(*parts, password);
}

std::optional<ScramKeys> scram_keys_of(std::string_view stored, std::string_view default_scheme, ScramHash hash,
                                       std::string salt) {
    const Result<StoredPassword> parts = split_stored_password(stored, default_scheme);
    const auto text = parts ? text_of(*parts) : std::nullopt;
    if (!text) {
        return std::nullopt;
    }
    if (parts->scheme == (hash == ScramHash::sha1 ? "SCRAM-SHA-1" : "SCRAM-SHA-256")) {
        Result<ScramKeys> keys = parse_scram_keys(hash, *text);
        return keys ? std::optional(std::move(*keys)) : std::nullopt;
    }
    if (parts->scheme == "PLAIN" || parts->scheme == "CLEARTEXT" || parts->scheme == "CLEAR") {
        return derive_scram_keys(hash, *text, std::move(salt), kScramIterations);
    }
    return std::nullopt;
}

Result<PasswordCost> password_cost(std::string_view stored, std::string_view default_scheme) {
    const Result<StoredPassword> parts = split_stored_password(stored, default_scheme);
    const Scheme* scheme = parts ? find_scheme(parts->scheme) : nullptr;
    return scheme != nullptr && scheme->expensive ? cost_of_hash(*parts) : PasswordCost::cheap;
}

Result<std::string> make_password(std::string_view scheme, std::string_view password, unsigned long rounds) {
    const Result<StoredPassword> parts = split_stored_password(std::string("{") + std::string(scheme) + "}", "");
    if (!parts) {
        return parts.error();
    }
    const Scheme* found = find_scheme(parts->scheme);
    if (found == nullptr) {
        return unknown_scheme(parts->scheme);
    }
    if (found->make == nullptr) {
        return {Errc::unsupported, fmt::format("{} passwords are accepted but not made", parts->scheme)};
    }
    if (password.empty() || password.size() > kMaxPassword) {
        return {Errc::syntax, fmt::format("a password has 1 to {} bytes", kMaxPassword)};
    }
    Result<std::string> hash = found->make(password, rounds);
    if (!hash || parts->encoding.empty()) {
        return hash ? Result<std::string>(fmt::format("{{{}}}{}", parts->scheme, *hash)) : hash;
    }
    StoredPassword made{parts->scheme, "", *hash};
    const bool binary = parts->scheme.compare(0, 3, "SHA") == 0 || parts->scheme.compare(0, 2, "SS") == 0 ||
                        parts->scheme == "SMD5" || parts->scheme == "LDAP-MD5" || parts->scheme == "PLAIN-MD5";
    const bool is_crypt = parts->scheme.find("CRYPT") != std::string::npos;
    const std::string raw = binary && !is_crypt
                                ? (parts->scheme == "PLAIN-MD5" ? *decode_hex(*hash) : *decode_base64(*hash))
                                : *hash;
    return fmt::format("{{{}.{}}}{}", parts->scheme, parts->encoding,
                       parts->encoding == "HEX" ? hex_encode(raw) : base64_encode(raw));
}

std::vector<std::string_view> password_schemes() {
    std::vector<std::string_view> names;
    for (const Scheme& scheme : kSchemes) {
        if (scheme.make != nullptr) {
            names.push_back(scheme.name);
        }
    }
    return names;
}

}  // namespace postern
