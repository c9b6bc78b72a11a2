/// What is said to verify(8), on a stream to private/verify; each message is answered with one VerifyAnswer.
///
/// smtpd(8) asks with VerifyQuery.  When nothing is known yet verify sends a probe, which qmgr(8) treats as an ordinary
/// message that delivers nothing; qmgr tells what came of it with VerifyUpdate.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace postern::verify {

// What is known of an address; the numbers are those of Postfix's cache files.
inline constexpr std::uint8_t kDeliverable = 0;
inline constexpr std::uint8_t kDeferred = 1;        ///< could not be found out: the probe was deferred
inline constexpr std::uint8_t kUndeliverable = 2;
inline constexpr std::uint8_t kUnknown = 3;         ///< the probe is under way

/// Is mail for `address` (internal form) deliverable?  While that is unknown the answer may wait for the probe's result.
struct VerifyQuery {
    std::string address;
    std::uint32_t wait_msec = 0;
};
template <class A>
void fields(A& a, VerifyQuery& m) { a(m.address, m.wait_msec); }

/// A probe's result, for the address it was about.
struct VerifyUpdate {
    std::string address;
    std::uint8_t status = kDeferred;    ///< not kUnknown
    std::string text;                   ///< what the delivery agent said
};
template <class A>
void fields(A& a, VerifyUpdate& m) { a(m.address, m.status, m.text); }

struct VerifyAnswer {
    bool ok = false;                    ///< false: refused (an update by somebody who may not)
    std::uint8_t status = kUnknown;
    std::string text;
};
template <class A>
void fields(A& a, VerifyAnswer& m) { a(m.ok, m.status, m.text); }

using ToVerify = std::variant<VerifyQuery, VerifyUpdate>;
using FromVerify = std::variant<VerifyAnswer>;

inline constexpr std::size_t kMaxVerifyMessage = 16 * 1024;
/// A longer address is undeliverable: no mailbox name is that long (RFC 5321 section 4.5.3.1).
inline constexpr std::size_t kMaxVerifyAddress = 400;
inline constexpr std::size_t kMaxVerifyText = 4096;
inline constexpr std::uint32_t kMaxWaitMsec = 3600 * 1000;

}  // namespace postern::verify
