/// What a message carries beside its headers and body: who sent it, to whom, how it came, what was asked for.
///
/// Addresses here and in all messages between programs are in internal form: the local part without RFC 5321
/// quoting ("a b"@example.org is a b@example.org), no angle brackets; the null sender is the empty string.
/// Quoting is put on where an address is written to a header or an SMTP command.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace postern::queue {

/// A run of bytes in a queue file, counted from the start of that file.
struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};
template <class A>
void fields(A& a, Extent& m) { a(m.offset, m.length); }

/// RFC 3461 section 4.1; the bits of Recipient::notify.  0 means NOTIFY was not given.
inline constexpr std::uint8_t kNotifySuccess = 1;
inline constexpr std::uint8_t kNotifyFailure = 2;
inline constexpr std::uint8_t kNotifyDelay = 4;
inline constexpr std::uint8_t kNotifyNever = 8;

/// RFC 3461 section 4.3; Envelope::dsn_ret.
inline constexpr std::uint8_t kRetNone = 0;      ///< not given
inline constexpr std::uint8_t kRetFull = 1;
inline constexpr std::uint8_t kRetHeaders = 2;

/// Envelope::encoding: what MAIL FROM BODY= (RFC 6152) or sendmail -B said.
inline constexpr std::uint8_t kEncodingUnspecified = 0;
inline constexpr std::uint8_t kEncoding7bit = 1;
inline constexpr std::uint8_t kEncoding8bit = 2;

/// Where a message came in; Envelope::origin.
inline constexpr std::uint8_t kOriginSmtp = 1;      ///< smtpd, lmtpd: from the network
inline constexpr std::uint8_t kOriginSendmail = 2;  ///< pickup: from a local user by sendmail(1)
inline constexpr std::uint8_t kOriginBounce = 3;    ///< bounce: a delivery status notification or postmaster notice
inline constexpr std::uint8_t kOriginForward = 4;   ///< local: aliases and .forward, a message that goes on
inline constexpr std::uint8_t kOriginVerify = 5;    ///< verify: a probe; qmgr tells verify(8) what would happen, and nobody else

/// One recipient.
struct Recipient {
    std::string address;        ///< where the message goes now
    std::string original;       ///< before rewriting and alias expansion (orig_to=, X-Original-To); empty: same as address
    std::string dsn_orcpt;      ///< ORCPT parameter as received, "rfc822;user+40example.org" (RFC 3461 section 4.2); may be empty
    std::uint8_t notify = 0;    ///< kNotify...
    bool expanded = false;      ///< an alias of which cleanup made others: never delivered, but its expansion is told as a success
};
template <class A>
void fields(A& a, Recipient& m) { a(m.address, m.original, m.dsn_orcpt, m.notify, m.expanded); }

/// The client a message came from, for Received:, log lines, access to delivery agents (pipe, local, milters).
struct Client {
    std::string name;              ///< verified host name, or "unknown"; empty for local submission
    std::string reverse_name;      ///< unverified PTR name, or "unknown"
    std::string address;           ///< "192.0.2.1", "2001:db8::1" (no "IPv6:")
    std::string port;
    std::string helo;              ///< as the client said it
    std::string protocol;          ///< SMTP ESMTP ESMTPS ESMTPSA UTF8SMTPSA ... (RFC 3848, 6531)
    std::string sasl_method;
    std::string sasl_username;
    std::string sasl_sender;
    std::string ident;             ///< queue id at the client (XFORWARD IDENT)
    std::string service;           ///< master.cf service name of the receiving smtpd
    std::vector<std::string> tls_comments;  ///< lines for Received: when smtpd_tls_received_header is set, such as
                                            ///< "(using TLSv1.3 with cipher X (256/256 bits)", " key-exchange ...)"
};
template <class A>
void fields(A& a, Client& m) {
    a(m.name, m.reverse_name, m.address, m.port, m.helo, m.protocol, m.sasl_method, m.sasl_username, m.sasl_sender,
      m.ident, m.service, m.tls_comments);
}

/// All of it; what the envelope extent of a queue file holds.
struct Envelope {
    std::string sender;                     ///< empty for the null sender (RFC 5321 section 4.5.5)
    std::vector<Recipient> recipients;      ///< in a queue file: after rewriting; a journal record names them by index
    std::int64_t arrival_usec = 0;          ///< microseconds since 1970: start of the transaction
    std::string dsn_envid;                  ///< ENVID as received, xtext (RFC 3461 section 4.4)
    std::uint8_t dsn_ret = kRetNone;
    std::uint8_t encoding = kEncodingUnspecified;
    bool smtputf8 = false;                  ///< SMTPUTF8 was asked for (RFC 6531)
    bool requiretls = false;
    std::uint8_t origin = kOriginSmtp;
    bool rewrite_local = false;             ///< rewrite context: local (true) or remote
    Client client;
    std::string sender_full_name;           ///< sendmail -F
    std::string verp_delimiters;            ///< two characters when VERP was asked for
    std::string content_filter;             ///< transport:nexthop of FILTER actions or content_filter; qmgr honours it
    std::string redirect;                   ///< REDIRECT action: the recipients have been replaced by this one
    bool hold = false;                      ///< HOLD action: cleanup has put the file into hold/
    bool trace = false;                     ///< sendmail -v: deliver and mail a report to the sender
    bool verify_only = false;               ///< sendmail -bv: report what would happen, deliver nothing
    std::string maildrop_file;              ///< name in maildrop/ that this message was made from; see pickup(8)
    std::uint32_t hop_count = 0;            ///< Received: headers found
    std::int64_t submit_uid = -1;           ///< kOriginSendmail: the submitting user; otherwise -1
};
template <class A>
void fields(A& a, Envelope& m) {
    a(m.sender, m.recipients, m.arrival_usec, m.dsn_envid, m.dsn_ret, m.encoding, m.smtputf8, m.requiretls, m.origin,
      m.rewrite_local, m.client, m.sender_full_name, m.verp_delimiters, m.content_filter, m.redirect, m.hold, m.trace,
      m.verify_only, m.maildrop_file, m.hop_count, m.submit_uid);
}

}  // namespace postern::queue
