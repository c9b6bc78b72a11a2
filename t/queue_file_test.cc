// Queue files: what is written is read back, damage is noticed, and no failing system call leaves half a message.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <catch2/catch.hpp>
#include <cstdlib>

#include <dirent.h>

#include "lib/async/loop.h"
#include "lib/queue/checksum.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"

using namespace postern;
using namespace postern::queue;

namespace {

/// A queue directory that goes away with the test.
struct ScratchQueue {
    std::string path;
    ScratchQueue() {
        char name[] = "/tmp/queue_test.XXXXXX";
        path = ::mkdtemp(name);
        ::mkdir((path + "/incoming").c_str(), 0700);
        ::mkdir((path + "/hold").c_str(), 0700);
    }
    ~ScratchQueue() {
        for (const char* sub : {"/incoming", "/hold"}) {
            for (const std::string& name : files(sub)) {
                ::unlink((path + sub + "/" + name).c_str());
            }
            ::rmdir((path + sub).c_str());
        }
        ::rmdir(path.c_str());
    }
    std::vector<std::string> files(const std::string& sub) const {
        std::vector<std::string> names;
        DIR* dir = ::opendir((path + sub).c_str());
        while (const dirent* entry = ::readdir(dir)) {
            if (entry->d_name[0] != '.') {
                names.emplace_back(entry->d_name);
            }
        }
        ::closedir(dir);
        return names;
    }
};

Envelope sample_envelope() {
    Envelope e;
    e.sender = "from@example.org";
    e.recipients = {{"a@example.com", "alias@example.com", "rfc822;x+40y", kNotifySuccess | kNotifyDelay},
                    {"b@example.com", "", "", 0}};
    e.arrival_usec = 1700000000123456;
    e.dsn_envid = "id+2B1";
    e.dsn_ret = kRetHeaders;
    e.encoding = kEncoding8bit;
    e.smtputf8 = true;
    e.client.name = "client.example";
    e.client.address = "192.0.2.1";
    e.client.tls_comments = {"(using TLSv1.3)", "(No client certificate requested)"};
    e.hop_count = 3;
    return e;
}

const std::string kHeaders = "Subject: test\nFrom: me\n";
const std::string kBody("\nline\0with NUL\r\nbare\n", 21);

std::unique_ptr<QueueFileWriter> make_writer(const ScratchQueue& queue, FileIo* io = nullptr,
                                             std::uint64_t limit = 0) {
    WriterOptions options;
    options.queue_directory = queue.path;
    options.io = io;
    options.size_limit_bytes = limit;
    Result<std::unique_ptr<QueueFileWriter>> writer = QueueFileWriter::create(options);
    REQUIRE(writer.ok());
    return std::move(*writer);
}

/// Runs the whole writing; true when it went well.
bool write_sample(QueueFileWriter& writer, std::size_t body_repeat = 1) {
    bool ok = writer.header(kHeaders).ok() && writer.envelope(sample_envelope()).ok();
    for (std::size_t i = 0; ok && i < body_repeat; ++i) {
        ok = writer.body(kBody).ok();
    }
    return ok && writer.write_out().ok();
}

UniqueFd open_read(const std::string& path) { return UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)); }

std::string slurp(int fd) {
    struct stat status {};
    ::fstat(fd, &status);
    Result<std::string> all = read_extent(fd, {0, static_cast<std::uint64_t>(status.st_size)}, 1 << 24);
    return all ? *all : "";
}

/// A nameless file with these bytes.
UniqueFd file_with(const std::string& bytes) {
    char name[] = "/tmp/queue_bytes.XXXXXX";
    UniqueFd fd(::mkstemp(name));
    ::unlink(name);
    REQUIRE(::write(fd.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    return fd;
}

/// Fails the call number `fail_at` (1 is the first), counting all kinds; writes at most `most` bytes at a time.
struct FailingIo : FileIo {
    int calls = 0;
    int fail_at = 0;
    int error = ENOSPC;
    std::size_t most = SIZE_MAX;
    bool fails() {
        if (++calls == fail_at) {
            errno = error;
            return true;
        }
        return false;
    }
    ssize_t pwritev(int fd, const iovec* pieces, int count, std::uint64_t offset) override {
        if (fails()) {
            return -1;
        }
        if (most == SIZE_MAX) {
            return FileIo::pwritev(fd, pieces, count, offset);
        }
        const iovec cut{pieces[0].iov_base, std::min(most, pieces[0].iov_len)};
        return FileIo::pwritev(fd, &cut, 1, offset);
    }
    int fsync(int fd) override { return fails() ? -1 : FileIo::fsync(fd); }
    int rename(const char* from, const char* to) override { return fails() ? -1 : FileIo::rename(from, to); }
};

}  // namespace

TEST_CASE("a message comes back from its queue file byte for byte", "[queue]") {
    const std::size_t repeat = GENERATE(1, 100, 20000);   // the last passes the body buffer several times
    ScratchQueue queue;
    auto writer = make_writer(queue);
    const std::string id = writer->queue_id();
    REQUIRE(write_sample(*writer, repeat));
    CHECK(writer->take_file().get() >= 0);
    writer.reset();
    REQUIRE(queue.files("/incoming") == std::vector<std::string>{id});
    CHECK(is_queue_id(id));
    const UniqueFd fd = open_read(queue.path + "/incoming/" + id);
    const Result<QueueFile> file = QueueFile::read(fd.get());
    REQUIRE(file.ok());
    CHECK(file->verify_content(fd.get()).ok());
    CHECK(*read_extent(fd.get(), file->headers(), 1000) == kHeaders);
    CHECK(file->body().length == kBody.size() * repeat);
    const std::string body = *read_extent(fd.get(), file->body(), 1 << 24);
    CHECK(body.substr(body.size() - kBody.size()) == kBody);
    CHECK(body.substr(0, kBody.size()) == kBody);
    const Envelope& e = file->envelope();
    const Envelope want = sample_envelope();
    CHECK(e.sender == want.sender);
    REQUIRE(e.recipients.size() == 2);
    CHECK(e.recipients[0].address == "a@example.com");
    CHECK(e.recipients[0].original == "alias@example.com");
    CHECK(e.recipients[0].dsn_orcpt == "rfc822;x+40y");
    CHECK(e.recipients[0].notify == (kNotifySuccess | kNotifyDelay));
    CHECK(e.recipients[1].address == "b@example.com");
    CHECK(e.arrival_usec == want.arrival_usec);
    CHECK(e.dsn_envid == want.dsn_envid);
    CHECK(e.smtputf8);
    CHECK(e.client.tls_comments == want.client.tls_comments);
    CHECK(e.hop_count == 3);
    CHECK_FALSE(e.hold);
}

TEST_CASE("a flipped bit at any offset of a queue file is noticed", "[queue]") {
    ScratchQueue queue;
    auto writer = make_writer(queue);
    REQUIRE(write_sample(*writer));
    const std::string good = slurp(writer->take_file().get());
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (const int bit : {0, 3, 7}) {
            CAPTURE(at, bit);
            std::string bad = good;
            bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
            const UniqueFd fd = file_with(bad);
            const Result<QueueFile> file = QueueFile::read(fd.get());
            const bool accepted = file.ok() && file->verify_content(fd.get()).ok();
            REQUIRE_FALSE(accepted);
        }
    }
}

