// Queue files come from disk and are not trusted: any bytes are read, verified and replayed within bounds.
// The checksums of the input are put right first, so that the fuzzer gets behind them.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "lib/queue/checksum.h"
#include "lib/queue/envelope_codec.h"
#include "lib/queue/queue_file.h"

using namespace postern::queue;

namespace {

void put_u32(std::string& bytes, std::size_t at, std::uint32_t value) {
    for (std::size_t i = 0; i < 4; ++i) {
        bytes[at + i] = static_cast<char>(value >> (8 * i));
    }
}

std::uint64_t get_u64(const std::string& bytes, std::size_t at) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
    }
    return value;
}

void mend(std::string& bytes) {
    if (bytes.size() < kFixedHeaderSize) {
        return;
    }
    const std::uint64_t offset = get_u64(bytes, 48);
    const std::uint64_t length = get_u64(bytes, 56);
    if (offset <= bytes.size() && length <= bytes.size() - offset) {
        put_u32(bytes, 80, crc32c(0, std::string_view(bytes).substr(offset, length)));
    }
    put_u32(bytes, 124, crc32c(0, std::string_view(bytes).substr(0, 124)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(reinterpret_cast<const char*>(data), size);
    mend(bytes);
    static const int fd = ::memfd_create("queue_file", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, 0) != 0 || ::pwrite(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
        std::abort();
    }
    const auto file = QueueFile::read(fd);
    if (file) {
        if (file->headers().offset + file->size_bytes() > bytes.size() + file->headers().offset) {
            std::abort();   // extents must lie inside the file
        }
        (void)file->verify_content(fd);
        const auto journal = file->journal(fd);
        if (journal) {
            (void)replay(*journal, file->envelope().recipients);
            if (decode_journal(encode_journal(*journal)).size() != journal->size()) {
                std::abort();
            }
        }
        const auto again = decode_envelope(encode_envelope(file->envelope()));
        if (!again || encode_envelope(*again) != encode_envelope(file->envelope())) {
            std::abort();
        }
    }
    return 0;
}
