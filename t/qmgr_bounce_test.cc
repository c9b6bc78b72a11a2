/// qmgr/notice_text and qmgr/bounce_session: what senders read.  The expected text is what Postfix 3.7 wrote about the
/// same failure.
#include "qmgr/notice_text.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "lib/log/capture.h"
#include "lib/notice/wrap.h"
#include "qmgr/bounce_session.h"

using namespace postern;
using namespace postern::qmgr;

namespace {

constexpr std::int64_t kMoment = 1'795'347'983'000'000;   // Sun, 22 Nov 2026 11:46:23 +0000

Config test_config(std::string_view more = "") {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    return std::move(*Config::from_text("myhostname = here.example\nmyorigin = here.example\nmail_name = Postfix\n" + std::string(more)));
}

Report failure() {
    Report report;
    report.queue_id = "BE270A78501";
    report.sender = "me@far.example";
    report.dsn_envid = "ENV1";
    report.dsn_ret = queue::kRetFull;
    report.encoding = queue::kEncoding8bit;
    report.arrival_usec = kMoment;
    ReportRecipient recipient;
    recipient.recipient.address = "nosuchuserxyz@here.example";
    recipient.recipient.dsn_orcpt = "rfc822;nosuchuserxyz@here.example";
    recipient.dsn = "5.1.1";
    recipient.action = "failed";
    recipient.reason = "unknown user: \"nosuchuserxyz\"";
    report.recipients.push_back(recipient);
    return report;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("a notice refers to the message it is about when that is asked for", "[bounce]") {
    const auto head_for = [](std::string_view header) {
        return make_notice(test_config(), failure(), Audience::sender, "me@far.example", kMoment, header).head;
    };
    CHECK(head_for("").find("References:") == std::string::npos);
    CHECK(head_for("Subject: x\nMessage-ID: <one@x>\n").find("\nReferences: <one@x>\nIn-Reply-To: <one@x>\nAuto-Submitted:") !=
          std::string::npos);
    CHECK(head_for("References: <a@b>\n <c@d> rubbish\nMessage-Id:\n <two@x> (comment)\n")
              .find("\nReferences: <a@b>\n <c@d>\n <two@x>\nIn-Reply-To: <two@x>\n") != std::string::npos);
    for (const char* bad : {"Message-ID: none\n", "Message-ID: <a@b> <c@d>\n", "References: <a@b>\n"}) {
        CHECK(head_for(bad).find("In-Reply-To") == std::string::npos);
    }
    std::string many = "Message-ID: <z@z>\nReferences:";
    for (int i = 0; i < 50; ++i) {
        many += "\n <" + std::to_string(i) + "@x>";
    }
    const std::string kept = head_for(many + "\n");
    CHECK(kept.find("References: <0@x>\n <31@x>\n") != std::string::npos);
    CHECK(kept.find(" <49@x>\n <z@z>\n") != std::string::npos);
}

TEST_CASE("a failure notice reads as Postfix's", "[bounce]") {
    const NoticeText notice = make_notice(test_config(), failure(), Audience::sender, "me@far.example", kMoment);
    CHECK(notice.head ==
          "From: Mail Delivery System <MAILER-DAEMON@here.example>\n"
          "Subject: Undelivered Mail Returned to Sender\n"
          "To: me@far.example\n"
          "Auto-Submitted: auto-replied\n"
          "MIME-Version: 1.0\n"
          "Content-Type: multipart/report; report-type=delivery-status;\n"
          "\tboundary=\"BE270A78501.1795347983/here.example\"\n"
          "Content-Transfer-Encoding: 8bit\n"
          "\n"
          "This is a MIME-encapsulated message.\n"
          "\n"
          "--BE270A78501.1795347983/here.example\n"
          "Content-Description: Notification\n"
          "Content-Type: text/plain; charset=utf-8\n"
          "Content-Transfer-Encoding: 8bit\n"
          "\n"
          "This is the mail system at host here.example.\n"
          "\n"
          "I'm sorry to have to inform you that your message could not\n"
          "be delivered to one or more recipients. It's attached below.\n"
          "\n"
          "For further assistance, please send mail to postmaster.\n"
          "\n"
          "If you do so, please include this problem report. You can\n"
          "delete your own text from the attached returned message.\n"
          "\n"
          "                   The mail system\n"
          "\n"
          "<nosuchuserxyz@here.example>: unknown user: \"nosuchuserxyz\"\n"
          "\n"
          "--BE270A78501.1795347983/here.example\n"
          "Content-Description: Delivery report\n"
          "Content-Type: message/delivery-status\n"
          "\n"
          "Reporting-MTA: dns; here.example\n"
          "Original-Envelope-Id: ENV1\n"
          "X-Postfix-Queue-ID: BE270A78501\n"
          "X-Postfix-Sender: rfc822; me@far.example\n"
          "Arrival-Date: Sun, 22 Nov 2026 11:46:23 +0000 (UTC)\n"
          "\n"
          "Final-Recipient: rfc822; nosuchuserxyz@here.example\n"
          "Original-Recipient: rfc822;nosuchuserxyz@here.example\n"
          "Action: failed\n"
          "Status: 5.1.1\n"
          "Diagnostic-Code: X-Postfix; unknown user: \"nosuchuserxyz\"\n"
          "\n"
          "--BE270A78501.1795347983/here.example\n"
          "Content-Description: Undelivered Message\n"
          "Content-Type: message/rfc822\n"
          "Content-Transfer-Encoding: 8bit\n"
          "\n"
          "Return-Path: <me@far.example>\n");
    CHECK(notice.tail == "\n--BE270A78501.1795347983/here.example--\n");
    CHECK_FALSE(notice.headers_only);
    CHECK_FALSE(notice.utf8);
}

TEST_CASE("RET=HDRS, size and audience decide how much comes back", "[bounce]") {
    const Config config = test_config("bounce_size_limit = 1000\n");
    Report report = failure();
    report.headers.length = 500;
    report.body.length = 500;
    CHECK_FALSE(make_notice(config, report, Audience::sender, "a@b.example", kMoment).headers_only);
    CHECK(make_notice(config, report, Audience::postmaster, "a@b.example", kMoment).headers_only);
    report.body.length = 501;
    const NoticeText big = make_notice(config, report, Audience::sender, "a@b.example", kMoment);
    CHECK(big.headers_only);
    CHECK(contains(big.head, "Content-Description: Undelivered Message Headers\nContent-Type: text/rfc822-headers\n"));
    report.body.length = 1;
    report.requiretls = true;   // RFC 8689 section 5: who knows which way the notice goes
    CHECK(make_notice(config, report, Audience::sender, "a@b.example", kMoment).headers_only);
    report.requiretls = false;
    report.dsn_ret = queue::kRetHeaders;
    CHECK(make_notice(config, report, Audience::sender, "a@b.example", kMoment).headers_only);
}

TEST_CASE("a delay notice says that nothing need be done, and until when it is tried", "[bounce]") {
    Report report = failure();
    report.kind = kReportDelay;
    report.expires_usec = kMoment + 5LL * 86400 * 1'000'000;
    report.recipients[0].action = "delayed";
    report.recipients[0].dsn = "4.4.1";
    const NoticeText notice = make_notice(test_config("delay_warning_time = 4h\n"), report, Audience::sender, "me@far.example", kMoment);
    CHECK(contains(notice.head, "Subject: Delayed Mail (still being retried)\n"));
    CHECK(contains(notice.head, "# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #\n"));
    CHECK(contains(notice.head, "for more than 4 hour(s).\nIt will be retried until it is 5 day(s) old.\n"));
    CHECK(contains(notice.head, "Action: delayed\nStatus: 4.4.1\n"));
    CHECK(contains(notice.head, "Will-Retry-Until: Fri, 27 Nov 2026 11:46:23 +0000 (UTC)\n"));
    CHECK(contains(notice.head, "Content-Description: Undelivered Message Headers\n"));
}

TEST_CASE("remote replies are wrapped and named", "[bounce]") {
    Report report = failure();
    report.recipients[0].remote_mta = "mx.far.example";
    report.recipients[0].diagnostic = "smtp; 550 <nosuchuserxyz@here.example>: Recipient address rejected: because the mailbox is full of eels";
    report.recipients[0].reason = "host mx.far.example[192.0.2.1] said: 550 <nosuchuserxyz@here.example>: Recipient address rejected (in reply to RCPT TO command)";
    const NoticeText notice = make_notice(test_config(), report, Audience::sender, "me@far.example", kMoment);
    CHECK(contains(notice.head, "Remote-MTA: dns; mx.far.example\n"));
    CHECK(contains(notice.head, "Diagnostic-Code: smtp; 550 <nosuchuserxyz@here.example>: Recipient address\n    rejected: because the mailbox is full of eels\n"));
    CHECK(contains(notice.head, "<nosuchuserxyz@here.example>: host mx.far.example[192.0.2.1] said: 550\n    <nosuchuserxyz@here.example>: Recipient"));
}

TEST_CASE("text from outside cannot make new lines", "[bounce]") {
    Report report = failure();
    report.recipients[0].reason = "evil\nAction: delivered\r\n\r\n--BE270A78501.1795347983/here.example";
    report.recipients[0].recipient.address = "a\nb@here.example";
    report.recipients[0].recipient.dsn_orcpt = "rfc822;x+0AAction: none";
    report.dsn_envid = "E+0D+0AX-Evil: yes";
    report.sender = "s\n@far.example";
    const NoticeText notice = make_notice(test_config(), report, Audience::sender, "me\nBcc: x@far.example", kMoment);
    CHECK_FALSE(contains(notice.head, "\nAction: delivered"));
    CHECK_FALSE(contains(notice.head, "\nAction: none"));
    CHECK_FALSE(contains(notice.head, "\nX-Evil"));
    CHECK_FALSE(contains(notice.head, "\nBcc:"));
    CHECK_FALSE(contains(notice.head, "\r"));
}

TEST_CASE("internationalized addresses make a global report", "[bounce]") {
    Report report = failure();
    report.recipients[0].recipient.address = "j\xc3\xb6rg@here.example";
    report.recipients[0].recipient.dsn_orcpt.clear();
    report.recipients[0].recipient.original = "Alias@here.example";
    const NoticeText notice = make_notice(test_config(), report, Audience::sender, "me@far.example", kMoment);
    CHECK(notice.utf8);
    CHECK(contains(notice.head, "report-type=global-delivery-status;"));
    CHECK(contains(notice.head, "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n"));
    CHECK(contains(notice.head, "Final-Recipient: utf-8; j\xc3\xb6rg@here.example\nOriginal-Recipient: rfc822;Alias@here.example\n"));
    CHECK(contains(notice.head, "Content-Type: message/global\n"));
    CHECK(contains(notice.head, "(expanded from <Alias@here.example>)"));
}

TEST_CASE("nobody gets a bounce about a bounce", "[bounce]") {
    const LogCapture log;
    const Config config = test_config("notify_classes = bounce, 2bounce, delay\n");
    Report report = failure();
    std::vector<NoticePlan> plans = notices_for(config, report);
    REQUIRE(plans.size() == 2);
    CHECK((plans[0].to == "me@far.example" && plans[0].sender.empty()));
    CHECK((plans[1].to == "postmaster@here.example" && plans[1].sender == "double-bounce@here.example"));
    report.sender.clear();
    plans = notices_for(config, report);
    REQUIRE(plans.size() == 1);
    CHECK(plans[0].audience == Audience::double_bounce);
    CHECK(plans[0].sender == "double-bounce@here.example");
    CHECK(notices_for(test_config(), report).empty());
    report.sender = "double-bounce@here.example";
    CHECK(notices_for(config, report).empty());
    CHECK(log.last() == "warning: BE270A78501: undeliverable postmaster notification discarded");
    report = failure();
    report.kind = kReportDelay;
    CHECK(notices_for(config, report).size() == 2);
    report.sender.clear();
    CHECK(notices_for(config, report).empty());
}

TEST_CASE("what NOTIFY hides from the sender, postmasters see", "[bounce]") {
    const NoticePlan sender{Audience::sender, "me@far.example", ""}, copy{Audience::postmaster, "p@here.example", "double-bounce@here.example"};
    Report report = failure();
    report.recipients.push_back(report.recipients[0]);
    report.recipients[0].recipient.notify = queue::kNotifyNever;
    report.recipients[1].recipient.notify = queue::kNotifyFailure;
    CHECK(hide_unwanted(report, copy).empty());
    CHECK(report.recipients.size() == 2);
    REQUIRE(hide_unwanted(report, sender).size() == 1);
    REQUIRE(report.recipients.size() == 1);
    CHECK(report.recipients[0].recipient.notify == queue::kNotifyFailure);
    report.kind = kReportDelay;
    hide_unwanted(report, sender);
    CHECK(report.recipients.empty());
    report = failure();
    report.recipients[0].recipient.notify = 0;   // nothing was asked for: failures and delays
    report.kind = kReportDelay;
    hide_unwanted(report, sender);
    CHECK(report.recipients.size() == 1);
    report.kind = kReportSuccess;                // qmgr has chosen
    report.sender.clear();
    const Config config = test_config("notify_classes = bounce\n");
    REQUIRE(notices_for(config, report).size() == 1);
    CHECK(notices_for(config, report)[0].audience == Audience::sender);
    CHECK(notices_for(config, report)[0].sender == "double-bounce@here.example");
}

TEST_CASE("text is wrapped at blanks only", "[bounce]") {
    CHECK(wrap_text("short", 79) == "short\n");
    CHECK(wrap_text("aaa bbb ccc", 7) == "aaa bbb\n    ccc\n");
    CHECK(wrap_text(std::string(100, 'x') + " y", 20) == std::string(100, 'x') + "\n    y\n");
    CHECK(wrap_text("", 10).empty());
}

namespace {

/// A cleanup that takes one message.
Task<> fake_cleanup(UniqueFd listener, std::string& content, queue::Envelope& envelope, bool refuse) {
    FdEvents events;
    events.open(listener.get());
    const Wake wake = co_await events.readable(std::chrono::seconds(10));
    REQUIRE(wake == Wake::ready);
    Channel<queue::FromCleanup, queue::ToCleanup> channel(UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)), queue::kMaxSubmitMessage);
    for (bool last = false; !last;) {
        Result<queue::ToCleanup> message = co_await channel.receive(std::chrono::seconds(10));
        REQUIRE(message);
        if (auto* begin = std::get_if<queue::Begin>(&*message)) {
            envelope = begin->envelope;
            content = begin->content;
        } else if (auto* piece = std::get_if<queue::Content>(&*message)) {
            content += piece->bytes;
            last = piece->last;
        }
    }
    if (refuse) {
        queue::Refused refused;
        refused.text = "Error: queue file write error";
        const Result<void> sent = co_await channel.send(std::move(refused));
        CHECK(sent.ok());
    } else {
        queue::Queued queued;
        queued.queue_id = "ABCDEF0123";
        const Result<void> sent = co_await channel.send(std::move(queued));
        CHECK(sent.ok());
    }
    co_await sleep_for(Millis(20));
}

Task<> run_session(const Config& config, UniqueFd socket) {
    BounceSession session(config, Connection(std::move(socket), "bounce"));
    co_await session.run();
}

Task<Reported> ask(UniqueFd socket, Report report) {
    Channel<ToBounce, FromBounce> channel(std::move(socket));
    channel.post(std::move(report));
    Result<FromBounce> answer = co_await channel.receive(std::chrono::seconds(10));
    REQUIRE(answer);
    co_return std::get<Reported>(*answer);
}

UniqueFd listen_unix(const char* path) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(fd.get(), 5) == 0);
    return fd;
}

}  // namespace

