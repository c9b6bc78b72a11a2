/// qmgr/manager: messages in real files, with made-up agents, bounce and clock.
#include "qmgr/manager.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <set>

#include "lib/log/capture.h"
#include "lib/queue/messages.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

std::int64_t test_now = 0;
std::int64_t test_clock() { return test_now; }
constexpr std::int64_t kSecond = 1'000'000;

class FakeRouter final : public Router {
public:
    Result<AddressClass> classify(std::string_view) override { return AddressClass::other; }
    Result<bool> is_local(std::string_view) override { return false; }
    std::string rewrite_address(std::string_view address, RewriteContext) const override { return std::string(address); }
    Result<Route> resolve(std::string_view, std::string_view recipient) override {
        if (recipient.substr(0, 5) == "fail@") {
            return Error(Errc::temporary, "table is away");
        }
        const std::string domain(recipient.substr(recipient.find('@') + 1));
        Route route;
        route.transport = domain == "here.example" ? "local" : "smtp";
        route.nexthop = domain;
        route.recipient = recipient;
        route.address_class = domain == "here.example" ? AddressClass::local : AddressClass::other;
        return route;
    }
    Result<Listing> recipient_known(std::string_view) override { return Listing(); }
    Result<Listing> sender_known(std::string_view) override { return Listing(); }
    bool is_own_address(std::string_view) const override { return false; }
};

struct Call {
    std::uint64_t batch;
    queue::Deliver request;
};

class FakeAgents final : public Agents {
public:
    void deliver(std::uint64_t batch, queue::Deliver request) override { calls.push_back({batch, std::move(request)}); }
    std::deque<Call> calls;
};

class FakeBounce final : public Notifier {
public:
    Task<Result<void>> report(Report report) override {
        if (broken) {
            co_return Error(Errc::temporary, "no bounce today");
        }
        reports.push_back(std::move(report));
        co_return Result<void>();
    }
    std::vector<Report> reports;
    bool broken = false;
};

std::vector<std::string> files_in(const std::string& directory) {
    std::vector<std::string> names;
    DIR* const open = ::opendir(directory.c_str());
    while (const dirent* entry = ::readdir(open)) {
        if (entry->d_name[0] != '.') {
            names.emplace_back(entry->d_name);
        }
    }
    ::closedir(open);
    return names;
}

/// A queue directory, which is the current directory while it lives.
struct Queue {
    explicit Queue(std::string_view settings = "") : config(std::move(*Config::from_text(settings))) {
        char name[] = "/tmp/postern-qmgr-XXXXXX";
        root = ::mkdtemp(name);
        before = ::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        REQUIRE(::chdir(root.c_str()) == 0);
        for (const char* directory : {"incoming", "active", "deferred", "hold", "corrupt", "maildrop"}) {
            ::mkdir(directory, 0700);
        }
        test_now = 1'700'000'000 * kSecond;
        restart();
    }
    ~Queue() {
        drain();
        manager.reset();
        REQUIRE(::fchdir(before) == 0);
        ::close(before);
        const std::string command = "rm -rf '" + root + "'";
        CHECK(std::system(command.c_str()) == 0);
    }
    /// As after SIGKILL: nothing of the old one remains but the files.
    void restart() {
        manager.reset();
        agents.calls.clear();
        manager = std::make_unique<Manager>(config, router, agents, bounce, &test_clock);
    }
    void start() {
        Loop::current().run_until(manager->start());
        drain();
    }
    static void drain() { Loop::current().run_until(sleep_for(Millis(2))); }

    std::string write(const std::vector<queue::Recipient>& recipients, const std::string& sender = "from@there.example",
                      void (*change)(queue::Envelope&) = nullptr) {
        auto writer = queue::QueueFileWriter::create({.queue_directory = ".", .directory = "incoming", .time_usec = test_now});
        REQUIRE(writer);
        REQUIRE((*writer)->header("Subject: test\n"));
        REQUIRE((*writer)->body("\nHello\n"));
        queue::Envelope envelope;
        envelope.sender = sender;
        envelope.recipients = recipients;
        envelope.arrival_usec = test_now;
        if (change != nullptr) {
            change(envelope);
        }
        REQUIRE((*writer)->envelope(envelope));
        REQUIRE((*writer)->write_out());
        return (*writer)->queue_id();
    }
    std::string submit(const std::vector<queue::Recipient>& recipients, const std::string& sender = "from@there.example") {
        const std::string id = write(recipients, sender);
        manager->new_message(id, UniqueFd());
        return id;
    }
    void answer(std::uint32_t index, std::uint8_t outcome, std::string dsn, std::string reason) {
        queue::RecipientDone done;
        done.index = index;
        done.outcome = outcome;
        done.dsn = std::move(dsn);
        done.reason = std::move(reason);
        std::vector<queue::RecipientDone> answers;
        answers.push_back(std::move(done));
        manager->answered(agents.calls.front().batch, std::move(answers));
    }
    void finish(BatchEnd end = {}) {
        const std::uint64_t batch = agents.calls.front().batch;
        agents.calls.pop_front();
        manager->ended(batch, std::move(end));
    }
    void deliver_first() {
        const std::vector<queue::DeliverTo> recipients = agents.calls.front().request.recipients;
        for (const queue::DeliverTo& to : recipients) {
            answer(to.index, queue::kDelivered, "2.0.0", "delivered");
        }
        finish();
    }

