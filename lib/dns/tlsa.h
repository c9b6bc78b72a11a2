/// TLSA records (RFC 6698 section 2.1): which certificates or keys a server has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace postern {

struct TlsaRecord {
    static constexpr std::uint8_t kTrustAnchor = 2;   ///< usage DANE-TA: the authority that has signed the certificate
    static constexpr std::uint8_t kEndEntity = 3;     ///< usage DANE-EE: the server's certificate itself
    static constexpr std::uint8_t kCertificate = 0;   ///< selector: the whole certificate
    static constexpr std::uint8_t kPublicKey = 1;     ///< selector: its SubjectPublicKeyInfo
    static constexpr std::uint8_t kFull = 0;          ///< matching type: the data itself, no digest of it

    std::uint8_t usage = 0;
    std::uint8_t selector = 0;
    std::uint8_t matching = 0;
    std::string data;              ///< bytes: a digest, or DER

    bool operator==(const TlsaRecord&) const = default;
    /// "3 1 1 8CB0FC6C527506A053F4F14C8464BEBBD6DEDE2738D11468DD953D7D6A3021F1", as zone files have it.
    std::string text() const;
};

/// One record's data, as Dns gives it.  Errors: syntax, for less than three fields and a byte of data.  Whether the fields make
/// sense is another question (lib/stream/tls_dane.h).
Result<TlsaRecord> parse_tlsa(std::string_view rdata);

/// Where a host's TLSA records are: "_25._tcp.mail.example.com" (RFC 6698 section 3).
std::string tlsa_name(std::string_view host, std::uint16_t port);

}  // namespace postern
