#include "proxymap/anvil_server.h"

#include "lib/log/log.h"

namespace postern::anvil {
namespace {

constexpr Millis kPatience = std::chrono::seconds(10);

template <class... T>
struct Overloaded : T... {
    using T::operator()...;
};
template <class... T>
Overloaded(T...) -> Overloaded<T...>;

bool good_name(const std::string& client) {
    return !client.empty() && client.size() <= kMaxAnvilClientName;
}

}  // namespace

/// False: the process says what it must not.
bool Server::handle(const ToAnvil& message, Peer& peer, Open& open) {
    const auto now = Counts::Clock::now();
    const auto answer = [&peer](std::uint32_t id, const ClientNumbers& numbers) {
        AnvilNumbers reply;
        reply.id = id;
        reply.open = numbers.open;
        reply.rate = numbers.rate;
        peer.post(std::move(reply));
    };
    const Overloaded visitor{
        [&](const AnvilOpened& m) {
            if (!good_name(m.client) || open.size() >= kMaxOpen) {
                return false;
            }
            ++open[m.client];
            answer(m.id, counts_.opened(m.client, now));
            return true;
        },
        [&](const AnvilEvent& m) {
            if (!good_name(m.client) || m.what >= kClientEvents) {
                return false;
            }
            answer(m.id, counts_.event(m.client, static_cast<ClientEvent>(m.what), m.amount, now));
            return true;
        },
        [&](const AnvilClosed& m) {
            const auto found = open.find(m.client);
            if (found == open.end()) {
                return false;
            }
            const EventTally tally{0, m.message, m.recipient, m.tls, m.auth};
            for (std::size_t i = 0; i < kClientEvents; ++i) {
                if (tally[i] > 0) {
                    counts_.event(m.client, static_cast<ClientEvent>(i), tally[i], now);
                }
            }
            counts_.closed(m.client, 1, now);
            if (--found->second == 0) {
                open.erase(found);
            }
            return true;
        },
        [&](const AnvilStillOpen& m) {
            if (!good_name(m.client) || m.connections == 0 || m.connections > kMaxOpen || open.size() >= kMaxOpen) {
                return false;
            }
            open[m.client] += m.connections;
            counts_.still_open(m.client, m.connections, now);
            return true;
        },
    };
    return std::visit(visitor, message);
}

Task<> Server::serve(UniqueFd process) {
    Peer peer(std::move(process), kMaxAnvilMessage);
    Open open;
    peers_.insert(&peer);
    for (;;) {
        const Result<ToAnvil> message = co_await peer.receive(kForever);
        if (!message) {
            if (message.error().code == Errc::syntax || message.error().code == Errc::too_big) {
                log_warning("client: {}", message.error().what);
            }
            break;
        }
        if (!handle(*message, peer, open)) {
            log_warning("client: a message that makes no sense");
            break;
        }
        if (peer.pending_output() > kMaxAnvilMessage * 64) {
            const Result<void> sent = co_await peer.flush(kPatience);
            if (!sent) {
                break;
            }
        }
    }
    peers_.erase(&peer);
    const auto now = Counts::Clock::now();
    for (const auto& [client, connections] : open) {
        counts_.closed(client, connections, now);
    }
}

void Server::close_all() {
    for (Peer* const peer : peers_) {
        peer->close();
    }
}

void Server::log_statistics() {
    for (const std::string& line : counts_.take_statistics()) {
        log_info("{}", line);
    }
}

}  // namespace postern::anvil
