/// lib/listing: the expected text is what postqueue of Postfix 3.7 printed for the same messages.
#include "lib/listing/listing.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "lib/queue/queue_file.h"
#include "lib/queue/transit.h"

using namespace postern;

namespace {

constexpr const char* kRefused = "connect to 127.0.0.1[127.0.0.1]:21699: Connection refused";

ListedMessage message(std::string queue, std::string id, std::uint64_t size, std::int64_t arrival, std::string sender) {
    ListedMessage listed;
    listed.queue_name = std::move(queue);
    listed.queue_id = std::move(id);
    listed.size_bytes = size;
    listed.arrival_seconds = arrival;
    listed.sender = std::move(sender);
    listed.recipients = {{"one@far.example", kRefused}, {"two@far.example", kRefused}};
    return listed;
}

void use_utc() {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
}

}  // namespace

TEST_CASE("the text listing is Postfix's, for short ids", "[listing]") {
    use_utc();
    TextListing listing(false);
    ListedMessage first = message("deferred", "654B6A78704", 259, 1795348054, "me@here.example");
    ListedMessage second = message("hold", "6B1B0A78703", 255, 1795348054, "x@y.example");
    first.forced_expire = second.forced_expire = true;
    std::string text = listing.message(first);
    text += listing.message(second);
    text += listing.message(message("deferred", "B29F0A788D3", 262, 1795347963, "\"a b\"@here.example"));
    text += listing.end();
    CHECK(text ==
          "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
          "654B6A78704#     259 Sun Nov 22 11:47:34  me@here.example\n"
          "                   (connect to 127.0.0.1[127.0.0.1]:21699: Connection refused)\n"
          "                                         one@far.example\n"
          "                                         two@far.example\n"
          "\n"
          "6B1B0A78703!#     255 Sun Nov 22 11:47:34  x@y.example\n"
          "                   (connect to 127.0.0.1[127.0.0.1]:21699: Connection refused)\n"
          "                                         one@far.example\n"
          "                                         two@far.example\n"
          "\n"
          "B29F0A788D3     262 Sun Nov 22 11:46:03  \"a b\"@here.example\n"
          "                   (connect to 127.0.0.1[127.0.0.1]:21699: Connection refused)\n"
          "                                         one@far.example\n"
          "                                         two@far.example\n"
          "\n"
          "-- 0 Kbytes in 3 Requests.\n");
}

TEST_CASE("the text listing is Postfix's, for long ids", "[listing]") {
    use_utc();
    TextListing listing(true);
    std::string text = listing.message(message("deferred", "4jXS4C3QgTz1bl6H", 250, 1795348059, "x@y.example"));
    text += listing.message(message("hold", "4jXS4C393Rz1bl6G", 254, 1795348059, "me@here.example"));
    text += listing.end();
    CHECK(text ==
          "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
          "4jXS4C3QgTz1bl6H       250 Sun Nov 22 11:47:39 x@y.example\n"
          "                   (connect to 127.0.0.1[127.0.0.1]:21699: Connection refused)\n"
          "                                               one@far.example\n"
          "                                               two@far.example\n"
          "\n"
          "4jXS4C393Rz1bl6G!      254 Sun Nov 22 11:47:39 me@here.example\n"
          "                   (connect to 127.0.0.1[127.0.0.1]:21699: Connection refused)\n"
          "                                               one@far.example\n"
          "                                               two@far.example\n"
          "\n"
          "-- 0 Kbytes in 2 Requests.\n");
    CHECK(TextListing(true).end() == "Mail queue is empty\n");
}

TEST_CASE("json lines are Postfix's", "[listing]") {
    ListedMessage listed = message("deferred", "B29F0A788D3", 262, 1795347963, "\"a b\"@here.example");
    CHECK(json_listing(listed) ==
          "{\"queue_name\": \"deferred\", \"queue_id\": \"B29F0A788D3\", \"arrival_time\": 1795347963, \"message_size\": 262, "
          "\"forced_expire\": false, \"sender\": \"\\\"a b\\\"@here.example\", \"recipients\": [{\"address\": \"one@far.example\", "
          "\"delay_reason\": \"connect to 127.0.0.1[127.0.0.1]:21699: Connection refused\"}, {\"address\": \"two@far.example\", "
          "\"delay_reason\": \"connect to 127.0.0.1[127.0.0.1]:21699: Connection refused\"}]}\n");
    listed.recipients = {{"x\n\x1b@y.example", ""}};
    CHECK(json_listing(listed).find(R"("recipients": [{"address": "x\u000a\u001b@y.example"}]})") != std::string::npos);
}

TEST_CASE("control characters do not reach a terminal", "[listing]") {
    TextListing listing(false);
    ListedMessage listed = message("active", "B29F0A788D3", 1, 1, "a\x1b[2J@x.example");
    listed.recipients = {{"b\n@x.example", "why\r\nnot"}};
    const std::string text = listing.message(listed);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find("(why??not)") != std::string::npos);
    CHECK(text.find("B29F0A788D3*") != std::string::npos);
}

