/// The work of verify(8): answers what is known, and has the rest probed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "lib/async/loop.h"
#include "lib/base/unique_fd.h"
#include "lib/config/config.h"
#include "lib/ipc/channel.h"
#include "verify/cache.h"

namespace postern::verify {

/// Sends a probe for an address: a message that is queued like any other and delivers nothing.  Errors: it was not queued.
using Prober = std::function<Task<Result<void>>(std::string address)>;
using Clock = std::function<std::int64_t()>;   ///< seconds since 1970

class Server {
public:
    /// Everything outlives the server.
    Server(const Config& config, Cache& cache, Prober prober, Clock clock);

    /// One client.  Only a `trusted` one may report results.
    Task<> serve(UniqueFd socket, bool trusted);

    VerifyAnswer update(const VerifyUpdate& result, bool trusted);
    Task<VerifyAnswer> query(VerifyQuery question);

private:
    /// Those who wait for one address.
    struct Waiting {
        Notice news{};
        std::size_t clients = 0;
    };
    Entry look_up(const std::string& address) const;
    void probe_if_due(const std::string& address, const Entry& entry);
    Task<> probe(std::string address);

    const Config& config_;
    Cache& cache_;
    Prober prober_;
    Clock clock_;
    Lifetimes lifetimes_;
    std::unordered_map<std::string, Waiting> waiting_;
    Semaphore places_;      ///< of probes that are handed to cleanup at the same time
};

/// The message that probes `address`: goes through cleanup(8) and qmgr(8), and is removed when its fate is known.
Task<Result<void>> submit_probe(const Config& config, std::string address);

}  // namespace postern::verify
