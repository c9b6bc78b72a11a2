/// auth - the only process that sees passwords: runs SASL mechanisms, asks password and user databases.
///
/// Standards: RFC 4422 (SASL), 4616 (PLAIN), 5802 and 7677 (SCRAM), 4013 (SASLprep).
/// Speaks to: smtpd(8), imapd(8), pop3d(8) and their session launchers (lib/sasl/auth_messages.h), on private/auth.
/// If taken over: learns the passwords of who logs in, can let in anybody as any mail user, and can read what
/// auth_owner can read, the passwd-file above all.  PAM runs in a helper process that alone keeps root's rights.
#include "auth/server.h"
#include "auth/tokens.h"
#include "lib/log/log.h"
#include "lib/service/service.h"

constexpr postern::Rights kRights{
    .user = "auth_owner",
    .capabilities = "",
    .chroot = "",                              // passwd-files and name services are everywhere
    .readable = postern::kEverywhere,          // auth_passdbs may name any file; its owner decides
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

int main(int argc, char** argv) {
    using namespace postern;
    Service service("auth", argc, argv);
    const Config& config = service.config();
    log_set_tag(config.login_syslog_name());                      // lines that fail2ban and logwatch know from Dovecot
    auto databases = Databases::open(config);                     // forks the PAM helper, with root's rights
    if (!databases) {
        fatal("{}", databases.error().what);
    }
    const auto token_key = load_token_key(config.data_directory());   // root's file, as the helper is root's process
    if (!token_key) {
        fatal("{}", token_key.error().what);
    }
    const uid_t started_as = ::geteuid();
    service.confine(kRights);
    auto server = AuthServer::create(config, **databases, *token_key);
    if (!server) {
        fatal("{}", server.error().what);
    }
    service.may_overlap();                                        // fronts that drain keep their connections
    service.on_start([&] { (*server)->look_after_regularly(service); });
    service.on_drain([&] { (*server)->drain(); });
    service.keep_running();                                       // the cache and the penalties live here
    return service.serve([&](Connection client) {
        const bool trusted = client.peer_uid == 0 || client.peer_uid == started_as;
        return (*server)->serve(std::move(client.fd), trusted);
    });
}
