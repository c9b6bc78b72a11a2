// What changes the queue from outside: files found in directories, postqueue, postsuper.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <iterator>
#include <mutex>
#include <utility>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/queue/directory.h"
#include "lib/queue/messages.h"
#include "lib/queue/queue_id.h"
#include "qmgr/manager.h"

namespace postern::qmgr {

/// A directory that several readers share.
struct SharedDirectory {
    SharedDirectory(queue::DirectoryReader opened, std::int64_t now) : reader(std::move(opened)), now_seconds(now) {}
    queue::DirectoryReader reader;
    std::int64_t now_seconds;
    std::mutex mutex;      ///< over `reader`
    std::atomic<bool> finished = false;
    // Only the loop's thread looks at these.
    int working = 0;       ///< readers, and those who sync
    int syncing = 0;       ///< the latter
    std::deque<std::string> young;   ///< to be synced
    Notice done;

    void leave() {
        if (--working == 0) {
            done.notify_all();
        }
    }
};

namespace {

struct Entry {
    std::string id;
    std::int64_t modified = 0;   ///< for deferred mail: when it is due
    std::int64_t changed = 0;
};

constexpr std::int64_t kStaleTemporary = 86400;
/// What one reader takes at a time: a few milliseconds of work for the loop, a quarter of a megabyte.
constexpr std::size_t kPiece = 4096;
/// A disk answers several readers faster than one, and a million inodes are work for more than one processor.
constexpr int kReaders = 2;
/// Young files that are synced at a time: enough for a disk to do many with one write, and threads are left for what is being delivered.
constexpr int kSyncers = 8;
constexpr Millis kLookAfterLogs = std::chrono::seconds(15);
/// Microseconds.  What is older was settled.
constexpr std::int64_t kPlacesKept = 60'000'000;

/// The next queue files, with their times, none of which needs to be opened; temporary files that a killed writer left a day
/// ago are removed.  Runs off the loop.
std::vector<Entry> read_piece(SharedDirectory& shared) {
    std::vector<queue::DirectoryReader::Name> names;
    {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        names = shared.reader.next(kPiece);
    }
    std::vector<Entry> found;
    found.reserve(names.size());
    shared.finished = shared.finished || names.empty();
    const int fd = shared.reader.fd();
    const std::int64_t stale = shared.now_seconds - kStaleTemporary;
    for (queue::DirectoryReader::Name& entry : names) {
        const bool temporary = entry.name.compare(0, 4, "tmp.") == 0;
        if (!temporary && !queue::is_queue_id(entry.name)) {
            continue;
        }
        struct stat info {};
        if (::fstatat(fd, entry.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) {
            continue;
        }
        if (!temporary) {
            found.push_back({std::move(entry.name), info.st_mtime, info.st_ctime});
        } else if (info.st_mtime < stale && info.st_ctime < stale) {
            ::unlinkat(fd, entry.name.c_str(), 0);
        }
    }
    return found;
}

/// All of a directory that is never long: active/.
std::vector<Entry> read_queue_directory(const std::string& name, std::int64_t now_seconds) {
    std::vector<Entry> found;
    Result<queue::DirectoryReader> reader = queue::DirectoryReader::open(name);
    if (!reader) {
        return found;
    }
    SharedDirectory shared(std::move(*reader), now_seconds);
    while (!shared.finished) {
        std::vector<Entry> piece = read_piece(shared);
        std::move(piece.begin(), piece.end(), std::back_inserter(found));
    }
    return found;
}

void report(const queue::LogRecovery& recovery) {
    if (recovery.put_back > 0) {
        log_info("messages put back into the queue from commit logs: {}", recovery.put_back);
    }
    for (const std::string& trouble : recovery.trouble) {
        log_warning("{}", trouble);
    }
}

/// Whether a recipient of the message is in `domain`; false for a file that is gone or damaged.
bool goes_to(const std::string& path, const std::string& domain) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) {
        return false;
    }
    const Result<queue::QueueFile> content = queue::QueueFile::read(file.get());
    if (!content) {
        return false;
    }
    const auto& recipients = content->envelope().recipients;
    return std::any_of(recipients.begin(), recipients.end(), [&](const queue::Recipient& recipient) {
        const std::size_t at = recipient.address.rfind('@');
        return at != std::string::npos && equals_ignoring_case(std::string_view(recipient.address).substr(at + 1), domain);
    });
}

}  // namespace

