#include "lib/queue/log_options.h"

namespace postern::queue {

LogOptions log_options(const Config& config, const Transit* transit) {
    LogOptions options;
    options.ring_size = log_ring_size_for(static_cast<std::uint64_t>(config.commit_log_size()));
    options.life = read_file_system_life("incoming");
    if (transit != nullptr && !options.life.empty()) {
        options.life = (options.life + " " + transit->name()).substr(0, kLogLifeSize);
    }
    options.transit = transit;
    return options;
}

}  // namespace postern::queue
