/// Connections to policy servers (Postfix SMTPD_POLICY_README), kept and used again.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/stream/stream.h"

namespace postern::smtpd {

/// One policy server as a list names it: where it is, and its smtpd_policy_service_* settings.
struct PolicyServer {
    std::string name;                    ///< "inet:127.0.0.1:10031" or "unix:private/policy"
    Millis timeout{};
    Millis max_idle{};
    Millis max_ttl{};
    Millis retry_delay{};
    long try_limit = 2;
    long request_limit = 0;              ///< 0: none
    std::string default_action;
    std::string policy_context;
};

/// "inet:host:port", "unix:path", or that with settings: "{ inet:host:port, timeout=10s, default_action=DUNNO }" (the braces
/// may be gone).  The host is an address or "localhost".  Errors: config, with what would be right.
Result<std::shared_ptr<const PolicyServer>> parse_policy_server(const std::string& text, const Config& config);

class PolicyServers {
public:
    /// Sends `request` (attribute lines, the empty one last) and yields the action.  Tries again as the server's settings
    /// say, on a new connection.  Errors: temporary, after the last try; logged.
    Task<Result<std::string>> ask(std::shared_ptr<const PolicyServer> server, std::string request);

private:
    struct Connection {
        std::unique_ptr<Stream> stream;
        std::chrono::steady_clock::time_point opened, used;
        long requests = 0;
        bool fresh() const { return requests == 0; }
    };
    Task<Result<std::unique_ptr<Connection>>> connection_to(std::shared_ptr<const PolicyServer> server, bool only_new);
    void keep(const PolicyServer& server, std::unique_ptr<Connection> connection);

    static constexpr std::size_t kMaxKept = 20;   ///< idle connections to one server
    std::map<std::string, std::vector<std::unique_ptr<Connection>>> idle_;
};

}  // namespace postern::smtpd
