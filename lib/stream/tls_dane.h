/// Servers that are known by TLSA records (RFC 7671, 7672) or by trust anchors of the administrator's own, by OpenSSL's DANE.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/dns/tlsa.h"

struct ssl_ctx_st;
struct ssl_st;

namespace postern {

struct TlsDemand;

/// A digest that TLSA records may use, and its number as their matching type.
struct DaneDigest {
    std::string name;
    std::uint8_t matching = 0;
};

/// tls_dane_digests: "sha512 sha256", best first; "name=number" for what has no number of its own.  Errors: config, for a digest
/// that OpenSSL does not have, or one without a number.
Result<std::vector<DaneDigest>> parse_dane_digests(std::string_view list);

/// Lets connections of `context` use TLSA records with these digests.  Of the records of one usage and selector OpenSSL heeds only
/// those with the best digest, and those without a digest (RFC 7671 section 9).  Errors: config.
Result<void> allow_dane(ssl_ctx_st* context, const std::vector<DaneDigest>& digests);

/// Whether the record can tell us anything (RFC 7672 section 3.1): usage DANE-TA or DANE-EE, a known selector, a digest of the
/// right size, or DER that is what it should be.  Usages 0 and 1 are for the Web.
bool tlsa_usable(const TlsaRecord& record, const std::vector<DaneDigest>& digests);

/// Before SSL_connect(), with TlsDemand::tlsa: only these records vouch for the server.  DANE-TA wants one of TlsDemand::names
/// certified and a certificate that is in force, DANE-EE neither (RFC 7671 section 5.1).  Errors: config, when none can be used.
Result<void> demand_dane(ssl_st* ssl, const TlsDemand& demand);

/// The certificates and public keys of a PEM file, as records with usage DANE-TA that have all of their data
/// (smtp_tls_trust_anchor_file).  Errors: config, naming the file.
Result<std::vector<TlsaRecord>> read_trust_anchor_certificates(const std::string& path);

}  // namespace postern
