/// What smtp(8) and postern-tlsrpt(1) say to tlsrpt(8) on private/tlsrpt.
///
/// smtp sends outcomes and hears nothing.  The command asks with TlsrptShow or TlsrptSend and is answered with one TlsrptText.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/ipc/channel.h"

namespace postern {

/// RFC 8460 section 4.4, "policy-type".
enum class TlsrptPolicy : std::uint8_t { no_policy_found, sts, tlsa };

/// RFC 8460 section 4.3, with success in front.
enum class TlsrptResult : std::uint8_t {
    success,
    starttls_not_supported,
    certificate_host_mismatch,
    certificate_expired,
    certificate_not_trusted,
    validation_failure,
    tlsa_invalid,
    dnssec_invalid,
    dane_required,
    sts_policy_fetch_error,
    sts_policy_invalid,
    sts_webpki_invalid,
};
inline constexpr std::size_t kTlsrptResults = 12;
std::string_view tlsrpt_result_name(TlsrptResult result);
std::string_view tlsrpt_policy_name(TlsrptPolicy policy);

/// How one TLS session, or the attempt to have one, went.
struct TlsrptOutcome {
    std::string domain;                        ///< the policy domain
    std::uint8_t policy = 0;                   ///< a TlsrptPolicy
    std::vector<std::string> policy_strings;   ///< the policy as published: its lines, or TLSA records
    std::vector<std::string> mx_patterns;      ///< of an MTA-STS policy
    std::uint8_t result = 0;                   ///< a TlsrptResult
    std::string sending_ip;
    std::string receiving_host;                ///< MX host
    std::string receiving_helo;                ///< how it called itself
    std::string receiving_ip;
    std::string reason;                        ///< what went wrong, for people
};
/// `day` "2026-11-22" and `domain` may be empty: all.
struct TlsrptShow {
    std::string day;
    std::string domain;
    bool json = false;                         ///< the reports as they would be sent
};
/// Reports are sent now, also of the day that is not over.
struct TlsrptSend {
    std::string day;
    std::string domain;
};
struct TlsrptText {
    std::string text;
};

template <class A>
void fields(A& a, TlsrptOutcome& m) {
    a(m.domain, m.policy, m.policy_strings, m.mx_patterns, m.result, m.sending_ip, m.receiving_host, m.receiving_helo, m.receiving_ip,
      m.reason);
}
template <class A>
void fields(A& a, TlsrptShow& m) {
    a(m.day, m.domain, m.json);
}
template <class A>
void fields(A& a, TlsrptSend& m) {
    a(m.day, m.domain);
}
template <class A>
void fields(A& a, TlsrptText& m) {
    a(m.text);
}

/// Trigger: master's wake-up; look whether reports are due.
using ToTlsrpt = std::variant<TlsrptOutcome, TlsrptShow, TlsrptSend, Trigger>;
using FromTlsrpt = std::variant<TlsrptText>;

inline constexpr std::size_t kMaxTlsrptMessage = 256 * 1024;
inline constexpr std::size_t kMaxTlsrptText = 64 * 1024 * 1024;
inline constexpr const char* kTlsrptSocket = "private/tlsrpt";

}  // namespace postern