    Config config;
    std::string root;
    int before = -1;
    FakeRouter router;
    FakeAgents agents;
    FakeBounce bounce;
    LogCapture log;
    std::unique_ptr<Manager> manager;
};

queue::Recipient to(std::string address, std::uint8_t notify = 0) {
    queue::Recipient recipient;
    recipient.address = std::move(address);
    recipient.notify = notify;
    return recipient;
}

}  // namespace

TEST_CASE("a message that everybody got is removed and leaves no trace", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(files_in("incoming") == std::vector<std::string>{id});
    const queue::Deliver& request = queue.agents.calls.front().request;
    CHECK(request.queue_id == id);
    CHECK(request.transport == "local");
    CHECK(request.nexthop == "here.example");
    CHECK((::fcntl(request.message.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(*queue::read_extent(request.message.get(), request.body, 100) == "\nHello\n");
    queue.deliver_first();
    CHECK(files_in("incoming").empty());
    CHECK(files_in("deferred").empty());
    CHECK(queue.log.count(id + ": from=<from@there.example>, size=21, nrcpt=1 (queue active)") == 1);
    CHECK(queue.log.last() == id + ": removed");
    CHECK(queue.manager->active() == 0);
}

TEST_CASE("a message moves to active/ when its delivery takes longer", "[qmgr]") {
    Queue queue;
    const std::string quick = queue.submit({to("a@here.example")});
    queue.deliver_first();
    const std::string slow = queue.submit({to("b@here.example")});
    test_now += kSecond - 1;
    queue.manager->tick();
    CHECK(files_in("incoming") == std::vector<std::string>{slow});
    test_now += 1;
    queue.manager->tick();
    CHECK(files_in("incoming").empty());
    CHECK(files_in("active") == std::vector<std::string>{slow});
    queue.deliver_first();
    CHECK(files_in("active").empty());
    CHECK(queue.log.last() == slow + ": removed");
}

TEST_CASE("what an earlier queue manager still moves about is not overlooked", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    Call in_agent = std::move(queue.agents.calls.front());
    std::unique_ptr<Manager> earlier = std::move(queue.manager);
    earlier->drain();
    queue.restart();
    queue.start();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count(id + ": skipped, still being delivered") == 1);
    queue::RecipientDone done;
    done.outcome = queue::kDeferred;
    done.dsn = "4.0.0";
    earlier->answered(in_agent.batch, {done});
    earlier->ended(in_agent.batch, {});
    in_agent.request.message.reset();
    queue.drain();
    CHECK(files_in("deferred") == std::vector<std::string>{id});
    test_now += 6 * kSecond;
    queue.manager->tick();   // incoming/ has it no more
    test_now += 300 * kSecond;
    queue.manager->tick();
    REQUIRE(queue.agents.calls.size() == 1);
    queue.deliver_first();
    CHECK(files_in("deferred").empty());
    CHECK(files_in("active").empty());
}

TEST_CASE("a deferred message waits as long again as it is old, within the limits", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@far.example")});
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    REQUIRE(files_in("deferred") == std::vector<std::string>{id});
    struct stat info {};
    ::stat(("deferred/" + id).c_str(), &info);
    CHECK(info.st_mtime == 1'700'000'300);
    test_now += 299 * kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.empty());
    test_now += kSecond;
    queue.manager->tick();
    REQUIRE(queue.agents.calls.size() == 1);
    test_now += 3000 * kSecond;
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    ::stat(("deferred/" + id).c_str(), &info);
    CHECK(info.st_mtime == 1'700'003'300 + 3300);
}

TEST_CASE("the time of the next attempt survives a restart", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@far.example")});
    queue.answer(0, queue::kDeferred, "4.4.1", "no");
    queue.finish();
    queue.drain();
    queue.restart();
    queue.start();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.manager->waiting() == 1);
    test_now += 300 * kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("after a crash nobody who has the message gets it again", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@far.example"), to("b@far.example"), to("c@here.example")});
    REQUIRE(queue.agents.calls.size() == 2);
    while (queue.agents.calls.front().request.transport != "smtp") {
        queue.agents.calls.push_back(std::move(queue.agents.calls.front()));
        queue.agents.calls.pop_front();
    }
    queue.answer(1, queue::kDelivered, "2.0.0", "ok");
    queue.restart();
    queue.start();
    std::set<std::uint32_t> tried;
    for (const Call& call : queue.agents.calls) {
        for (const queue::DeliverTo& recipient : call.request.recipients) {
            tried.insert(recipient.index);
        }
    }
    CHECK(tried == std::set<std::uint32_t>{0, 2});
    CHECK(queue.log.count("nrcpt=2 (queue active)") == 1);
    queue.deliver_first();
    queue.deliver_first();
    CHECK(files_in("active").empty());
    CHECK(queue.log.last() == id + ": removed");
}

TEST_CASE("a crash at any point of many messages loses none and repeats no finished delivery", "[qmgr]") {
    for (unsigned crash = 0; crash < 60; ++crash) {
        CAPTURE(crash);
        Queue queue;
        std::map<std::string, std::map<std::uint32_t, int>> finished;
        std::srand(crash);
        for (int i = 0; i < 8; ++i) {
            const std::string id = queue.submit({to("a@far.example"), to("b@here.example"), to("c@other.example")});
            finished[id] = {};
        }
        unsigned step = 0;
        bool restarted = false;
        for (int rounds = 0; rounds < 2000 && !(queue.manager->active() == 0 && queue.manager->waiting() == 0); ++rounds) {
            if (queue.agents.calls.empty()) {
                test_now += 400 * kSecond;
                queue.manager->tick();
                queue.drain();
                continue;
            }
            if (step++ == crash && !restarted) {
                restarted = true;
                queue.restart();
                queue.start();
                continue;
            }
            const queue::Deliver& request = queue.agents.calls.front().request;
            const std::string id = request.queue_id;
            const std::uint32_t index = request.recipients.at(0).index;
            const bool later = std::rand() % 3 == 0;
            REQUIRE(finished.count(id) == 1);
            CHECK(finished[id][index] == 0);
            queue.answer(index, later ? queue::kDeferred : queue::kDelivered, later ? "4.0.0" : "2.0.0", "x");
            finished[id][index] += later ? 0 : 1;
            queue.finish();
        }
        for (const auto& [id, recipients] : finished) {
            CHECK(recipients.size() == 3);
            for (const auto& [index, count] : recipients) {
                CHECK(count == 1);
            }
        }
        CHECK(files_in("active").empty());
        CHECK(files_in("deferred").empty());
    }
}

TEST_CASE("mail that an agent still works on is not taken up twice", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    Call in_agent = std::move(queue.agents.calls.front());
    queue.restart();
    queue.start();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count(id + ": skipped, still being delivered") == 1);
    in_agent.request.message.reset();   // the agent is done
    test_now += kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("a new queue manager leaves alone what the old one still delivers, and takes the rest", "[qmgr]") {
    Queue queue;
    queue.start();
    const std::string old_mail = queue.submit({to("a@here.example"), to("b@far.example")});
    FakeAgents new_agents;
    Manager successor(queue.config, queue.router, new_agents, queue.bounce, &test_clock);
    queue.manager->drain();
    Loop::current().run_until(successor.start());
    CHECK(queue.log.count(old_mail + ": skipped, still being delivered") == 1);
    CHECK(new_agents.calls.empty());
    const std::string new_mail = queue.write({to("c@here.example")});
    successor.new_message(new_mail, UniqueFd());
    REQUIRE(new_agents.calls.size() == 1);
    CHECK(new_agents.calls[0].request.queue_id == new_mail);
    queue.submit({to("d@here.example")});   // the old one takes nothing more
    CHECK(queue.agents.calls.size() == 2);
    CHECK_FALSE(queue.manager->quiet());
    queue.answer(queue.agents.calls.front().request.recipients[0].index, queue::kDelivered, "2.0.0", "ok");
    queue.finish();
    queue.answer(queue.agents.calls.front().request.recipients[0].index, queue::kDeferred, "4.0.0", "later");
    queue.finish();
    queue.drain();
    CHECK(queue.manager->quiet());
    CHECK(files_in("deferred") == std::vector<std::string>{old_mail});
    queue.manager.reset();
    Loop::current().run_until(sleep_for(Millis(1200)));
    CHECK(successor.waiting() >= 1);
    test_now += 301 * kSecond;
    successor.tick();
    std::size_t taken_up = 0;
    for (const Call& call : new_agents.calls) {
        if (call.request.queue_id == old_mail) {
            ++taken_up;
            CHECK(call.request.recipients.size() == 1);   // the other one has it
        }
    }
    CHECK(taken_up == 1);
    new_agents.calls.clear();
}

TEST_CASE("failures go to the sender once, and then the message is gone", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@here.example"), to("b@here.example")});
    queue.answer(queue.agents.calls.front().request.recipients[0].index, queue::kBounced, "5.1.1", "unknown user");
    queue.finish();
    CHECK(queue.bounce.reports.empty());
    queue.deliver_first();
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].kind == kReportFailure);
    REQUIRE(queue.bounce.reports[0].recipients.size() == 1);
    CHECK(queue.bounce.reports[0].recipients[0].dsn == "5.1.1");
    CHECK(queue.bounce.reports[0].recipients[0].action == "failed");
    CHECK(files_in("active").empty());
}

TEST_CASE("while bounce is away the message is kept, and the failure is not tried again", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    queue.bounce.broken = true;
    queue.answer(0, queue::kBounced, "5.1.1", "unknown user");
    queue.finish();
    queue.drain();
    CHECK(files_in("deferred") == std::vector<std::string>{id});
    CHECK(queue.log.count("bounce service: no bounce today") == 1);
    queue.restart();
    queue.bounce.broken = false;
    test_now += 301 * kSecond;
    queue.start();
    CHECK(queue.agents.calls.empty());
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].recipients[0].reason == "unknown user");
    CHECK(files_in("deferred").empty());
}

