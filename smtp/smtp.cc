/// smtp - hands mail to other hosts by SMTP.
///
/// Standards: RFC 5321 (SMTP), 1870 (SIZE), 2034 (enhanced status codes), 2920 (PIPELINING), 3207 (STARTTLS), 3461 (DSN),
/// 4954 (AUTH), 6152 (8BITMIME), 6531 (SMTPUTF8), 7505 (null MX), 7672 (DANE), 8689 (REQUIRETLS).
/// Speaks to: qmgr(8) on private/smtp (lib/queue/deliver.h), which passes each message as an open read-only descriptor;
/// mail servers and name servers; mta-sts(8); proxymap(8) for tables that need rights.
/// If taken over: can read the messages it is given, tell qmgr lies about them, and talk to the network.
#include "smtp/agent.h"

int main(int argc, char** argv) {
    return postern::smtp::run_agent("smtp", postern::smtp::Protocol::smtp, argc, argv);
}
