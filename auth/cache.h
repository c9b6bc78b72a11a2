/// What auth(8) remembers of checked passwords (auth_cache_size), so that a client that logs in every minute does not
/// cost a password hash every minute.
///
/// A password is kept as an HMAC with a key made at the start of the process: whoever reads this memory can test
/// guesses no faster than one HMAC each, but the process that keeps it sees every password anyway.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace postern {

class PasswordCache {
public:
    using Clock = std::chrono::steady_clock;
    enum class Known : unsigned char { good, bad };

    /// `size_bytes` 0 remembers nothing.  A ttl of 0 switches that kind off.
    PasswordCache(std::size_t size_bytes, std::chrono::seconds ttl, std::chrono::seconds negative_ttl);

    bool enabled() const { return size_limit_ > 0; }
    /// What is known about this pair; nothing when that has to be asked.
    std::optional<Known> find(std::string_view user, std::string_view password, Clock::time_point now);
    /// A good password replaces all that was known about the user.
    void remember(std::string_view user, std::string_view password, Known known, Clock::time_point now);
    void clear();
    std::size_t entries() const { return entries_.size(); }

private:
    struct Entry {
        std::string key;       ///< HMAC of user and password
        std::string user;
        Known known;
        Clock::time_point expires;
    };
    using Entries = std::list<Entry>;   // most recently used first
    std::string key_of(std::string_view user, std::string_view password) const;
    void drop(Entries::iterator entry);

    std::size_t size_limit_;
    std::size_t size_ = 0;
    std::chrono::seconds ttl_, negative_ttl_;
    std::string secret_;
    Entries entries_;
    std::unordered_map<std::string, Entries::iterator> by_key_;
};

}  // namespace postern