TEST_CASE("NOTIFY decides who is told", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@here.example", queue::kNotifyNever), to("b@here.example", queue::kNotifySuccess)});
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t index = queue.agents.calls.front().request.recipients[0].index;
        if (index == 0) {
            queue.answer(0, queue::kBounced, "5.1.1", "unknown user");
            queue.finish();
        } else {
            queue.deliver_first();
        }
    }
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].kind == kReportSuccess);
    CHECK(queue.bounce.reports[0].recipients[0].recipient.address == "b@here.example");
    CHECK(files_in("active").empty());
}

TEST_CASE("after maximal_queue_lifetime the message is returned", "[qmgr]") {
    Queue queue("maximal_queue_lifetime = 1h\nbounce_queue_lifetime = 10m\n");
    const std::string id = queue.submit({to("a@far.example")});
    test_now += 3599 * kSecond;
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    CHECK(queue.bounce.reports.empty());
    test_now += 4000 * kSecond;
    queue.manager->tick();
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    CHECK(queue.log.count(id + ": from=<from@there.example>, status=expired, returned to sender") == 1);
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].recipients[0].reason == "connection refused");
    CHECK(files_in("deferred").empty());

    queue.submit({to("b@far.example")}, "");
    test_now += 601 * kSecond;
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    CHECK(queue.bounce.reports.size() == 2);
}

