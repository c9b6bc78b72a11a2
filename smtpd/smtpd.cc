/// smtpd - receives mail by SMTP from the network and hands it to cleanup(8).
///
/// Standards: RFC 5321 (SMTP), 1870 (SIZE), 2920 (PIPELINING), 3030 (CHUNKING), 3207 (STARTTLS), 3461 (DSN), 4954
/// (AUTH), 6152 (8BITMIME), 6409 (submission), 6531 (SMTPUTF8).
/// Speaks to: any client on the network; cleanup(8), which queues; auth(8), which alone knows passwords;
/// proxymap(8) for tables that need rights; anvil(8), which counts clients; qmgr(8) for ETRN.
/// If taken over: can submit mail, ask auth(8) as any stranger can, and log.  Sees no queue file and no mailbox.
#include "lib/log/log.h"
#include "lib/service/service.h"
#include "lib/stream/receive_limit.h"
#include "smtpd/haproxy.h"
#include "smtpd/session.h"

constexpr postern::Rights kRights{
    .user = "network_owner",
    .capabilities = "",
    .chroot = "queue_directory",
    .readable = "",
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

namespace {

using namespace postern;

/// smtpd_upstream_proxy_protocol: the client is whom the proxy announces.
Task<> ask_proxy(Stream& stream, const Config& config, smtpd::ClientInfo& info) {
    if (config.smtpd_tls_wrappermode()) {
        limit_receive(stream, 1);   // the client's first words, which may come with the header, are for TLS to read
    }
    const Result<std::optional<smtpd::ProxiedClient>> client =
        co_await smtpd::read_proxied_client(stream, config.smtpd_upstream_proxy_timeout(), InetProtocols::parse(config.inet_protocols()));
    limit_receive(stream, 0);
    if (!client) {
        log_warning("haproxy read: {}", client.error().what);
        info.unannounced = true;
    } else if (*client) {
        info.address = (*client)->address;
        info.port = (*client)->port;
        info.server_address = (*client)->server_address;
        info.server_port = (*client)->server_port;
    }
}

/// The client's verified name (smtpd_peername_lookup), then the conversation.
Task<> serve_client(Connection connection, smtpd::Server& server) {
    smtpd::ClientInfo info;
    if (connection.peer.is_ip()) {
        info.address = connection.peer.ip;
        info.port = std::to_string(connection.peer.port);
        info.server_address = connection.local.ip;
        info.server_port = std::to_string(connection.local.port);
    } else {
        info.address = "127.0.0.1";
        info.name = "localhost";
        info.reverse_name = "localhost";
        info.local = true;
    }
    const std::unique_ptr<Stream> stream = make_socket_stream(std::move(connection.fd));
    if (!info.local && !server.config().smtpd_upstream_proxy_protocol().empty()) {
        co_await ask_proxy(*stream, server.config(), info);
    }
    if (!info.local && !info.unannounced && server.config().smtpd_peername_lookup() && server.dns() != nullptr) {
        const HostName name = co_await host_name_of(*server.dns(), info.address);
        info.name = name.verified;
        info.reverse_name = name.reverse;
        info.name_temporary = name.temporary;
        if (name.forged || !name.problem.empty()) {
            log_warning("hostname {} does not resolve to address {}{}{}", name.reverse, info.address,
                        name.problem.empty() ? "" : ": ", name.problem);
        }
    }
    smtpd::Session session(*stream, server, std::move(info));
    co_await session.run();
}

}  // namespace

int main(int argc, char** argv) {
    Service service("smtpd", argc, argv);
    Result<std::unique_ptr<smtpd::Server>> server = smtpd::Server::create(service.config(), service.service_name());
    if (!server) {
        fatal("{}", server.error().what);
    }
    service.work_in_batches();
    service.confine(kRights);
    service.may_overlap();                     // a reload does not make new clients wait for slow ones
    return service.serve([&server](Connection client) { return serve_client(std::move(client), **server); });
}
