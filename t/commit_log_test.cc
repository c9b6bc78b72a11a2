// Commit logs: what was accepted comes back after the file system has lost it, and nothing that was done with does.
#include <catch2/catch.hpp>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "lib/base/strings.h"
#include "lib/queue/commit_log.h"
#include "lib/queue/log_marks.h"
#include "lib/queue/log_recovery.h"
#include "lib/queue/queue_file.h"

using namespace postern;
using namespace postern::queue;

namespace {

/// Counts flushes, and fails the next of a kind when told.
struct WatchedIo : FileIo {
    int flushes = 0, file_systems = 0, fail_writes = 0, fail_flushes = 0;
    ssize_t pwritev(int fd, const iovec* pieces, int count, std::uint64_t offset) override {
        if (fail_writes > 0 && --fail_writes == 0) {
            errno = ENOSPC;
            return -1;
        }
        return FileIo::pwritev(fd, pieces, count, offset);
    }
    int fdatasync(int) override {
        ++flushes;
        errno = EIO;
        return fail_flushes > 0 && --fail_flushes == 0 ? -1 : 0;
    }
    int fsync(int) override { return 0; }
    int syncfs(int) override {
        ++file_systems;
        return 0;
    }
};

struct Scratch {
    std::string path;
    WatchedIo io;
    LogOptions options;
    Scratch() {
        char name[] = "/tmp/commit_log_test.XXXXXX";
        path = ::mkdtemp(name);
        for (const char* directory : {"incoming", "active", "deferred", "hold", "maildrop", "commit"}) {
            ::mkdir((path + "/" + directory).c_str(), 0700);
        }
        options.queue_directory = path;
        options.ring_size = kMinLogRing;
        options.life = "this life";
        options.io = &io;
    }
    ~Scratch() { (void)!std::system(("rm -r " + path).c_str()); }
    LogOptions after_power_failure() const {
        LogOptions later = options;
        later.life = "another";
        return later;
    }
    std::unique_ptr<CommitLog> claim() {
        Result<std::unique_ptr<CommitLog>> log = CommitLog::claim(options);
        REQUIRE(log.ok());
        return std::move(*log);
    }
    std::vector<std::string> files(const std::string& directory) const {
        std::vector<std::string> names;
        DIR* const open = ::opendir((path + "/" + directory).c_str());
        while (const dirent* entry = ::readdir(open)) {
            if (entry->d_name[0] != '.') {
                names.emplace_back(entry->d_name);
            }
        }
        ::closedir(open);
        std::sort(names.begin(), names.end());
        return names;
    }
    std::string file(const std::string& directory, const std::string& id) const { return path + "/" + directory + "/" + id; }
};

/// A message in incoming/, and in the log.
struct Logged {
    std::string id;
    LogPlace place;
    std::string bytes;
};

Logged accept(Scratch& scratch, CommitLog& log, const std::string& body = "\nbody\n") {
    WriterOptions options;
    options.queue_directory = scratch.path;
    options.io = &scratch.io;
    Result<std::unique_ptr<QueueFileWriter>> writer = QueueFileWriter::create(options);
    REQUIRE(writer.ok());
    Envelope envelope;
    envelope.sender = "a@example.com";
    envelope.recipients = {{"b@example.com", "", "", 0}};
    REQUIRE((*writer)->header("Subject: s\n").ok());
    REQUIRE((*writer)->body(body).ok());
    REQUIRE((*writer)->envelope(envelope).ok());
    REQUIRE((*writer)->put_in_place().ok());
    Logged logged;
    logged.id = (*writer)->queue_id();
    for (const std::string_view piece : (*writer)->image()) {
        logged.bytes += piece;
    }
    const std::optional<std::uint64_t> number = log.add(logged.id, (*writer)->image());
    REQUIRE(number);
    logged.place = {log.name(), *number};
    REQUIRE(log.flush().ok());
    (*writer)->keep();
    return logged;
}

std::string slurp(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) {
        return "";
    }
    const Result<std::string> all = read_extent(fd.get(), {0, static_cast<std::uint64_t>(status.st_size)}, 1 << 24);
    return all ? *all : "";
}

}  // namespace

