#include "lib/queue/requests.h"

#include "lib/log/log.h"

namespace postern::queue {
namespace {

/// qmgr closes connections that it does not need.
constexpr Millis kIdle = std::chrono::hours(1);
constexpr Millis kPatience = std::chrono::seconds(300);
constexpr std::size_t kMaxRequest = 64 * 1024 * 1024;

}  // namespace

Requests::Requests(UniqueFd socket) : channel_(std::move(socket), kMaxRequest) {}

Task<std::optional<Deliver>> Requests::next() {
    if (!greeted_) {
        greeted_ = true;
        channel_.post(Ready());
    }
    Result<ToAgent> received = co_await channel_.receive(kIdle);
    if (!received) {
        if (received.error().code == Errc::syntax || received.error().code == Errc::too_big) {
            log_warning("request from qmgr: {}", received.error().what);
        }
        co_return std::nullopt;
    }
    co_return std::move(std::get<Deliver>(*received));
}

Task<bool> Requests::flush() {
    const Result<void> told = co_await channel_.flush(kPatience);
    if (!told) {
        log_debug("answer to qmgr: {}", told.error().what);
    }
    co_return told.ok();
}

}  // namespace postern::queue