/// Takes a file out of active/ whose owner is gone: it is the first to be tried, with its journal.  False while somebody
/// has it, or it cannot be moved.
bool Manager::recover(const std::string& id) {
    const std::string from = queue::queue_path("active", id), to = queue::queue_path("deferred", id);
    const UniqueFd file(::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file) {
        return true;   // it came to its end just now
    }
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 || (transit_ != nullptr && transit_->is_held(id))) {
        return false;
    }
    if (::rename(from.c_str(), to.c_str()) == 0) {
        deferred_.put(id, 0);
    } else if (errno != ENOENT) {
        if (!recovering_) {   // said once; recover_rest() tries again
            log_warning("rename {} to {}{}", from, to, errno_error("").what);
        }
        return false;
    }
    return true;
}

/// Yields how many are still somebody's.  In pieces: there may be qmgr_message_active_limit of them.
Task<std::size_t> Manager::recover_active() {
    std::size_t left = 0, seen = 0;
    const std::vector<Entry> entries = read_queue_directory("active", clock_() / kSecond);
    for (const Entry& entry : entries) {
        if (by_id_.count(entry.id) == 0 && !recover(entry.id)) {
            log_info("{}: skipped, still being delivered", entry.id);
            ++left;
        }
        if (++seen % kTurn == 0) {
            co_await yield_to_others();
        }
    }
    co_return left;
}

/// Files move from transit to incoming to active to deferred.  Read in this order, none can be missed, whatever an earlier queue
/// manager still moves.
Task<> Manager::start() {
    scanning_ = true;
    if (logs_) {
        co_await replay_logs();
        co_await read_places();
        spawn(look_after_logs());
    }
    co_await scan_transit();
    co_await scan("incoming");
    if (const std::size_t left = co_await recover_active(); left > 0) {
        spawn(recover_rest());
    }
    scanning_ = false;
    co_await rescan(false, true);
    const double seconds = static_cast<double>(clock_() - started_usec_) / 1e6;
    log_info("{} messages wait, {} are active; the queue was read in {:.1f} seconds", waiting(), active(), seconds);
}

/// What the file system lost comes back to incoming/.  Yields how many messages.
Task<std::size_t> Manager::replay_logs() {
    auto replay = [this] { return queue::replay_logs(*logs_); };
    const queue::LogRecovery replayed = co_await offload(std::move(replay));
    report(replayed);
    co_return replayed.put_back;
}

/// Where the copies are of messages that we are not told of, because a queue manager, or a cleanup, was killed.
Task<> Manager::read_places() {
    auto read = [this] { return queue::read_places(*logs_); };
    std::vector<queue::LoggedMessage> logged = co_await offload(std::move(read));
    for (queue::LoggedMessage& one : logged) {
        remember_place(one.queue_id, std::move(one.place));
    }
}

void Manager::remember_place(const std::string& id, queue::LogPlace place) {
    if (!place) {
        return;
    }
    if (Message* const message = find(id)) {   // a scan was quicker than the notice
        message->place = std::move(place);
    } else {
        places_[id] = {std::move(place), clock_()};
    }
}

queue::LogPlace Manager::take_place(const std::string& id) {
    const auto found = places_.find(id);
    return found == places_.end() ? queue::LogPlace() : std::move(places_.extract(found).mapped().place);
}

/// Those of processes that ended; and those that could not be replayed, because the disk was full.
Task<> Manager::look_after_logs() {
    while (!draining_) {
        auto settle = [this] { return queue::settle_logs(*logs_); };
        const queue::LogRecovery settled = co_await offload(std::move(settle));
        report(settled);
        marks_.forget();
        co_await sleep_for(kLookAfterLogs);
        std::erase_if(places_, [old = clock_() - kPlacesKept](const auto& one) { return one.second.since_usec < old; });
        const std::size_t more = co_await replay_logs();
        if (more > 0) {
            want_rescan();
        }
        co_await scan_transit();
    }
}

void Manager::end() {
    for (const auto& [key, message] : active_) {
        if (message->is_in_transit()) {   // its lock is ours; its journal is in memory only
            (void)remember_delivered(*message);
            (void)keep(*message, "active");
        }
    }
    for (const std::string& id : transit_ != nullptr ? transit_->ids() : std::vector<std::string>()) {
        keep_idle(id);
    }
    if (logs_) {
        report(queue::settle_logs(*logs_));
    }
}

/// What was in transit or in incoming/ a moment ago and is there no more may still be somebody's.
void Manager::look_elsewhere(const std::string& id) {
    struct stat info {};
    if (transit_ != nullptr && transit_->contains(id)) {
        incoming_.put(id, clock_() / kSecond + 1);
    } else if (transit_ != nullptr && ::stat(queue::queue_path("incoming", id).c_str(), &info) == 0) {
        incoming_.put(id, clock_() / kSecond);   // postsuper, or our predecessor at its end, has moved it while we looked
        changed_.notify_all();
    } else if (::stat(queue::queue_path("active", id).c_str(), &info) == 0) {
        spawn(recover_rest());
    } else if (::stat(queue::queue_path("deferred", id).c_str(), &info) == 0 && !deferred_.contains(id)) {
        deferred_.put(id, info.st_mtime);
    }
}

