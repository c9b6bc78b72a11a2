#include "lib/queue/log_marks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

constexpr std::size_t kMaxOpen = 64;

}  // namespace

void LogMarks::mark(const LogPlace& place) {
    const std::optional<std::uint64_t> ring_size = log_ring_size(place.log);
    if (!ring_size) {
        return;
    }
    auto found = logs_.find(place.log);
    if (found == logs_.end()) {
        UniqueFd file(::open((directory_ + "/commit/" + place.log).c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
        struct stat status {};
        if (!file || ::fstat(file.get(), &status) != 0 || static_cast<std::uint64_t>(status.st_size) != log_file_size(*ring_size)) {
            return;
        }
        if (logs_.size() >= kMaxOpen) {
            logs_.clear();
        }
        found = logs_.emplace(place.log, std::move(file)).first;
    }
    std::string mark;
    put_number(mark, place.number);
    (void)!::pwrite(found->second.get(), mark.data(), mark.size(), static_cast<off_t>(log_mark_offset(*ring_size, place.number)));
}

}  // namespace postern::queue
