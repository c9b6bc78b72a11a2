#include "tlspolicy/web.h"

#include "lib/base/inet_protocols.h"
#include "lib/log/log.h"

namespace postern::tlspolicy {

Web open_web(const Config& config) {
    Result<std::unique_ptr<Dns>> dns = Dns::create();
    if (!dns) {
        fatal("{}", dns.error().what);
    }
    Https::Options options;
    options.ca_files = config.mta_sts_CAfile();
    options.system_ca = config.tls_append_default_CA();
    options.user_agent = config.mail_name() + " (RFC 8461, RFC 8460)";
    const InetProtocols protocols = InetProtocols::parse(config.inet_protocols());
    options.ipv4 = protocols.ipv4;
    options.ipv6 = protocols.ipv6;
    Result<std::unique_ptr<Https>> https = Https::create(**dns, options);
    if (!https) {
        fatal("{}", https.error().what);
    }
    Web web;
    web.dns = std::move(*dns);
    web.https = std::move(*https);
    return web;
}

}  // namespace postern::tlspolicy
