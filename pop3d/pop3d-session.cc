/// pop3d-session - gives clients that have logged in their INBOX by POP3, as the user they are.
///
/// Standards: RFC 1939 (POP3) with TOP and UIDL, 2449 (CAPA, RESP-CODES, PIPELINING), 3206 (SYS/ and AUTH codes),
/// 1460 (LAST, when asked for).
/// Speaks to: pop3d(8), which hands it clients; auth(8), which says what user a client is.
/// The launcher runs as root with the capabilities to change user and nothing else, parses only the hand-over
/// messages, and forks one process for each user.  That process has the user's uid and sees the user's files.
/// If a session is taken over: the user's own mail.  If the launcher is: any user (see lib/login/launcher.h).
#include "pop3d/serve_session.h"

int main(int argc, char** argv) {
    return postern::run_launcher(argc, argv,
                                 {.name = "pop3d-session",
                                  .service = "pop3",
                                  .serve = postern::pop3d::serve_session,
                                  .stop = postern::pop3d::stop_sessions,
                                  .end = postern::pop3d::close_account});
}
