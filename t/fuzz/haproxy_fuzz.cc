/// What a proxy says of its client: whatever it says, a client that is understood has addresses and ports.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "smtpd/haproxy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::smtpd;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const postern::InetProtocols protocols{size % 3 != 0, size % 3 != 1};
    const auto check = [](const ProxiedClient& client) {
        for (const std::string* part : {&client.address, &client.port, &client.server_address, &client.server_port}) {
            if (part->empty() || part->size() > 45 || part->find_first_not_of("0123456789abcdef.:") != std::string::npos) {
                __builtin_trap();
            }
        }
    };
    if (const auto line = parse_proxy_line(text.substr(0, kMaxProxyLine), protocols)) {
        check(*line);
    }
    const auto header = parse_proxy_header(text.substr(0, kProxyHead), text.substr(std::min(size, kProxyHead)), protocols);
    if (header && *header) {
        check(**header);
    }
    return 0;
}
