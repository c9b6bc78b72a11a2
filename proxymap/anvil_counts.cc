#include "proxymap/anvil_counts.h"

#include <fmt/format.h>

namespace postern::anvil {
namespace {

constexpr std::array<const char*, kClientEvents> kNames{"connection", "message", "recipient", "newtls", "auth"};

/// "Nov 22 14:07:39", local time.
std::string short_time(std::time_t when) {
    std::tm parts{};
    ::localtime_r(&when, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%b %e %H:%M:%S", &parts);
    return text.data();
}

/// Sums stay in range whatever a process says.
std::uint32_t add(std::uint32_t a, std::uint32_t b) {
    return b > UINT32_MAX - a ? UINT32_MAX : a + b;
}

}  // namespace

void Counts::Highest::see(std::uint32_t number, const std::string& whose) {
    if (number > value) {
        value = number;
        client = whose;
        when = std::time(nullptr);
    }
}

Counts::Client* Counts::find_or_make(const std::string& client, Clock::time_point now) {
    auto found = clients_.find(client);
    if (found == clients_.end()) {
        if (clients_.size() >= max_clients_) {
            return nullptr;
        }
        found = clients_.emplace(client, Client{}).first;
        found->second.since = now;
        most_clients_.see(static_cast<std::uint32_t>(clients_.size()), client);
    } else if (now - found->second.since > window_) {
        found->second.rates = {};
        found->second.since = now;
    }
    return &found->second;
}

ClientNumbers Counts::opened(const std::string& client, Clock::time_point now) {
    Client* const entry = find_or_make(client, now);
    if (entry == nullptr) {
        return {};
    }
    entry->open = add(entry->open, 1);
    most_open_.see(entry->open, client);
    return event(client, ClientEvent::connection, 1, now);
}

void Counts::still_open(const std::string& client, std::uint32_t connections, Clock::time_point now) {
    if (Client* const entry = find_or_make(client, now)) {
        entry->open = add(entry->open, connections);
        most_open_.see(entry->open, client);
    }
}

void Counts::closed(const std::string& client, std::uint32_t connections, Clock::time_point now) {
    const auto found = clients_.find(client);
    if (found == clients_.end()) {
        return;
    }
    Client& entry = found->second;
    entry.open -= std::min(entry.open, connections);
    if (entry.open == 0 && now - entry.since > window_) {
        clients_.erase(found);
    }
}

ClientNumbers Counts::event(const std::string& client, ClientEvent what, std::uint32_t amount, Clock::time_point now) {
    if (amount == 0) {
        const auto found = clients_.find(client);
        const bool fresh = found != clients_.end() && now - found->second.since <= window_;
        return fresh ? ClientNumbers{found->second.open, found->second.rates[static_cast<std::size_t>(what)]} : ClientNumbers{};
    }
    Client* const entry = find_or_make(client, now);
    if (entry == nullptr) {
        return {};
    }
    std::uint32_t& rate = entry->rates[static_cast<std::size_t>(what)];
    rate = add(rate, amount);
    most_[static_cast<std::size_t>(what)].see(rate, client);
    return {entry->open, rate};
}

void Counts::forget_old(Clock::time_point now) {
    std::erase_if(clients_, [&](const auto& item) { return item.second.open == 0 && now - item.second.since > window_; });
}

std::vector<std::string> Counts::take_statistics() {
    std::vector<std::string> out;
    const auto rate_line = [&](std::size_t i) {
        if (most_[i].value > 0) {
            const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(window_).count();
            out.push_back(fmt::format("statistics: max {} rate {}/{}s for ({}) at {}", kNames[i], most_[i].value, seconds,
                                      most_[i].client, short_time(most_[i].when)));
        }
        most_[i] = {};
    };
    rate_line(0);
    if (most_open_.value > 0) {
        out.push_back(fmt::format("statistics: max connection count {} for ({}) at {}", most_open_.value, most_open_.client,
                                  short_time(most_open_.when)));
    }
    most_open_ = {};
    for (std::size_t i = 1; i < kClientEvents; ++i) {
        rate_line(i);
    }
    if (most_clients_.value > 0) {
        out.push_back(fmt::format("statistics: max cache size {} at {}", most_clients_.value, short_time(most_clients_.when)));
    }
    most_clients_ = {};
    return out;
}

}  // namespace postern::anvil
