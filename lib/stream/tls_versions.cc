#include "lib/stream/tls_versions.h"

#include <openssl/ssl.h>

#include <array>

#include "lib/base/strings.h"

namespace postern {

namespace {

struct Version {
    const char* name;
    int number;
    std::uint64_t off;
};
constexpr std::array<Version, 5> kVersions{{
    {"SSLv3", SSL3_VERSION, SSL_OP_NO_SSLv3},
    {"TLSv1", TLS1_VERSION, SSL_OP_NO_TLSv1},
    {"TLSv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
    {"TLSv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
    {"TLSv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
}};

const Version* version_named(std::string_view name) {
    for (const Version& version : kVersions) {
        if (equals_ignoring_case(name, version.name)) {
            return &version;
        }
    }
    return nullptr;
}

}  // namespace

Result<TlsVersions> parse_tls_versions(const std::string& list) {
    TlsVersions out;
    std::uint64_t named = 0;
    for (const std::string& element : split(list, ", \t:")) {
        std::string_view name = element;
        char kind = '=';
        if (name.substr(0, 2) == ">=" || name.substr(0, 2) == "<=") {
            kind = name[0];
            name.remove_prefix(2);
        } else if (name[0] == '!') {
            kind = '!';
            name.remove_prefix(1);
        }
        if (equals_ignoring_case(name, "SSLv2")) {
            continue;   // long gone from OpenSSL
        }
        const Version* version = version_named(name);
        if (version == nullptr) {
            return Error(Errc::config, "unknown TLS protocol \"" + std::string(name) +
                                           "\": use SSLv3, TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3, with >=, <= or !");
        }
        if (kind == '>') {
            out.lowest = version->number;
        } else if (kind == '<') {
            out.highest = version->number;
        } else if (kind == '!') {
            out.off |= version->off;
        } else {
            named |= version->off;
        }
    }
    if (named != 0) {
        for (const Version& version : kVersions) {
            out.off |= (named & version.off) == 0 ? version.off : 0;
        }
    }
    return out;
}

}  // namespace postern