TEST_CASE("one delay notice is sent, even across a restart", "[qmgr]") {
    Queue queue("delay_warning_time = 1h\n");
    queue.submit({to("a@far.example"), to("quiet@far.example", queue::kNotifyFailure)});
    for (int i = 0; i < 4; ++i) {
        test_now += 2000 * kSecond;
        queue.manager->tick();
        if (!queue.agents.calls.empty()) {
            queue.answer(0, queue::kDeferred, "4.4.1", "no");
            queue.answer(1, queue::kDeferred, "4.4.1", "no");
            queue.finish();
            queue.drain();
        }
        if (i == 2) {
            queue.restart();
            queue.start();
        }
        test_now += 4001 * kSecond;
        queue.manager->tick();
    }
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].kind == kReportDelay);
    CHECK(queue.bounce.reports[0].recipients.size() == 1);
    CHECK(queue.bounce.reports[0].expires_usec == (1'700'000'000 + 5 * 86400) * kSecond);
}

TEST_CASE("a transport that nobody serves defers with a clear reason", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@far.example")});
    queue.submit({to("b@far.example")});
    CHECK(queue.agents.calls.size() == 2);
    queue.finish({BatchEnd::Kind::transport_dead, "4.3.0", "mail transport unavailable"});
    CHECK(queue.log.count(id + ": to=<a@far.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred "
                               "(mail transport unavailable)") == 1);
    queue.submit({to("c@far.example")});
    queue.drain();
    CHECK(queue.agents.calls.size() == 1);
    CHECK(queue.log.count("to=<c@far.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred (mail transport") == 1);
    CHECK(files_in("deferred").size() == 2);
}

TEST_CASE("a dead destination suspends what waits for it", "[qmgr]") {
    Queue queue("initial_destination_concurrency = 1\n");
    queue.submit({to("a@far.example")});
    queue.submit({to("b@far.example")});
    REQUIRE(queue.agents.calls.size() == 1);
    queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connect to far.example[192.0.2.1]:25: Connection refused"});
    queue.drain();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count("status=deferred (connect to far.example[192.0.2.1]:25: Connection refused)") == 1);
    CHECK(queue.log.count("to=<b@far.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.4.1, status=deferred (delivery temporarily "
                          "suspended: connect to far.example[192.0.2.1]:25: Connection refused)") == 1);
    queue.manager->flush_all();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("an agent that dies gets the rest again, a few times", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@far.example"), to("b@far.example")});
    queue.answer(0, queue::kDelivered, "2.0.0", "ok");
    for (int i = 0; i < 2; ++i) {
        queue.finish({BatchEnd::Kind::lost, "4.3.0", "unknown mail transport error"});
        REQUIRE(queue.agents.calls.size() == 1);
        REQUIRE(queue.agents.calls.front().request.recipients.size() == 1);
        CHECK(queue.agents.calls.front().request.recipients[0].index == 1);
    }
    queue.finish({BatchEnd::Kind::lost, "4.3.0", "unknown mail transport error"});
    queue.drain();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count("status=deferred (unknown mail transport error)") == 1);
    CHECK(files_in("deferred").size() == 1);
}

