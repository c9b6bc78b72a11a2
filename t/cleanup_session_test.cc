// The submission protocol: one connection, many messages, whatever the submitter does.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "cleanup/session.h"
#include "lib/async/loop.h"
#include "lib/log/capture.h"
#include "lib/queue/cleanup_client.h"
#include "lib/queue/maildrop.h"

using namespace postern;
using namespace postern::cleanup;

namespace {

using ClientChannel = Channel<queue::ToCleanup, queue::FromCleanup>;

class Server {
public:
    Server()
        : config_(std::move(*Config::from_text("myhostname = mx.example.org\nmydestination = example.org\nalias_maps =\n"
                                               "local_recipient_maps =\nmessage_size_limit = 1000000\n"))) {
        char name[] = "/tmp/cleanup_session.XXXXXX";
        directory = ::mkdtemp(name);
        for (const char* sub : {"/incoming", "/hold", "/maildrop"}) {
            ::mkdir((directory + sub).c_str(), 0700);
        }
        const TableContext context = table_context(config_);
        router_ = std::move(*Router::create(config_, context));
        maps_ = std::move(*AddressMaps::open(config_, context, *router_));
        checks_ = std::move(*ContentChecks::open(config_, context));
        shared_ = std::make_unique<Shared>(config_, *maps_, *checks_);
        shared_->queue_directory = directory;
        hooks_.tell_qmgr = [this](queue::NewMessage message) { told.push_back(message.queue_id); };
        hooks_.draining = [this] { return draining; };
    }
    ~Server() {
        const std::string command = "rm -rf " + directory;
        (void)!std::system(command.c_str());
    }
    ClientChannel connect(Submitter submitter = {}) {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
        UniqueFd our_end(ends[0]);
        SubmitterChannel ours(std::move(our_end), queue::kMaxSubmitMessage);
        spawn(serve_submitter(std::move(ours), submitter, *shared_, hooks_));
        return ClientChannel(UniqueFd(ends[1]));
    }
    std::size_t queued() const {
        std::size_t count = 0;
        DIR* dir = ::opendir((directory + "/incoming").c_str());
        while (const dirent* entry = ::readdir(dir)) {
            count += entry->d_name[0] != '.' ? 1 : 0;
        }
        ::closedir(dir);
        return count;
    }
    queue::Envelope stored(const std::string& id) const {
        const UniqueFd fd(::open((directory + "/incoming/" + id).c_str(), O_RDONLY));
        Result<queue::QueueFile> file = queue::QueueFile::read(fd.get());
        REQUIRE(file.ok());
        return file->envelope();
    }
    std::string directory;
    std::vector<std::string> told;
    bool draining = false;

private:
    Config config_;
    std::unique_ptr<Router> router_;
    std::unique_ptr<AddressMaps> maps_;
    std::unique_ptr<ContentChecks> checks_;
    std::unique_ptr<Shared> shared_;
    SessionHooks hooks_;
};

queue::Begin begin_with(const std::string& content, bool last) {
    queue::Begin begin;
    begin.envelope.sender = "a@b.example";
    begin.envelope.recipients = {{"c@example.org", "", "", 0}};
    begin.content = content;
    begin.last = last;
    return begin;
}

queue::FromCleanup answer_of(ClientChannel& channel) {
    Result<queue::FromCleanup> got = Loop::current().run_until(channel.receive(std::chrono::seconds(10)));
    REQUIRE(got.ok());
    return std::move(*got);
}

std::string id_of(const queue::FromCleanup& answer) {
    REQUIRE(std::holds_alternative<queue::Queued>(answer));
    return std::get<queue::Queued>(answer).queue_id;
}

}  // namespace

TEST_CASE("many messages on one connection are answered in order and qmgr is told of each", "[cleanup]") {
    LogCapture log;
    Server server;
    ClientChannel client = server.connect();
    for (int i = 0; i < 20; ++i) {
        client.post(begin_with("Subject: x\n\nbody\n", true));
    }
    std::vector<std::string> ids;
    for (int i = 0; i < 20; ++i) {
        ids.push_back(id_of(answer_of(client)));
    }
    for (int i = 0; i < 1000 && server.told.size() < ids.size(); ++i) {
        Loop::current().run_until(sleep_for(std::chrono::milliseconds(20)));
    }
    CHECK(server.told == ids);
    CHECK(server.queued() == 20);
}

TEST_CASE("content in pieces makes the same message", "[cleanup]") {
    LogCapture log;
    Server server;
    ClientChannel client = server.connect();
    client.post(begin_with("Subject: x\n\nbo", false));
    for (int i = 0; i < 1000; ++i) {
        client.post(queue::Content{"dy\n", false});
    }
    client.post(queue::Content{"", true});
    const queue::FromCleanup answer = answer_of(client);
    CHECK(std::get<queue::Queued>(answer).size_bytes > 3000);
}

TEST_CASE("a refusal in the middle is answered at once and the next message is taken", "[cleanup]") {
    LogCapture log;
    Server server;
    ClientChannel client = server.connect();
    client.post(begin_with("Subject: x\n\n", false));
    for (int i = 0; i < 30; ++i) {
        client.post(queue::Content{std::string(50000, 'x') + "\n", false});
    }
    const queue::FromCleanup refused = answer_of(client);
    REQUIRE(std::holds_alternative<queue::Refused>(refused));
    CHECK(std::get<queue::Refused>(refused).code == 552);
    client.post(queue::Content{"more that nobody wants", true});
    client.post(begin_with("Subject: next\n\n", true));
    id_of(answer_of(client));
    CHECK(server.queued() == 1);
}

