#include "tools/queue_listing.h"

#include <optional>
#include <utility>
#include <variant>

#include "lib/ipc/channel.h"
#include "lib/queue/transit.h"

namespace postern::tools {

namespace {

using Listed = std::variant<ListedMessage, ListingEnd>;

Task<Result<void>> read_showq(UniqueFd socket, const VisitListed& visit) {
    Channel<std::variant<Trigger>, Listed> channel(std::move(socket), 256 * 1024 * 1024);
    for (;;) {
        const Result<Listed> item = co_await channel.receive(std::chrono::seconds(600));
        if (!item) {
            co_return item.error();
        }
        if (const auto* end = std::get_if<ListingEnd>(&*item)) {
            if (!end->error.empty()) {
                co_return Error(Errc::io, end->error);
            }
            co_return Result<void>();
        }
        visit(std::get<ListedMessage>(*item));
    }
}

}  // namespace

Result<void> list_by_showq(UniqueFd socket, const VisitListed& visit) {
    return Loop::current().run_until(read_showq(std::move(socket), visit));
}

void list_by_files(const std::string& queue_directory, const VisitListed& visit) {
    constexpr std::size_t kPiece = 128;
    const std::optional<queue::Transit> transit = queue::Transit::open(queue_directory, queue_directory);
    ListingWalk walk(queue_directory, transit ? &*transit : nullptr);
    for (auto messages = walk.next(kPiece); !messages.empty(); messages = walk.next(kPiece)) {
        for (const ListedMessage& message : messages) {
            visit(message);
        }
    }
}

}  // namespace postern::tools
