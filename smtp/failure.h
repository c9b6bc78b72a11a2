/// Why mail could not be handed over, in the terms of the log line and the delivery status notification.
#pragma once

#include <string>

namespace postern::smtp {

struct Failure {
    std::string dsn;                ///< RFC 3463; its class decides between deferring and bouncing
    std::string text;               ///< "host X[..] said: 550 ... (in reply to RCPT TO command)"
    bool destination_dead = false;  ///< not this message but the server or destination is at fault: qmgr shall slow down
    std::string remote_mta{};       ///< the host that said so, if one did
    std::string diagnostic{};       ///< its reply, "smtp; 550 ..."

    bool hard() const { return !dsn.empty() && dsn.front() == '5'; }
    void soften() {
        if (hard()) {
            dsn.front() = '4';
        }
    }
};

}  // namespace postern::smtp
