#include "cleanup/picker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>

#include "cleanup/pickup_notice.h"
#include "lib/log/log.h"
#include "lib/mail/logged_address.h"
#include "lib/queue/maildrop.h"
#include "lib/queue/queue_id.h"

namespace postern::pickup {
namespace {

/// Files that are submitted at the same time: enough to share the disk's flushes.
constexpr std::size_t kWorkers = 8;
/// A temporary file of a submission that ended in the middle.
constexpr time_t kStaleAge = 24 * 3600;
/// Looks for which nobody called come ever more slowly: each reads incoming/.
constexpr int kSlowest = 5;   // times the first pause
/// A submission whose cleanup died is tried again at once so many times; then when somebody calls: it may be what kills it.
constexpr int kMoreTries = 2;
/// A queue file is not older than the maildrop file it was made from, give or take a clock that was set.
constexpr time_t kClockSlack = 3600;
constexpr std::size_t kPiece = queue::kMaxContentPiece;
constexpr std::size_t kNoticeHeader = 50000;

std::int64_t now_usec() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
}

std::vector<std::string> list_directory(const std::string& path) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (!directory) {
        log_warning("open directory {}", errno_error(path).what);
        return names;
    }
    while (const dirent* entry = ::readdir(directory.get())) {
        if (entry->d_name[0] != '.') {
            names.emplace_back(entry->d_name);
        }
    }
    return names;
}

}  // namespace

Picker::Picker(const Config& config, std::string queue_directory, Millis first_pause)
    : config_(config), directory_(std::move(queue_directory)), first_pause_(first_pause), queue_owner_(::geteuid()) {}

Task<> Picker::scan() {
    called_ = true;
    if (std::exchange(scanning_, true)) {
        co_return;
    }
    for (Millis pause = first_pause_; called_ || (look_again_ && !draining_); pause = std::min(2 * pause, kSlowest * first_pause_)) {
        co_await scan_once(std::exchange(called_, false));
        if (look_again_ && !draining_) {
            co_await sleep_for(pause);
        }
    }
    scanning_ = false;
}

/// The lock is kept until the process ends.
bool Picker::own_maildrop() {
    if (maildrop_) {
        return true;
    }
    const std::string name = directory_ + "/maildrop";
    UniqueFd directory(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) {
        log_warning("open directory {}", errno_error(name).what);
        return false;
    }
    if (!queue::try_lock(directory.get())) {
        return false;   // another pickup that is about to end
    }
    maildrop_ = std::move(directory);
    check_submitted_ = true;
    return true;
}

Task<> Picker::scan_once(bool called) {
    give_up_ = false;
    look_again_ = !own_maildrop();
    if (look_again_) {
        co_return;
    }
    if (check_submitted_) {   // before the directory is read, see maildrop.h
        find_submitted();
    }
    std::vector<std::string> names = list_directory(directory_ + "/maildrop");
    std::sort(names.rbegin(), names.rend());   // long ids sort by time: the oldest is taken first
    std::erase_if(lost_, [&names](const auto& one) { return !std::binary_search(names.rbegin(), names.rend(), one.first); });
    std::erase_if(names, [this](const std::string& name) { return lost_.count(name) != 0; });
    co_await take_all(std::move(names), kWorkers);

    // One of these may be what killed cleanup: last, and one at a time, it takes no others along.
    std::vector<std::string> suspects;
    for (const auto& [name, times] : lost_) {
        if (called || times <= kMoreTries) {
            suspects.push_back(name);
        }
    }
    co_await take_all(std::move(suspects), 1);
}

/// `names` has what is to be taken first at its end.
Task<> Picker::take_all(std::vector<std::string> names, std::size_t workers) {
    names_ = std::move(names);
    const std::size_t wanted = std::min(names_.size(), workers);
    for (std::size_t i = 0; i < wanted; ++i) {
        ++workers_;
        spawn(worker());
    }
    while (workers_ > 0) {
        co_await worker_ended_.wait(kForever);
    }
}

Task<> Picker::worker() {
    while (!names_.empty() && !give_up_) {
        std::string name = std::move(names_.back());
        names_.pop_back();
        const Outcome outcome = co_await take(std::move(name));
        give_up_ = give_up_ || outcome == Outcome::later;
    }
    --workers_;
    worker_ended_.notify_all();
}