/// What others held at our start either came to its end, was deferred by them, or becomes ours.
Task<> Manager::recover_rest() {
    if (std::exchange(recovering_, true)) {
        co_return;
    }
    for (bool some = true; some && !draining_;) {
        co_await sleep_for(Millis(1000));
        some = false;
        for (const Entry& entry : read_queue_directory("active", clock_() / kSecond)) {
            some = (by_id_.count(entry.id) == 0 && !recover(entry.id)) || some;
        }
        fill_active();
    }
    while (scanning_) {
        co_await sleep_for(Millis(100));
    }
    recovering_ = false;
    co_await rescan(true, true);
}

/// A file that a scan has found, unless we have it already.  True for one in incoming/ so young that its cleanup may be about to
/// sync it, and to tell us: it is taken up when that has had its time, or when we have synced it ourselves.
bool Manager::found(const std::string& directory, const std::string& id, std::int64_t modified, std::int64_t changed) {
    const std::int64_t now = clock_() / kSecond;
    if (by_id_.count(id) != 0) {
        return false;
    }
    if (directory == "deferred") {
        if (!deferred_.contains(id)) {
            deferred_.put(id, modified);
        }
    } else if (changed > now - kSyncTime && changed <= now) {
        incoming_.put(id, now + kSyncTime);
        return true;
    } else {
        incoming_.put(id, std::min(modified, now));
    }
    return false;
}