TEST_CASE("an agent cannot speak for recipients it was not given", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@here.example"), to("b@here.example")});
    REQUIRE(queue.agents.calls.size() == 2);
    const std::uint32_t other = queue.agents.calls.back().request.recipients[0].index;
    queue.answer(other, queue::kDelivered, "2.0.0", "ok");
    queue.answer(4000, queue::kDelivered, "2.0.0", "ok");
    CHECK(queue.log.count("an agent answered for recipient") == 2);
    queue.deliver_first();
    CHECK(queue.manager->active() == 1);
    queue.deliver_first();
    CHECK(queue.manager->active() == 0);
}

TEST_CASE("deferred transports, resolver failures and double bounces are settled without an agent", "[qmgr]") {
    Queue queue("defer_transports = smtp\n");
    const std::string id = queue.submit({to("a@far.example"), to("fail@x.example"), to("double-bounce@here.example")});
    queue.drain();
    CHECK(queue.agents.calls.empty());
    CHECK(queue.log.count("to=<a@far.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.2, status=deferred (deferred transport)") == 1);
    CHECK(queue.log.count("to=<fail@x.example>, relay=none, delay=0, delays=0/0/0/0, dsn=4.3.0, status=deferred (address resolver failure)") == 1);
    CHECK(queue.log.count("dsn=2.0.0, status=sent (undeliverable postmaster notification discarded)") == 1);
    CHECK(files_in("deferred") == std::vector<std::string>{id});
}

TEST_CASE("postsuper can delete, hold and release while qmgr runs", "[qmgr]") {
    Queue queue;
    const std::string deleted = queue.submit({to("a@far.example")});
    const std::string held = queue.submit({to("b@far.example"), to("c@here.example")});
    ::unlink(("incoming/" + deleted).c_str());
    queue.manager->altered(queue::kAlteredDeleted, {deleted});
    ::rename(("incoming/" + held).c_str(), ("hold/" + held).c_str());
    queue.manager->altered(queue::kAlteredHeld, {held});
    while (!queue.agents.calls.empty()) {
        const std::uint32_t index = queue.agents.calls.front().request.recipients[0].index;
        queue.answer(index, index == 1 ? queue::kDelivered : queue::kDeferred, "4.0.0", "x");
        queue.finish();
    }
    queue.drain();
    CHECK(queue.manager->active() == 0);
    CHECK(queue.manager->waiting() == 0);
    CHECK(files_in("hold") == std::vector<std::string>{held});
    ::rename(("hold/" + held).c_str(), ("deferred/" + held).c_str());
    queue.manager->altered(queue::kAlteredReleased, {held});
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.recipients.size() == 1);
    CHECK(queue.agents.calls.front().request.recipients[0].recipient.address == "b@far.example");
    queue.deliver_first();
    CHECK(files_in("active").empty());
}

TEST_CASE("a message that was held behind our back does not come back when it was delivered", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@here.example")});
    ::rename(("active/" + id).c_str(), ("hold/" + id).c_str());
    queue.deliver_first();
    CHECK(files_in("hold").empty());
}

