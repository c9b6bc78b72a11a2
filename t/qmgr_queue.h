/// A queue manager for tests: messages in real files, with made-up agents, bounce and clock.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
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
#include "qmgr/manager.h"

namespace postern::qmgr {

inline std::int64_t test_now = 0;
inline std::int64_t test_clock() { return test_now; }
inline constexpr std::int64_t kSecond = 1'000'000;

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

inline std::vector<std::string> files_in(const std::string& directory) {
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
    /// Until what happens by itself has happened; it fails when it does not.
    template <typename Condition>
    static void wait_for(Condition condition) {
        for (int i = 0; i < 1000 && !condition(); ++i) {
            Loop::current().run_until(sleep_for(Millis(20)));
        }
        REQUIRE(condition());
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

inline queue::Recipient to(std::string address, std::uint8_t notify = 0) {
    queue::Recipient recipient;
    recipient.address = std::move(address);
    recipient.notify = notify;
    return recipient;
}

}  // namespace postern::qmgr
