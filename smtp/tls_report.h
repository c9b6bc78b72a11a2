/// What tlsrpt(8) is told of a TLS session (RFC 8460).
#pragma once

#include "smtp/hosts.h"
#include "smtp/next_hop.h"
#include "smtp/session.h"
#include "smtp/settings.h"
#include "smtp/tls_policy.h"

namespace postern::smtp {

/// After a handshake: how the server did by the policy, whether or not the policy insists.
Session::TlsVerdict verdict_of(const TlsPolicy& policy, const HostAddress& host, const TlsPeer& peer);

/// Whether sessions with `hop` are counted: smtp_tlsrpt_enable, for domains that are found by MX.
bool counts_sessions(const Settings& settings, const NextHop& hop);

/// Of a session whose verdict is known.
TlsrptOutcome outcome_of(const NextHop& hop, const TlsPolicy& policy, const Session& session);
/// Of an MX host that was passed over because the MTA-STS policy does not name it.
TlsrptOutcome outcome_of_forbidden(const NextHop& hop, const TlsPolicy& policy, const HostAddress& host);
/// The host was not tried: its TLSA records cannot be looked up, or there are none and DANE is mandatory; `reason` says which.
TlsrptOutcome outcome_without_dane(const NextHop& hop, const TlsPolicy& policy, const HostAddress& host, std::string reason);

}  // namespace postern::smtp
