// QueueFileWriter::commit(), apart from the rest so that programs without an event loop do not link one.
#include "lib/async/offload.h"
#include "lib/queue/queue_file.h"

namespace postern::queue {

Task<Result<void>> QueueFileWriter::commit() {
    auto work = [this] { return write_out(); };
    co_return co_await offload(std::move(work));
}

}  // namespace postern::queue
