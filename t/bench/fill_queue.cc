/// fill_queue - fills a queue directory with deferred messages, for the benchmarks: real queue files, written by lib/queue
/// as cleanup and qmgr write them, only without waiting for the disk.
///
///     fill_queue [options] QUEUE_DIRECTORY COUNT
///
///     --domains N       recipients are spread over so many domains, d0.example and so on (default 1000)
///     --due SECONDS     from now until the first is due (default 3600)
///     --spread SECONDS  over which the others follow (default 3600)
///     --age SECONDS     the oldest arrived so long ago, the youngest now (default 86400)
///     --to DOMAIN       all of them go there
///     --directory NAME  instead of deferred
///     --clone FILE      Postfix: so many copies of this queue file, in its hashed deferred/
///     --log FILE        Postfix: with this file in its hashed defer/
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "lib/queue/journal.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"

namespace {

using namespace postern;
using namespace postern::queue;

struct Options {
    std::string queue, directory = "deferred", to, clone, log;
    long count = 0, domains = 1000, due = 3600, spread = 3600, age = 86400;
};

/// Benchmarks do not measure how long it takes to make their input.
class Unsynced final : public FileIo {
public:
    int fdatasync(int) override { return 0; }
    int fsync(int) override { return 0; }
};

[[noreturn]] void fail(const std::string& text) {
    std::fprintf(stderr, "fill_queue: %s\n", text.c_str());
    std::exit(1);
}

std::int64_t now_usec() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

Envelope envelope_of(const Options& options, long number, std::int64_t start_usec) {
    Envelope envelope;
    envelope.sender = "sender" + std::to_string(number % 50) + "@news.example";
    envelope.arrival_usec = start_usec - (options.age * 1'000'000 / options.count) * (options.count - number);
    Recipient recipient;
    recipient.address = "user" + std::to_string(number) + "@" +
                        (options.to.empty() ? "d" + std::to_string(number % options.domains) + ".example" : options.to);
    envelope.recipients.push_back(recipient);
    return envelope;
}

void write_message(const Options& options, long number, std::int64_t start_usec, FileIo& io) {
    WriterOptions how;
    how.queue_directory = options.queue;
    how.directory = options.directory;
    how.io = &io;
    Result<std::unique_ptr<QueueFileWriter>> writer = QueueFileWriter::create(how);
    if (!writer) {
        fail(writer.error().what);
    }
    const Envelope envelope = envelope_of(options, number, start_usec);
    static const std::string kBody = "\n" + std::string(1000, 'y') + "\n";
    const std::string head = "From: <" + envelope.sender + ">\nTo: <" + envelope.recipients[0].address + ">\nSubject: number " +
                             std::to_string(number) + "\n";
    Result<void> done = (*writer)->header(head);
    done = done ? (*writer)->body(kBody) : done;
    done = done ? (*writer)->envelope(envelope) : done;
    done = done ? (*writer)->write_out() : done;
    if (!done) {
        fail(done.error().what);
    }
    const UniqueFd file = (*writer)->take_file();
    JournalRecord record;
    record.kind = kJournalDeferred;
    record.recipient = 0;
    record.time_usec = start_usec;
    record.dsn = "4.4.1";
    record.text = "connect to d" + std::to_string(number % options.domains) + ".example[192.0.2.1]:25: Connection timed out";
    record.relay = "none";
    if (options.directory == "deferred") {
        done = append_journal(file.get(), {record});
        const std::int64_t due = start_usec / 1'000'000 + options.due + number * options.spread / options.count;
        const timespec times[2] = {{due, 0}, {due, 0}};
        if (!done || ::futimens(file.get(), times) != 0) {
            fail("cannot finish " + (*writer)->queue_id());
        }
    }
}

std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        fail("cannot read " + path);
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

void put_file(const std::string& path, int fd, const std::string& bytes) {
    if (fd < 0 || ::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
        fail("cannot write " + path);
    }
}

/// As Postfix names and hashes (hash_queue_depth 1): the fifth digit counts from the end of the microseconds.
void clone_message(const Options& options, long number, std::int64_t start_usec, const std::string& bytes, const std::string& log) {
    const std::string temporary = options.queue + "/deferred/tmp." + std::to_string(number);
    const int fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    put_file(temporary, fd, bytes);
    struct stat info {};
    ::fstat(fd, &info);
    const std::string id = make_queue_id(start_usec + number, info.st_ino, false);
    const std::string hashed = std::string("/") + id[4] + "/" + id;
    const std::int64_t due = start_usec / 1'000'000 + options.due + number * options.spread / options.count;
    const timespec times[2] = {{due, 0}, {due, 0}};
    if (::futimens(fd, times) != 0 || ::rename(temporary.c_str(), (options.queue + "/deferred" + hashed).c_str()) != 0) {
        fail("cannot finish " + id);
    }
    ::close(fd);
    if (!log.empty()) {
        const std::string path = options.queue + "/defer" + hashed;
        const int copy = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        put_file(path, copy, log);
        ::close(copy);
    }
}

Options parse(int argc, char** argv) {
    static const option kLong[] = {{"domains", 1, nullptr, 'd'}, {"due", 1, nullptr, 'D'},  {"spread", 1, nullptr, 's'},
                                   {"age", 1, nullptr, 'a'},     {"to", 1, nullptr, 't'},   {"directory", 1, nullptr, 'q'},
                                   {"clone", 1, nullptr, 'c'},   {"log", 1, nullptr, 'l'},  {nullptr, 0, nullptr, 0}};
    Options options;
    for (int c = 0; (c = ::getopt_long(argc, argv, "", kLong, nullptr)) != -1;) {
        switch (c) {
        case 'd': options.domains = std::max(1L, std::atol(optarg)); break;
        case 'D': options.due = std::atol(optarg); break;
        case 's': options.spread = std::atol(optarg); break;
        case 'a': options.age = std::atol(optarg); break;
        case 't': options.to = optarg; break;
        case 'q': options.directory = optarg; break;
        case 'c': options.clone = optarg; break;
        case 'l': options.log = optarg; break;
        default: fail("usage: fill_queue [options] QUEUE_DIRECTORY COUNT");
        }
    }
    if (optind + 2 != argc || (options.count = std::atol(argv[optind + 1])) <= 0) {
        fail("usage: fill_queue [options] QUEUE_DIRECTORY COUNT");
    }
    options.queue = argv[optind];
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    const std::int64_t start = now_usec();
    const std::string bytes = options.clone.empty() ? std::string() : contents(options.clone);
    const std::string log = options.log.empty() ? std::string() : contents(options.log);
    std::vector<std::thread> threads;
    constexpr long kThreads = 4;
    for (long thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            Unsynced io;
            for (long number = thread; number < options.count; number += kThreads) {
                if (options.clone.empty()) {
                    write_message(options, number, start, io);
                } else {
                    clone_message(options, number, start, bytes, log);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return 0;
}
