/// What both services need for the web: a resolver, and HTTPS with the authorities of mta_sts_CAfile.
#pragma once

#include <memory>

#include "lib/config/config.h"
#include "lib/dns/dns.h"
#include "lib/http/https.h"

namespace postern::tlspolicy {

struct Web {
    std::unique_ptr<Dns> dns;       ///< outlives `https`
    std::unique_ptr<Https> https;
};

/// Before rights are given up; what fails ends the process.
Web open_web(const Config& config);

}  // namespace postern::tlspolicy
