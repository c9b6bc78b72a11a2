/// Finds, keeps and refreshes the policies of MTA-STS (RFC 8461) for the smtp processes that are connected.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/dns/dns.h"
#include "lib/http/https.h"
#include "lib/ipc/channel.h"
#include "lib/mta_sts/messages.h"
#include "tlspolicy/sts_cache.h"

namespace postern::tlspolicy {

class StsServer {
public:
    using Clock = std::int64_t (*)();   ///< seconds since 1970
    /// All outlive the server.
    StsServer(Dns& dns, Https& https, StsCache& cache, Clock clock);

    /// One process, until it goes or says what cannot be understood.
    Task<> serve(UniqueFd process);
    /// Ends all conversations: the processes come to our successor.
    void close_all();

    /// The policy of `domain`.  A kept one that has not expired is the answer when the newest cannot be had within
    /// kWithCache; without one the answer is that there is none, after kWithoutCache.  The fetch goes on, for those who ask later.
    Task<StsAnswer> find(std::string domain);
    /// Fetches again what is a day old and still asked for, and forgets what has expired.
    Task<> refresh();

    static constexpr Millis kWithCache = std::chrono::seconds(3);
    static constexpr Millis kWithoutCache = std::chrono::seconds(5);   ///< smtp waits a little longer (StsClient::kPatience)
    static constexpr std::int64_t kRetry = 300;               ///< seconds between attempts that fail (RFC 8461 section 3.3)
    static constexpr std::int64_t kDay = 86'400;
    static constexpr std::int64_t kUnused = 30 * kDay;        ///< after that a policy is left to expire

private:
    using Peer = Channel<FromMtaSts, ToMtaSts>;
    /// One domain's lookup on its way; shared by those who wait and the coroutine that does it.
    struct Lookup {
        bool done = false;
        std::optional<StoredPolicy> fresh{};   ///< what was fetched; it counts even when it cannot be kept
        Notice news;
    };
    /// What the last lookup of a domain said, when it was not a policy.
    struct Verdict {
        std::int64_t until = 0;
        StsProblem problem = StsProblem::none;
        std::string text;
    };
    Task<> answer(std::shared_ptr<Peer> peer, StsQuestion question);
    Task<> look_up(std::string domain, std::shared_ptr<Lookup> lookup, bool even_if_same);
    Task<Result<StsPolicy>> fetch(std::string domain, StsProblem& problem);
    Task<> keep(std::string domain, StoredPolicy entry);
    void remember(const std::string& domain, StsProblem problem, std::string text);
    StsAnswer answer_from(const std::string& domain, const std::optional<StoredPolicy>& entry) const;

    Dns& dns_;
    Https& https_;
    StsCache& cache_;
    Clock clock_;
    std::unordered_map<std::string, std::shared_ptr<Lookup>> lookups_;
    std::unordered_map<std::string, Verdict> verdicts_;
    std::unordered_set<Peer*> peers_;
    Semaphore fetches_;
    bool refreshing_ = false;
};

}  // namespace postern::tlspolicy
