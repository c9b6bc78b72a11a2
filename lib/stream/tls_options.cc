#include "lib/stream/tls_options.h"

#include <openssl/ssl.h>

#include <string>

#include "lib/base/strings.h"

namespace postern {
namespace {

struct Named {
    std::string_view name;
    std::uint64_t bits;
};

constexpr Named kOptions[] = {
    {"ALLOW_NO_DHE_KEX", SSL_OP_ALLOW_NO_DHE_KEX},
    {"ALLOW_UNSAFE_LEGACY_RENEGOTIATION", SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION},
    {"CIPHER_SERVER_PREFERENCE", SSL_OP_CIPHER_SERVER_PREFERENCE},
    {"CRYPTOPRO_TLSEXT_BUG", SSL_OP_CRYPTOPRO_TLSEXT_BUG},
    {"DONT_INSERT_EMPTY_FRAGMENTS", SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS},
    {"ENABLE_KTLS", SSL_OP_ENABLE_KTLS},
    {"ENABLE_MIDDLEBOX_COMPAT", SSL_OP_ENABLE_MIDDLEBOX_COMPAT},
    {"IGNORE_UNEXPECTED_EOF", SSL_OP_IGNORE_UNEXPECTED_EOF},
    {"LEGACY_SERVER_CONNECT", SSL_OP_LEGACY_SERVER_CONNECT},
    {"NO_ANTI_REPLAY", SSL_OP_NO_ANTI_REPLAY},
    {"NO_COMPRESSION", SSL_OP_NO_COMPRESSION},
    {"NO_ENCRYPT_THEN_MAC", SSL_OP_NO_ENCRYPT_THEN_MAC},
    {"NO_EXTENDED_MASTER_SECRET", SSL_OP_NO_EXTENDED_MASTER_SECRET},
    {"NO_RENEGOTIATION", SSL_OP_NO_RENEGOTIATION},
    {"NO_SESSION_RESUMPTION_ON_RENEGOTIATION", SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION},
    {"NO_TICKET", SSL_OP_NO_TICKET},
    {"PRIORITIZE_CHACHA", SSL_OP_PRIORITIZE_CHACHA},
    {"SAFARI_ECDHE_ECDSA_BUG", SSL_OP_SAFARI_ECDHE_ECDSA_BUG},
    {"TLSEXT_PADDING", SSL_OP_TLSEXT_PADDING},
    {"TLS_ROLLBACK_BUG", SSL_OP_TLS_ROLLBACK_BUG},
    // What the options were called, or did, in releases of OpenSSL that main.cf files remember.
    {"MICROSOFT_SESS_ID_BUG", 0},
    {"MICROSOFT_BIG_SSLV3_BUFFER", 0},
    {"MSIE_SSLV2_RSA_PADDING", 0},
    {"NETSCAPE_CHALLENGE_BUG", 0},
    {"NETSCAPE_REUSE_CIPHER_CHANGE_BUG", 0},
    {"SSLEAY_080_CLIENT_DH_BUG", 0},
    {"SSLREF2_REUSE_CERT_TYPE_BUG", 0},
    {"TLS_BLOCK_PADDING_BUG", 0},
    {"TLS_D5_BUG", 0},
};

bool is_hexadecimal(std::string_view word) {
    return word.size() > 2 && word.size() <= 18 && (word.substr(0, 2) == "0x" || word.substr(0, 2) == "0X") &&
           word.find_first_not_of("0123456789abcdefABCDEF", 2) == word.npos;
}

}  // namespace

Result<std::uint64_t> parse_tls_options(std::string_view list) {
    std::uint64_t bits = 0;
    for (const std::string& word : split(list, ", \t")) {
        if (is_hexadecimal(word)) {
            bits |= std::stoull(word, nullptr, 16);
            continue;
        }
        std::string_view name = word;
        if (starts_with_ignoring_case(name, "SSL_OP_")) {
            name.remove_prefix(7);
        }
        const Named* found = nullptr;
        for (const Named& known : kOptions) {
            found = equals_ignoring_case(known.name, name) ? &known : found;
        }
        if (found == nullptr) {
            return Error(Errc::config, "\"" + printable(word, 80) + "\" is not an option of OpenSSL");
        }
        bits |= found->bits;
    }
    return bits;
}

}  // namespace postern
