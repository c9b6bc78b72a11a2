/// showq - lists the queue for postqueue(1), which has no right to read it.
///
/// Speaks to: postqueue(1) and whoever else may connect to public/showq: any local user.
/// If taken over: can read queued mail.
#include "lib/async/offload.h"
#include "lib/ipc/channel.h"
#include "lib/listing/listing.h"
#include "lib/log/log.h"
#include "lib/queue/transit.h"
#include "lib/service/service.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",                              // none
    .chroot = "queue_directory",
    .readable = "$queue_directory $queue_directory/transit /etc/localtime /usr/share/zoneinfo",
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

namespace postern::qmgr {
namespace {

using ToLister = std::variant<ListedMessage, ListingEnd>;
using ListChannel = Channel<ToLister, std::variant<Trigger>>;

constexpr std::size_t kEnough = 256 * 1024;   // bytes that wait before we wait for the reader
constexpr std::size_t kPiece = 128;           // messages read at a time; the first piece is short, so that it is there at once
constexpr std::size_t kFirstPiece = 8;

/// Messages that are read, on a thread, while the ones before them are sent.
struct Piece {
    std::vector<ListedMessage> messages;
    bool ready = false;
    Notice done;
};

/// `walk` and `piece` live until it is ready.
Task<> read_ahead(ListingWalk& walk, Piece& piece, std::size_t count) {
    auto read = [&walk, count] { return walk.next(count); };
    piece.messages = co_await offload(std::move(read));
    piece.ready = true;
    piece.done.notify_all();
}

/// Posts what fits; waits for a slow reader.  False when it is gone.
Task<bool> send_piece(ListChannel& channel, std::vector<ListedMessage> messages) {
    for (ListedMessage& message : messages) {
        channel.post(std::move(message));
        if (channel.pending_output() < kEnough) {
            continue;
        }
        const Result<void> sent = co_await channel.flush();
        if (!sent) {
            co_return false;
        }
    }
    const Result<void> sent = co_await channel.flush();
    co_return sent.ok();
}

/// Everything, as soon as the client connects; it asks nothing.  What is in memory is a piece being read and one being
/// sent, however long the queue.  `transit` outlives the call.
Task<> serve(Connection client, const queue::Transit* transit) {
    ListChannel channel(std::move(client.fd));
    ListingWalk walk(".", transit);
    Piece ahead;
    spawn(read_ahead(walk, ahead, kFirstPiece));
    for (bool open = true; open;) {
        while (!ahead.ready) {
            co_await ahead.done.wait(kForever);
        }
        std::vector<ListedMessage> messages = std::move(ahead.messages);
        if (messages.empty()) {
            break;
        }
        ahead.ready = false;
        spawn(read_ahead(walk, ahead, kPiece));
        open = co_await send_piece(channel, std::move(messages));
    }
    while (!ahead.ready) {
        co_await ahead.done.wait(kForever);
    }
    ListingEnd end;
    const Result<void> sent = co_await channel.send(std::move(end));
    if (!sent) {
        log_debug("postqueue went away: {}", sent.error().what);
    }
}

}  // namespace
}  // namespace postern::qmgr

int main(int argc, char** argv) {
    using namespace postern;
    Service service("showq", argc, argv);
    const std::optional<queue::Transit> transit = queue::Transit::open(service.config().queue_directory(), ".");
    service.confine(kRights);
    return service.serve([&](Connection client) { return qmgr::serve(std::move(client), transit ? &*transit : nullptr); });
}
