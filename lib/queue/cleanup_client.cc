#include "lib/queue/cleanup_client.h"

#include <sys/socket.h>

#include <cerrno>

namespace postern::queue {
namespace {

using std::chrono::steady_clock;

constexpr Millis kConnectPatience = std::chrono::seconds(30);
constexpr Millis kSendPatience = std::chrono::seconds(300);
/// A connection that was used more recently is not looked at before use.
constexpr auto kFresh = std::chrono::seconds(1);
/// Content is pushed out when so much waits.
constexpr std::size_t kMaxPending = 256 * 1024;

}  // namespace

bool CleanupClient::peer_is_gone() const {
    char byte = 0;
    const ssize_t got = ::recv(channel_.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);   // data nobody asked for is no better than an end
}

Task<Result<void>> CleanupClient::connect() {
    if (channel_ && (steady_clock::now() - last_used_ < kFresh || !peer_is_gone())) {
        co_return Result<void>();
    }
    Result<UniqueFd> socket = co_await connect_unix(path_, kConnectPatience);
    if (!socket) {
        co_return socket.error();
    }
    channel_ = Channel<ToCleanup, FromCleanup>(std::move(*socket));
    co_return Result<void>();
}

Task<Result<FromCleanup>> CleanupClient::answer() {
    Result<FromCleanup> got = co_await channel_.receive(ipc_timeout());
    last_used_ = steady_clock::now();
    if (!got) {
        channel_.close();
    }
    co_return got;
}

Task<Result<FromCleanup>> CleanupClient::submit(Begin message) {
    const Result<void> connected = co_await connect();
    if (!connected) {
        co_return connected.error();
    }
    message.last = true;
    channel_.post(std::move(message));
    co_return co_await answer();
}

Task<Result<void>> CleanupClient::begin(Begin message) {
    const Result<void> connected = co_await connect();
    if (connected) {
        message.last = false;
        channel_.post(std::move(message));
    }
    co_return connected;
}

Task<Result<void>> CleanupClient::content(std::string_view bytes) {
    while (!bytes.empty()) {
        Content piece;
        piece.bytes = bytes.substr(0, kMaxContentPiece);
        bytes.remove_prefix(piece.bytes.size());
        channel_.post(std::move(piece));
        if (channel_.pending_output() < kMaxPending) {
            continue;
        }
        const Result<void> sent = co_await channel_.flush(kSendPatience);
        if (!sent) {
            channel_.close();
            co_return sent;
        }
    }
    co_return Result<void>();
}

Task<Result<FromCleanup>> CleanupClient::end() {
    Content last;
    last.last = true;
    channel_.post(std::move(last));
    co_return co_await answer();
}

void CleanupClient::cancel() {
    if (channel_) {
        channel_.close();   // cleanup forgets a message whose connection ends
    }
}

std::unique_ptr<CleanupClient> CleanupClients::take() {
    if (idle_.empty()) {
        return std::make_unique<CleanupClient>(path_);
    }
    std::unique_ptr<CleanupClient> client = std::move(idle_.back());
    idle_.pop_back();
    return client;
}

void CleanupClients::give_back(std::unique_ptr<CleanupClient> client) {
    if (idle_.size() < kept_) {
        idle_.push_back(std::move(client));
    }
}

}  // namespace postern::queue
