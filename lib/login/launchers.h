/// A front's connections to the session launcher.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/ipc/channel.h"
#include "lib/login/front.h"
#include "lib/login/session_messages.h"

namespace postern {

class LoginFront::Launchers {
public:
    explicit Launchers(std::string path) : path_(std::move(path)) {}

    /// One hand-over and its answer.  A launcher that ends for a reload is replaced by its successor.
    /// Errors: timeout when a launcher was asked and nobody knows what it has done with the client; any other when the
    /// client is the caller's alone.
    Task<Result<FromLauncher>> hand_over(HandOver request);

private:
    using Connection = Channel<ToLauncher, FromLauncher>;
    Task<Result<FromLauncher>> try_once(Connection connection, HandOver request, bool& in_doubt);

    std::string path_;
    std::vector<Connection> idle_;
};

}  // namespace postern
