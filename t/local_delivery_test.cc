// local: aliases, .forward files and mailboxes, with a cleanup that remembers what it was given.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "lib/async/loop.h"
#include "lib/log/capture.h"
#include "lib/table/text_file.h"
#include "local/local_delivery.h"
#include "local/virtual_delivery.h"

using namespace postern;
using namespace postern::local;

namespace {

/// A directory with public/, which is the working directory while it lives.
struct QueueDirectory {
    std::string path;
    std::string before;
    QueueDirectory() {
        char name[] = "/tmp/local-test-XXXXXX";
        path = mkdtemp(name);
        REQUIRE(chmod(path.c_str(), 01777) == 0);
        char old[4096];
        before = getcwd(old, sizeof old);
        REQUIRE(chdir(path.c_str()) == 0);
        for (const char* part : {"public", "private", "spool", "forward"}) {
            REQUIRE(mkdir(part, 0755) == 0);
        }
        REQUIRE(chmod("spool", 01777) == 0);
    }
    ~QueueDirectory() {
        CHECK(chdir(before.c_str()) == 0);
        CHECK(system(("rm -rf " + path).c_str()) == 0);
    }
    std::string file(const std::string& name, const std::string& text) const {
        const std::string full = path + "/" + name;
        FILE* out = fopen(full.c_str(), "w");
        REQUIRE(out);
        fwrite(text.data(), 1, text.size(), out);
        fclose(out);
        return full;
    }
};

/// Takes submissions on public/cleanup.
struct FakeCleanup {
    std::vector<queue::Begin> got;
    queue::FromCleanup reply = queue::Queued{"NEWID", 1};
    UniqueFd listener;

    void listen_in(const std::string& directory) {
        listener.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string path = directory + "/public/cleanup";
        std::memcpy(address.sun_path, path.c_str(), path.size());
        REQUIRE(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(listen(listener.get(), 5) == 0);
    }
    /// Coroutines may outlive their test, so each holds on to what it uses.
    using Shared = std::shared_ptr<FakeCleanup>;
    static Task<> serve(Shared self) {
        FdEvents events;
        events.open(self->listener.get());
        for (;;) {
            const int fd = accept4(self->listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd >= 0) {
                spawn(converse(self, UniqueFd(fd)));
                continue;
            }
            const Wake wake = co_await events.readable(std::chrono::seconds(2));
            if (wake != Wake::ready) {
                co_return;
            }
        }
    }
    static Task<> converse(Shared self, UniqueFd fd) {
        Channel<queue::FromCleanup, queue::ToCleanup> channel(std::move(fd));
        for (;;) {
            Result<queue::ToCleanup> message = co_await channel.receive(std::chrono::seconds(2));
            if (!message) {
                co_return;
            }
            bool last = false;
            if (auto* begin = std::get_if<queue::Begin>(&*message)) {
                last = begin->last;
                self->got.push_back(std::move(*begin));
            } else if (auto* more = std::get_if<queue::Content>(&*message)) {
                last = more->last;
                self->got.back().content += more->bytes;
            }
            if (last) {
                std::visit([&channel](auto answer) { channel.post(std::move(answer)); }, self->reply);
                const Result<void> told = co_await channel.flush();
                if (!told) {
                    co_return;
                }
            }
        }
    }
};

struct Fixture {
    QueueDirectory directory;
    LogCapture log;
    FakeCleanup::Shared shared_cleanup = std::make_shared<FakeCleanup>();
    FakeCleanup& cleanup = *shared_cleanup;
    std::unique_ptr<Config> config;
    std::unique_ptr<LocalTables> tables;
    std::string user;
    std::string headers = "Subject: hi\n";
    std::string sender = "s@sender.example";
    bool verify_only = false;

    explicit Fixture(const std::string& more = "", const std::string& aliases = "") {
        const passwd* self = getpwuid(getuid());
        REQUIRE(self);
        user = self->pw_name;
        const std::string text =
            "myhostname = mail.example.com\nmydomain = example.com\nmyorigin = example.com\n"
            "mydestination = example.com, mail.example.com\nrecipient_delimiter = +\ninet_interfaces = 127.0.0.1\n"
            "virtual_alias_maps =\nlocal_recipient_maps =\n"
            "alias_maps = texthash:" + directory.file("aliases", aliases + "\n") + "\n"
            "mail_spool_directory = " + directory.path + "/spool\n"
            "forward_path = " + directory.path + "/forward/$user${recipient_delimiter}${extension}, " + directory.path +
            "/forward/$user\n" + more;
        Result<Config> loaded = Config::from_text(text);
        INFO((loaded ? "" : loaded.error().what));
        REQUIRE(loaded);
        config = std::make_unique<Config>(std::move(*loaded));
        Result<std::unique_ptr<LocalTables>> made = LocalTables::create(*config, {});
        INFO((made ? "" : made.error().what));
        REQUIRE(made);
        tables = std::move(*made);
        cleanup.listen_in(directory.path);
    }

