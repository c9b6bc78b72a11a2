/// The books of anvil(8): connections and rates of clients.
///
/// Rates are counted in windows of anvil_rate_time_unit that begin with a client's first event and hold all its rates, as
/// in Postfix.  A client without open connections is forgotten when its window is over.  Memory is bounded: when
/// there are too many clients, new ones are not counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/limits/anvil_messages.h"
#include "lib/limits/client_counts.h"

namespace postern::anvil {

class Counts {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t kMaxClients = 200'000;

    explicit Counts(std::chrono::milliseconds window, std::size_t max_clients = kMaxClients)
        : window_(window), max_clients_(max_clients) {}

    /// One connection more; what there is now.
    ClientNumbers opened(const std::string& client, Clock::time_point now);
    /// Connections that were open before the books were begun; no event.
    void still_open(const std::string& client, std::uint32_t connections, Clock::time_point now);
    void closed(const std::string& client, std::uint32_t connections, Clock::time_point now);
    /// `amount` events; 0 only asks.
    ClientNumbers event(const std::string& client, ClientEvent what, std::uint32_t amount, Clock::time_point now);

    /// Forgets clients that have nothing open and nothing recent.
    void forget_old(Clock::time_point now);
    std::size_t clients() const { return clients_.size(); }

    /// Postfix's "statistics: ..." lines about the highest numbers since the last call.
    std::vector<std::string> take_statistics();

private:
    struct Client {
        std::uint32_t open = 0;
        EventTally rates{};
        Clock::time_point since{};
    };
    struct Highest {
        std::uint32_t value = 0;
        std::string client;
        std::time_t when = 0;
        void see(std::uint32_t number, const std::string& whose);
    };
    Client* find_or_make(const std::string& client, Clock::time_point now);

    std::chrono::milliseconds window_;
    std::size_t max_clients_;
    std::unordered_map<std::string, Client> clients_;
    Highest most_open_;
    std::array<Highest, kClientEvents> most_;
    Highest most_clients_;
};

}  // namespace postern::anvil
