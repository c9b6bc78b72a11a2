// What a damaged disk, or anybody who owned the queue, may have left in a commit log.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lib/queue/commit_log_format.h"
#include "lib/queue/queue_id.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::queue;
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    (void)log_ring_size(bytes);
    if (const auto header = decode_log_header(bytes)) {
        const auto again = decode_log_header(encode_log_header(*header));
        if (!again || again->first != header->first || again->life != header->life || again->ring_size != header->ring_size) {
            std::abort();
        }
    }
    if (const auto record = decode_log_record(bytes, size)) {
        if (!is_queue_id(record->queue_id) || kLogRecordHeaderSize + record->length > size) {
            std::abort();
        }
    }
    // Checksums keep chance out: the same with fields that were chosen.
    LogRecord chosen;
    chosen.queue_id = bytes.substr(0, size < kMaxQueueId ? size : kMaxQueueId);
    chosen.number = size + 1;
    chosen.length = static_cast<std::uint32_t>(size);
    const auto back = decode_log_record(encode_log_record(chosen), kLogRecordHeaderSize + size);
    if (back.has_value() != is_queue_id(chosen.queue_id)) {
        std::abort();
    }
    return 0;
}
