/// Tables that are servers: socketmap (socketmap_table(5), Sendmail's protocol) and tcp (tcp_table(5)).
#include <fmt/format.h>

#include <utility>

#include "lib/async/wait_here.h"
#include "lib/base/strings.h"
#include "lib/table/table_server.h"
#include "lib/table/types.h"

namespace postern::table_type {
namespace {

constexpr std::size_t kMaxDigits = 18;       ///< of the length of a netstring

/// "inet:host:port" or "unix:path" or, for tcp, "host:port".
struct ServerName {
    std::string host;
    std::string port;   ///< empty: `host` is the path of a Unix socket
};

std::optional<ServerName> parse_host_port(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0 || colon + 1 == text.size()) {
        return std::nullopt;
    }
    std::string_view host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    return ServerName{std::string(host), std::string(text.substr(colon + 1))};
}

/// A table that is a server.
class ServerTable : public Table {
protected:
    ServerTable(std::string name, bool pattern, bool fold, ServerName server, const TableContext& context)
        : Table(std::move(name), pattern, fold),
          server_(std::move(server.host), std::move(server.port)),
          timeout_seconds_(context.server_timeout_seconds) {
        allow_waiting_here();
    }

    /// The reply to a question about `key`.  Errors: temporary, naming the table.
    Result<std::string> ask(std::string_view key) {
        const auto exchange_key = [this, key](BlockingSocket& socket) { return exchange(socket, key); };
        const auto question = [this, &exchange_key] { return server_.ask(exchange_key, timeout_seconds_); };
        Result<std::string> reply = outage_.guard(question);
        return reply ? reply : Error(Errc::temporary, name() + ": " + reply.error().what);
    }

private:
    /// One question and its reply.
    virtual Result<std::string> exchange(BlockingSocket& socket, std::string_view key) = 0;

    TableServer server_;
    Outage outage_;
    int timeout_seconds_;
};

class SocketMap final : public ServerTable {
public:
    SocketMap(std::string name, const TableContext& context, ServerName server, std::string map)
        : ServerTable(std::move(name), false, context.fold_case, std::move(server), context), map_(std::move(map)),
          max_query_(context.socketmap_max_query), max_reply_(context.socketmap_max_reply) {}

protected:
    Lookup find(std::string_view key) override {
        const Result<std::string> reply = ask(key);
        if (!reply) {
            return reply.error();
        }
        const std::string_view text = *reply;
        if (text.substr(0, 3) == "OK ") {
            return std::optional<std::string>(text.substr(3));
        }
        if (text.substr(0, 8) == "NOTFOUND") {
            return std::optional<std::string>();
        }
        return Error(Errc::temporary, name() + ": " + printable(text, 200));
    }

private:
    /// One netstring there, one back.
    Result<std::string> exchange(BlockingSocket& socket, std::string_view key) override {
        const std::string query = map_ + " " + std::string(key);
        if (query.size() > max_query_) {
            return Error(Errc::too_big, fmt::format("a question of {} bytes (socketmap_max_query_size = {})", query.size(), max_query_));
        }
        if (const Result<void> sent = socket.write_all(std::to_string(query.size()) + ":" + query + ","); !sent) {
            return sent.error();
        }
        std::string digits;
        for (;;) {
            const Result<std::string> byte = socket.read_exactly(1);
            if (!byte) {
                return byte.error();
            }
            if (*byte == ":") {
                break;
            }
            digits += *byte;
            if (!parse_number(digits) || digits.size() > kMaxDigits) {
                return malformed(socket);
            }
        }
        const std::optional<std::uint64_t> size = parse_number(digits);
        if (!size || *size > max_reply_) {
            socket.close();
            return Error(Errc::too_big, fmt::format("a reply of {} bytes (socketmap_max_reply_size = {})", digits, max_reply_));
        }
        Result<std::string> text = socket.read_exactly(*size + 1);
        if (!text) {
            return text;
        }
        if (text->back() != ',') {
            return malformed(socket);
        }
        text->pop_back();
        return text;
    }

    static Error malformed(BlockingSocket& socket) {
        socket.close();
        return Error(Errc::syntax, "malformed reply");
    }

    std::string map_;
    std::size_t max_query_, max_reply_;
};

/// Bytes that would break a line, as %xx.
std::string percent_encode(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c <= ' ' || c == '%' || static_cast<unsigned char>(c) >= 127) {
            out += '%' + hex_encode(std::string_view(&c, 1));
        } else {
            out += c;
        }
    }
    return out;
}

std::optional<std::string> percent_decode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        const std::optional<std::uint64_t> byte = parse_hex(text.substr(i + 1, 2));
        if (!byte || i + 2 >= text.size()) {
            return std::nullopt;
        }
        out += static_cast<char>(*byte);
        i += 2;
    }
    return out;
}

class TcpTable final : public ServerTable {
public:
    TcpTable(std::string name, ServerName server, const TableContext& context)
        : ServerTable(std::move(name), true, false, std::move(server), context) {}

protected:
    Lookup find(std::string_view key) override {
        const Result<std::string> reply = ask(key);
        if (!reply) {
            return reply.error();
        }
        std::string_view text = *reply;
        if (!text.empty() && text.back() == '\r') {
            text.remove_suffix(1);
        }
        if (text.substr(0, 4) == "500 ") {
            return std::optional<std::string>();
        }
        std::optional<std::string> value = percent_decode(text.substr(0, 4) == "200 " ? text.substr(4) : "%");
        if (!value) {
            return Error(Errc::temporary, name() + ": " + printable(text, 200));
        }
        return value;
    }

private:
    Result<std::string> exchange(BlockingSocket& socket, std::string_view key) override {
        if (const Result<void> sent = socket.write_all("get " + percent_encode(key) + "\n"); !sent) {
            return sent.error();
        }
        return socket.read_line(4096);
    }
};

}  // namespace

Result<TablePtr> open_socketmap(std::string_view name, const TableContext& context) {
    const std::string title = full_name("socketmap", name);
    const std::size_t colon = name.rfind(':');
    const std::string_view server = name.substr(0, colon);
    const std::string map(colon == std::string_view::npos ? std::string_view() : name.substr(colon + 1));
    std::optional<ServerName> parsed;
    if (server.substr(0, 5) == "unix:" && server.size() > 5) {
        parsed = ServerName{std::string(server.substr(5)), {}};
    } else if (server.substr(0, 5) == "inet:") {
        parsed = parse_host_port(server.substr(5));
    }
    if (!parsed || map.empty()) {
        return Error(Errc::config, title + ": need socketmap:inet:host:port:name or socketmap:unix:path:name");
    }
    return TablePtr(std::make_unique<SocketMap>(title, context, std::move(*parsed), map));
}

Result<TablePtr> open_tcp(std::string_view name, const TableContext& context) {
    std::optional<ServerName> server = parse_host_port(name);
    if (!server) {
        return Error(Errc::config, full_name("tcp", name) + ": need tcp:host:port");
    }
    return TablePtr(std::make_unique<TcpTable>(full_name("tcp", name), std::move(*server), context));
}

}  // namespace postern::table_type