TEST_CASE("incoming mail that nobody announced is found, damaged files are set aside", "[qmgr]") {
    Queue queue;
    test_now = static_cast<std::int64_t>(::time(nullptr)) * kSecond - 100 * kSecond;
    const std::string good = queue.write({to("a@here.example")});
    const std::string bad = queue.write({to("b@here.example")});
    const int fd = ::open(("incoming/" + bad).c_str(), O_WRONLY | O_CLOEXEC);
    REQUIRE(::pwrite(fd, "X", 1, 130) == 1);
    ::close(fd);
    test_now += 200 * kSecond;
    queue.restart();
    queue.start();
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.queue_id == good);
    CHECK(files_in("corrupt") == std::vector<std::string>{bad});
    CHECK(queue.log.count(bad + ": saving corrupt file") == 1);
}

TEST_CASE("the active queue has a limit, and new and old mail take turns", "[qmgr]") {
    Queue queue("qmgr_message_active_limit = 10\ndefault_destination_concurrency_limit = 100\ninitial_destination_concurrency = 100\n");
    for (int i = 0; i < 30; ++i) {
        queue.submit({to("u" + std::to_string(i) + "@far.example")});
    }
    CHECK(queue.manager->active() == 10);
    CHECK(queue.manager->waiting() == 20);
    int delivered = 0;
    while (!queue.agents.calls.empty()) {
        queue.deliver_first();
        queue.manager->tick();
        ++delivered;
    }
    CHECK(delivered == 30);
    CHECK(files_in("incoming").empty());
}

TEST_CASE("flush takes one message, one site, or everything", "[qmgr]") {
    Queue queue;
    std::vector<std::string> ids;
    for (const char* address : {"a@one.example", "b@two.example", "c@Two.Example"}) {
        ids.push_back(queue.submit({to(address)}));
        queue.answer(0, queue::kDeferred, "4.0.0", "later");
        queue.finish();
    }
    queue.drain();
    CHECK(queue.manager->flush_one(ids[0]).ok());
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.queue_id == ids[0]);
    CHECK(queue.manager->flush_one("0123456789AB").error().code == Errc::not_found);
    CHECK_FALSE(queue.manager->flush_one("../x"));
    queue.deliver_first();
    Loop::current().run_until(queue.manager->flush_site("two.example"));
    CHECK(queue.agents.calls.size() == 2);
    while (!queue.agents.calls.empty()) {
        queue.answer(0, queue::kDeferred, "4.0.0", "later");
        queue.finish();
    }
    queue.drain();
    queue.manager->flush_all();
    CHECK(queue.agents.calls.size() == 2);
}

TEST_CASE("REDIRECT is one delivery, FILTER comes before routing", "[qmgr]") {
    Queue queue;
    std::string id = queue.write({to("a@far.example"), to("b@here.example")}, "s@x.example",
                                 [](queue::Envelope& envelope) { envelope.redirect = "inspector@here.example"; });
    queue.manager->new_message(id, UniqueFd());
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.recipients.size() == 1);
    CHECK(queue.agents.calls.front().request.recipients[0].recipient.address == "inspector@here.example");
    queue.deliver_first();
    CHECK(files_in("active").empty());
    id = queue.write({to("a@far.example"), to("b@far.example")}, "s@x.example",
                     [](queue::Envelope& envelope) { envelope.content_filter = "scan:[127.0.0.1]:10025"; });
    queue.manager->new_message(id, UniqueFd());
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.transport == "scan");
    CHECK(queue.agents.calls.front().request.nexthop == "[127.0.0.1]:10025");
    CHECK(queue.agents.calls.front().request.recipients.size() == 2);
    queue.deliver_first();
}

TEST_CASE("sendmail -bv delivers nothing and reports", "[qmgr]") {
    Queue queue;
    const std::string id = queue.write({to("a@here.example")}, "s@x.example", [](queue::Envelope& envelope) { envelope.verify_only = true; });
    queue.manager->new_message(id, UniqueFd());
    CHECK(queue.agents.calls.front().request.verify_only);
    queue.answer(0, queue::kBounced, "5.1.1", "unknown user");
    queue.finish();
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].kind == kReportTrace);
    CHECK(queue.bounce.reports[0].recipients[0].action == "undeliverable");
    CHECK(files_in("active").empty());
}

