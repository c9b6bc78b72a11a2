/// main.cf from an unknown hand: parsing, expansion, checking; nothing may crash, hang or grow without bound.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lib/config/config.h"
#include "lib/config/expand.h"
#include "lib/config/main_cf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Result<MainCf> file = parse_main_cf(text, "main.cf");
    const Result<Config> config = Config::from_text(text);
    if (config && !file) {
        std::abort();   // accepted a file that does not parse
    }
    if (config) {
        for (const std::string& name : config->set_names()) {
            (void)config->lookup(name);
            (void)config->lookup_time(name);
        }
        (void)config->myhostname();
        (void)config->smtpd_banner();
        (void)config->proxy_read_maps();
    }
    return 0;
}
