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
    /// Errors: temporary.
    Task<Result<FromLauncher>> hand_over(HandOver request);

private:
    using Connection = Channel<ToLauncher, FromLauncher>;
    Task<Result<FromLauncher>> try_once(Connection connection, HandOver request);

    std::string path_;
    std::vector<Connection> idle_;
};

}  // namespace postern