TEST_CASE("100,000 deferred messages in memory", "[qmgr]") {
    Queue queue;
    WaitingSet set;
    for (int i = 0; i < 100'000; ++i) {
        set.put("4FXq3s" + std::to_string(i) + "zWx", 1'700'000'000 + i % 4000);
    }
    WARN("100,000 waiting messages: " << static_cast<double>(set.memory_bytes()) / 1e6 << " MB");
    CHECK(set.memory_bytes() < 10'000'000);
}

TEST_CASE("the source of a message in incoming/ is removed before the message goes on", "[qmgr]") {
    Queue queue;
    std::ofstream("maildrop/4jXTnl75Qgz1bsvX") << "left by a killed cleanup";
    const std::string id = queue.write({to("a@here.example")}, "s@x.example",
                                       [](queue::Envelope& envelope) { envelope.maildrop_file = "4jXTnl75Qgz1bsvX"; });
    queue.manager->new_message(id, UniqueFd());
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(files_in("maildrop").empty());
}

namespace {

Task<> note_change(Manager& manager, bool& told) {
    const Wake wake = co_await manager.changed().wait(std::chrono::seconds(5));
    told = wake == Wake::ready;
}

}  // namespace

TEST_CASE("the end of a rate delay is not slept through", "[qmgr]") {
    const std::string_view settings = GENERATE("smtp_destination_rate_delay = 5s\n", "smtp_transport_rate_delay = 5s\n");
    Queue queue(settings);
    queue.submit({to("a@far.example")});
    queue.submit({to("b@far.example")});
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.manager->tick() <= test_now + kSecond);   // young messages move
    test_now += kSecond;
    CHECK(queue.manager->tick() == test_now + 60 * kSecond);
    bool told = false;
    spawn(note_change(*queue.manager, told));
    queue.deliver_first();
    queue.drain();
    CHECK(told);
    CHECK(queue.manager->tick() == test_now + 5 * kSecond);
    test_now += 5 * kSecond;
    queue.manager->tick();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("with soft_bounce failures are tried again", "[qmgr]") {
    Queue queue("soft_bounce = yes\n");
    const std::string id = queue.submit({to("a@here.example")});
    queue.answer(0, queue::kBounced, "5.1.1", "unknown user");
    queue.finish();
    queue.drain();
    CHECK(queue.bounce.reports.empty());
    CHECK(files_in("deferred") == std::vector<std::string>{id});
}

TEST_CASE("a mailing of very many recipients is scheduled in pieces, and mail behind it does not wait", "[qmgr]") {
    Queue queue("qmgr_message_recipient_limit = 2000\nqmgr_message_recipient_minimum = 10\n");
    std::vector<queue::Recipient> many;
    for (int i = 0; i < 5000; ++i) {
        many.push_back(to("u" + std::to_string(i) + "@d" + std::to_string(i % 100) + ".example"));
    }
    queue.submit(many);
    const auto recipients_out = [&] {
        std::size_t count = 0;
        for (const Call& call : queue.agents.calls) {
            count += call.request.recipients.size();
        }
        return count;
    };
    CHECK(recipients_out() <= 1000);
    CHECK(recipients_out() > 0);
    queue.submit(many);   // a second one, and a third: the limit is reached
    queue.submit(many);
    const std::string probe = queue.submit({to("one@probe.example")});
    std::set<std::pair<std::string, std::uint32_t>> served;
    for (int ended = 0; ended < 4; ++ended) {   // all processes are taken: the probe's turn is the fourth at the latest
        for (const queue::DeliverTo& to : queue.agents.calls.front().request.recipients) {
            served.emplace(queue.agents.calls.front().request.queue_id, to.index);
        }
        queue.deliver_first();
    }
    const auto given = std::find_if(queue.agents.calls.begin(), queue.agents.calls.end(),
                                    [&](const Call& call) { return call.request.queue_id == probe; });
    CHECK(given != queue.agents.calls.end());

    std::size_t rounds = 0;
    while ((!queue.agents.calls.empty() || queue.manager->active() > 0) && ++rounds < 20000) {
        if (!queue.agents.calls.empty()) {
            const queue::Deliver& request = queue.agents.calls.front().request;
            for (const queue::DeliverTo& to : request.recipients) {
                CHECK(served.emplace(request.queue_id, to.index).second);   // nobody twice
            }
            queue.deliver_first();
        }
        queue.manager->tick();
    }
    CHECK(served.size() == 3 * 5000 + 1);
    CHECK(queue.manager->active() == 0);
    CHECK(files_in("incoming").empty());
    CHECK(files_in("active").empty());
    CHECK(files_in("deferred").empty());
}

TEST_CASE("a mailing to a dead destination ends without its recipients being tried one by one", "[qmgr]") {
    Queue queue;
    std::vector<queue::Recipient> many;
    for (int i = 0; i < 3000; ++i) {
        many.push_back(to("u" + std::to_string(i) + "@dead.example"));
    }
    queue.submit(many);
    std::size_t tried = 0;
    while (queue.manager->active() > 0 && tried < 100) {
        if (!queue.agents.calls.empty()) {
            ++tried;
            queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connection timed out"});
        }
        queue.manager->tick();
        Queue::drain();
    }
    CHECK(tried <= 5);
    CHECK(queue.manager->waiting() == 1);
    CHECK(files_in("deferred").size() == 1);
}

TEST_CASE("a scan in pieces finds every file once", "[qmgr]") {
    Queue queue;
    constexpr std::size_t kFiles = 10000;
    for (std::size_t i = 0; i < kFiles; ++i) {
        char name[32];
        std::snprintf(name, sizeof(name), "deferred/%05zX%zX", i % 1000, 0x10000 + i);
        const int file = ::open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
        const timespec due[2] = {{4'000'000'000, 0}, {4'000'000'000, 0}};
        CHECK(::futimens(file, due) == 0);
        ::close(file);
    }
    std::ofstream("deferred/not-an-id") << "x";
    queue.start();
    CHECK(queue.manager->waiting() == kFiles);
    CHECK(queue.log.count("10000 messages wait, 0 are active") == 1);
    Loop::current().run_until(queue.manager->rescan(true, true));
    CHECK(queue.manager->waiting() == kFiles);
}

TEST_CASE("qmgr tells how its destinations stand, a page at a time", "[qmgr]") {
    Queue queue("initial_destination_concurrency = 2\ndefault_destination_concurrency_limit = 2\n");
    for (int i = 0; i < 5; ++i) {
        queue.submit({to("a@slow.example")});
    }
    queue.submit({to("a@dead.example")});
    queue.submit({to("b@third.example")});
    for (Call& call : queue.agents.calls) {
        if (call.request.nexthop == "dead.example") {
            std::swap(call, queue.agents.calls.front());
        }
    }
    // Half a cohort of failures closes a window of two only after the second.
    queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connection timed out"});
    const queue::QueueStatus first = queue.manager->status("", 2);
    REQUIRE(first.destinations.size() == 2);
    REQUIRE_FALSE(first.last.empty());
    const queue::QueueStatus second = queue.manager->status(first.last, 2);
    CHECK(second.last.empty());
    std::vector<queue::DestinationStatus> all = first.destinations;
    all.insert(all.end(), second.destinations.begin(), second.destinations.end());
    const auto slow = std::find_if(all.begin(), all.end(), [](const auto& to) { return to.nexthop == "slow.example"; });
    REQUIRE(slow != all.end());
    CHECK(slow->transport == "smtp");
    CHECK(slow->window == 2);
    CHECK(slow->running == 2);
    CHECK(slow->waiting == 3);
    CHECK(first.active == 6);
    CHECK(first.deferred == 1);
    CHECK(first.next_seconds > test_now / kSecond);
    CHECK(queue.manager->status("", 0).destinations.empty());
}

TEST_CASE("mail that was deferred leaves a fifth of the places to new mail, and a clog is told", "[qmgr]") {
    Queue queue("qmgr_message_active_limit = 10\ndefault_destination_concurrency_limit = 100\ninitial_destination_concurrency = 100\n");
    for (int i = 0; i < 30; ++i) {
        const std::string id = queue.write({to("u" + std::to_string(i) + "@slow.example")});
        REQUIRE(::rename(("incoming/" + id).c_str(), ("deferred/" + id).c_str()) == 0);
        const timespec due[2] = {{1, 0}, {1, 0}};
        REQUIRE(::utimensat(AT_FDCWD, ("deferred/" + id).c_str(), due, 0) == 0);
    }
    queue.start();
    queue.manager->tick();
    CHECK(queue.manager->active() == 8);
    CHECK(queue.log.count("mail for slow.example is using up 8 of 8 active queue entries") == 1);
    const std::string fresh = queue.submit({to("new@far.example")});
    CHECK(queue.manager->active() == 9);
    CHECK(queue.agents.calls.back().request.queue_id == fresh);
    int delivered = 0;
    while (!queue.agents.calls.empty() && delivered < 100) {
        queue.deliver_first();
        queue.manager->tick();
        ++delivered;
    }
    CHECK(delivered == 31);
    CHECK(files_in("deferred").empty());
    CHECK(files_in("active").empty());
}

TEST_CASE("what a dead destination hands back is deferred in portions", "[qmgr]") {
    Queue queue("initial_destination_concurrency = 1\n");
    for (int i = 0; i < 500; ++i) {
        queue.submit({to("u@dead.example")});
    }
    REQUIRE(queue.agents.calls.size() == 1);
    queue.finish({BatchEnd::Kind::unreachable, "4.4.1", "connection timed out"});
    CHECK(queue.manager->active() > 300);   // new mail has its turn now
    const std::string fresh = queue.submit({to("new@far.example")});
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.queue_id == fresh);
    for (int i = 0; i < 10; ++i) {
        CHECK(queue.manager->tick() >= test_now);
    }
    CHECK(queue.manager->active() == 1);
    CHECK(queue.manager->waiting() == 500);
    queue.deliver_first();
}
