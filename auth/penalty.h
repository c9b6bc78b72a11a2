/// Makes guessing slow: logins wait the longer, the more wrong passwords have come from their address.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postern {

/// Dovecot's anvil penalty: 4 s after the first failure, then 8, 15 and no more; a success or a minute without failure ends it.
/// The same wrong password again, as a program with an old one sends it every minute, counts once.
/// IPv4 addresses count singly, IPv6 as /64 networks, which one customer has whole.  This machine's own addresses, Unix
/// sockets and the networks given are not delayed: a web mail's address is that of all its users.
class AuthPenalty {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds kMemory{60};       ///< after the last failure
    static constexpr std::size_t kMaxAddresses = 100'000;    ///< the oldest is forgotten first
    static constexpr std::size_t kTries = 10;                ///< remembered of each address

    /// `longest` 0 delays nobody.
    AuthPenalty(std::chrono::seconds longest, std::vector<std::string> exempt);

    /// How long this login has to wait before its password is looked at.
    std::chrono::seconds delay(std::string_view remote_ip, std::string_view local_ip, Clock::time_point now) const;
    /// `password` is empty where the mechanism does not show it; then every failure counts.
    void failed(std::string_view remote_ip, std::string_view local_ip, std::string_view user, std::string_view password,
                Clock::time_point now);
    void succeeded(std::string_view remote_ip);
    /// Forgets what is old; to be called now and then.
    void expire(Clock::time_point now);
    std::size_t addresses() const { return entries_.size(); }

private:
    struct Entry {
        unsigned failures = 0;
        Clock::time_point last{};
        std::array<std::uint64_t, kTries> tries{};   ///< keyed hashes of name and password
        std::size_t next_try = 0;
        std::uint64_t order = 0;                     ///< into by_age_
    };
    bool is_exempt(std::string_view remote_ip, std::string_view local_ip) const;
    void touch(const std::string& network, Entry& entry, Clock::time_point now);

    std::chrono::seconds longest_;
    std::vector<std::string> exempt_;
    std::string key_;                                ///< of the hashes
    std::unordered_map<std::string, Entry> entries_; ///< by network, as bytes
    std::map<std::uint64_t, std::string> by_age_;    ///< the longest unchanged first
    std::uint64_t last_order_ = 0;
};

}  // namespace postern
