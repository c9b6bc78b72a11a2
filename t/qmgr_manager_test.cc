/// qmgr/manager: what becomes of a message.
#include "t/qmgr_queue.h"

using namespace postern;
using namespace postern::qmgr;

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

TEST_CASE("no message is tried again before queue_run_delay is over", "[qmgr]") {
    Queue queue("queue_run_delay = 700s\nminimal_backoff_time = 100s\nmaximal_backoff_time = 600s\n");
    const std::string id = queue.submit({to("a@far.example")});
    queue.answer(0, queue::kDeferred, "4.4.1", "connection refused");
    queue.finish();
    queue.drain();
    struct stat info {};
    REQUIRE(::stat(("deferred/" + id).c_str(), &info) == 0);
    CHECK(info.st_mtime == 1'700'000'700);
}

TEST_CASE("with dont_remove a finished message is kept in saved/", "[qmgr]") {
    Queue queue("dont_remove = 1\n");
    REQUIRE(::mkdir("saved", 0700) == 0);
    const std::string id = queue.submit({to("a@here.example")});
    queue.deliver_first();
    CHECK(files_in("incoming").empty());
    CHECK(files_in("saved") == std::vector<std::string>{id});
    CHECK(queue.log.last() == id + ": removed");
    queue.restart();
    queue.drain();
    CHECK(queue.agents.calls.empty());
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

TEST_CASE("the failure of a list is told to its owner, who has asked for nothing", "[qmgr]") {
    Queue queue;
    const auto ask = [](queue::Envelope& envelope) {
        envelope.dsn_envid = "the sender's";
        envelope.dsn_ret = queue::kRetHeaders;
    };
    queue::Recipient list = to("list@here.example", queue::kNotifyNever);
    list.dsn_orcpt = "rfc822;other@here.example";
    const std::string id = queue.write({list, to("nobody@here.example")}, "from@there.example", ask);
    queue.manager->new_message(id, UniqueFd());
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t index = queue.agents.calls.front().request.recipients[0].index;
        queue::RecipientDone done;
        done.index = index;
        done.outcome = queue::kBounced;
        done.dsn = "5.3.0";
        done.notice_sender = index == 0 ? "owner-list@here.example" : "";
        queue.manager->answered(queue.agents.calls.front().batch, {done});
        queue.finish();
    }
    queue.drain();
    REQUIRE(queue.bounce.reports.size() == 2);
    const Report& owners = queue.bounce.reports[0];
    CHECK(owners.list_owner == "owner-list@here.example");
    CHECK(owners.sender == "from@there.example");
    CHECK(owners.dsn_envid.empty());
    CHECK(owners.dsn_ret == queue::kRetNone);
    REQUIRE(owners.recipients.size() == 1);
    CHECK(owners.recipients[0].recipient.address == "list@here.example");
    CHECK(owners.recipients[0].recipient.notify == 0);
    CHECK(owners.recipients[0].recipient.dsn_orcpt.empty());
    const Report& senders = queue.bounce.reports[1];
    CHECK(senders.sender == "from@there.example");
    CHECK(senders.list_owner.empty());
    CHECK(senders.dsn_envid == "the sender's");
    REQUIRE(senders.recipients.size() == 1);
    CHECK(senders.recipients[0].recipient.address == "nobody@here.example");
    CHECK(files_in("incoming").empty());
    CHECK(files_in("deferred").empty());
}

TEST_CASE("while bounce is away the journal keeps whose notice it is", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("list@here.example")}, "");
    queue.bounce.broken = true;
    queue::RecipientDone done;
    done.outcome = queue::kBounced;
    done.dsn = "5.3.0";
    done.reason = "Command died";
    done.notice_sender = "owner-list@here.example";
    queue.manager->answered(queue.agents.calls.front().batch, {done});
    queue.finish();
    queue.drain();
    REQUIRE(files_in("deferred") == std::vector<std::string>{id});
    for (int i = 0; i < 2; ++i) {   // it is kept again, too
        queue.restart();
        queue.bounce.broken = i == 0;
        test_now += 601 * kSecond;
        queue.start();
        CHECK(queue.agents.calls.empty());
        CHECK(queue.bounce.reports.size() == static_cast<std::size_t>(i));
    }
    REQUIRE(queue.bounce.reports.size() == 1);
    CHECK(queue.bounce.reports[0].sender.empty());
    CHECK(queue.bounce.reports[0].told() == "owner-list@here.example");
    CHECK(queue.bounce.reports[0].recipients[0].reason == "Command died");
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
    REQUIRE(queue.bounce.reports.size() == 2);   // a postmaster may want to hear of what the sender does not
    CHECK(queue.bounce.reports[0].kind == kReportFailure);
    CHECK(queue.bounce.reports[0].recipients[0].recipient.notify == queue::kNotifyNever);
    CHECK(queue.bounce.reports[1].kind == kReportSuccess);
    CHECK(queue.bounce.reports[1].recipients.size() == 1);
    CHECK(queue.bounce.reports[1].recipients[0].recipient.address == "b@here.example");
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
    CHECK(queue.bounce.reports[0].recipients.size() == 2);   // bounce knows whom NOTIFY names
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