/// Nobody may come to tell us of a young file: the notice went to a queue manager that was killed, or its cleanup was.  What is
/// taken up meanwhile, since it is no longer young or because of its notice, needs nothing of us.  `shared` lives until the last
/// has ended.
Task<> Manager::sync_young(SharedDirectory& shared) {
    const int directory = shared.reader.fd();
    while (!shared.young.empty() && !draining_) {
        const std::string id = std::move(shared.young.front());
        shared.young.pop_front();
        if (!incoming_.contains(id)) {
            continue;
        }
        auto sync = [directory, &id] {
            const UniqueFd file(::openat(directory, id.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
            return file && ::fsync(file.get()) == 0;
        };
        const bool durable = co_await offload(std::move(sync));
        if (durable && incoming_.contains(id)) {
            incoming_.put(id, clock_() / kSecond);
            fill_active();
            changed_.notify_all();
        }
    }
    --shared.syncing;
    shared.leave();
}

/// One reader: what is due goes out while the others are still being read.  `shared` lives until the last has ended.
Task<> Manager::read_directory(std::string directory, SharedDirectory& shared) {
    while (!shared.finished && !draining_) {
        auto read = [&shared] { return read_piece(shared); };
        const std::vector<Entry> entries = co_await offload(std::move(read));
        for (const Entry& entry : entries) {
            if (found(directory, entry.id, entry.modified, entry.changed)) {
                shared.young.push_back(entry.id);
            }
        }
        while (!draining_ && shared.syncing < std::min<int>(kSyncers, static_cast<int>(shared.young.size()))) {
            ++shared.syncing;
            ++shared.working;
            spawn(sync_young(shared));
        }
        fill_active();
        move_the_older();   // at start there is no tick() until all is read
        changed_.notify_all();
        co_await yield_to_others();
    }
    shared.leave();
}

Task<> Manager::scan(std::string directory) {
    Result<queue::DirectoryReader> reader = queue::DirectoryReader::open(directory);
    if (!reader) {
        log_warning("{}", reader.error().what);
        co_return;
    }
    SharedDirectory shared(std::move(*reader), clock_() / kSecond);
    shared.working = kReaders;
    for (int i = 0; i < kReaders; ++i) {
        spawn(read_directory(directory, shared));
    }
    while (shared.working > 0) {
        co_await shared.done.wait(kForever);
    }
}

Task<> Manager::rescan(bool incoming, bool deferred) {
    if (scanning_) {
        want_rescan();
        co_return;
    }
    scanning_ = true;
    if (incoming) {
        co_await scan_transit();
        co_await scan("incoming");
    }
    if (deferred) {
        co_await scan("deferred");
    }
    scanning_ = false;
    fill_active();
    changed_.notify_all();
}

/// Wanted again and again, as while one cleanup after another is killed, it takes no more than half of the time.
Task<> Manager::wanted_rescan() {
    const std::int64_t begin = clock_();
    if (logs_) {
        co_await read_places();
    }
    co_await rescan(true, false);
    const std::int64_t end = clock_();
    next_rescan_usec_ = end + (end - begin) + kSecond;
}

void Manager::flush_all() {
    scheduler_.forgive_all();
    deferred_.make_all_due(clock_() / kSecond);
    fill_active();
    changed_.notify_all();
}

Result<void> Manager::flush_one(const std::string& queue_id) {
    if (!queue::is_queue_id(queue_id)) {
        return Error(Errc::syntax, "bad queue id");
    }
    const bool known = deferred_.contains(queue_id) || incoming_.contains(queue_id) || by_id_.count(queue_id) != 0;
    struct stat info {};
    if (!known && ::stat(queue::queue_path("deferred", queue_id).c_str(), &info) != 0) {
        return errno_error("open " + queue::queue_path("deferred", queue_id));
    }
    if (by_id_.count(queue_id) == 0 && !incoming_.contains(queue_id)) {
        scheduler_.forgive_all();
        deferred_.put(queue_id, 0);
        fill_active();
        changed_.notify_all();
    }
    return {};
}

Task<> Manager::flush_site(std::string domain) {
    if (domain.size() > 2 && domain.front() == '[' && domain.find_first_of(":.") == std::string::npos) {
        domain = domain.substr(1, domain.size() - 2);   // "[host]" is the host
    }
    if (!flushing_.insert(to_lower(domain)).second) {
        co_return;   // every file is being looked at for it already
    }
    const std::string key = to_lower(domain);
    std::vector<std::string> ids = deferred_.ids();
    scheduler_.forgive_all();
    co_await flush_matching(std::move(ids), std::move(domain));
    flushing_.erase(key);
}

/// In pieces, so that a long queue does not hold up the mail.
Task<> Manager::flush_matching(std::vector<std::string> ids, std::string domain) {
    constexpr std::size_t kLooked = 256;
    for (std::size_t at = 0; at < ids.size(); at += kLooked) {
        const std::size_t end = std::min(ids.size(), at + kLooked);
        auto look = [&ids, &domain, at, end] {
            std::vector<std::size_t> matches;
            for (std::size_t i = at; i < end; ++i) {
                if (goes_to(queue::queue_path("deferred", ids[i]), domain)) {
                    matches.push_back(i);
                }
            }
            return matches;
        };
        const std::vector<std::size_t> matches = co_await offload(std::move(look));
        for (const std::size_t i : matches) {
            if (deferred_.contains(ids[i])) {
                deferred_.put(ids[i], 0);
            }
        }
        fill_active();
    }
    changed_.notify_all();
}

queue::QueueStatus Manager::status(const std::string& after, std::uint32_t limit) const {
    queue::QueueStatus status;
    status.active = active_.size();
    status.incoming = incoming_.size();
    status.deferred = deferred_.size();
    status.running = flights_.size();
    status.next_seconds = deferred_.empty() ? 0 : std::max<std::int64_t>(1, deferred_.first_due());
    status.scanning = scanning_;
    const std::size_t count = std::min(limit, queue::kMaxStatusPage);
    const std::int64_t now = clock_();
    for (Scheduler::Status& from : scheduler_.status(after, count)) {
        queue::DestinationStatus to;
        to.transport = std::move(from.transport);
        to.nexthop = std::move(from.nexthop);
        to.mailbox = std::move(from.mailbox);
        to.window = static_cast<std::uint32_t>(from.window);
        to.running = static_cast<std::uint32_t>(from.running);
        to.waiting = from.waiting;
        to.dead_until_usec = from.dead_until > now ? from.dead_until : 0;
        to.delayed_until_usec = from.delayed_until > now ? from.delayed_until : 0;
        to.dsn = std::move(from.dsn);
        to.reason = std::move(from.reason);
        status.last = std::move(from.order);
        status.destinations.push_back(std::move(to));
    }
    if (status.destinations.size() < count) {
        status.last.clear();
    }
    return status;
}

void Manager::altered(std::uint8_t change, const std::vector<std::string>& queue_ids) {
    for (const std::string& id : queue_ids) {
        if (!queue::is_queue_id(id)) {
            continue;
        }
        if (change == queue::kAlteredReleased || change == queue::kAlteredExpired) {
            if (Message* const message = find(id); message != nullptr && message->directory == "hold") {
                message->directory = "deferred";   // was held while an agent had it; tried again in its time
            } else if (message == nullptr) {
                deferred_.put(id, 0);
            }
            continue;
        }
        deferred_.remove(id);
        incoming_.remove(id);
        Message* const message = find(id);
        if (message == nullptr) {
            if (change == queue::kAlteredDeleted) {
                marks_.mark(take_place(id));
            }
            continue;
        }
        if (change == queue::kAlteredHeld) {
            message->directory = "hold";
        } else {
            message->deleted = true;
            if (change == queue::kAlteredDeleted) {
                marks_.mark(message->place);
                message->place = {};
            }
        }
        message->stopped = true;
        scheduler_.cancel(message->key);
        look_finished(*message);
    }
    fill_active();
    changed_.notify_all();
}

}  // namespace postern::qmgr
