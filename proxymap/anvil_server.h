/// Keeps anvil(8)'s books for the processes that are connected.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/ipc/channel.h"
#include "proxymap/anvil_counts.h"

namespace postern::anvil {

using Peer = Channel<FromAnvil, ToAnvil>;

class Server {
public:
    explicit Server(std::chrono::milliseconds window) : counts_(window) {}

    /// One process, until it goes or says what cannot be understood; then what it had open is closed.
    Task<> serve(UniqueFd process);
    /// Ends all conversations: the processes come to our successor.
    void close_all();

    Counts& counts() { return counts_; }
    void log_statistics();

private:
    /// What one process has open, by client.
    using Open = std::unordered_map<std::string, std::uint32_t>;
    static constexpr std::size_t kMaxOpen = 100'000;   ///< clients of one process

    bool handle(const ToAnvil& message, Peer& peer, Open& open);

    Counts counts_;
    std::unordered_set<Peer*> peers_;
};

}  // namespace postern::anvil
