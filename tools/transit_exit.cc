#include "tools/transit_exit.h"

#include <fcntl.h>
#include <sys/file.h>

#include <thread>

#include "lib/log/log.h"

namespace postern::tools {
namespace {

constexpr std::chrono::milliseconds kPause{20};

/// To incoming/, if nobody has it.
Result<void> move_out(const queue::Transit& transit, const std::string& id) {
    const UniqueFd file = transit.open_file(id, O_RDONLY);
    if (!file || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        return {};
    }
    const Result<UniqueFd> kept = transit.keep(id, file.get(), "incoming", false);
    return kept || kept.error().code == Errc::not_found ? Result<void>() : kept.error();
}

}  // namespace

std::vector<std::string> leave_transit(const queue::Transit& transit, std::vector<std::string> ids, std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    std::string trouble;
    const auto has_left = [&](const std::string& id) {
        if (!transit.contains(id)) {
            return true;
        }
        if (const Result<void> moved = move_out(transit, id); !moved) {
            trouble = moved.error().what;
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
