#include "lib/queue/commit_log_format.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/checksum.h"
#include "lib/queue/queue_id.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

constexpr std::string_view kMagic = "PosternL";
constexpr std::uint16_t kVersion = 1;
/// STATX_MNT_ID_UNIQUE, for C libraries that do not know it yet (Linux 6.8).
constexpr unsigned kMountIdUnique = 0x4000;
constexpr std::size_t kStartTime = 19;         ///< of the words after the program's name in /proc/PID/stat: when it was started
constexpr std::size_t kHeaderFields = 8 + 2 + 2 + 4 + 8 + 8 + kLogLifeSize;
constexpr std::string_view kRecordMagic = "\xf1PL\n";
constexpr std::size_t kRecordFields = 4 + 8 + 4 + 4 + 1 + kMaxQueueId;
static_assert(kRecordFields + sizeof(std::uint32_t) <= kLogRecordHeaderSize);

Error corrupt(const char* why) { return {Errc::corrupt, std::string("commit log: ") + why}; }

bool is_ring_size(std::uint64_t size) { return size >= kMinLogRing && size <= kMaxLogRing && size % kLogHeaderSize == 0; }

std::string read_text(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    char text[1024];
    const ssize_t size = file ? ::read(file.get(), text, sizeof text) : 0;
    return std::string(text, size > 0 ? static_cast<std::size_t>(size) : 0);
}

std::uint32_t checksum_after(std::string_view bytes, std::size_t fields) {
    StoredReader stored(bytes.substr(fields));
    return stored.number<std::uint32_t>();
}

}  // namespace

std::string encode_log_header(const LogHeader& header) {
    std::string out(kMagic);
    put_number(out, kVersion);
    put_number(out, static_cast<std::uint16_t>(header.in_use ? 1 : 0));
    put_number(out, std::uint32_t{0});
    put_number(out, header.ring_size);
    put_number(out, header.first);
    out += header.life.substr(0, kLogLifeSize);
    out.resize(kHeaderFields, '\0');
    put_number(out, crc32c(0, out));
    out.resize(kLogSector, '\0');
    return out;
}

Result<LogHeader> decode_log_header(std::string_view bytes) {
    if (bytes.size() < kLogSector || bytes.substr(0, kMagic.size()) != kMagic) {
        return corrupt("no header");
    }
    if (crc32c(0, bytes.substr(0, kHeaderFields)) != checksum_after(bytes, kHeaderFields)) {
        return corrupt("wrong header checksum");
    }
    StoredReader in(bytes.substr(kMagic.size()));
    if (in.number<std::uint16_t>() != kVersion) {
        return corrupt("unknown format version");
    }
    LogHeader header;
    header.in_use = in.number<std::uint16_t>() != 0;
    in.number<std::uint32_t>();
    header.ring_size = in.number<std::uint64_t>();
    header.first = in.number<std::uint64_t>();
    const std::string_view life = in.take(kLogLifeSize);
    header.life = life.substr(0, life.find('\0'));
    if (!is_ring_size(header.ring_size)) {
        return corrupt("bad size");
    }
    return header;
}

std::string encode_log_record(const LogRecord& record) {
    std::string out(kRecordMagic);
    put_number(out, record.number);
    put_number(out, record.length);
    put_number(out, record.content_crc);
    put_number(out, static_cast<std::uint8_t>(record.queue_id.size()));
    out += record.queue_id;
    out.resize(kRecordFields, '\0');
    put_number(out, crc32c(0, out));
    out.resize(kLogRecordHeaderSize, '\0');
    return out;
}

std::optional<LogRecord> decode_log_record(std::string_view bytes, std::uint64_t room) {
    if (bytes.size() < kLogRecordHeaderSize || bytes.substr(0, kRecordMagic.size()) != kRecordMagic ||
        crc32c(0, bytes.substr(0, kRecordFields)) != checksum_after(bytes, kRecordFields)) {
        return std::nullopt;
    }
    StoredReader in(bytes.substr(kRecordMagic.size()));
    LogRecord record;
    record.number = in.number<std::uint64_t>();
    record.length = in.number<std::uint32_t>();
    record.content_crc = in.number<std::uint32_t>();
    const std::size_t id_length = in.number<std::uint8_t>();
    record.queue_id = in.take(std::min(id_length, kMaxQueueId));
    if (record.number == 0 || kLogRecordHeaderSize + record.length > room || !is_queue_id(record.queue_id)) {
        return std::nullopt;
    }
    return record;
}

std::string log_name(std::uint64_t ring_size, unsigned index) {
    return std::to_string(ring_size) + "." + std::to_string(index);
}

std::optional<std::uint64_t> log_ring_size(std::string_view name) {
    std::uint64_t size = 0;
    unsigned index = 0;
    const char* const end = name.data() + name.size();
    const auto [dot, size_error] = std::from_chars(name.data(), end, size);
    if (size_error != std::errc() || dot == end || *dot != '.' || !is_ring_size(size)) {
        return std::nullopt;
    }
    const auto [rest, index_error] = std::from_chars(dot + 1, end, index);
    if (index_error != std::errc() || rest != end || log_name(size, index) != name) {
        return std::nullopt;
    }
    return size;
}

std::string read_file_system_life(const std::string& path) {
    const std::string boot(trim(read_text("/proc/sys/kernel/random/boot_id")));
    if (boot.empty()) {
        return {};
    }
    struct statx info {};
    if (::statx(AT_FDCWD, path.c_str(), 0, kMountIdUnique, &info) == 0 && (info.stx_mask & kMountIdUnique) != 0) {
        return fmt::format("{} mount {}", boot, info.stx_mnt_id);
    }
    // An older kernel uses the numbers of mounts again.  But nobody unmounts what master has as its current directory.
    const pid_t master = ::getppid();
    const std::string status = read_text(fmt::format("/proc/{}/stat", master));
    const std::size_t name_end = status.rfind(')');
    const std::vector<std::string> words = split(name_end == std::string::npos ? "" : status.substr(name_end + 1), " ");
    return words.size() > kStartTime ? fmt::format("{} master {} {}", boot, master, words[kStartTime]) : std::string();
}

}  // namespace postern::queue
