// The TXT record of TLS reports, and the URIs in it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lib/http/https.h"
#include "lib/mail/address.h"
#include "tlspolicy/tlsrpt_record.h"

using namespace postern;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto uris = tlspolicy::find_report_uris({text});
    if (uris.size() > tlspolicy::kMaxReportUris) {
        std::abort();
    }
    for (const tlspolicy::ReportUri& uri : uris) {
        if (uri.url.empty() == uri.address.empty() || (!uri.url.empty() && !parse_https_url(uri.url))) {
            std::abort();
        }
        if (uri.address.find_first_of("\r\n") != std::string::npos) {   // it goes into a header and an envelope
            std::abort();
        }
    }
    if (!uris.empty() && !tlspolicy::find_report_uris({text, text}).empty()) {
        std::abort();
    }
    const Result<HttpsUrl> url = parse_https_url(text);
    if (url && (url->host.empty() || url->port == 0 || !valid_hostname(url->host))) {
        std::abort();
    }
    return 0;
}