TEST_CASE("a queue file cut short at any length is noticed", "[queue]") {
    ScratchQueue queue;
    auto writer = make_writer(queue);
    REQUIRE(write_sample(*writer));
    const std::string good = slurp(writer->take_file().get());
    for (std::size_t length = 0; length < good.size(); ++length) {
        CAPTURE(length);
        const UniqueFd fd = file_with(good.substr(0, length));
        const Result<QueueFile> file = QueueFile::read(fd.get());
        REQUIRE_FALSE(file.ok());
        REQUIRE(file.error().code == Errc::corrupt);
    }
}

TEST_CASE("when any step of writing fails nothing is left in the queue", "[queue]") {
    const std::size_t repeat = GENERATE(1, 20000);
    const int error = GENERATE(ENOSPC, EIO);
    int steps = 0;
    for (int fail_at = 1;; ++fail_at) {
        CAPTURE(fail_at);
        ScratchQueue queue;
        FailingIo io;
        io.fail_at = fail_at;
        io.error = error;
        auto writer = make_writer(queue, &io);
        const bool ok = write_sample(*writer, repeat);
        writer.reset();
        if (ok) {
            CHECK(queue.files("/incoming").size() == 1);
            break;
        }
        REQUIRE(queue.files("/incoming").empty());
        ++steps;
    }
    CHECK(steps >= (repeat == 1 ? 3 : 5));   // write, rename, fsync; a large body has more writes
}

TEST_CASE("a small message costs one write and one fsync", "[queue]") {
    ScratchQueue queue;
    FailingIo io;
    auto writer = make_writer(queue, &io);
    REQUIRE(write_sample(*writer));
    CHECK(io.calls == 3);   // write, rename, fsync
}

TEST_CASE("short writes are continued and interrupted ones repeated", "[queue]") {
    ScratchQueue queue;
    FailingIo io;
    io.most = 7;
    io.fail_at = 5;
    io.error = EINTR;
    auto writer = make_writer(queue, &io);
    REQUIRE(write_sample(*writer));
    const UniqueFd fd = writer->take_file();
    const Result<QueueFile> file = QueueFile::read(fd.get());
    REQUIRE(file.ok());
    CHECK(file->verify_content(fd.get()).ok());
}

TEST_CASE("message_size_limit counts headers and body", "[queue]") {
    ScratchQueue queue;
    auto writer = make_writer(queue, nullptr, 10);
    CHECK(writer->header("A: b\n").ok());
    CHECK(writer->body("12345").ok());
    const Result<void> over = writer->body("6");
    REQUIRE_FALSE(over.ok());
    CHECK(over.error().code == Errc::too_big);
    const std::vector<std::string> before = queue.files("/incoming");
    CHECK(before.size() == 1);
    writer.reset();
    CHECK(queue.files("/incoming").empty());
}

TEST_CASE("commit writes off the event loop and into the directory chosen last", "[queue]") {
    ScratchQueue queue;
    auto writer = make_writer(queue);
    REQUIRE(writer->header(kHeaders).ok());
    REQUIRE(writer->envelope(sample_envelope()).ok());
    writer->set_directory("hold");
    const Result<void> done = Loop::current().run_until(writer->commit());
    REQUIRE(done.ok());
    CHECK(queue.files("/incoming").empty());
    CHECK(queue.files("/hold") == std::vector<std::string>{writer->queue_id()});
}

TEST_CASE("CRC-32C gives the published check value however the bytes are cut", "[queue]") {
    CHECK(crc32c(0, "123456789") == 0xe3069283U);
    std::string bytes;
    for (int i = 0; i < 100; ++i) {
        CHECK(crc32c(77, bytes) == crc32c_portable(77, bytes));
        bytes += static_cast<char>(i * 37);
    }
    for (std::size_t cut = 0; cut <= 9; ++cut) {
        CHECK(crc32c(crc32c(0, std::string_view("123456789").substr(0, cut)), std::string_view("123456789").substr(cut)) ==
              0xe3069283U);
    }
}
