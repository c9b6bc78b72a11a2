#include "smtpd/client_limits.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

namespace postern::smtpd {

namespace {

/// Clears the bits after the first `prefix`.
void mask(unsigned char* bytes, std::size_t size, long prefix) {
    for (std::size_t i = 0; i < size; ++i) {
        const long bits = prefix - static_cast<long>(i) * 8;
        if (bits <= 0) {
            bytes[i] = 0;
        } else if (bits < 8) {
            bytes[i] = static_cast<unsigned char>(bytes[i] & (0xff << (8 - bits)));
        }
    }
}

}  // namespace

ClientLimits::ClientLimits(const Config& config, std::string service, std::unique_ptr<ClientCounts> counts)
    : service_(std::move(service)),
      counts_(std::move(counts)),
      limits_{config.smtpd_client_connection_rate_limit(), config.smtpd_client_message_rate_limit(),
              config.smtpd_client_recipient_rate_limit(), config.smtpd_client_new_tls_session_rate_limit(),
              config.smtpd_client_auth_rate_limit()},
      connection_limit_(config.smtpd_client_connection_count_limit()),
      ipv4_prefix_(config.smtpd_client_ipv4_prefix_length()),
      ipv6_prefix_(config.smtpd_client_ipv6_prefix_length()) {
    in_use_ = connection_limit_ > 0 || std::any_of(limits_.begin(), limits_.end(), [](long limit) { return limit > 0; });
}

std::string ClientLimits::key_for(const std::string& address) const {
    std::array<unsigned char, 16> bytes{};
    std::array<char, INET6_ADDRSTRLEN> text{};
    const char* shown = address.c_str();
    if (::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1) {
        mask(bytes.data(), 4, ipv4_prefix_);
        shown = ::inet_ntop(AF_INET, bytes.data(), text.data(), text.size());
    } else if (::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1) {
        mask(bytes.data(), 16, ipv6_prefix_);
        shown = ::inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
    }
    return service_ + ":" + shown;
}

CountedClient::~CountedClient() {
    if (!key_.empty()) {
        // Near the limit the client's next connection depends on this one being forgotten.
        const bool soon = 2 * static_cast<long>(numbers_.open) > limits_.connection_limit();
        limits_.counts().closed(key_, uncounted_, soon);
    }
}

Task<> CountedClient::open(std::string address) {
    key_ = limits_.key_for(address);
    std::string key = key_;
    const std::optional<ClientNumbers> numbers = co_await limits_.counts().opened(std::move(key));
    numbers_ = numbers.value_or(ClientNumbers{});
}

Task<long> CountedClient::count(ClientEvent event) {
    const long limit = limits_.limit(event);
    if (key_.empty()) {
        co_return 0;
    }
    if (limit == 0) {
        ++uncounted_[static_cast<std::size_t>(event)];
        co_return 0;
    }
    std::string key = key_;
    const std::optional<ClientNumbers> now = co_await limits_.counts().event(std::move(key), event, 1);
    co_return now && now->rate > limit ? static_cast<long>(now->rate) : 0;
}

Task<long> CountedClient::look(ClientEvent event) {
    const long limit = limits_.limit(event);
    if (key_.empty() || limit == 0) {
        co_return 0;
    }
    std::string key = key_;
    const std::optional<ClientNumbers> now = co_await limits_.counts().event(std::move(key), event, 0);
    co_return now && now->rate > limit ? static_cast<long>(now->rate) : 0;
}

}  // namespace postern::smtpd
