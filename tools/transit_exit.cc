#include "tools/transit_exit.h"

#include <thread>

#include "lib/log/log.h"

namespace postern::tools {
namespace {

constexpr std::chrono::milliseconds kPause{20};

}  // namespace

std::vector<std::string> leave_transit(const queue::Transit& transit, std::vector<std::string> ids, std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    std::string trouble;
    const auto has_left = [&](const std::string& id) {
        if (!transit.contains(id)) {
            return true;
        }
        const Result<void> kept = transit.keep_idle(id, "incoming");
        if (!kept && kept.error().code != Errc::temporary && kept.error().code != Errc::not_found) {
            trouble = kept.error().what;
        }
        return !transit.contains(id);
    };
    for (;;) {
        std::erase_if(ids, has_left);
        if (ids.empty() || std::chrono::steady_clock::now() >= deadline) {
            break;
        }
        std::this_thread::sleep_for(kPause);
    }
    if (!ids.empty() && !trouble.empty()) {
        log_warning("{}", trouble);
    }
    return ids;
}

}  // namespace postern::tools
