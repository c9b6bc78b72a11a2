#include "lib/dns/tlsa.h"

#include <fmt/format.h>

#include "lib/base/strings.h"

namespace postern {

std::string TlsaRecord::text() const {
    return fmt::format("{} {} {} {}", usage, selector, matching, to_upper(hex_encode(data)));
}

Result<TlsaRecord> parse_tlsa(std::string_view rdata) {
    constexpr std::size_t kFields = 3;
    if (rdata.size() <= kFields) {
        return Error(Errc::syntax, "a TLSA record of " + std::to_string(rdata.size()) + " bytes");
    }
    TlsaRecord out;
    out.usage = static_cast<std::uint8_t>(rdata[0]);
    out.selector = static_cast<std::uint8_t>(rdata[1]);
    out.matching = static_cast<std::uint8_t>(rdata[2]);
    out.data = rdata.substr(kFields);
    return out;
}

std::string tlsa_name(std::string_view host, std::uint16_t port) {
    return fmt::format("_{}._tcp.{}", port, host);
}

}  // namespace postern
