// pickup(8): every submission reaches cleanup once, whatever breaks in between.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <set>
#include <utility>

#include "cleanup/picker.h"
#include "lib/log/capture.h"
#include "lib/queue/maildrop.h"

using namespace postern;
using namespace postern::pickup;

namespace {

using ServerChannel = Channel<queue::FromCleanup, queue::ToCleanup>;

UniqueFd listen_at(const std::string& path) {
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 50) == 0);
    return listener;
}

/// A cleanup that notes what it gets and answers as told.
class FakeCleanup {
public:
    explicit FakeCleanup(const std::string& path) : listener_(listen_at(path)) {
        events_.open(listener_.get());
        spawn(accept_all());
    }
    ~FakeCleanup() {
        events_.close();
        Loop::current().run_until(sleep_for(Millis(20)));
    }
    struct Got {
        queue::Begin begin;
        std::string content;
    };
    std::vector<Got> got;
    int died = 0;
    std::uint32_t refuse_with = 0;      ///< answer Refused with this code to messages from a sender
    int deaths = 0;                     ///< so many times it closes all conversations instead of answering
    std::string poison;                 ///< this content kills it, too
    std::function<void()> at_message;   ///< called before a message is answered

private:
    Task<> accept_all() {
        for (;;) {
            UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (client) {
                spawn(serve(std::move(client)));
                continue;
            }
            const Wake wake = co_await events_.readable(kForever);
            if (wake != Wake::ready) {
                co_return;
            }
        }
    }
    Task<> serve(UniqueFd client) {
        Conversation conversation{ServerChannel(std::move(client), queue::kMaxSubmitMessage), {}};
        open_.insert(&conversation);
        co_await converse(conversation.channel, conversation.now);
        open_.erase(&conversation);
    }
    void die() {
        ++died;
        for (Conversation* const one : open_) {
            one->channel.close();
            one->now = {};
        }
    }
    Task<> converse(ServerChannel& channel, Got& now) {
        for (;;) {
            Result<queue::ToCleanup> in = co_await channel.receive(kForever);
            if (!in) {
                co_return;
            }
            bool last = false;
            if (auto* begin = std::get_if<queue::Begin>(&*in)) {
                now.content = begin->content;
                last = begin->last;
                now.begin = std::move(*begin);
            } else if (auto* content = std::get_if<queue::Content>(&*in)) {
                now.content += content->bytes;
                last = content->last;
            }
            if (!last) {
                continue;
            }
            const bool deadly = !poison.empty() && now.content == poison;
            if (!poison.empty()) {   // it strikes while we have others that were sent with it
                const Millis pause(deadly ? 30 : 100);
                co_await sleep_for(pause);
            }
            if (!channel.is_open()) {
                co_return;
            }
            if (deadly || deaths > 0) {
                deaths -= deaths > 0 ? 1 : 0;
                die();
                co_return;
            }
            if (at_message) {
                at_message();
            }
            const bool refuse = refuse_with != 0 && !now.begin.envelope.sender.empty();
            CHECK(now.begin.source);
            now.begin.source.reset();   // with the answer cleanup is done with it
            got.push_back(std::move(now));
            now = {};
            if (refuse) {
                queue::Refused refused;
                refused.code = refuse_with;
                refused.dsn = refuse_with < 500 ? "4.3.0" : "5.3.4";
                refused.text = "Error: because";
                channel.post(std::move(refused));
            } else {
                queue::Queued queued;
                queued.queue_id = "ABCDEF1";
                channel.post(std::move(queued));
            }
        }
    }
    UniqueFd listener_;
    FdEvents events_;
    struct Conversation {
        ServerChannel channel;
        Got now;
    };
    std::set<Conversation*> open_;
};

