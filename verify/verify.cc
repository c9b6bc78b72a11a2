/// verify - remembers which addresses can be delivered to, and finds out about the others.
///
/// Standards: none; does what Postfix's ADDRESS_VERIFICATION_README describes.
/// Speaks to: smtpd(8), which asks, and qmgr(8), which reports what became of probes (lib/verify/messages.h); cleanup(8),
/// which takes the probes.
/// If taken over: can lie about addresses, and queue messages.
#include <ctime>

#include "lib/log/log.h"
#include "lib/service/service.h"
#include "verify/server.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",
    .chroot = "",                              // the cache is in data_directory
    .readable = "$data_directory",
    .writable = "$data_directory",
    .syscalls = postern::Syscalls::files,
};

namespace {

using namespace postern;

std::int64_t now() { return std::time(nullptr); }

/// address_verify_cache_cleanup_interval, counted from the last time that was done, by whatever process.
Task<> keep_clean(verify::Cache& cache, const Config& config) {
    const std::int64_t interval = config.address_verify_cache_cleanup_interval().count();
    if (interval <= 0) {
        co_return;
    }
    std::int64_t last = cache.last_cleaned();
    for (;;) {
        const std::int64_t wait = std::min(interval, last + interval - now());
        if (wait > 0) {
            co_await sleep_for(Seconds(wait));
        }
        const verify::Lifetimes lifetimes(config);
        const verify::Cleaned cleaned = co_await cache.clean(lifetimes, now());
        last = now();
        log_info("cache {} full cleanup: retained={} dropped={} entries", config.address_verify_map(), cleaned.retained,
                 cleaned.dropped);
    }
}

}  // namespace

int main(int argc, char** argv) {
    Service service("verify", argc, argv);
    const Config& config = service.config();
    service.confine(kRights);
    Result<std::unique_ptr<verify::Cache>> cache = verify::Cache::open(config.address_verify_map());
    if (!cache) {
        fatal("{}", cache.error().what);
    }
    verify::Server server(config, **cache, [&config](std::string address) { return verify::submit_probe(config, std::move(address)); }, &now);
    const uid_t owner = ::geteuid();
    service.keep_running();   // it may have to clean up, and knows what was asked a moment ago
    service.on_start([&] {
        spawn(keep_clean(**cache, config));
        Loop::current().every(Seconds(1), [&] { spawn((*cache)->write()); });
    });
    service.on_end([&] { (*cache)->write_now(); });
    return service.serve([&](Connection client) {
        describe_peer(client);
        const bool trusted = client.peer_uid == 0 || client.peer_uid == owner;
        return server.serve(std::move(client.fd), trusted);
    });
}
