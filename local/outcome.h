/// What became of one recipient, in the terms of lib/queue/deliver.h.
#pragma once

#include <string>

#include "lib/queue/deliver.h"

namespace postern::local {

struct Outcome {
    std::uint8_t kind = queue::kDeferred;   ///< queue::kDelivered, kDeferred, kBounced
    std::string dsn;                        ///< RFC 3463
    std::string text;
    std::string action{};                   ///< RFC 3464 Action when it is not implied
    std::string relay{};                    ///< for the log line; empty: the agent's own name
    std::string remote_mta{};               ///< from another agent that did the work
    std::string diagnostic{};
    std::string notice_sender{};            ///< as queue::RecipientDone has it
    bool logged = false;                    ///< the line is in the log already
};

inline Outcome sent(std::string text, std::string dsn = "2.0.0") {
    return Outcome{queue::kDelivered, std::move(dsn), std::move(text)};
}
/// The class of `dsn` decides: "4..." is deferred, "5..." bounced.
inline Outcome failed(std::string dsn, std::string text) {
    const std::uint8_t kind = !dsn.empty() && dsn.front() == '5' ? queue::kBounced : queue::kDeferred;
    return Outcome{kind, std::move(dsn), std::move(text)};
}

/// The code for a file error, as Postfix's mbox_dsn(): full disks and busy files are temporary, a quota is the
/// recipient's, all else is `otherwise`.
std::string file_error_dsn(int error_number, std::string_view otherwise);

}  // namespace postern::local