class Drop {
public:
    Drop() : config(std::move(*Config::from_text("myhostname = mx.example.org\n"))) {
        char name[] = "/tmp/pickup_test.XXXXXX";
        directory = ::mkdtemp(name);
        for (const char* sub : {"/incoming", "/active", "/maildrop", "/corrupt", "/public", "/hold"}) {
            ::mkdir((directory + sub).c_str(), 0700);
        }
        cleanup = std::make_unique<FakeCleanup>(directory + "/public/cleanup");
        picker = std::make_unique<Picker>(config, directory, Millis(20));
    }
    ~Drop() {
        cleanup.reset();
        const std::string command = "rm -rf " + directory;
        (void)!std::system(command.c_str());
    }
    std::string submit(const std::string& content) {
        auto writer = std::move(*queue::create_maildrop_file(directory, 0));
        queue::Envelope envelope;
        envelope.sender = "user";
        envelope.recipients = {{"rcpt", "", "", 0}};
        envelope.rewrite_local = true;
        envelope.client.name = "claimed.example";
        REQUIRE(writer->body(content).ok());
        REQUIRE(writer->envelope(envelope).ok());
        REQUIRE(writer->write_out().ok());
        return writer->queue_id();
    }
    /// A queue file that was made from a maildrop file; yields its name.
    std::string queue_file(const std::string& where, const std::string& source) const {
        queue::WriterOptions options;
        options.queue_directory = directory;
        options.directory = where;
        auto writer = std::move(*queue::QueueFileWriter::create(options));
        queue::Envelope envelope;
        envelope.recipients = {{"rcpt", "", "", 0}};
        envelope.maildrop_file = source;
        REQUIRE(writer->envelope(envelope).ok());
        REQUIRE(writer->write_out().ok());
        return writer->queue_id();
    }
    /// A queue file that postsuper -r has put into maildrop; yields it, open.
    UniqueFd requeued(const queue::Envelope& envelope) const {
        queue::WriterOptions options;
        options.queue_directory = directory;
        options.directory = "maildrop";
        auto writer = std::move(*queue::QueueFileWriter::create(options));
        REQUIRE(writer->header("Subject: kept\n").ok());
        REQUIRE(writer->body("\nbody\n").ok());
        REQUIRE(writer->envelope(envelope).ok());
        REQUIRE(writer->write_out().ok());
        return writer->take_file();
    }
    void scan() { Loop::current().run_until(picker->scan()); }
    /// Lets things happen until `names` are what is in maildrop, and then what was begun come to its end.
    void wait_for_maildrop(const std::vector<std::string>& names) const {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (files("maildrop") != names && std::chrono::steady_clock::now() < end) {
            Loop::current().run_until(sleep_for(Millis(5)));
        }
        Loop::current().run_until(sleep_for(Millis(300)));
    }
    std::vector<std::string> files(const std::string& sub) const {
        std::vector<std::string> names;
        DIR* dir = ::opendir((directory + "/" + sub).c_str());
        while (const dirent* entry = ::readdir(dir)) {
            if (entry->d_name[0] != '.') {
                names.emplace_back(entry->d_name);
            }
        }
        ::closedir(dir);
        return names;
    }
    Config config;
    std::string directory;
    std::unique_ptr<FakeCleanup> cleanup;
    std::unique_ptr<Picker> picker;
    LogCapture log;
};

}  // namespace

TEST_CASE("submissions are handed to cleanup with what is true of them, then removed", "[pickup]") {
    Drop drop;
    const std::string first = drop.submit("Subject: one\n\nbody\n");
    drop.submit("Subject: two\n\n" + std::string(1000000, 'x') + "\n");
    drop.scan();
    REQUIRE(drop.cleanup->got.size() == 2);
    CHECK(drop.files("maildrop").empty());
    for (const FakeCleanup::Got& got : drop.cleanup->got) {
        CHECK(got.begin.envelope.sender == "user");
        CHECK(got.begin.envelope.submit_uid == ::getuid());
        CHECK(got.begin.envelope.client.name.empty());
        CHECK(got.begin.complete_headers);
        CHECK((got.content == "Subject: one\n\nbody\n" || got.content.size() == 1000015));
    }
    CHECK(drop.log.count("ABCDEF1: uid=" + std::to_string(::getuid()) + " from=<user>") == 2);
}