TEST_CASE("headers, records and names of logs are read as they were written", "[queue]") {
    LogHeader header;
    header.in_use = true;
    header.ring_size = kMinLogRing;
    header.first = 77;
    header.life = "5e2f mount 12";
    std::string bytes = encode_log_header(header);
    CHECK(bytes.size() == kLogSector);
    Result<LogHeader> back = decode_log_header(bytes);
    REQUIRE(back.ok());
    CHECK((back->in_use && back->ring_size == kMinLogRing && back->first == 77 && back->life == header.life));
    bytes[30] = static_cast<char>(bytes[30] ^ 1);
    CHECK(decode_log_header(bytes).error().code == Errc::corrupt);
    CHECK_FALSE(decode_log_header(std::string(kLogSector, '\0')).ok());
    CHECK_FALSE(decode_log_header("PosternL").ok());

    LogRecord record{"4A1B2C9F30", 5, 300, 9};
    std::string head = encode_log_record(record);
    CHECK(head.size() == kLogRecordHeaderSize);
    const std::optional<LogRecord> same = decode_log_record(head, kLogRecordHeaderSize + 300);
    REQUIRE(same);
    CHECK((same->queue_id == record.queue_id && same->number == 5 && same->length == 300 && same->content_crc == 9));
    CHECK_FALSE(decode_log_record(head, kLogRecordHeaderSize + 299));   // longer than the ring
    CHECK_FALSE(decode_log_record(head.substr(1), 1000));
    record.queue_id = "../../etc/x";
    CHECK_FALSE(decode_log_record(encode_log_record(record), 1000));

    CHECK(log_ring_size(log_name(kMinLogRing, 3)) == kMinLogRing);
    for (const char* name : {"", "1048576", "1048576.", ".1", "1048576.x", "1048577.1", "4096.1", "01048576.1", "1048576.-1", "1048576.1 "}) {
        CHECK_FALSE(log_ring_size(name));
    }
    CHECK((log_ring_size_for(0) == 0 && log_ring_size_for(1) == kMinLogRing && log_ring_size_for(kMinLogRing + 1) == kMinLogRing + 4096));
}

TEST_CASE("the life of a file system is the same until it is mounted anew", "[queue]") {
    CHECK_FALSE(read_file_system_life("/tmp").empty());
    CHECK(read_file_system_life("/tmp") == read_file_system_life("/tmp"));
    CHECK(read_file_system_life("/proc") != read_file_system_life("/tmp"));
}

TEST_CASE("what a power failure has taken is put back, once", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged lost = accept(scratch, *log), torn = accept(scratch, *log), kept = accept(scratch, *log), moved = accept(scratch, *log),
                 done = accept(scratch, *log);
    log.reset();
    REQUIRE(::unlink(scratch.file("incoming", lost.id).c_str()) == 0);
    REQUIRE(::truncate(scratch.file("incoming", torn.id).c_str(), 0) == 0);
    REQUIRE(::rename(scratch.file("incoming", moved.id).c_str(), scratch.file("deferred", moved.id).c_str()) == 0);
    LogMarks marks(scratch.path);
    marks.mark(done.place);
    REQUIRE(::unlink(scratch.file("incoming", done.id).c_str()) == 0);

    CHECK(replay_logs(scratch.options).put_back == 0);   // of this life: the files are as they were left
    const LogRecovery recovery = replay_logs(scratch.after_power_failure());
    CHECK(recovery.put_back == 2);
    CHECK(recovery.trouble.empty());
    std::vector<std::string> expected = {lost.id, torn.id, kept.id};
    std::sort(expected.begin(), expected.end());
    CHECK(scratch.files("incoming") == expected);
    CHECK(scratch.files("deferred") == std::vector<std::string>{moved.id});
    CHECK(slurp(scratch.file("incoming", lost.id)) == lost.bytes);
    CHECK(slurp(scratch.file("incoming", torn.id)) == torn.bytes);

    REQUIRE(::unlink(scratch.file("incoming", lost.id).c_str()) == 0);   // delivered
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 0);
    CHECK(scratch.claim()->name() == log_name(kMinLogRing, 0));          // and the log is free again
}

