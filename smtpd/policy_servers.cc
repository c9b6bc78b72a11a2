#include "smtpd/policy_servers.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "lib/table/types.h"

namespace postern::smtpd {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxLine = 4096;
constexpr int kMaxLines = 100;

/// A number and its unit: "10s", "5m", "100" (seconds).
std::optional<Millis> parse_time(std::string_view text) {
    long unit = 1;
    constexpr std::string_view kUnits = "smhdw";
    constexpr long kSeconds[] = {1, 60, 3600, 86400, 604800};
    if (!text.empty() && kUnits.find(text.back()) != std::string_view::npos) {
        unit = kSeconds[kUnits.find(text.back())];
        text.remove_suffix(1);
    }
    const auto number = parse_number(text);
    if (!number || *number == 0 || *number > 1'000'000) {
        return std::nullopt;
    }
    return std::chrono::seconds(static_cast<long>(*number) * unit);
}

/// "host:port" with an IPv4 address, "[IPv6 address]:port" or "localhost:port".
struct Endpoint {
    sockaddr_storage address{};
    socklen_t size = 0;
};

std::optional<Endpoint> parse_endpoint(std::string_view where) {
    const std::size_t colon = where.rfind(':');
    std::string host = colon == std::string_view::npos ? "127.0.0.1" : std::string(where.substr(0, colon));
    const auto port = parse_number(where.substr(colon == std::string_view::npos ? 0 : colon + 1));
    if (!port || *port == 0 || *port > 65535) {
        return std::nullopt;
    }
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    if (host == "localhost") {
        host = "127.0.0.1";
    }
    Endpoint out;
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out.address);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.address);
    if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(static_cast<std::uint16_t>(*port));
        out.size = sizeof *v4;
        return out;
    }
    if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(static_cast<std::uint16_t>(*port));
        out.size = sizeof *v6;
        return out;
    }
    return std::nullopt;
}

Result<UniqueFd> start_inet(std::string_view where) {
    const std::optional<Endpoint> endpoint = parse_endpoint(where);
    if (!endpoint) {
        return Error(Errc::config, fmt::format("bad address {}", where));
    }
    UniqueFd fd(::socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return errno_error("socket");
    }
    const auto* address = reinterpret_cast<const sockaddr*>(&endpoint->address);
    if (::connect(fd.get(), address, endpoint->size) != 0 && errno != EINPROGRESS) {
        return errno_error(fmt::format("connect {}", where));
    }
    return fd;
}

/// The answer is attribute lines up to an empty one.
Task<Result<std::string>> exchange(Stream& stream, std::string request, Millis timeout) {
    stream.write(request);
    std::string action;
    for (int lines = 0; lines < kMaxLines; ++lines) {
        Result<std::string> line = co_await stream.read_line(kMaxLine, timeout);
        if (!line) {
            co_return line.error();
        }
        if (line->empty()) {
            if (action.empty()) {
                break;
            }
            co_return action;
        }
        if (starts_with_ignoring_case(*line, "action=")) {
            action = trim(std::string_view(*line).substr(7));
        }
    }
    co_return Error(Errc::syntax, "malformed answer");
}

bool set_option(PolicyServer& server, const std::string& name, const std::string& value) {
    struct TimeOption {
        const char* name;
        Millis PolicyServer::*member;
    };
    constexpr TimeOption kTimes[] = {{"timeout", &PolicyServer::timeout},
                                     {"max_idle", &PolicyServer::max_idle},
                                     {"max_ttl", &PolicyServer::max_ttl},
                                     {"retry_delay", &PolicyServer::retry_delay}};
    for (const TimeOption& option : kTimes) {
        if (name == option.name) {
            const std::optional<Millis> time = parse_time(value);
            server.*option.member = time.value_or(Millis(0));
            return time.has_value();
        }
    }
    if (name == "try_limit" || name == "request_limit") {
        const auto number = parse_number(value);
        (name == "try_limit" ? server.try_limit : server.request_limit) = static_cast<long>(number.value_or(0));
        return number && *number < 1000000 && (name != "try_limit" || *number > 0);
    }
    if (name == "default_action" || name == "policy_context") {
        (name == "default_action" ? server.default_action : server.policy_context) = value;
        return true;
    }
    return false;
}

}  // namespace