TEST_CASE("when cleanup cannot take mail the submission stays", "[pickup]") {
    Drop drop;
    const std::string name = drop.submit("x\n");
    drop.cleanup->refuse_with = 452;
    drop.scan();
    CHECK(drop.files("maildrop") == std::vector<std::string>{name});
    drop.cleanup->refuse_with = 0;
    drop.scan();
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("a submission whose cleanup died is tried again at once", "[pickup]") {
    Drop drop;
    drop.submit("x\n");
    drop.cleanup->deaths = 2;
    drop.scan();
    CHECK(drop.cleanup->got.size() == 1);
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("what kills cleanup again and again waits for the next wake-up", "[pickup]") {
    Drop drop;
    const std::string name = drop.submit("x\n");
    drop.cleanup->deaths = 100;
    drop.scan();
    CHECK(drop.cleanup->died == 3);
    CHECK(drop.files("maildrop") == std::vector<std::string>{name});
    drop.scan();
    CHECK(drop.cleanup->died == 4);
    drop.cleanup->deaths = 0;
    drop.scan();
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("what kills cleanup holds up no other submission", "[pickup]") {
    Drop drop;
    std::string name;
    for (int i = 0; i < 20; ++i) {
        const bool deadly = i == 4;   // among the first to be taken
        const std::string id = drop.submit(deadly ? "deadly\n" : "x\n");
        name = deadly ? id : name;
    }
    drop.cleanup->poison = "deadly\n";
    drop.scan();
    CHECK(drop.cleanup->died == 3);
    CHECK(drop.cleanup->got.size() == 19);
    CHECK(drop.files("maildrop") == std::vector<std::string>{name});
}

TEST_CASE("a call during a look that gives up is not forgotten", "[pickup]") {
    Drop drop;
    drop.submit("x\n");
    drop.cleanup->refuse_with = 452;
    drop.cleanup->at_message = [&drop, first = true]() mutable {
        if (std::exchange(first, false)) {
            drop.submit("y\n");
            spawn(drop.picker->scan());
        } else {
            drop.cleanup->refuse_with = 0;
        }
    };
    drop.scan();
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("a lasting refusal goes back to the sender", "[pickup]") {
    Drop drop;
    drop.submit("Subject: big\nX: y\n\nbody\n");
    drop.cleanup->refuse_with = 552;
    drop.scan();
    REQUIRE(drop.cleanup->got.size() == 2);
    const FakeCleanup::Got& notice = drop.cleanup->got[1];
    CHECK(notice.begin.envelope.sender.empty());
    CHECK(notice.begin.envelope.recipients[0].address == "user");
    CHECK(notice.content.find("552 5.3.4 Error: because") != std::string::npos);
    CHECK(notice.content.find("Subject: big\nX: y\n") != std::string::npos);
    CHECK(notice.content.find("Final-Recipient: rfc822; rcpt\nAction: failed\nStatus: 5.3.4\n") != std::string::npos);
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("what incoming/ or hold/ has already is not submitted again", "[pickup]") {
    const std::string where = GENERATE("incoming", "hold");
    Drop drop;
    const UniqueFd qmgr = listen_at(drop.directory + "/public/qmgr");
    drop.queue_file(where, drop.submit("x\n"));
    drop.scan();
    CHECK(drop.cleanup->got.empty());
    CHECK(UniqueFd(::accept(qmgr.get(), nullptr, nullptr)));   // who died may not have told it
    CHECK(drop.files("maildrop").empty());
    CHECK(drop.files(where).size() == 1);
}

TEST_CASE("what an orphaned cleanup still works on is left to it", "[pickup]") {
    Drop drop;
    const std::string name = drop.submit("x\n"), other = drop.submit("y\n");
    const std::string path = drop.directory + "/maildrop/" + name;
    UniqueFd orphan(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(queue::try_lock(orphan.get()));
    bool became_mail = false;
    spawn(drop.picker->scan());
    drop.wait_for_maildrop({name});
    CHECK(drop.cleanup->got.size() == 1);
    CHECK(drop.files("maildrop") == std::vector<std::string>{name});
    SECTION("it dies before it has made a queue file") {}
    SECTION("it dies after that") {
        drop.queue_file("incoming", name);
        became_mail = true;
    }
    SECTION("it comes to its end") {
        drop.queue_file("active", name);
        REQUIRE(::unlink(path.c_str()) == 0);
        became_mail = true;
    }
    orphan.reset();
    drop.wait_for_maildrop({});
    CHECK(drop.cleanup->got.size() == (became_mail ? 1 : 2));
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("what somebody works on for long is taken up when that ends, or left to a successor", "[pickup]") {
    Drop drop;
    Picker patient(drop.config, drop.directory, Millis(1));
    const std::string name = drop.submit("x\n");
    UniqueFd orphan(::open((drop.directory + "/maildrop/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(queue::try_lock(orphan.get()));
    bool ended = false;
    const auto scan = [](Picker& picker, bool& done) -> Task<> {
        co_await picker.scan();
        done = true;
    };
    spawn(scan(patient, ended));
    Loop::current().run_until(sleep_for(Millis(1000)));
    CHECK_FALSE(ended);
    SECTION("it ends") { orphan.reset(); }
    SECTION("the process is to end") { patient.drain(); }
    const bool left = static_cast<bool>(orphan);
    drop.wait_for_maildrop(left ? std::vector<std::string>{name} : std::vector<std::string>());
    CHECK(ended);
    CHECK(drop.cleanup->got.size() == (left ? 0 : 1));
}

TEST_CASE("of two pickups one works, and the other looks at what the first has left", "[pickup]") {
    Drop drop;
    drop.scan();
    Picker second(drop.config, drop.directory, Millis(20));
    const std::string name = drop.submit("x\n");
    spawn(second.scan());
    Loop::current().run_until(sleep_for(Millis(300)));
    CHECK(drop.cleanup->got.empty());
    drop.queue_file("incoming", name);   // the first's, which dies
    drop.picker.reset();
    drop.wait_for_maildrop({});
    CHECK(drop.cleanup->got.empty());
    CHECK(drop.files("maildrop").empty());
}

TEST_CASE("a whole file that a killed cleanup did not get to name is no mail in the queue", "[pickup]") {
    Drop drop;
    const std::string written = drop.queue_file("incoming", drop.submit("x\n"));
    const std::string incoming = drop.directory + "/incoming/";
    REQUIRE(::rename((incoming + written).c_str(), (incoming + "tmp.1.2.3").c_str()) == 0);
    drop.scan();
    CHECK(drop.cleanup->got.size() == 1);
}

TEST_CASE("damaged and strange files are set aside or left alone, never followed", "[pickup]") {
    Drop drop;
    const std::string damaged = drop.submit("x\n");
    {
        std::fstream file(drop.directory + "/maildrop/" + damaged, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(130);
        file.put('Y');
    }
    REQUIRE(::symlink("/etc/passwd", (drop.directory + "/maildrop/AAAAAA1").c_str()) == 0);
    const std::string linked = drop.submit("y\n");
    REQUIRE(::link((drop.directory + "/maildrop/" + linked).c_str(), (drop.directory + "/other").c_str()) == 0);
    std::ofstream(drop.directory + "/maildrop/readme.txt") << "hello";
    std::ofstream(drop.directory + "/maildrop/tmp.1.2.3") << "unfinished";
    drop.submit("good\n");
    drop.scan();
    CHECK(drop.cleanup->got.size() == 1);
    CHECK(drop.files("corrupt").size() == 2);
    CHECK(drop.files("maildrop").size() == 3);   // hard link, readme.txt, fresh tmp. file
    CHECK(drop.log.count("saving corrupt file") == 2);
}

TEST_CASE("a requeued queue file keeps its content and only its unfinished recipients", "[pickup]") {
    Drop drop;
    queue::Envelope envelope;
    envelope.sender = "s@x";
    envelope.recipients = {{"done@x", "", "", 0}, {"later@x", "orig@x", "", 0}};
    envelope.client.name = "client.example";
    const UniqueFd file = drop.requeued(envelope);
    queue::JournalRecord record;
    record.kind = queue::kJournalDelivered;
    record.recipient = 0;
    REQUIRE(queue::append_journal(file.get(), {record}).ok());
    drop.scan();
    REQUIRE(drop.cleanup->got.size() == 1);
    const FakeCleanup::Got& got = drop.cleanup->got[0];
    CHECK(got.content == "Subject: kept\n\nbody\n");
    REQUIRE(got.begin.envelope.recipients.size() == 1);
    CHECK(got.begin.envelope.recipients[0].address == "later@x");
    CHECK(got.begin.envelope.recipients[0].original == "orig@x");
    CHECK(got.begin.envelope.client.name == "client.example");
    CHECK_FALSE(got.begin.complete_headers);
}

TEST_CASE("a requeued message goes through the content filter of new submissions", "[pickup]") {
    Drop drop;
    drop.config = std::move(*Config::from_text("myhostname = mx.example.org\ncontent_filter = scan:[127.0.0.1]:10025\n"));
    queue::Envelope envelope;
    envelope.sender = "s@x";
    envelope.recipients = {{"later@x", "", "", 0}};
    envelope.redirect = "other@x";
    drop.requeued(envelope).reset();
    drop.scan();
    REQUIRE(drop.cleanup->got.size() == 1);
    CHECK(drop.cleanup->got[0].begin.envelope.content_filter == "scan:[127.0.0.1]:10025");
    CHECK(drop.cleanup->got[0].begin.envelope.redirect.empty());
}

TEST_CASE("submissions that are put off do not hold up the others", "[pickup]") {
    Drop drop;
    drop.cleanup->refuse_with = 451;
    for (int i = 0; i < 30; ++i) {
        drop.submit("Subject: x\n\n");
    }
    drop.scan();
    CHECK(drop.cleanup->got.size() == 30);
    CHECK(drop.files("maildrop").size() == 30);
    drop.cleanup->got.clear();
    drop.cleanup->refuse_with = 452;   // but what is true of all need not be said of each
    drop.scan();
    CHECK(drop.cleanup->got.size() < 30);
}

TEST_CASE("control characters in a user's envelope become harmless", "[pickup]") {
    queue::Envelope said;
    said.sender = std::string("a\nb\0c@x", 7);
    said.recipients = {{std::string("dir/file\0@x", 11), "o\r@x", "rfc822;\na", 0}};
    said.dsn_envid = "x\ny";
    const queue::Envelope out = queue::user_envelope(said, 1000, 1);
    CHECK(out.sender == "a?b?c@x");
    CHECK(out.recipients[0].address == "dir/file?@x");
    CHECK(out.recipients[0].original == "o?@x");
    CHECK(out.recipients[0].dsn_orcpt == "rfc822;?a");
    CHECK(out.dsn_envid == "x?y");
}