TEST_CASE("a file that is damaged elsewhere in the queue is replaced", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged message = accept(scratch, *log, "\n" + std::string(3000, 'x') + "\n");
    log.reset();
    REQUIRE(::rename(scratch.file("incoming", message.id).c_str(), scratch.file("active", message.id).c_str()) == 0);
    const UniqueFd file(::open(scratch.file("active", message.id).c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(::pwrite(file.get(), "zzzz", 4, 1000) == 4);   // in the body, which only its checksum knows
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 1);
    CHECK(scratch.files("active").empty());
    CHECK(slurp(scratch.file("incoming", message.id)) == message.bytes);
}

TEST_CASE("a replay in trouble is finished later, and puts nothing back twice", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged first = accept(scratch, *log), second = accept(scratch, *log);
    log.reset();
    ::unlink(scratch.file("incoming", first.id).c_str());
    ::unlink(scratch.file("incoming", second.id).c_str());
    scratch.io.fail_writes = 2;   // the content of the second
    const LogRecovery half = replay_logs(scratch.after_power_failure());
    CHECK((half.put_back == 1 && half.trouble.size() == 1));
    CHECK(scratch.files("incoming") == std::vector<std::string>{first.id});
    ::unlink(scratch.file("incoming", first.id).c_str());   // delivered meanwhile
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 1);
    CHECK(scratch.files("incoming") == std::vector<std::string>{second.id});
}

TEST_CASE("damage in a log costs the damaged record alone", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged first = accept(scratch, *log), second = accept(scratch, *log), third = accept(scratch, *log);
    log.reset();
    for (const std::string& id : scratch.files("incoming")) {
        ::unlink(scratch.file("incoming", id).c_str());
    }
    const UniqueFd file(::open(scratch.file("commit", first.place.log).c_str(), O_WRONLY | O_CLOEXEC));
    const auto second_record = static_cast<off_t>(log_ring_offset(kMinLogRing) + log_record_size(first.bytes.size()));
    SECTION("its header") { REQUIRE(::pwrite(file.get(), "zz", 2, second_record + 8) == 2); }
    SECTION("its content") { REQUIRE(::pwrite(file.get(), "zz", 2, second_record + 200) == 2); }
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 2);
    std::vector<std::string> expected = {first.id, third.id};
    std::sort(expected.begin(), expected.end());
    CHECK(scratch.files("incoming") == expected);
}

TEST_CASE("a log that somebody just looks at is replayed all the same", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged message = accept(scratch, *log);
    log.reset();
    REQUIRE(::unlink(scratch.file("incoming", message.id).c_str()) == 0);
    UniqueFd looker(::open(scratch.file("commit", message.place.log).c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::flock(looker.get(), LOCK_EX | LOCK_NB) == 0);
    std::thread leaves([&looker] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        looker.reset();
    });
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 1);
    leaves.join();
}

TEST_CASE("what was settled does not come back", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged old = accept(scratch, *log);
    const std::uint64_t next = log->collect().next;
    const Logged young = accept(scratch, *log);
    REQUIRE(log->settle(next).ok());
    CHECK(log->collect().live == 1);
    log.reset();
    ::unlink(scratch.file("incoming", old.id).c_str());
    ::unlink(scratch.file("incoming", young.id).c_str());
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 1);
    CHECK(scratch.files("incoming") == std::vector<std::string>{young.id});
}

TEST_CASE("a message in transit keeps its record until it is in the queue", "[queue]") {
    Scratch scratch;
    REQUIRE(::mkdir((scratch.path + "/memory").c_str(), 0700) == 0);
    REQUIRE(::symlink((scratch.path + "/memory").c_str(), (scratch.path + "/transit").c_str()) == 0);
    const std::optional<Transit> transit = Transit::open(scratch.path, scratch.path);
    REQUIRE(transit);
    scratch.options.transit = &*transit;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged before = accept(scratch, *log), moving = accept(scratch, *log), after = accept(scratch, *log);
    const std::string there = scratch.file("memory", moving.id), on_its_way = scratch.file("memory", "move." + moving.id);
    REQUIRE(::rename(scratch.file("incoming", moving.id).c_str(), there.c_str()) == 0);

    CHECK(log->in_queue_before() == moving.place.number);
    LogMarks(scratch.path).mark(before.place);
    log->collect();
    CHECK(log->in_queue_before() == 0);
    REQUIRE(::rename(there.c_str(), on_its_way.c_str()) == 0);
    CHECK(log->in_queue_before() == 0);
    log.reset();
    CHECK(settle_logs(scratch.options).trouble.empty());
    CHECK(read_places(scratch.options).size() == 2);   // the log has the only copy
    const LogOptions mounted_again = scratch.after_power_failure();
    CHECK(replay_logs(mounted_again).put_back == 0);   // as long as memory has the message
    const std::vector<LoggedMessage> still = read_places(scratch.options);
    REQUIRE(still.size() == 1);
    CHECK(still.front().queue_id == moving.id);
    CHECK(replay_logs(mounted_again).put_back == 0);
    CHECK(read_places(scratch.options).size() == 1);
    REQUIRE(::rename(on_its_way.c_str(), scratch.file("active", moving.id).c_str()) == 0);
    CHECK(settle_logs(scratch.options).trouble.empty());
    CHECK(read_places(scratch.options).empty());
}

