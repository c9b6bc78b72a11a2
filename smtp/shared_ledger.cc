#include "smtp/shared_ledger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "lib/log/log.h"

namespace postern::smtp {
namespace {

constexpr std::uint64_t kMagic = 0x3152474c50545350;   // the layout below; another layout has another number
constexpr std::uint32_t kPlaces = 10000;               // processes that may live at the same time
constexpr off_t kFirstLock = 1 << 30;                  // locks lie behind the end of the file
constexpr std::int64_t kMemoryTold = 3600;             // seconds; a queue manager that was told asks again soon, or never
constexpr std::int64_t kMemoryTaken = 10 * 86400;      // as long as a message may wait in the queue

enum State : std::uint32_t { kFree = 0, kWriting, kSending, kTaken, kTold };

std::int64_t now_seconds() {
    return std::time(nullptr);
}

/// FNV-1a; never 0, which is a free place.
std::uint64_t print_of(const SharedLedger::Key& key) {
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&hash](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3; };
    for (const char c : key.first) {
        add(static_cast<unsigned char>(c));
    }
    for (unsigned shift = 0; shift < 64; shift += 8) {
        add(static_cast<unsigned char>(static_cast<std::uint64_t>(key.second) >> shift));
    }
    return hash == 0 ? 1 : hash;
}

template <std::size_t N>
void store(std::array<char, N>& place, std::string_view text) {
    const std::size_t size = std::min(text.size(), N - 1);
    std::memcpy(place.data(), text.data(), size);
    place[size] = '\0';
}

template <std::size_t N>
std::string load(const std::array<char, N>& place) {
    return std::string(place.data(), ::strnlen(place.data(), N));
}

}  // namespace

/// The state is written last, and read first.
struct SharedLedger::Entry {
    std::atomic<std::uint32_t> state;
    std::uint32_t place;              ///< of the process that made it
    std::int64_t arrival_usec;
    std::int64_t time;                ///< of the last change, in seconds
    std::uint32_t count;
    std::array<std::uint32_t, kIndices> indices;
    std::array<char, 32> queue_id;
    std::array<char, 12> dsn;
    std::array<char, 264> reply;
};

/// The fingerprints stand together: a look for a message reads 32 KiB in a row.
struct SharedLedger::Table {
    std::atomic<std::uint64_t> magic;
    std::array<std::atomic<std::uint64_t>, kEntries> prints;
    std::array<Entry, kEntries> entries;
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

namespace {

bool lock_byte(int fd, std::uint32_t place) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = kFirstLock + static_cast<off_t>(place);
    lock.l_len = 1;
    return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

}  // namespace

Result<std::unique_ptr<SharedLedger>> SharedLedger::open(const std::string& path) {
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0) {
        return errno_error("open " + path);
    }
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1 || (status.st_mode & 077) != 0) {
        return Error(Errc::config, path + ": must be a plain file of the user who starts smtp, and of nobody else; remove it");
    }
    // A new file is zeros, which is an empty table; processes that start together may both do this.  All blocks are had now:
    // a page that finds no room on the disk later would be a SIGBUS.
    if (const int error = ::posix_fallocate(file.get(), 0, sizeof(Table)); error != 0) {
        return errno_error("write " + path, error);
    }
    void* memory = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (memory == MAP_FAILED) {
        return errno_error("map " + path);
    }
    auto* table = static_cast<Table*>(memory);
    std::uint64_t magic = 0;
    if (!table->magic.compare_exchange_strong(magic, kMagic) && magic != kMagic) {
        ::munmap(memory, sizeof(Table));
        return Error(Errc::config, path + ": has another version's format; remove it while Postern is stopped");
    }
    std::uint32_t place = 1;
    while (place < kPlaces && !lock_byte(file.get(), place)) {
        ++place;
    }
    if (place == kPlaces) {
        ::munmap(memory, sizeof(Table));
        return errno_error("lock " + path);
    }
    return std::unique_ptr<SharedLedger>(new SharedLedger(std::move(file), table, place));
}

/// What a dead process of the same place was about to hand over is nobody's business any more.
SharedLedger::SharedLedger(UniqueFd file, Table* table, std::uint32_t place)
    : file_(std::move(file)), table_(table), place_(place), next_(place * 61 % kEntries) {
    for (std::uint32_t i = 0; i < kEntries; ++i) {
        const Entry& entry = table_->entries[i];
        const std::uint32_t state = entry.state.load(std::memory_order_acquire);
        if (table_->prints[i].load() != 0 && entry.place == place_ && (state == kSending || state == kWriting)) {
            release({i});
        }
    }
}

SharedLedger::~SharedLedger() {
    ::munmap(table_, sizeof(Table));
}

