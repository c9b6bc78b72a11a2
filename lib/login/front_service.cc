#include "lib/login/front_service.h"

#include "lib/log/log.h"

namespace postern {

int serve_clients(Service& service, LoginFront& front, bool implicit_tls, ServeFront serve) {
    if (implicit_tls && front.tls() == nullptr) {
        fatal("{}_tls_wrappermode needs a certificate: set ssl_cert_file", front.service());
    }
    service.may_overlap();
    service.on_stop([&front] { front.stop(); });
    return service.serve([&front, implicit_tls, serve](Connection client) {
        LoginAddresses addresses;
        addresses.remote_ip = client.peer.ip;
        addresses.remote_port = client.peer.port;
        addresses.local_ip = client.local.ip;
        addresses.local_port = client.local.port;
        return serve(make_socket_stream(std::move(client.fd)), std::move(addresses), front, implicit_tls);
    });
}

}  // namespace postern
