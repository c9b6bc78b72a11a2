/// smtp's way to mta-sts(8): one connection, any number of questions at once.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/mta_sts/messages.h"

namespace postern {

/// One question on a connection of its own, for commands.  Errors: what connect_unix() says, timeout (kPatience), closed.
Task<Result<StsAnswer>> ask_sts(std::string path, std::string domain);

class StsClient {
public:
    /// `path`: of the service's socket.
    explicit StsClient(std::string path = kStsSocket);
    ~StsClient();
    StsClient(const StsClient&) = delete;
    StsClient& operator=(const StsClient&) = delete;

    /// Nothing when the service is not there or does not answer in kPatience; a warning says so, once until it answers again.
    Task<std::optional<StsAnswer>> ask(std::string domain);

    static constexpr Millis kPatience = std::chrono::seconds(8);

private:
    struct State;
    std::shared_ptr<State> state_;   ///< shared with the coroutine that reads answers, which may outlive us
};

}  // namespace postern