Result<std::shared_ptr<const PolicyServer>> parse_policy_server(const std::string& text, const Config& config) {
    std::string_view inside = trim(text);
    if (inside.size() > 1 && inside.front() == '{' && inside.back() == '}') {
        inside = inside.substr(1, inside.size() - 2);
    }
    auto server = std::make_shared<PolicyServer>();
    server->timeout = config.smtpd_policy_service_timeout();
    server->max_idle = config.smtpd_policy_service_max_idle();
    server->max_ttl = config.smtpd_policy_service_max_ttl();
    server->retry_delay = config.smtpd_policy_service_retry_delay();
    server->try_limit = config.smtpd_policy_service_try_limit();
    server->request_limit = config.smtpd_policy_service_request_limit();
    server->default_action = config.smtpd_policy_service_default_action();
    server->policy_context = config.smtpd_policy_service_policy_context();
    for (const std::string& item : split_list(inside)) {
        const std::string word(trim(table_type::without_braces(item)));   // "{ name = value with spaces }"
        const std::size_t equals = word.find('=');
        if (server->name.empty()) {
            server->name = word;
        } else if (equals == std::string::npos ||
                   !set_option(*server, std::string(trim(std::string_view(word).substr(0, equals))),
                               std::string(trim(std::string_view(word).substr(equals + 1))))) {
            return Error(Errc::config, fmt::format("policy service {}: bad option \"{}\"", server->name, word));
        }
    }
    const bool inet = starts_with_ignoring_case(server->name, "inet:") && parse_endpoint(std::string_view(server->name).substr(5));
    if (!inet && !(starts_with_ignoring_case(server->name, "unix:") && server->name.size() > 5)) {
        return Error(Errc::config, fmt::format("policy service \"{}\": want inet:address:port or unix:path", server->name));
    }
    return std::shared_ptr<const PolicyServer>(std::move(server));
}

/// One that was kept, or a new one.
Task<Result<std::unique_ptr<PolicyServers::Connection>>> PolicyServers::connection_to(std::shared_ptr<const PolicyServer> server,
                                                                                     bool only_new) {
    std::vector<std::unique_ptr<Connection>>& kept = idle_[server->name];
    const auto now = Clock::now();
    while (!kept.empty()) {
        std::unique_ptr<Connection> connection = std::move(kept.back());
        kept.pop_back();
        const bool usable = now - connection->used < server->max_idle && now - connection->opened < server->max_ttl;
        if (usable && !only_new) {
            co_return std::move(connection);
        }
    }
    Result<UniqueFd> fd = UniqueFd();
    if (starts_with_ignoring_case(server->name, "unix:")) {
        fd = co_await connect_unix(server->name.substr(5), server->timeout);
    } else {
        fd = start_inet(std::string_view(server->name).substr(5));
    }
    if (!fd) {
        co_return fd.error();
    }
    auto connection = std::make_unique<Connection>();
    connection->stream = make_socket_stream(std::move(*fd));
    connection->opened = connection->used = now;
    co_return std::move(connection);
}

void PolicyServers::keep(const PolicyServer& server, std::unique_ptr<Connection> connection) {
    const auto now = Clock::now();
    connection->used = now;
    std::vector<std::unique_ptr<Connection>>& kept = idle_[server.name];
    const bool worn_out = (server.request_limit > 0 && connection->requests >= server.request_limit) ||
                          now - connection->opened >= server.max_ttl || !connection->stream->buffered().empty();
    if (!worn_out && kept.size() < kMaxKept) {
        kept.push_back(std::move(connection));
    }
}

Task<Result<std::string>> PolicyServers::ask(std::shared_ptr<const PolicyServer> server, std::string request) {
    bool only_new = false;
    for (long attempt = 1;;) {
        Result<std::unique_ptr<Connection>> connection = co_await connection_to(server, only_new);
        Error problem(Errc::temporary, connection ? "" : connection.error().what);
        bool was_kept = false;
        if (connection) {
            was_kept = !(*connection)->fresh();
            Stream& stream = *(*connection)->stream;
            Result<std::string> action = co_await exchange(stream, request, server->timeout);
            if (action) {
                ++(*connection)->requests;
                keep(*server, std::move(*connection));
                co_return action;
            }
            problem = action.error();
        }
        only_new = true;
        if (was_kept && problem.code == Errc::closed) {
            continue;   // the server had ended a connection that was kept: no fault of either side
        }
        if (attempt >= server->try_limit || problem.code != Errc::closed) {
            log_warning("problem talking to server {}: {}", server->name, problem.what);
        }
        if (attempt++ >= server->try_limit) {
            co_return Error(Errc::temporary, std::move(problem.what));
        }
        co_await sleep_for(server->retry_delay);
    }
}

}  // namespace postern::smtpd
