/// imapd-session - serves IMAP to clients that have logged in, as the user they are.
///
/// Standards: RFC 3501 (IMAP4rev1) with LITERAL+ (7888), ID (2971), IDLE (2177), NAMESPACE (2342), CHILDREN (3348),
/// UNSELECT (3691), UIDPLUS (4315), MOVE (6851), ENABLE (5161), SPECIAL-USE and CREATE-SPECIAL-USE (6154),
/// LIST-EXTENDED (5258), LIST-STATUS (5819), ESEARCH (4731), SEARCHRES (5182), WITHIN (5032), CONDSTORE (7162),
/// BINARY (3516), MULTIAPPEND (3502), STATUS=SIZE (8438), APPENDLIMIT (7889), SORT and THREAD (5256, 5957).
/// Speaks to: imapd(8), which hands it clients; auth(8), which says what user a client is.
/// The launcher runs as root with the capabilities to change user and nothing else, parses only the hand-over
/// messages, and forks one process for each user.  That process has the user's uid and sees the user's files.
/// If a session is taken over: the user's own mail.  If the launcher is: any user (see lib/login/launcher.h).
#include "imapd/serve_session.h"

int main(int argc, char** argv) {
    return postern::run_launcher(argc, argv,
                                 {.name = "imapd-session",
                                  .service = "imap",
                                  .serve = postern::imapd::serve_session,
                                  .stop = postern::imapd::stop_sessions,
                                  .end = postern::imapd::close_account});
}