/// Notes which files are locked.  Yields when the oldest came here (status change: postsuper -r keeps the other time), 0
/// when there is none.
time_t Picker::look_at_maildrop() {
    in_hand_.clear();
    time_t oldest = 0;
    for (const std::string& name : list_directory(directory_ + "/maildrop")) {
        const UniqueFd file(queue::is_maildrop_name(name) ? ::open(path(name).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1);
        struct stat status {};
        if (!file || ::fstat(file.get(), &status) != 0) {
            continue;
        }
        if (!queue::try_lock(file.get())) {
            in_hand_.insert(name);
        }
        oldest = oldest == 0 ? status.st_ctime : std::min(oldest, status.st_ctime);
    }
    return oldest;
}

/// Notes the names that messages in incoming/ and hold/ were made from: cleanup or the machine may have stopped before
/// the maildrop file was removed.
void Picker::find_submitted() {
    submitted_.clear();
    const time_t oldest = look_at_maildrop();
    for (const char* queue_name : {"incoming", "hold"}) {   // in this order: postsuper -h moves files so
        for (const std::string& name : oldest == 0 ? std::vector<std::string>() : list_directory(directory_ + "/" + queue_name)) {
            if (!queue::is_queue_id(name)) {
                continue;   // tmp.*: whole perhaps, but its cleanup is gone, and nobody will deliver it
            }
            const std::string file_path = directory_ + "/" + queue_name + "/" + name;
            struct stat status {};
            if (::lstat(file_path.c_str(), &status) == 0 && status.st_ctime >= oldest - kClockSlack) {
                note_source(file_path);
            }
        }
    }
    check_submitted_ = !in_hand_.empty();
}

void Picker::note_source(const std::string& queue_file) {
    const UniqueFd fd(::open(queue_file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    const Result<queue::QueueFile> file = queue::QueueFile::read(fd.get());
    if (!file || file->envelope().maildrop_file.empty() || !file->verify_content(fd.get()).ok()) {
        return;
    }
    if (::fsync(fd.get()) == 0) {
        submitted_.insert(file->envelope().maildrop_file);
    } else {   // neither may it be submitted again nor removed
        log_warning("{}", errno_error("fsync " + queue_file).what);
        in_hand_.insert(file->envelope().maildrop_file);
    }
}

void Picker::remove_stale(const std::string& name) const {
    struct stat status {};
    if (::lstat(path(name).c_str(), &status) == 0 && ::time(nullptr) - status.st_mtime > kStaleAge) {
        log_warning("{}: removing unfinished submission", path(name));
        (void)::unlink(path(name).c_str());
    }
}

void Picker::set_aside(const std::string& name, const std::string& why) {
    log_warning("{}", why);
    const std::string target = directory_ + "/corrupt/" + name;
    if (std::rename(path(name).c_str(), target.c_str()) == 0) {
        log_warning("saving corrupt file \"{}\" from queue \"maildrop\" to queue \"corrupt\"", name);
    } else {
        log_warning("{}", errno_error("rename " + path(name) + " to " + target).what);
    }
}

Task<Picker::Outcome> Picker::take(std::string name) {
    if (name.starts_with("tmp.")) {
        remove_stale(name);
        co_return Outcome::done;
    }
    if (!queue::is_maildrop_name(name)) {
        log_warning("{}: file name is no queue id, ignored", path(name));
        co_return Outcome::done;
    }
    if (in_hand_.count(name) != 0) {
        look_again_ = true;
        co_return Outcome::done;
    }
    if (submitted_.count(name) != 0) {
        // Who made a message of it died, perhaps before qmgr was told.
        queue::trigger_service(directory_ + "/public/" + config_.queue_service_name());
        (void)::unlink(path(name).c_str());
        co_return Outcome::done;
    }
    Result<DropFile> drop = open_drop_file(directory_, name, queue_owner_);
    if (!drop) {
        if (drop.error().code == Errc::corrupt) {
            set_aside(name, drop.error().what);
        } else if (drop.error().code != Errc::not_found) {
            log_warning("{}", drop.error().what);
        }
        co_return Outcome::done;
    }
    if (!queue::try_lock(drop->fd.get())) {
        look_again_ = check_submitted_ = true;
        co_return Outcome::done;
    }
    queue::CleanupClient cleanup(cleanup_path());
    co_return co_await submit(std::move(*drop), cleanup);
}

Task<Picker::Outcome> Picker::submit(DropFile drop, queue::CleanupClient& cleanup) {
    const Result<queue::Envelope> envelope = envelope_to_submit(drop, now_usec());
    if (!envelope) {
        log_warning("{}: {}", path(drop.name), envelope.error().what);
        co_return Outcome::done;
    }
    if (drop.requeued && envelope->recipients.empty()) {   // all were delivered before it was requeued
        (void)::unlink(path(drop.name).c_str());
        co_return Outcome::done;
    }
    queue::Begin begin;
    begin.envelope = *envelope;
    begin.envelope.content_filter = config_.content_filter();   // also for what postsuper -r put here (postsuper(1))
    begin.complete_headers = !drop.requeued && envelope->rewrite_local;
    Result<queue::FromCleanup> answer = co_await send(drop, std::move(begin), cleanup);
    if (!answer) {
        log_warning("{}: cleanup: {}", path(drop.name), answer.error().what);
        co_return lost_cleanup(drop.name);
    }
    if (auto* refusal = std::get_if<queue::Refused>(&*answer)) {
        co_return co_await refused(drop, *envelope, std::move(*refusal));
    }
    const queue::Queued& queued = std::get<queue::Queued>(*answer);
    log_info("{}: uid={} from=<{}>", queued.queue_id, drop.owner, logged_address(config_, envelope->sender));
    (void)::unlink(path(drop.name).c_str());   // cleanup has done it already, unless it discarded the message
    co_return Outcome::done;
}

/// It died, and may have made a queue file before; or it cannot be reached.
Picker::Outcome Picker::lost_cleanup(const std::string& name) {
    check_submitted_ = true;
    ++lost_[name];
    look_again_ = true;
    return Outcome::later;
}

Task<Result<queue::FromCleanup>> Picker::send(const DropFile& drop, queue::Begin begin, queue::CleanupClient& cleanup) {
    begin.source = UniqueFd(::fcntl(drop.fd.get(), F_DUPFD_CLOEXEC, 3));   // the lock goes along
    if (!begin.source) {
        co_return errno_error("copy descriptor");
    }
    if (drop.file.size_bytes() <= kPiece) {
        for (const queue::Extent extent : {drop.file.headers(), drop.file.body()}) {
            const Result<std::string> bytes = queue::read_extent(drop.fd.get(), extent, kPiece);
            if (!bytes) {
                co_return bytes.error();
            }
            begin.content += *bytes;
        }
        co_return co_await cleanup.submit(std::move(begin));
    }
    const Result<void> begun = co_await cleanup.begin(std::move(begin));
    if (!begun) {
        co_return begun.error();
    }
    const queue::Extent extents[] = {drop.file.headers(), drop.file.body()};
    for (queue::Extent extent : extents) {
        while (extent.length > 0 && !cleanup.answered_early()) {
            const queue::Extent piece{extent.offset, std::min<std::uint64_t>(extent.length, kPiece)};
            const Result<std::string> bytes = queue::read_extent(drop.fd.get(), piece, kPiece);
            if (!bytes) {
                cleanup.cancel();
                co_return bytes.error();
            }
            const Result<void> sent = co_await cleanup.content(*bytes);
            if (!sent) {
                co_return sent.error();
            }
            extent.offset += piece.length;
            extent.length -= piece.length;
        }
    }
    co_return co_await cleanup.end();
}

/// Temporary refusals are tried again with the next scan, and end this one where they are about the disk and not the message;
/// a lasting one goes back to the sender, and only then is the file removed.
Task<Picker::Outcome> Picker::refused(const DropFile& drop, const queue::Envelope& envelope, queue::Refused why) {
    log_warning("{}: {} {} {}", path(drop.name), why.code, why.dsn, why.text);
    if (why.code < 500) {
        co_return why.code == 452 ? Outcome::later : Outcome::done;
    }
    if (envelope.sender.empty()) {
        set_aside(drop.name, "refused message has no sender to return it to: " + drop.name);
        co_return Outcome::done;
    }
    const queue::Extent start{drop.file.body().offset, std::min<std::uint64_t>(drop.file.body().length, kNoticeHeader)};
    const Result<std::string> head = queue::read_extent(drop.fd.get(), drop.requeued ? drop.file.headers() : start,
                                                        drop.requeued ? 16 * 1024 * 1024 : kNoticeHeader);
    const std::string header = head ? head->substr(0, std::min(head->find("\n\n") + 1, kNoticeHeader)) : "";
    queue::Begin notice = refusal_notice(config_, envelope, why, header);
    notice.envelope.maildrop_file = drop.name;
    notice.source = UniqueFd(::fcntl(drop.fd.get(), F_DUPFD_CLOEXEC, 3));
    queue::CleanupClient cleanup(cleanup_path());
    const Result<queue::FromCleanup> answer = co_await cleanup.submit(std::move(notice));
    if (!answer || std::holds_alternative<queue::Refused>(*answer)) {
        log_warning("{}: the notice for the sender was not taken", path(drop.name));
        co_return answer ? Outcome::later : lost_cleanup(drop.name);
    }
    log_info("{}: sender non-delivery notification: {}", drop.name, std::get<queue::Queued>(*answer).queue_id);
    (void)::unlink(path(drop.name).c_str());
    co_return Outcome::done;
}

}  // namespace postern::pickup
