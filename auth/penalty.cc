#include "auth/penalty.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/login/networks.h"
#include "lib/sasl/scram_keys.h"

namespace postern {

namespace {

constexpr std::chrono::seconds kFirst{4};
constexpr std::size_t kIpv6NetworkBytes = 8;

/// What counts together; empty for what is no address.
std::string network_of(std::string_view ip) {
    const std::string text(ip);
    std::array<char, 16> bytes{};
    if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) {
        return std::string(bytes.data(), 4);
    }
    if (inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) {
        return {};
    }
    constexpr std::string_view kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);   // RFC 4291 section 2.5.5.2
    if (std::string_view(bytes.data(), kMapped.size()) == kMapped) {
        return std::string(bytes.data() + kMapped.size(), 4);
    }
    return std::string(bytes.data(), kIpv6NetworkBytes);
}

}  // namespace

AuthPenalty::AuthPenalty(std::chrono::seconds longest, std::vector<std::string> exempt)
    : longest_(longest), exempt_(std::move(exempt)), key_(random_bytes(32)) {
    exempt_.insert(exempt_.end(), {"127.0.0.0/8", "::1"});
}

bool AuthPenalty::is_exempt(std::string_view remote_ip, std::string_view local_ip) const {
    return longest_.count() == 0 || remote_ip.empty() || remote_ip == local_ip || in_networks(remote_ip, exempt_);
}

std::chrono::seconds AuthPenalty::delay(std::string_view remote_ip, std::string_view local_ip, Clock::time_point now) const {
    const auto found = entries_.find(network_of(remote_ip));
    if (found == entries_.end() || now - found->second.last >= kMemory || is_exempt(remote_ip, local_ip)) {
        return std::chrono::seconds(0);
    }
    std::chrono::seconds wait = kFirst;
    for (unsigned i = 1; i < found->second.failures && wait < longest_; ++i) {
        wait *= 2;
    }
    return std::min(wait, longest_);
}

void AuthPenalty::touch(const std::string& network, Entry& entry, Clock::time_point now) {
    entry.last = now;
    by_age_.erase(entry.order);
    entry.order = ++last_order_;
    by_age_[entry.order] = network;
}

void AuthPenalty::failed(std::string_view remote_ip, std::string_view local_ip, std::string_view user,
                         std::string_view password, Clock::time_point now) {
    const std::string network = network_of(remote_ip);
    if (network.empty() || is_exempt(remote_ip, local_ip)) {
        return;
    }
    if (entries_.size() >= kMaxAddresses && entries_.count(network) == 0) {
        entries_.erase(by_age_.begin()->second);
        by_age_.erase(by_age_.begin());
    }
    Entry& entry = entries_[network];
    if (now - entry.last >= kMemory) {
        const std::uint64_t order = entry.order;
        entry = Entry{};
        entry.order = order;
    }
    touch(network, entry, now);
    if (!password.empty()) {
        std::string what(user);
        what += '\0';
        what += password;
        std::uint64_t hash = 0;
        std::memcpy(&hash, scram_hmac(ScramHash::sha256, key_, what).data(), sizeof hash);
        hash |= 1;   // not the 0 of an unused place
        if (std::find(entry.tries.begin(), entry.tries.end(), hash) != entry.tries.end()) {
            return;
        }
        entry.tries[entry.next_try] = hash;
        entry.next_try = (entry.next_try + 1) % kTries;
    }
    ++entry.failures;
}

void AuthPenalty::succeeded(std::string_view remote_ip) {
    const auto found = entries_.find(network_of(remote_ip));
    if (found != entries_.end()) {
        by_age_.erase(found->second.order);
        entries_.erase(found);
    }
}

void AuthPenalty::expire(Clock::time_point now) {
    while (!by_age_.empty()) {
        const auto entry = entries_.find(by_age_.begin()->second);
        if (entry != entries_.end() && now - entry->second.last < kMemory) {
            return;
        }
        if (entry != entries_.end()) {
            entries_.erase(entry);
        }
        by_age_.erase(by_age_.begin());
    }
}

}  // namespace postern