    MessagePtr message(const std::string& address) {
        const std::string body = "\nbody\n";
        UniqueFd fd(open((directory.path + "/message").c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
        const std::string text = body + headers;
        REQUIRE(write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        queue::Deliver request;
        request.queue_id = "4A1B2C";
        request.message = std::move(fd);
        request.body = {0, body.size()};
        request.headers = {body.size(), headers.size()};
        request.transport = "local";
        request.sender = sender;
        request.verify_only = verify_only;
        request.arrival_usec = request.active_usec = request.handed_usec = now_usec();
        queue::DeliverTo to;
        to.recipient.address = address;
        request.recipients.push_back(to);
        Result<MessagePtr> loaded = Message::load(std::move(request), false);
        REQUIRE(loaded);
        return *loaded;
    }

    static Task<Outcome> run_one(LocalTables& shared, Agent& agent, MessagePtr message) {
        LocalDelivery delivery(shared, agent, std::move(message), 0);
        co_return co_await delivery.run();
    }

    /// "dsn text" of what qmgr is told.
    std::string deliver(const std::string& address) {
        Agent agent("local", StatusFilter(), [](MessagePtr, std::size_t) -> Task<Outcome> { co_return Outcome{}; });
        agent.set_soft_bounce(soft_bounce);
        if (!serving_) {
            spawn(FakeCleanup::serve(shared_cleanup));
            serving_ = true;
        }
        const Outcome outcome = Loop::current().run_until(run_one(*tables, agent, message(address)));
        notice_sender = outcome.notice_sender;
        return outcome.dsn + " " + outcome.text;
    }
    /// All recipients of all submissions: "sender>a,b".
    std::string forwarded() const {
        std::string all;
        for (const queue::Begin& begin : cleanup.got) {
            all += (all.empty() ? "" : " ") + begin.envelope.sender + ">";
            for (const queue::Recipient& to : begin.envelope.recipients) {
                all += to.address + ",";
            }
        }
        return all;
    }
    std::string spool(const std::string& name) const {
        const Result<std::string> text = read_text_file(directory.path + "/spool/" + name);
        return text ? *text : "-";
    }

    bool soft_bounce = false;
    std::string notice_sender;   ///< of the last delivery

private:
    bool serving_ = false;
};

}  // namespace

TEST_CASE("mail for a user goes to the spool, with the headers that local adds", "[local]") {
    Fixture f;
    CHECK(f.deliver(f.user + "+tag@example.com") == "2.0.0 delivered to mailbox");
    const std::string box = f.spool(f.user);
    CHECK(box.substr(0, 24) == "From s@sender.example  " + box.substr(23, 1));
    CHECK(box.substr(box.find('\n') + 1) == "Return-Path: <s@sender.example>\nX-Original-To: " + f.user +
                                                "+tag@example.com\nDelivered-To: " + f.user +
                                                "+tag@example.com\nSubject: hi\n\nbody\n\n");
    CHECK(f.log.count("4A1B2C: to=<" + f.user + "+tag@example.com>, relay=local, ") == 1);
    CHECK(f.log.count("dsn=2.0.0, status=sent (delivered to mailbox)") == 1);
}

TEST_CASE("unknown users bounce, or go where the configuration says", "[local]") {
    Fixture f;
    CHECK(f.deliver("no-such-user@example.com") == "5.1.1 unknown user: \"no-such-user\"");
    f.soft_bounce = true;
    CHECK(f.deliver("no-such-user@example.com") == "4.1.1 unknown user: \"no-such-user\"");
    CHECK(f.log.count("dsn=4.1.1, status=SOFTBOUNCE (unknown user: \"no-such-user\")") == 1);
    Fixture relay("luser_relay = catch+$user@far.example\n");
    CHECK(relay.deliver("no-such-user@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(relay.forwarded() == "s@sender.example>catch+no-such-user@far.example,");
    Fixture fallback("fallback_transport = nothing\n");
    CHECK(fallback.deliver("no-such-user@example.com").substr(0, 50) == "4.3.0 mail transport nothing is not available: con");
}

TEST_CASE("aliases lead to several destinations in one new message", "[local]") {
    Fixture f("", "all  a@far.example, b@far.example, root-command-free@far.example");
    CHECK(f.deliver("ALL@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(f.forwarded() == "s@sender.example>a@far.example,b@far.example,root-command-free@far.example,");
    REQUIRE(f.cleanup.got.size() == 1);
    CHECK(f.cleanup.got[0].content == "Delivered-To: ALL@example.com\nSubject: hi\n\nbody\n");
    CHECK(f.cleanup.got[0].envelope.origin == queue::kOriginForward);
    CHECK(f.cleanup.got[0].envelope.recipients[0].original == "ALL@example.com");
}

TEST_CASE("an alias to itself and a backslash mean the mailbox", "[local]") {
    Fixture f;
    Fixture self("", f.user + "  " + f.user + ", other@far.example");
    CHECK(self.deliver(f.user + "@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(self.forwarded() == "s@sender.example>other@far.example,");
    CHECK(self.spool(f.user) != "-");
    Fixture nobody("", "no-such-user  no-such-user");
    CHECK(nobody.deliver("no-such-user@example.com") == "5.1.1 unknown user: \"no-such-user\"");
    Fixture slash("", f.user + "  \\" + f.user);
    CHECK(slash.deliver(f.user + "@example.com") == "2.0.0 delivered to mailbox");
}

TEST_CASE("aliases in a circle bounce instead of losing the message", "[local]") {
    Fixture f("", "a  b\nb  a\nc :include:c\nd  (nobody)\n");
    CHECK(f.deliver("a@example.com") == "5.4.6 alias database loop for a");
    CHECK(f.deliver("c@example.com") == "5.3.5 mail system configuration error");
    CHECK(f.log.count("warning: :include:c uses a relative path") == 1);
    CHECK(f.deliver("d@example.com") == "4.3.0 alias database unavailable");
    CHECK(f.log.count("warning: no recipient in alias lookup result for d") == 1);
}

TEST_CASE("users whom an alias names get the message itself, and those who cannot be reached one of their own", "[local]") {
    Fixture f;
    Fixture one("", "one  " + f.user);
    CHECK(one.deliver("one@example.com") == "2.0.0 delivered to mailbox");
    CHECK(one.cleanup.got.empty());
    CHECK(one.log.count("to=<" + f.user + "@example.com>, orig_to=<one@example.com>, relay=local") == 1);
    const std::string box = one.spool(f.user);
    CHECK(box.find("\nX-Original-To: one@example.com\nDelivered-To: one@example.com\nSubject: hi\n") != std::string::npos);
    Fixture two("", "two  no-such-user, " + f.user);
    CHECK(two.deliver("two@example.com") == "2.0.0 delivered to mailbox");
    CHECK(two.forwarded() == "s@sender.example>no-such-user@example.com,");
    CHECK(two.log.count("unknown user") == 0);   // the new message's business
}

TEST_CASE("a user's .forward may name the alias that leads to the user", "[local]") {
    Fixture f;
    Fixture g("", "first.last  " + f.user);
    g.directory.file("forward/" + f.user, "first.last, me@far.example\n");
    CHECK(g.deliver(f.user + "@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(g.forwarded() == "s@sender.example>me@far.example,");
    CHECK(g.spool(f.user).find("Subject: hi") != std::string::npos);
    CHECK(g.deliver("first.last@example.com") == "2.0.0 delivered to mailbox");
    CHECK(g.spool(f.user).find("Delivered-To: first.last@example.com\nSubject: hi") != std::string::npos);
}

TEST_CASE("what comes with the message cannot go by aliases", "[local]") {
    Fixture f("", "list  a@far.example");
    CHECK(f.deliver("\\list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(f.deliver("@example.com") == "5.1.3 null username in \"@example.com\"");
}

TEST_CASE("what a stranger wrote does not become a command, a transport or a uid", "[local]") {
    QueueDirectory elsewhere;
    const std::string rule = " = regexp:" + elsewhere.file("rules", "/^(.*)$/ x$1\n") + "\n";
    Fixture f("alias_maps" + rule + "mailbox_transport_maps" + rule + "mailbox_command_maps" + rule + "fallback_transport_maps" + rule +
              "virtual_mailbox_maps" + rule + "virtual_uid_maps" + rule + "virtual_gid_maps" + rule);
    const std::string refused = "line 1: regular expression substitution is not allowed: skipping this rule";
    CHECK(f.log.count(refused) == 4);
    REQUIRE(VirtualDelivery::create(*f.config, {}));
    CHECK(f.log.count(refused) == 7);
}

TEST_CASE("the owner of a list takes the sender's place", "[local]") {
    Fixture f("", "list  a@far.example\nowner-list  boss@far.example");
    CHECK(f.deliver("list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(f.forwarded() == "owner-list@example.com>a@far.example,");
    Fixture expanded("expand_owner_alias = yes\n", "list  a@far.example\nowner-list  boss@far.example");
    CHECK(expanded.deliver("list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(expanded.forwarded() == "boss@far.example>a@far.example,");
    Fixture null_sender("", "list  a@far.example\nowner-list  boss@far.example");
    null_sender.sender.clear();
    CHECK(null_sender.deliver("list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(null_sender.forwarded() == "owner-list@example.com>a@far.example,");
    CHECK(null_sender.cleanup.got[0].envelope.recipients[0].original.empty());
    Fixture plain("owner_request_special = no\n", "list  a@far.example\nowner-list  boss@far.example");
    CHECK(plain.deliver("list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(plain.forwarded() == "s@sender.example>a@far.example,");
}

TEST_CASE("what fails in a list for good is its owner's business, but not what is tried again or is another alias's", "[local]") {
    const std::string aliases =
        "list  \"|exit 1\"\nowner-list  boss@far.example\nbusy  \"|exit 75\"\nowner-busy  boss@far.example\nplain  \"|exit 1\"\n"
        "outer  plain\nowner-outer  boss@far.example\nboth  list, \"|exit 3\"\nfile  /no/such/file\nowner-file  boss@far.example\n"
        "missing  :include:/no/such/file\nowner-missing  boss@far.example\n";
    Fixture f("", aliases);
    const auto told = [&f](const std::string& address) {
        f.deliver(address);
        return f.notice_sender;
    };
    CHECK(told("list@example.com") == "owner-list@example.com");
    CHECK(told("list+ext@example.com") == "owner-list@example.com");
    CHECK(told("file@example.com") == "owner-file@example.com");
    CHECK(told("plain@example.com").empty());
    CHECK(told("busy@example.com").empty());
    CHECK(told("outer@example.com").empty());      // as Postfix has it: the failure is plain's
    CHECK(told("missing@example.com").empty());
    CHECK(told("both@example.com").empty());       // the sender must hear of |exit 3
    f.headers = "Delivered-To: list@example.com\n";
    CHECK(told("list@example.com") == "owner-list@example.com");
    Fixture expanded("expand_owner_alias = yes\n", aliases);
    expanded.deliver("list@example.com");
    CHECK(expanded.notice_sender == "boss@far.example");
    Fixture off("owner_request_special = no\n", aliases);
    off.deliver("list@example.com");
    CHECK(off.notice_sender.empty());
}

TEST_CASE("include files are read, and nested ones too", "[local]") {
    Fixture f("", "list  :include:/tmp/x");
    const std::string inner = f.directory.file("inner", "c@far.example\n");
    const std::string outer = f.directory.file("outer", "# people\na@far.example\nb\n:include:" + inner + "\n:include:" + inner + "\n");
    Fixture g("", "list  :include:" + outer);
    CHECK(g.deliver("list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(g.forwarded() == "s@sender.example>a@far.example,b@example.com,c@far.example,");
    Fixture missing("", "list  :include:/no/such/file");
    CHECK(missing.deliver("list@example.com") == "5.3.5 mail system configuration error");
    CHECK(missing.log.count("unable to lookup :include: file /no/such/file: No such file or directory") == 1);
    Fixture nobody("", "list  :include:" + f.directory.file("empty", "# nobody yet\n"));
    CHECK(nobody.deliver("list@example.com") == "2.0.0 nobody is on the list");
    const std::string loop = f.directory.file("loop", ":include:" + f.directory.path + "/loop\n");
    Fixture looping("", "list  :include:" + loop);
    CHECK(looping.deliver("list@example.com").substr(0, 5) == "5.4.6");
}

TEST_CASE("commands and files of aliases are run and written", "[local]") {
    Fixture f;
    const std::string out = f.directory.path + "/spool/out";
    Fixture g("", "cmd  \"|cat > " + out + "; echo $EXTENSION >> " + out + "\"\nfile  " + f.directory.path +
                      "/spool/file\nbad  \"|exit 75\"");
    CHECK(g.deliver("cmd@example.com") == "2.0.0 delivered to command: cat > " + out + "; echo $EXTENSION >> " + out);
    const std::string text = f.spool("out");
    CHECK(text.find("\nReturn-Path: <s@sender.example>\nX-Original-To: cmd@example.com\nDelivered-To: cmd@example.com\n"
                    "Subject: hi\n\nbody\n") != std::string::npos);
    CHECK(g.deliver("file@example.com") == "2.0.0 delivered to file: " + f.directory.path + "/spool/file");
    CHECK(f.spool("file").find("Subject: hi\n\nbody\n\n") != std::string::npos);
    CHECK(g.deliver("bad@example.com") == "4.3.0 temporary failure");
    Fixture closed("allow_mail_to_commands = forward\nallow_mail_to_files =\n", "cmd  \"|true\"\nfile  /tmp/x");
    CHECK(closed.deliver("cmd@example.com") == "5.7.1 mail to command is restricted");
    CHECK(closed.deliver("file@example.com") == "5.7.1 mail to file is restricted");
}

TEST_CASE("a deferred part keeps the whole recipient, and nothing is forwarded", "[local]") {
    Fixture f("", "mixed  a@far.example, \"|exit 75\"");
    CHECK(f.deliver("mixed@example.com") == "4.3.0 temporary failure");
    CHECK(f.cleanup.got.empty());
    Fixture bounced("", "mixed  a@far.example, \"|exit 67\"");
    CHECK(bounced.deliver("mixed@example.com") == "5.1.1 user unknown");
    CHECK(bounced.cleanup.got.size() == 1);
}

TEST_CASE("a .forward file is expanded, with the extension choosing the file", "[local]") {
    Fixture f;
    f.directory.file("forward/" + f.user, "# mine\nme@far.example, \\" + f.user + "\n");
    f.directory.file("forward/" + f.user + "+list", "lists@far.example\n");
    CHECK(f.deliver(f.user + "@example.com") == "2.0.0 delivered to mailbox");
    CHECK(f.forwarded() == "s@sender.example>me@far.example,");
    CHECK(f.deliver(f.user + "+list@example.com") == "2.0.0 forwarded as NEWID");
    CHECK(f.forwarded() == "s@sender.example>me@far.example, s@sender.example>lists@far.example,");
    CHECK(f.deliver(f.user + "+other@example.com") == "2.0.0 delivered to mailbox");
}

TEST_CASE("the first .forward file that is there counts, and must be a file", "[local]") {
    Fixture f;
    f.directory.file("forward/" + f.user, "me@far.example\n");
    const std::string first = f.directory.path + "/forward/" + f.user + "+x";
    REQUIRE(symlink((f.directory.path + "/forward/" + f.user).c_str(), first.c_str()) == 0);
    CHECK(f.deliver(f.user + "+x@example.com") == "2.0.0 delivered to mailbox");
    CHECK(f.log.count(first + " is not a regular file") == 1);
    CHECK(f.cleanup.got.empty());
}

TEST_CASE("luser_relay is an address, and may be wrong", "[local]") {
    Fixture f("luser_relay = |touch $user\n");
    f.deliver("nobody-there@example.com");
    CHECK(f.spool("../nobody-there") == "-");
    Fixture g("luser_relay = also-unknown\n");
    CHECK(g.deliver("nobody-there@example.com") == "5.1.1 unknown user: \"also-unknown\"");
}

TEST_CASE("a .forward file that others may write is not used", "[local]") {
    Fixture f;
    const std::string path = f.directory.file("forward/" + f.user, "me@far.example\n");
    REQUIRE(chmod(path.c_str(), 0666) == 0);
    CHECK(f.deliver(f.user + "@example.com") == "2.0.0 delivered to mailbox");
    CHECK(f.cleanup.got.empty());
    CHECK(f.log.count("is world writable") == 1);
}

TEST_CASE("mail that comes round is stopped", "[local]") {
    Fixture f("", "list  a@far.example");
    f.headers = "Delivered-To: LIST@example.com\nSubject: hi\n";
    CHECK(f.deliver("list@example.com") == "5.4.6 mail forwarding loop for list@example.com");
}

TEST_CASE("cleanup's refusal decides about a forwarded message", "[local]") {
    Fixture f("", "list  a@far.example");
    f.cleanup.reply = queue::Refused{452, "4.3.1", "Insufficient system storage", ""};
    CHECK(f.deliver("list@example.com") == "4.3.1 cannot forward message: Insufficient system storage");
}

TEST_CASE("mailbox_command and mailbox_command_maps take the mailbox's place", "[local]") {
    Fixture f("mailbox_command = cat > /dev/null; echo \"$LOGNAME\" >&2; exit 69\n");
    CHECK(f.deliver(f.user + "@example.com") == "5.3.0 service unavailable. Command output: " + f.user);
    Fixture mapped("mailbox_command_maps = inline:{{" + f.user + " = exit 73}}\n");
    CHECK(mapped.deliver(f.user + "@example.com") == "5.2.0 can't create user output file");
}

TEST_CASE("home_mailbox with a slash at its end is a Maildir", "[local]") {
    Fixture f;
    Fixture maildir("mail_spool_directory = " + f.directory.path + "/spool/\n");
    CHECK(maildir.deliver(f.user + "@example.com") == "2.0.0 delivered to maildir");
    CHECK(access((f.directory.path + "/spool/" + f.user + "/new").c_str(), F_OK) == 0);
}

TEST_CASE("verification delivers nothing", "[local]") {
    Fixture f("", "list  a@far.example\ncmd  \"|exit 1\"");
    f.verify_only = true;
    CHECK(f.deliver(f.user + "@example.com") == "2.0.0 delivers to mailbox");
    CHECK(f.deliver("list@example.com") == "2.0.0 forwards to a@far.example");
    CHECK(f.deliver("cmd@example.com") == "2.0.0 delivers to command: exit 1");
    CHECK(f.deliver("no-such-user@example.com").substr(0, 5) == "5.1.1");
    CHECK(f.cleanup.got.empty());
    CHECK(f.spool(f.user) == "-");
    CHECK(f.log.count("status=deliverable") == 3);
    CHECK(f.log.count("status=undeliverable") == 1);
}

TEST_CASE("an extension is no path", "[local]") {
    Fixture f;
    // forward/$user+x exists as a directory: the extension must not lead out of it.
    REQUIRE(mkdir((f.directory.path + "/forward/" + f.user + "+x").c_str(), 0755) == 0);
    f.directory.file("elsewhere", "stranger@far.example\n");
    CHECK(f.deliver(f.user + "+x/../../elsewhere@example.com") == "2.0.0 delivered to mailbox");
    CHECK(f.forwarded().empty());
    CHECK(f.log.count("address with illegal extension") == 1);
}

TEST_CASE("where a .forward file cannot be read now the message waits", "[local]") {
    Fixture f("forward_path = /proc/self/mem\n");   // a regular file, and reading it gives EIO
    CHECK(f.deliver(f.user + "@example.com").substr(0, 11) == "4.3.0 read ");
    CHECK(f.spool(f.user) == "-");
}

TEST_CASE("sun_mailtool_compatibility leaves dot locks only, and biff is for users' mailboxes", "[local]") {
    const auto rules = [](const std::string& settings) {
        const Result<Config> config = Config::from_text("alias_maps =\n" + settings);
        REQUIRE(config);
        return LocalTables::create(*config, {});
    };
    LogCapture log;
    auto tables = rules("mailbox_delivery_lock = fcntl, dotlock, flock\n");
    REQUIRE(tables);
    CHECK(((*tables)->file_rules.fcntl_lock && (*tables)->file_rules.flock_lock && (*tables)->file_rules.dotlock));
    CHECK((*tables)->file_rules.biff_port == 0);
    CHECK(log.count("sun_mailtool_compatibility") == 0);
    tables = rules("mailbox_delivery_lock = fcntl, dotlock, flock\nsun_mailtool_compatibility = yes\n");
    REQUIRE(tables);
    CHECK_FALSE((*tables)->file_rules.fcntl_lock);
    CHECK_FALSE((*tables)->file_rules.flock_lock);
    CHECK((*tables)->file_rules.dotlock);
    CHECK(log.last().find("sun_mailtool_compatibility: deprecated parameter, use \"mailbox_delivery_lock = dotlock\" instead") !=
          std::string::npos);
    tables = rules("mailbox_delivery_lock = fcntl\nsun_mailtool_compatibility = yes\n");
    REQUIRE_FALSE(tables);
    CHECK(tables.error().what == "parameter mailbox_delivery_lock specifies no applicable mailbox locking method");
}