TEST_CASE("cancelled and broken off messages leave nothing", "[cleanup]") {
    LogCapture log;
    Server server;
    ClientChannel client = server.connect();
    client.post(begin_with("Subject: x\n\nhalf", false));
    client.post(queue::Cancel{});
    client.post(begin_with("Subject: y\n\n", true));
    id_of(answer_of(client));
    CHECK(server.queued() == 1);
    client.post(begin_with("Subject: z\n\nhalf", false));
    const Result<void> sent = Loop::current().run_until(client.flush());
    CHECK(sent.ok());
    client.close();
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(50)));
    CHECK(server.queued() == 1);
}

TEST_CASE("an untrusted submitter cannot claim to be a network client", "[cleanup]") {
    LogCapture log;
    Server server;
    ClientChannel client = server.connect({false, 1234});
    queue::Begin begin = begin_with("Subject: x\n\n", true);
    begin.envelope.client.name = "trusted.example";
    begin.envelope.content_filter = "shell:";
    begin.envelope.maildrop_file = "0000AABCDE";
    begin.source = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    begin.add_received = false;
    begin.envelope.hold = true;
    client.post(std::move(begin));
    const queue::Envelope stored = server.stored(id_of(answer_of(client)));
    CHECK(stored.client.name.empty());
    CHECK(stored.content_filter.empty());
    CHECK(stored.maildrop_file.empty());
    CHECK(stored.submit_uid == 1234);
    CHECK(stored.hop_count == 1);
}

TEST_CASE("the maildrop file is gone before the submitter hears Queued, and only a proper name is removed", "[cleanup]") {
    LogCapture log;
    Server server;
    const std::string name = "0000AABCDE";
    for (const std::string& file : {server.directory + "/maildrop/" + name, server.directory + "/precious"}) {
        const UniqueFd fd(::open(file.c_str(), O_CREAT | O_WRONLY, 0600));
        REQUIRE(fd);
    }
    ClientChannel client = server.connect();
    for (const std::string& source : {name, std::string("../precious")}) {
        queue::Begin begin = begin_with("\n", true);
        begin.envelope.maildrop_file = source;
        begin.source = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        client.post(std::move(begin));
        id_of(answer_of(client));
    }
    CHECK(::access((server.directory + "/maildrop/" + name).c_str(), F_OK) != 0);
    CHECK(::access((server.directory + "/precious").c_str(), F_OK) == 0);
}

TEST_CASE("a source that is named but not handed over is none", "[cleanup]") {
    LogCapture log;
    Server server;
    const std::string path = server.directory + "/maildrop/0000AABCDE";
    REQUIRE(UniqueFd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
    ClientChannel client = server.connect();
    queue::Begin begin = begin_with("\n", true);
    begin.envelope.maildrop_file = "0000AABCDE";
    client.post(std::move(begin));
    CHECK(server.stored(id_of(answer_of(client))).maildrop_file.empty());
    CHECK(::access(path.c_str(), F_OK) == 0);
}

TEST_CASE("the source stays locked until it is removed", "[cleanup]") {
    LogCapture log;
    Server server;
    const std::string path = server.directory + "/maildrop/0000AABCDE";
    ClientChannel client = server.connect();
    queue::Begin begin = begin_with("Subject: x\n\nhalf", false);
    begin.envelope.maildrop_file = "0000AABCDE";
    begin.source = UniqueFd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    REQUIRE(queue::try_lock(begin.source.get()));
    const UniqueFd other(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    const Result<void> sent = Loop::current().run_until(client.send(std::move(begin)));
    REQUIRE(sent.ok());
    Loop::current().run_until(sleep_for(std::chrono::milliseconds(50)));
    CHECK_FALSE(queue::try_lock(other.get()));   // ours is closed, cleanup's holds it
    queue::Content rest;
    rest.last = true;
    client.post(std::move(rest));
    id_of(answer_of(client));
    CHECK(::access(path.c_str(), F_OK) != 0);
    CHECK(queue::try_lock(other.get()));
}

TEST_CASE("a draining server ends the connection after the message", "[cleanup]") {
    LogCapture log;
    Server server;
    server.draining = true;
    ClientChannel client = server.connect();
    client.post(begin_with("\n", true));
    id_of(answer_of(client));
    const Result<queue::FromCleanup> end = Loop::current().run_until(client.receive(std::chrono::seconds(10)));
    REQUIRE_FALSE(end.ok());
    CHECK(end.error().code == Errc::closed);
}

TEST_CASE("a submitter of another user, trusted or not, has no files removed", "[cleanup]") {
    LogCapture log;
    Server server;
    const std::string path = server.directory + "/maildrop/0000AABCDE";
    ClientChannel client = server.connect(Submitter{true, static_cast<std::int64_t>(::geteuid()) + 1});
    queue::Begin begin = begin_with("Subject: x\n\nbody\n", true);
    begin.envelope.maildrop_file = "0000AABCDE";
    begin.source = UniqueFd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    client.post(std::move(begin));
    CHECK(server.stored(id_of(answer_of(client))).maildrop_file.empty());
    CHECK(::access(path.c_str(), F_OK) == 0);
}