bool SharedLedger::lives(std::uint32_t place) const {
    if (place == place_) {
        return true;
    }
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = kFirstLock + static_cast<off_t>(place % kPlaces);
    lock.l_len = 1;
    return ::fcntl(file_.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/// May be taken for another message.
bool SharedLedger::is_stale(std::uint32_t number, std::int64_t now) const {
    const Entry& entry = table_->entries[number];
    const std::int64_t age = now - entry.time;
    switch (entry.state.load(std::memory_order_acquire)) {
    case kTold: return age > kMemoryTold;
    case kTaken: return age > kMemoryTaken;
    default: return died_sending(entry);
    }
}

/// Its process is dead and did not live to hear of it.  In this order: until it is dead, it may write down that it has.
bool SharedLedger::died_sending(const Entry& entry) const {
    return !lives(entry.place) && entry.state.load(std::memory_order_acquire) <= kSending;
}

/// A place for an entry: a free one; when there is none, one that nobody needs any more.
std::optional<std::uint32_t> SharedLedger::claim(std::uint64_t print) {
    for (std::uint32_t tries = 0; tries < kEntries; ++tries) {
        const std::uint32_t number = next_++ % kEntries;
        std::uint64_t none = 0;
        if (table_->prints[number].load(std::memory_order_relaxed) == 0 && table_->prints[number].compare_exchange_strong(none, print)) {
            return number;
        }
    }
    const std::int64_t now = now_seconds();
    for (std::uint32_t tries = 0; tries < kEntries; ++tries) {
        const std::uint32_t number = next_++ % kEntries;
        std::uint64_t old = table_->prints[number].load();
        if (is_stale(number, now) && table_->prints[number].compare_exchange_strong(old, print)) {
            return number;
        }
    }
    return std::nullopt;
}

SharedLedger::Marks SharedLedger::sending(const Key& key, const std::vector<std::uint32_t>& indices, bool each) {
    const std::uint64_t print = print_of(key);
    const std::size_t step = each ? 1 : kIndices;
    Marks marks;
    for (std::size_t at = 0; at < indices.size(); at += step) {
        const std::optional<std::uint32_t> number = claim(print);
        if (!number) {
            log_warning("{}: too many deliveries for the ledger: this one may be repeated when a process is killed", key.first);
            break;
        }
        Entry& entry = table_->entries[*number];
        entry.state.store(kWriting, std::memory_order_relaxed);
        entry.place = place_;
        entry.arrival_usec = key.second;
        entry.time = now_seconds();
        store(entry.queue_id, key.first);
        const std::size_t count = std::min(step, indices.size() - at);
        std::copy_n(indices.begin() + static_cast<std::ptrdiff_t>(at), count, entry.indices.begin());
        entry.count = static_cast<std::uint32_t>(count);
        entry.state.store(kSending, std::memory_order_release);
        marks.push_back(*number);
    }
    return marks;
}

/// The states first: what else there is to say may be cut short.
void SharedLedger::taken(const Marks& marks, std::string_view dsn, std::string_view reply) {
    for (const std::uint32_t number : marks) {
        Entry& entry = table_->entries[number];
        entry.dsn[0] = entry.reply[0] = '\0';
        entry.state.store(kTaken, std::memory_order_release);
    }
    for (const std::uint32_t number : marks) {
        Entry& entry = table_->entries[number];
        store(entry.dsn, dsn);
        store(entry.reply, reply);
        entry.time = now_seconds();
    }
}

void SharedLedger::told(const Marks& marks) {
    for (const std::uint32_t number : marks) {
        table_->entries[number].state.store(kTold, std::memory_order_release);
    }
}

void SharedLedger::release(const Marks& marks) {
    for (const std::uint32_t number : marks) {
        if (number != kNone) {
            table_->entries[number].state.store(kFree, std::memory_order_release);
            table_->prints[number].store(0, std::memory_order_release);
        }
    }
}

/// Calls found(number, entry, state) for the entries of a message until it yields true.
template <class F>
void SharedLedger::each_of(const Key& key, F found) const {
    const std::uint64_t print = print_of(key);
    for (std::uint32_t i = 0; i < kEntries; ++i) {
        if (table_->prints[i].load(std::memory_order_relaxed) != print) {
            continue;
        }
        const Entry& entry = table_->entries[i];
        const std::uint32_t state = entry.state.load(std::memory_order_acquire);
        if (state >= kSending && entry.arrival_usec == key.second && load(entry.queue_id) == key.first.substr(0, entry.queue_id.size() - 1) &&
            found(i, entry, state)) {
            return;
        }
    }
}

std::optional<SharedLedger::Taken> SharedLedger::find(const Key& key, std::uint32_t index) const {
    std::optional<Taken> out;
    each_of(key, [&](std::uint32_t number, const Entry& entry, std::uint32_t state) {
        const std::size_t count = std::min<std::size_t>(entry.count, kIndices);
        const auto end = entry.indices.begin() + static_cast<std::ptrdiff_t>(count);
        if (state == kSending || std::find(entry.indices.begin(), end, index) == end) {
            return false;
        }
        out = Taken{load(entry.dsn), load(entry.reply), number};
        return true;
    });
    return out;
}

bool SharedLedger::is_busy(const Key& key, const std::vector<std::uint32_t>& indices) {
    bool busy = false;
    Marks orphans;
    each_of(key, [&](std::uint32_t number, const Entry& entry, std::uint32_t state) {
        if (state != kSending || entry.place == place_) {   // within this process, Ledger sees to it
            return false;
        }
        const std::size_t count = std::min<std::size_t>(entry.count, kIndices);
        const auto end = entry.indices.begin() + static_cast<std::ptrdiff_t>(count);
        const bool same = std::find_first_of(entry.indices.begin(), end, indices.begin(), indices.end()) != end;
        if (same && died_sending(entry)) {
            orphans.push_back(number);
            return false;
        }
        busy = same && entry.state.load(std::memory_order_acquire) == kSending;
        return busy;
    });
    release(orphans);
    return busy;
}

}  // namespace postern::smtp