TEST_CASE("a file shows whom it still goes to and why not yet", "[listing]") {
    char name[] = "/tmp/postern-listing-XXXXXX";
    const std::string root = ::mkdtemp(name);
    ::mkdir((root + "/incoming").c_str(), 0700);
    auto writer = queue::QueueFileWriter::create({.queue_directory = root});
    REQUIRE(writer);
    REQUIRE((*writer)->header("Subject: x\n"));
    queue::Envelope envelope;
    envelope.sender = "a b@here.example";
    for (const char* address : {"zero@x.example", "one@x.example", "two@x.example"}) {
        envelope.recipients.emplace_back().address = address;
    }
    envelope.arrival_usec = 1'700'000'000'000'000;
    REQUIRE((*writer)->envelope(envelope));
    REQUIRE((*writer)->write_out());
    const std::string id = (*writer)->queue_id();
    const UniqueFd file = (*writer)->take_file();
    queue::JournalRecord done, later;
    done.kind = queue::kJournalDelivered;
    done.recipient = 0;
    later.kind = queue::kJournalDeferred;
    later.recipient = 2;
    later.text = "not now";
    REQUIRE(queue::append_journal(file.get(), {done, later}));
    CHECK(queue_ids_in(root + "/incoming") == std::vector<std::string>{id});
    ListedMessage listed;
    REQUIRE(read_listed(root, "incoming", id, listed));
    CHECK(listed.sender == "\"a b\"@here.example");
    CHECK(listed.size_bytes == 11);
    CHECK(listed.arrival_seconds == 1'700'000'000);
    REQUIRE(listed.recipients.size() == 2);
    CHECK(listed.recipients[0].address == "two@x.example");
    CHECK(listed.recipients[0].reason == "not now");
    CHECK(listed.recipients[1].address == "one@x.example");
    CHECK_FALSE(read_listed(root, "incoming", "0123456789", listed));
    CHECK(std::system(("rm -rf " + root).c_str()) == 0);
}

namespace {

/// A queue whose link leads to a directory beside it.
struct ScratchQueue {
    std::string root, memory;
    ScratchQueue() {
        char name[] = "/tmp/postern-listing-XXXXXX";
        root = ::mkdtemp(name);
        memory = root + "/memory";
        for (const char* directory : {"maildrop", "active", "incoming", "deferred", "hold", "memory"}) {
            ::mkdir((root + "/" + directory).c_str(), 0700);
        }
        CHECK(::symlink(memory.c_str(), (root + "/transit").c_str()) == 0);
    }
    ~ScratchQueue() { CHECK(std::system(("rm -rf " + root).c_str()) == 0); }
    ScratchQueue(const ScratchQueue&) = delete;
    ScratchQueue& operator=(const ScratchQueue&) = delete;

    /// A message at this path, below root.
    void add(const std::string& path) const {
        auto writer = queue::QueueFileWriter::create({.queue_directory = root});
        REQUIRE(writer);
        queue::Envelope envelope;
        envelope.sender = path;
        envelope.recipients.emplace_back().address = "you@x.example";
        REQUIRE((*writer)->envelope(envelope));
        REQUIRE((*writer)->write_out());
        REQUIRE(::rename((root + "/incoming/" + (*writer)->queue_id()).c_str(), (root + "/" + path).c_str()) == 0);
        (*writer)->take_file();
    }
};

std::string names(const std::vector<ListedMessage>& messages) {
    std::string text;
    for (const ListedMessage& listed : messages) {
        text += listed.queue_name + "/" + listed.queue_id + " ";
    }
    return text;
}

}  // namespace

TEST_CASE("messages in transit are listed between where they come from and where they go", "[listing]") {
    const ScratchQueue queue;
    for (const char* path : {"maildrop/AAAAAA0", "active/AAAAAA1", "incoming/AAAAAA2", "deferred/AAAAAA3", "memory/BBBBBB1", "memory/move.BBBBBB0", "memory/tmp.BBBBBB2", "memory/lock.AAAAAA3"}) {
        queue.add(path);
    }
    const auto transit = queue::Transit::open(queue.root, queue.root);
    REQUIRE(transit);
    ListingWalk walk(queue.root, &*transit);
    CHECK(names(walk.next(100)) == "maildrop/AAAAAA0 incoming/BBBBBB0 incoming/BBBBBB1 active/AAAAAA1 incoming/AAAAAA2 deferred/AAAAAA3 ");
    CHECK(walk.next(100).empty());
    ListingWalk without(queue.root, nullptr);
    CHECK(names(without.next(100)) == "maildrop/AAAAAA0 active/AAAAAA1 incoming/AAAAAA2 deferred/AAAAAA3 ");
}

TEST_CASE("a message that leaves the transit while the queue is listed is listed once", "[listing]") {
    const ScratchQueue queue;
    for (const char* path : {"memory/BBBBBB0", "memory/BBBBBB1", "memory/BBBBBB2"}) {
        queue.add(path);
    }
    const auto transit = queue::Transit::open(queue.root, queue.root);
    REQUIRE(transit);
    ListingWalk walk(queue.root, &*transit);
    std::string listed = names(walk.next(1));
    for (const auto& [id, directory] : {std::pair("BBBBBB0", "active"), {"BBBBBB1", "deferred"}}) {
        CHECK(transit->keep(id, transit->open_file(id, O_RDONLY).get(), directory, false));
    }
    CHECK(transit->remove("BBBBBB2"));   // delivered
    for (auto more = walk.next(1); !more.empty(); more = walk.next(1)) {
        listed += names(more);
    }
    CHECK(listed == "incoming/BBBBBB0 deferred/BBBBBB1 ");
}
