/// lmtp - hands mail to mailbox servers by LMTP (RFC 2033), over TCP or a Unix socket.
///
/// Speaks to: as smtp(8), which is the same program but for the protocol; qmgr(8) on private/lmtp.
/// If taken over: can read the messages it is given, tell qmgr lies about them, and talk to the network.
#include "smtp/agent.h"

int main(int argc, char** argv) {
    return postern::smtp::run_agent("lmtp", postern::smtp::Protocol::lmtp, argc, argv);
}
