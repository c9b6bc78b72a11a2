#include "smtp/session_cache.h"

#include <algorithm>

#include "lib/log/log.h"

namespace postern::smtp {
namespace {

constexpr Millis kSweep(500);

}  // namespace

SessionCache::SessionCache(const Settings& settings, MatchList destinations)
    : settings_(settings), destinations_(std::move(destinations)) {}

void SessionCache::begin(const std::string& key) {
    Destination& destination = by_key_[key];
    const Moment now = std::chrono::steady_clock::now();
    destination.busy = destination.active > 0 ||
                       (destination.last != Moment() && now - destination.last < settings_.connection_cache_time_limit());
    ++destination.active;
    destination.last = now;
}

void SessionCache::end(const std::string& key) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) {
        return;
    }
    --found->second.active;
    found->second.last = std::chrono::steady_clock::now();
    if (!sweeping_) {
        sweeping_ = true;
        spawn(sweep(*this, alive_));
    }
}

std::unique_ptr<Session> SessionCache::take(const std::string& key) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end() || found->second.kept.empty()) {
        return nullptr;
    }
    std::unique_ptr<Session> session = std::move(found->second.kept.back().session);
    found->second.kept.pop_back();
    --kept_;
    return session;
}

bool SessionCache::wants(const std::string& key, const Session& session) {
    const long count_limit = settings_.connection_reuse_count_limit();
    if ((count_limit > 0 && session.uses() >= count_limit) ||   // the first use is no reuse
        std::chrono::steady_clock::now() - session.opened() >= settings_.connection_reuse_time_limit()) {
        return false;
    }
    const auto found = by_key_.find(key);
    if (settings_.connection_cache_on_demand() && found != by_key_.end() && found->second.busy) {
        return true;
    }
    const std::string destination = key.substr(0, key.find('\0'));
    const Result<bool> listed = destinations_.matches(destination);
    return listed && *listed;
}

void SessionCache::keep(const std::string& key, std::unique_ptr<Session> session) {
    by_key_[key].kept.push_back({std::move(session), std::chrono::steady_clock::now() + settings_.connection_cache_time_limit()});
    ++kept_;
}

Task<> SessionCache::say_goodbye(std::unique_ptr<Session> session) {
    co_await session->quit();
}

/// Runs while anything is remembered.  `self` lives while *alive.
Task<> SessionCache::sweep(SessionCache& self, std::shared_ptr<bool> alive) {
    while (!self.by_key_.empty()) {
        co_await sleep_for(kSweep);
        if (!*alive) {
            co_return;
        }
        const Moment now = std::chrono::steady_clock::now();
        for (auto it = self.by_key_.begin(); it != self.by_key_.end();) {
            Destination& destination = it->second;
            while (!destination.kept.empty() && destination.kept.front().until <= now) {
                spawn(say_goodbye(std::move(destination.kept.front().session)));
                destination.kept.erase(destination.kept.begin());
                --self.kept_;
            }
            const bool quiet = now - destination.last >= self.settings_.connection_cache_time_limit();
            const bool forget = destination.active == 0 && destination.kept.empty() && quiet;
            it = forget ? self.by_key_.erase(it) : std::next(it);
        }
    }
    self.sweeping_ = false;
}

void SessionCache::clear() {
    for (auto& [key, destination] : by_key_) {
        for (Kept& kept : destination.kept) {
            spawn(say_goodbye(std::move(kept.session)));
        }
        destination.kept.clear();
    }
    kept_ = 0;
}

}  // namespace postern::smtp
