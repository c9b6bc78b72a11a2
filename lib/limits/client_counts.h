/// How many connections a client has and how fast it does things, over all processes of a service: the asking side of
/// anvil(8).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lib/async/loop.h"
#include "lib/limits/anvil_messages.h"

namespace postern {

struct ClientNumbers {
    std::uint32_t open = 0;
    std::uint32_t rate = 0;
};

/// Where a server's clients are counted: anvil(8), or a test's memory.
class ClientCounts {
public:
    virtual ~ClientCounts() = default;
    ClientCounts() = default;
    ClientCounts(const ClientCounts&) = delete;
    ClientCounts& operator=(const ClientCounts&) = delete;

    /// A connection opens.  Nothing when nobody counts now: then there are no limits.
    virtual Task<std::optional<ClientNumbers>> opened(std::string client) = 0;
    /// `amount` events of a kind; 0 only asks.  Nothing, as above.
    virtual Task<std::optional<ClientNumbers>> event(std::string client, ClientEvent what, std::uint32_t amount) = 0;
    /// A connection that was opened() closes; `uncounted` is what happened on it and was not told with event().  With
    /// `soon` the others know at once (the client is near a limit), else within moments.
    virtual void closed(const std::string& client, const EventTally& uncounted, bool soon) = 0;
};

/// Counts by anvil(8).  One connection is shared by all sessions of the process: made when first needed, and made again
/// when it was lost, with a report of what is open.  While anvil does not answer nothing is limited and one warning is logged.
class AnvilClient : public ClientCounts {
public:
    /// `path` is the socket, absolute or relative to the working directory.
    explicit AnvilClient(std::string path);
    ~AnvilClient() override;

    Task<std::optional<ClientNumbers>> opened(std::string client) override;
    Task<std::optional<ClientNumbers>> event(std::string client, ClientEvent what, std::uint32_t amount) override;
    void closed(const std::string& client, const EventTally& uncounted, bool soon) override;

private:
    struct State;
    std::shared_ptr<State> state_;   ///< also kept by the coroutine that reads answers
};

}  // namespace postern
