/// Connections that are kept for a moment because more mail for the same destination is likely.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/table/match_list.h"
#include "smtp/session.h"
#include "smtp/settings.h"

namespace postern::smtp {

/// One thread, one process: a connection is used by one delivery at a time.
class SessionCache {
public:
    /// `settings` outlives the cache.  `destinations`: smtp_connection_cache_destinations.
    SessionCache(const Settings& settings, MatchList destinations);
    ~SessionCache() { *alive_ = false; }
    SessionCache(const SessionCache&) = delete;
    SessionCache& operator=(const SessionCache&) = delete;

    /// A key is the destination's name as `destinations` may have it, a zero byte, and all else that connections have to have in common.
    /// A delivery for `key` begins or ends.  While others are there, or were a moment ago, connections are kept.
    void begin(const std::string& key);
    void end(const std::string& key);

    /// A kept connection, the newest one; null when there is none.
    std::unique_ptr<Session> take(const std::string& key);
    /// Whether a connection for `key` would be kept now.
    bool wants(const std::string& key, const Session& session);
    /// Keeps it, for connection_cache_time_limit at most.
    void keep(const std::string& key, std::unique_ptr<Session> session);
    /// Ends all at once: QUIT for each.
    void clear();
    std::size_t size() const { return kept_; }

private:
    using Moment = std::chrono::steady_clock::time_point;
    struct Kept {
        std::unique_ptr<Session> session;
        Moment until;
    };
    struct Destination {
        int active = 0;
        Moment last{};          ///< when the last delivery before the present ones began or ended
        bool busy = false;      ///< several deliveries in connection_cache_time_limit
        std::vector<Kept> kept;
    };
    static Task<> sweep(SessionCache& self, std::shared_ptr<bool> alive);
    static Task<> say_goodbye(std::unique_ptr<Session> session);

    const Settings& settings_;
    MatchList destinations_;
    std::map<std::string, Destination> by_key_;
    std::size_t kept_ = 0;
    bool sweeping_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);   ///< shared with sweep(), which may outlive us
};

}  // namespace postern::smtp
