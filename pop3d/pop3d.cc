/// pop3d - greets POP3 clients and lets them log in.
///
/// Standards: RFC 1939 (POP3) up to login, 2449 (CAPA), 2595 (STLS), 5034 (AUTH), 3206 (AUTH-RESP-CODE), 8314 (TLS on
/// its own port).
/// Speaks to: any client on the network; auth(8), which alone knows passwords; pop3d-session(8), which takes a
/// client over when auth(8) has vouched for it.  A client with TLS stays connected to this process, which then
/// only relays bytes.
/// If taken over: can log, sees the passwords and, where TLS is used, the mail of clients that are connected to this
/// process; can talk to auth(8) as any stranger can.  Opens no files.
#include "lib/log/log.h"
#include "lib/login/front_service.h"
#include "pop3d/front.h"

constexpr postern::Rights kRights{
    .user = "network_owner",
    .capabilities = "",                        // none
    .chroot = "queue_directory",
    .readable = "$queue_directory",            // to connect to the sockets in private/
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

int main(int argc, char** argv) {
    using namespace postern;
    Service service("pop3d", argc, argv);      // a bad setting ends here, with file and line
    const Config& config = service.config();
    auto front = LoginFront::create(config, "pop3", "private/" + config.pop3_session_service_name());
    if (!front) {
        fatal("{}", front.error().what);
    }
    service.confine(kRights);                  // before the first byte from the network
    return serve_clients(service, **front, config.pop3_tls_wrappermode(), pop3d::serve_front);
}
