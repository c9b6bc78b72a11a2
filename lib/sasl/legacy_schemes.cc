#include "lib/sasl/legacy_schemes.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include "lib/base/strings.h"
#include "lib/sasl/stored_password.h"

namespace postern {

namespace {

constexpr std::size_t kMd5Size = 16;             // MD4's, too
constexpr std::uint64_t kMaxOtpSequence = 100'000;   // RFC 2289 section 6: at least 9999; each is one digest
constexpr std::size_t kOtpHashSize = 8;

/// MD4 from OpenSSL's legacy provider, in a library context of its own: a provider that is loaded into the default one takes the
/// place of what would be there by itself.  Null when it cannot be had.
const EVP_MD* md4() {
    static const EVP_MD* const algorithm = []() -> const EVP_MD* {
        OSSL_LIB_CTX* const context = OSSL_LIB_CTX_new();
        if (context == nullptr || OSSL_PROVIDER_load(context, "legacy") == nullptr) {
            OSSL_LIB_CTX_free(context);
            return nullptr;
        }
        return EVP_MD_fetch(context, "MD4", nullptr);   // for as long as the process lives
    }();
    return algorithm;
}

Error no_md4() { return {Errc::unsupported, "MD4 is not available: OpenSSL's legacy provider cannot be loaded"}; }

/// Nothing when OpenSSL refuses, as it does in FIPS mode.
std::optional<std::string> digest_of(const EVP_MD* algorithm, std::string_view text) {
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (EVP_Digest(text.data(), text.size(), out, &size, algorithm, nullptr) != 1) {
        return std::nullopt;
    }
    return std::string(reinterpret_cast<const char*>(out), size);
}

Result<bool> compare_digest(const StoredPassword& stored, const EVP_MD* algorithm, std::string text) {
    const auto expected = digest_bytes(stored, kMd5Size);
    if (!expected || expected->size() != kMd5Size) {
        return bad_data(stored);
    }
    const auto digest = digest_of(algorithm, text);
    OPENSSL_cleanse(text.data(), text.size());
    if (!digest) {
        return {Errc::unsupported, "OpenSSL does not offer the digest of " + stored.scheme};
    }
    return equal_in_constant_time(*expected, *digest);
}

/// 64 bits of a digest (RFC 2289 appendix A): what SHA-1 has more is folded in, words with their bytes turned round.
std::string fold(std::string_view digest) {
    std::string out(digest.substr(0, kOtpHashSize));
    for (std::size_t i = kOtpHashSize; i < digest.size(); ++i) {
        out[i % kOtpHashSize] = static_cast<char>(out[i % kOtpHashSize] ^ digest[i]);
    }
    if (digest.size() == 20) {
        for (const std::size_t word : {0U, 4U}) {
            std::swap(out[word], out[word + 3]);
            std::swap(out[word + 1], out[word + 2]);
        }
    }
    return out;
}

struct OtpState {
    const EVP_MD* algorithm = nullptr;
    std::uint64_t sequence = 0;
    std::string seed;
    std::string hash;
};

std::optional<OtpState> parse_otp(const std::string& text) {
    const std::vector<std::string> words = split_exact(text, ' ');
    if (words.size() != 4) {
        return std::nullopt;
    }
    OtpState state;
    state.algorithm = words[0] == "md5" ? EVP_md5() : words[0] == "sha1" ? EVP_sha1() : words[0] == "md4" ? md4() : nullptr;
    const auto sequence = parse_number(words[1]);
    const auto hash = decode_hex(words[3]);
    const bool known = state.algorithm != nullptr || words[0] == "md4";
    if (!known || !sequence || *sequence > kMaxOtpSequence || words[2].empty() || !hash || hash->size() != kOtpHashSize) {
        return std::nullopt;
    }
    state.sequence = *sequence;
    state.seed = to_lower(words[2]);   // RFC 2289 section 6.0
    state.hash = *hash;
    return state;
}

}  // namespace

Result<bool> verify_md4(const StoredPassword& stored, std::string_view password) {
    return md4() == nullptr ? Result<bool>(no_md4()) : compare_digest(stored, md4(), std::string(password));
}

Result<bool> verify_digest_md5(const StoredPassword& stored, std::string_view password) {
    const std::size_t at = stored.user.find('@');
    const std::string realm = at == std::string::npos ? std::string() : stored.user.substr(at + 1);
    std::string text = stored.user.substr(0, at) + ":" + realm + ":";
    text += password;
    return compare_digest(stored, EVP_md5(), std::move(text));
}

Result<bool> verify_otp(const StoredPassword& stored, std::string_view password) {
    const auto text = text_of(stored);
    const auto state = text ? parse_otp(*text) : std::nullopt;
    if (!state) {
        return bad_data(stored);
    }
    if (state->algorithm == nullptr) {
        return no_md4();
    }
    std::string step = state->seed;
    step += password;
    for (std::uint64_t i = 0; i <= state->sequence; ++i) {
        const auto digest = digest_of(state->algorithm, step);
        OPENSSL_cleanse(step.data(), step.size());
        if (!digest) {
            return {Errc::unsupported, "OpenSSL does not offer the digest of " + stored.scheme};
        }
        step = fold(*digest);
    }
    return equal_in_constant_time(step, state->hash);
}

}  // namespace postern