TEST_CASE("a log keeps its records when somebody removes the directory in transit, until the messages are put back", "[queue]") {
    Scratch scratch;
    REQUIRE(::mkdir((scratch.path + "/memory").c_str(), 0700) == 0);
    REQUIRE(::symlink((scratch.path + "/memory").c_str(), (scratch.path + "/transit").c_str()) == 0);
    const std::optional<Transit> transit = Transit::open(scratch.path, scratch.path);
    REQUIRE(transit);
    scratch.options.transit = &*transit;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged message = accept(scratch, *log);
    REQUIRE((::unlink(scratch.file("incoming", message.id).c_str()) == 0 && ::rmdir((scratch.path + "/memory").c_str()) == 0));
    CHECK(log->in_queue_before() == 0);
    log.reset();
    CHECK(settle_logs(scratch.options).trouble.empty());
    LogOptions started_again = scratch.after_power_failure();   // with a directory of another name
    started_again.transit = nullptr;
    CHECK(replay_logs(started_again).put_back == 1);
    CHECK(scratch.files("incoming") == std::vector<std::string>{message.id});
}

TEST_CASE("what was in transit comes back when its directory has vanished", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged message = accept(scratch, *log);
    log.reset();
    REQUIRE(::unlink(scratch.file("incoming", message.id).c_str()) == 0);   // its only file was in memory
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 1);
    CHECK(slurp(scratch.file("incoming", message.id)) == message.bytes);
}

TEST_CASE("marks give places back, in order", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    LogMarks marks(scratch.path);
    std::vector<Logged> messages;
    for (int i = 0; i < 6; ++i) {
        messages.push_back(accept(scratch, *log));
    }
    CHECK(log->collect().live == 6);
    marks.mark(messages[1].place);
    CHECK(log->collect().live == 6);   // the first is still there
    marks.mark(messages[0].place);
    CHECK(log->collect().live == 4);
    marks.mark({"999.0", 1});
    marks.mark({"1048576.5", 1});      // no such log
    marks.mark({});
    for (const Logged& message : messages) {
        marks.mark(message.place);
    }
    CHECK(log->collect().live == 0);
}

