/// What servers and anvil(8) say to each other: how many connections a client has over all processes of a service, and
/// how fast it does things.
///
/// A client is "service:address", as in Postfix, so that each service counts for itself.  What a process has reported as
/// open is forgotten when its connection to anvil ends, however the process ended.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>

namespace postern {

/// What is counted per anvil_rate_time_unit.
enum class ClientEvent : std::uint8_t { connection, message, recipient, tls, auth };
inline constexpr std::size_t kClientEvents = 5;

/// How often something happened; the index is a ClientEvent.
using EventTally = std::array<std::uint32_t, kClientEvents>;

/// A connection has opened.  Answered with the connections that are open now and the rate of connections.
struct AnvilOpened {
    std::uint32_t id = 0;
    std::string client;
};
/// Something happened, or (with `amount` 0) how often did it?  Answered.
struct AnvilEvent {
    std::uint32_t id = 0;
    std::string client;
    std::uint8_t what = 0;       ///< a ClientEvent
    std::uint32_t amount = 1;
};
/// A connection has closed; and how often something happened on it that was not reported, because nobody had to know.
struct AnvilClosed {
    std::string client;
    std::uint32_t message = 0, recipient = 0, tls = 0, auth = 0;
};
/// Connections that were open before anvil was started again.
struct AnvilStillOpen {
    std::string client;
    std::uint32_t connections = 0;
};
/// The answer: `rate` is of what the question was about.
struct AnvilNumbers {
    std::uint32_t id = 0;
    std::uint32_t open = 0;
    std::uint32_t rate = 0;
};

template <class A>
void fields(A& a, AnvilOpened& m) {
    a(m.id, m.client);
}
template <class A>
void fields(A& a, AnvilEvent& m) {
    a(m.id, m.client, m.what, m.amount);
}
template <class A>
void fields(A& a, AnvilClosed& m) {
    a(m.client, m.message, m.recipient, m.tls, m.auth);
}
template <class A>
void fields(A& a, AnvilStillOpen& m) {
    a(m.client, m.connections);
}
template <class A>
void fields(A& a, AnvilNumbers& m) {
    a(m.id, m.open, m.rate);
}

using ToAnvil = std::variant<AnvilOpened, AnvilEvent, AnvilClosed, AnvilStillOpen>;
using FromAnvil = std::variant<AnvilNumbers>;

inline constexpr std::size_t kMaxAnvilMessage = 1024;
inline constexpr std::size_t kMaxAnvilClientName = 256;

}  // namespace postern