TEST_CASE("the message comes back in the notice byte for byte, and a refusal is passed on", "[bounce]") {
    char name[] = "/tmp/postern-bounce-XXXXXX";
    const std::string root = ::mkdtemp(name);
    const UniqueFd before(::open(".", O_RDONLY | O_DIRECTORY));
    REQUIRE(::chdir(root.c_str()) == 0);
    REQUIRE(::mkdir("public", 0700) == 0);
    for (const bool refuse : {false, true}) {
        CAPTURE(refuse);
        LogCapture log;
        const Config config = test_config("bounce_size_limit = 10000000\n");
        const std::string headers = "Subject: t\nFrom: x@y.example\n", body = "\n" + std::string(600'000, 'b') + "\nend without newline";
        UniqueFd file(::open("message", O_RDWR | O_CREAT | O_TRUNC, 0600));
        REQUIRE(::write(file.get(), body.data(), body.size()) == static_cast<ssize_t>(body.size()));
        REQUIRE(::write(file.get(), headers.data(), headers.size()) == static_cast<ssize_t>(headers.size()));
        Report report = failure();
        report.message = std::move(file);
        report.body = {0, body.size()};
        report.headers = {body.size(), headers.size()};
        ::unlink("public/cleanup");
        std::string content;
        queue::Envelope envelope;
        spawn(fake_cleanup(listen_unix("public/cleanup"), content, envelope, refuse));
        int pair[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
        spawn(run_session(config, UniqueFd(pair[0])));
        const Reported answer = Loop::current().run_until(ask(UniqueFd(pair[1]), std::move(report)));
        Loop::current().run_until(sleep_for(Millis(40)));
        CHECK(answer.ok == !refuse);
        if (refuse) {
            CHECK(answer.text == "cleanup: Error: queue file write error");
            continue;
        }
        CHECK(envelope.sender.empty());
        REQUIRE(envelope.recipients.size() == 1);
        CHECK(envelope.recipients[0].address == "me@far.example");
        CHECK(envelope.origin == queue::kOriginBounce);
        const std::string tail = "\n--BE270A78501.";
        const std::size_t at = content.find("Return-Path: <me@far.example>\n");
        REQUIRE(at != std::string::npos);
        const std::string returned = content.substr(at + 30);
        CHECK(returned.substr(0, headers.size() + body.size()) == headers + body);
        CHECK(returned.substr(headers.size() + body.size(), tail.size()) == tail);
        CHECK(content.substr(content.size() - 16) == "/here.example--\n");
        CHECK(log.last() == "BE270A78501: sender non-delivery notification: ABCDEF0123");
    }
    REQUIRE(::fchdir(before.get()) == 0);
    CHECK(std::system(("rm -rf " + root).c_str()) == 0);
}

TEST_CASE("a malformed report is refused", "[bounce]") {
    const Config config = test_config();
    for (int kind : {0, 9, 1}) {
        int pair[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
        spawn(run_session(config, UniqueFd(pair[0])));
        Report report = failure();
        report.kind = static_cast<std::uint8_t>(kind);
        const Reported answer = Loop::current().run_until(ask(UniqueFd(pair[1]), std::move(report)));
        CHECK_FALSE(answer.ok);
        CHECK(answer.text == "malformed report");
    }
    Loop::current().run_until(sleep_for(Millis(5)));
}

TEST_CASE("a notice about a REQUIRETLS message goes any way without content, and by REQUIRETLS with it", "[bounce]") {
    char name[] = "/tmp/postern-bounce-XXXXXX";
    const std::string root = ::mkdtemp(name);
    const UniqueFd before(::open(".", O_RDONLY | O_DIRECTORY));
    REQUIRE(::chdir(root.c_str()) == 0);
    REQUIRE(::mkdir("public", 0700) == 0);
    for (const bool redact : {true, false}) {
        CAPTURE(redact);
        LogCapture log;
        const Config config = test_config(redact ? "" : "requiretls_redact_dsn = no\n");
        const std::string text = "\nsecret body\nSubject: t\n";
        UniqueFd file(::open("message", O_RDWR | O_CREAT | O_TRUNC, 0600));
        REQUIRE(::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        Report report = failure();
        report.message = std::move(file);
        report.body = {0, 13};
        report.headers = {13, 11};
        report.requiretls = true;
        ::unlink("public/cleanup");
        std::string content;
        queue::Envelope envelope;
        spawn(fake_cleanup(listen_unix("public/cleanup"), content, envelope, false));
        int pair[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
        spawn(run_session(config, UniqueFd(pair[0])));
        const Reported answer = Loop::current().run_until(ask(UniqueFd(pair[1]), std::move(report)));
        Loop::current().run_until(sleep_for(Millis(40)));
        CHECK(answer.ok);
        CHECK(envelope.requiretls == !redact);
        CHECK((content.find("secret body") == std::string::npos) == redact);
        CHECK(content.find("Subject: t\n") != std::string::npos);
    }
    ::unlink("public/cleanup");
    ::unlink("message");
    REQUIRE(::fchdir(before.get()) == 0);
    ::rmdir((root + "/public").c_str());
    ::rmdir(root.c_str());
}
