/// DNS record data of every type, names, TLSA records and what is asked of them, and files of trust anchors.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/base/strings.h"
#include "lib/dns/ascii_name.h"
#include "lib/dns/records.h"
#include "lib/dns/reply_filter.h"
#include "lib/dns/tlsa.h"
#include "lib/dns/trust_anchor.h"
#include "lib/stream/tls_dane.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    for (const DnsType type : {DnsType::a, DnsType::ns, DnsType::cname, DnsType::ptr, DnsType::mx, DnsType::txt, DnsType::aaaa, DnsType::srv, DnsType::tlsa}) {
        DnsAnswer::Record record;
        const bool good = decode_record(type, bytes, record);
        // Text of addresses is longer than the data, all else is no longer.
        if (good && type != DnsType::a && type != DnsType::aaaa && record.text.size() > size) {
            std::abort();
        }
        const std::string key = good ? filter_key("a.example", type, DnsAnswer{}, record) : "";
        if (good && (key.substr(0, 16) != "a.example. 0 IN " || printable(key, 5000) != key)) {
            std::abort();
        }
    }
    static const std::vector<DaneDigest> digests = *parse_dane_digests("sha512 sha256");
    const Result<TlsaRecord> record = parse_tlsa(bytes);
    if (record && (record->data.size() + 3 != size || record->text().empty())) {
        std::abort();
    }
    if (record && tlsa_usable(*record, digests) && (record->usage < 2 || record->usage > 3 || record->selector > 1 || record->matching > 2)) {
        std::abort();
    }
    const std::optional<std::string> name = ascii_name(bytes);
    if (name && ascii_name(*name) != name) {
        std::abort();
    }
    const Result<std::vector<std::string>> anchors = parse_trust_anchors(bytes);
    if (anchors && anchors->empty()) {
        std::abort();
    }
    return 0;
}