TEST_CASE("with soft_bounce failures are tried again", "[qmgr]") {
    Queue queue("soft_bounce = yes\n");
    const std::string id = queue.submit({to("a@here.example")});
    queue.answer(0, queue::kBounced, "5.1.1", "unknown user");
    queue.finish();
    queue.drain();
    CHECK(queue.bounce.reports.empty());
    CHECK(files_in("deferred") == std::vector<std::string>{id});
}

/// No file can become longer than `bytes` while this lives: a full disk, as far as journals go.
struct FullDisk {
    explicit FullDisk(rlim_t bytes) {
        ::signal(SIGXFSZ, SIG_IGN);
        REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
        rlimit now = before;
        now.rlim_cur = bytes;
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
    }
    ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before); }
    rlimit before{};
};

TEST_CASE("what the journal has no room for is written when there is room, and nobody gets the message twice", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@one.example"), to("b@two.example")});
    REQUIRE(queue.agents.calls.size() == 2);
    {
        const FullDisk full(10);
        queue.answer(0, queue::kDelivered, "2.0.0", "ok");
        queue.finish();
        queue.answer(1, queue::kDeferred, "4.0.0", "later");
        queue.finish();
        queue.drain();
        CHECK(queue.log.count("journal: ") > 0);
    }
    queue.wait_for([] { return files_in("deferred").size() == 1; });   // the manager tries again by itself
    queue.manager->flush_all();
    REQUIRE(queue.agents.calls.size() == 1);
    CHECK(queue.agents.calls.front().request.recipients[0].recipient.address == "b@two.example");
}

TEST_CASE("a message that cannot be put among the deferred ones is put there later", "[qmgr]") {
    Queue queue;
    queue.submit({to("a@one.example")});
    REQUIRE(::rename("deferred", "away") == 0);
    std::ofstream("deferred") << "no directory\n";
    queue.answer(0, queue::kDeferred, "4.0.0", "later");
    queue.finish();
    queue.drain();
    CHECK(queue.log.count("rename incoming/") == 1);
    REQUIRE(::unlink("deferred") == 0);
    REQUIRE(::rename("away", "deferred") == 0);
    queue.wait_for([] { return files_in("deferred").size() == 1; });
    queue.manager->flush_all();
    CHECK(queue.agents.calls.size() == 1);
}

TEST_CASE("what is delivered while a message is being requeued is not delivered again", "[qmgr]") {
    Queue queue;
    const std::string id = queue.submit({to("a@one.example"), to("b@two.example")});
    REQUIRE(queue.agents.calls.size() == 2);
    REQUIRE(::rename(("incoming/" + id).c_str(), ("maildrop/" + id).c_str()) == 0);
    queue.manager->altered(queue::kAlteredRequeued, {id});
    queue.answer(0, queue::kDelivered, "2.0.0", "ok");
    queue.finish();
    queue.answer(1, queue::kDelivered, "2.0.0", "ok");
    queue.finish();
    queue.drain();
    const UniqueFd file(::open(("maildrop/" + id).c_str(), O_RDONLY));
    const Result<queue::QueueFile> requeued = queue::QueueFile::read(file.get());
    REQUIRE(requeued);
    const Result<std::vector<queue::JournalRecord>> journal = requeued->journal(file.get());
    REQUIRE(journal);
    CHECK(queue::replay(*journal, std::vector<queue::Recipient>(2)).unfinished() == 0);
}