TEST_CASE("the ring goes round, and says when it is full", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    LogMarks marks(scratch.path);
    const std::string content(100'000, 'x');
    std::vector<LogPlace> places;
    for (;;) {
        const std::optional<std::uint64_t> number = log->add("4A1B2C9F30", {content});
        if (!number) {
            break;
        }
        REQUIRE(log->flush().ok());
        places.push_back({log->name(), *number});
    }
    CHECK(places.size() == kMinLogRing / log_record_size(content.size()));
    CHECK(log->is_half_full());
    marks.mark(places[0]);
    marks.mark(places[1]);
    log->collect();
    CHECK(log->add("4A1B2C9F30", {content}));
    CHECK(log->flush().ok());
    for (int round = 0; round < 100; ++round) {   // several times round, three or four at once
        const std::uint64_t next = log->collect().next;
        REQUIRE(log->settle(next).ok());
        for (int i = 0; i < 3 + round % 2; ++i) {
            REQUIRE(log->add("4A1B2C9F3" + std::to_string(i), {content.substr(static_cast<std::size_t>(round) * 37)}));
        }
        REQUIRE(log->flush().ok());
    }
    log.reset();
    CHECK(replay_logs(scratch.after_power_failure()).trouble.size() == 0);
    CHECK(scratch.files("incoming").size() == 4);   // the last round's
}

TEST_CASE("a record whose mark's place was used again does not come back", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    LogMarks marks(scratch.path);
    const std::string content(200'000, 'x');   // five in the ring, and a gap at its end
    for (std::uint64_t added = 0; added < log_marks(kMinLogRing) + 20; ++added) {
        const std::optional<std::uint64_t> number = log->add("4A1B2C9F30", {added < 5 ? content : std::string(10, 'y')});
        REQUIRE(number);
        REQUIRE(log->flush().ok());
        marks.mark({log->name(), *number});
        if (added % 100 == 0) {
            log->collect();
            REQUIRE(log->settle(0).ok());
        }
    }
    log.reset();
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 0);
}

TEST_CASE("places can be read while the log is in use", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    LogMarks marks(scratch.path);
    const Logged first = accept(scratch, *log), second = accept(scratch, *log);
    marks.mark(first.place);
    const std::vector<LoggedMessage> found = read_places(scratch.options);
    REQUIRE(found.size() == 1);
    CHECK((found[0].queue_id == second.id && found[0].place.log == second.place.log && found[0].place.number == second.place.number));
}

TEST_CASE("a log that cannot be read is left alone", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    const Logged message = accept(scratch, *log);
    log.reset();
    const UniqueFd file(::open(scratch.file("commit", message.place.log).c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(::pwrite(file.get(), "\x02", 1, 8) == 1);   // a later version, say
    CHECK(scratch.claim()->name() == log_name(kMinLogRing, 1));
    CHECK(settle_logs(scratch.options).trouble.empty());
    CHECK(scratch.files("commit").size() == 2);
}

TEST_CASE("a log has one owner, and an orphan is settled before it is used again", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> first = scratch.claim(), second = scratch.claim();
    CHECK(first->name() != second->name());
    const Logged message = accept(scratch, *first);
    CHECK(settle_logs(scratch.options).trouble.empty());
    CHECK(scratch.io.file_systems == 0);             // both are in use
    first.reset();                                   // as when its process is killed
    CHECK(scratch.claim()->name() == log_name(kMinLogRing, 2));
    CHECK(settle_logs(scratch.options).trouble.empty());
    CHECK(scratch.io.file_systems == 1);
    CHECK(scratch.claim()->name() == message.place.log);
    CHECK(replay_logs(scratch.after_power_failure()).put_back == 0);

    LogOptions larger = scratch.options;
    larger.ring_size = 2 * kMinLogRing;
    second.reset();
    CHECK(settle_logs(larger).trouble.empty());
    CHECK(settle_logs(larger).trouble.empty());
    CHECK(scratch.files("commit").empty());          // of another size, and nobody's
}

TEST_CASE("a log that was never finished is made anew", "[queue]") {
    Scratch scratch;
    const std::string path = scratch.file("commit", log_name(kMinLogRing, 0));
    { const UniqueFd torn(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)); REQUIRE(::ftruncate(torn.get(), 5000) == 0); }
    CHECK(replay_logs(scratch.after_power_failure()).trouble.empty());
    const std::unique_ptr<CommitLog> log = scratch.claim();
    CHECK(log->name() == log_name(kMinLogRing, 0));
    (void)accept(scratch, *log);
}

TEST_CASE("a flush that fails is said, and a directory that is missing", "[queue]") {
    Scratch scratch;
    std::unique_ptr<CommitLog> log = scratch.claim();
    REQUIRE(log->add("4A1B2C9F30", {"x"}));
    scratch.io.fail_flushes = 1;
    CHECK(log->flush().error().code == Errc::io);
    REQUIRE(log->add("4A1B2C9F30", {"x"}));
    scratch.io.fail_writes = 1;
    CHECK(log->flush().error().code == Errc::no_space);
    log.reset();
    (void)!std::system(("rm -r " + scratch.path + "/commit").c_str());
    CHECK(CommitLog::claim(scratch.options).error().code == Errc::not_found);
    CHECK(replay_logs(scratch.options).trouble.empty());
}
