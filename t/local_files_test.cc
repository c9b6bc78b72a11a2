// What local, virtual and pipe write: Maildir and mbox files, filtered bodies; and what commands' exits mean.
#include <catch2/catch.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "lib/async/loop.h"
#include "lib/table/text_file.h"
#include "local/address_items.h"
#include "local/agent.h"
#include "local/biff.h"
#include "local/command.h"
#include "local/mailbox_file.h"
#include "local/message.h"
#include "local/pipe_attributes.h"

using namespace postern;
using namespace postern::local;

namespace {

struct Scratch {
    std::string path;
    Scratch() {
        char name[] = "/tmp/local-test-XXXXXX";
        path = mkdtemp(name);
        REQUIRE(chmod(path.c_str(), 01777) == 0);
    }
    ~Scratch() { CHECK(system(("rm -rf " + path).c_str()) == 0); }
};

/// A queue file's content extents, body first, as lib/queue writes them.
MessagePtr message_of(const std::string& headers, const std::string& body, bool repeated = false,
                      const std::string& sender = "s@example.org") {
    char name[] = "/tmp/local-test-msg-XXXXXX";
    UniqueFd fd(mkstemp(name));
    REQUIRE(fd);
    unlink(name);
    const std::string text = "0123" + body + headers + "tail";
    REQUIRE(write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    queue::Deliver request;
    request.queue_id = "4A1B2C";
    request.message = std::move(fd);
    request.body = {4, body.size()};
    request.headers = {4 + body.size(), headers.size()};
    request.transport = "local";
    request.sender = sender;
    request.arrival_usec = 1700000000'000042;
    queue::DeliverTo to;
    to.recipient.address = "user+x@example.com";
    to.recipient.original = "alias@example.com";
    request.recipients.push_back(to);
    Result<MessagePtr> message = Message::load(std::move(request), repeated);
    REQUIRE(message);
    return *message;
}

std::vector<std::string> files_in(const std::string& directory) {
    std::vector<std::string> names;
    DIR* const dir = opendir(directory.c_str());
    REQUIRE(dir);
    while (const dirent* entry = readdir(dir)) {
        if (entry->d_name[0] != '.') {
            names.emplace_back(entry->d_name);
        }
    }
    closedir(dir);
    return names;
}

std::string content(const std::string& path) {
    Result<std::string> text = read_text_file(path);
    INFO(path);
    REQUIRE(text);
    return *text;
}

MailboxRules quick_rules() {
    MailboxRules rules;
    rules.lock_attempts = 1;
    rules.hostname = "mail.example.com";
    return rules;
}

std::string filtered(BodyFilter filter, const std::string& text, std::size_t piece) {
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += piece) {
        filter.add(std::string_view(text).substr(at, piece), out);
    }
    filter.finish(out);
    return out;
}

Outcome run(const std::string& shell_text, Seconds limit = Seconds(10), const std::string& body = "\nbody\n") {
    Command command;
    command.shell_text = shell_text;
    command.user.uid = 65534;
    command.user.gid = 65534;
    command.time_limit = limit;
    command.success_text = "done";
    command.show_output = true;
    command.prefix = "Prefix: x\n";
    command.environment = {{"LOCAL", "value"}};
    return Loop::current().run_until(run_command(std::move(command), message_of("Subject: s\n", body)));
}

}  // namespace

TEST_CASE("a Maildir is made, and the file has headers, sizes and the right name", "[local]") {
    const Scratch scratch;
    const MessagePtr message = message_of("Subject: hi\n", "\nbody\n");
    const std::string prefix = copy_headers(*message, message->recipient(0), "user+x@example.com", {});
    CHECK(prefix == "Return-Path: <s@example.org>\nX-Original-To: alias@example.com\nDelivered-To: user+x@example.com\n");
    const Outcome outcome = deliver_maildir(*message, message->recipient(0), scratch.path + "/a/b/", prefix, quick_rules());
    CHECK(outcome.text == "delivered to maildir");
    REQUIRE(outcome.kind == queue::kDelivered);
    const std::vector<std::string> names = files_in(scratch.path + "/a/b/new");
    REQUIRE(names.size() == 1);
    const std::string text = prefix + "Subject: hi\n\nbody\n";
    CHECK(content(scratch.path + "/a/b/new/" + names[0]) == text);
    CHECK(names[0].substr(0, 31) == "1700000000.M000042Q4A1B2CR" + names[0].substr(26, 5));
    CHECK(names[0].find(".mail.example.com,S=" + std::to_string(text.size()) + ",W=" + std::to_string(text.size() + 6)) !=
          std::string::npos);
    CHECK(files_in(scratch.path + "/a/b/tmp").empty());
}

TEST_CASE("a repeated delivery finds its own file in new and in cur", "[local]") {
    const Scratch scratch;
    const std::string maildir = scratch.path + "/m";
    const MessagePtr message = message_of("Subject: hi\n", "\nbody\n", true);
    for (int i = 0; i < 2; ++i) {
        CHECK(deliver_maildir(*message, message->recipient(0), maildir, "", quick_rules()).kind == queue::kDelivered);
    }
    const std::vector<std::string> names = files_in(maildir + "/new");
    REQUIRE(names.size() == 1);
    REQUIRE(rename((maildir + "/new/" + names[0]).c_str(), (maildir + "/cur/" + names[0] + ":2,S").c_str()) == 0);
    CHECK(deliver_maildir(*message, message->recipient(0), maildir, "", quick_rules()).kind == queue::kDelivered);
    CHECK(files_in(maildir + "/new").empty());
    queue::Recipient other = message->recipient(0);
    other.address = "other@example.com";
    CHECK(deliver_maildir(*message, other, maildir, "", quick_rules()).kind == queue::kDelivered);
    CHECK(files_in(maildir + "/new").size() == 1);
}

TEST_CASE("what a power failure left of an earlier delivery does not count as one, even with the right size", "[local]") {
    const Scratch scratch;
    const std::string maildir = scratch.path + "/m", text = "Subject: hi\n\nbody\n";
    const MessagePtr message = message_of("Subject: hi\n", "\nbody\n", true);
    REQUIRE(deliver_maildir(*message, message->recipient(0), maildir, "", quick_rules()).kind == queue::kDelivered);
    const std::string name = files_in(maildir + "/new").at(0);
    for (const std::string& left : {std::string(), text.substr(0, 5), std::string(text.size(), '\0'), text.substr(0, text.size() - 1) + '\0'}) {
        REQUIRE(unlink((maildir + "/new/" + name).c_str()) == 0);
        std::ofstream(maildir + "/cur/" + name + ":2,S") << left;
        CHECK(deliver_maildir(*message, message->recipient(0), maildir, "", quick_rules()).kind == queue::kDelivered);
        REQUIRE(files_in(maildir + "/new") == std::vector<std::string>{name});
        CHECK(content(maildir + "/new/" + name) == text);
    }
}

TEST_CASE("one address by two ways gets two files, and two attempts at once do not disturb each other", "[local]") {
    const Scratch scratch;
    const std::string maildir = scratch.path + "/m";
    const MessagePtr message = message_of("Subject: hi\n", "\nbody\n", true);
    queue::Recipient aliased = message->recipient(0);
    aliased.original = "another-alias@example.com";
    std::atomic<int> delivered{0};
    const auto deliver = [&](const queue::Recipient& recipient) {
        for (int i = 0; i < 200; ++i) {
            const Outcome outcome = deliver_maildir(*message, recipient, maildir, "", quick_rules());
            delivered += outcome.kind == queue::kDelivered ? 1 : 0;
        }
    };
    std::thread first(deliver, aliased), second(deliver, aliased), third(deliver, message->recipient(0));
    first.join();
    second.join();
    third.join();
    CHECK(delivered == 600);
    const std::vector<std::string> names = files_in(maildir + "/new");
    CHECK(names.size() == 2);
    for (const std::string& name : names) {
        CHECK(content(maildir + "/new/" + name) == "Subject: hi\n\nbody\n");
    }
    CHECK(files_in(maildir + "/tmp").empty());
}

TEST_CASE("a large message is copied whole", "[local]") {
    const Scratch scratch;
    std::string body = "\n";
    for (int i = 0; i < 40000; ++i) {
        body += "line " + std::to_string(i) + "\n";
    }
    const MessagePtr message = message_of("Subject: hi\n", body);
    REQUIRE_FALSE(message->has_body());
    CHECK(deliver_maildir(*message, message->recipient(0), scratch.path + "/m", "", quick_rules()).kind == queue::kDelivered);
    const std::string name = files_in(scratch.path + "/m/new").at(0);
    CHECK(content(scratch.path + "/m/new/" + name) == "Subject: hi\n" + body);
    CHECK(deliver_mbox(*message, scratch.path + "/mbox", "From x\n", geteuid(), quick_rules()).kind == queue::kDelivered);
    CHECK(content(scratch.path + "/mbox") == "From x\nSubject: hi\n" + body + "\n");
}

TEST_CASE("mbox delivery appends, quotes From lines and ends with an empty line", "[local]") {
    const Scratch scratch;
    const std::string path = scratch.path + "/mbox";
    const MessagePtr message = message_of("Subject: hi\n", "\nFrom here\n>From there\nno end");
    CopyHeaders wanted;
    wanted.from_line = true;
    const std::string prefix = copy_headers(*message, message->recipient(0), "u@e", wanted);
    CHECK(prefix.substr(0, 21) == "From s@example.org  " + prefix.substr(20, 1));
    CHECK(deliver_mbox(*message, path, "From x\n", geteuid(), quick_rules()).text == "delivered to mailbox");
    CHECK(deliver_mbox(*message, path, "From y\n", geteuid(), quick_rules()).kind == queue::kDelivered);
    const std::string one = "Subject: hi\n\n>From here\n>From there\nno end\n\n";
    CHECK(content(path) == "From x\n" + one + "From y\n" + one);
    CHECK(access((path + ".lock").c_str(), F_OK) != 0);
}

TEST_CASE("comsat is told whose mailbox has a message, and where it begins", "[local]") {
    const Scratch scratch;
    const UniqueFd comsat(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(comsat.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::getsockname(comsat.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    const auto heard = [&] {
        char text[100];
        const ssize_t got = ::recv(comsat.get(), text, sizeof text, MSG_DONTWAIT);
        return got < 0 ? std::string("nothing") : std::string(text, static_cast<std::size_t>(got));
    };
    const MessagePtr message = message_of("Subject: hi\n", "\nbody\n");
    MailboxRules rules = quick_rules();
    rules.biff_user = "fred";
    const auto deliver = [&](const MailboxRules& with) {
        return deliver_mbox(*message, scratch.path + "/mbox", "From x\n", geteuid(), with).kind == queue::kDelivered;
    };
    REQUIRE(deliver(rules));                      // biff = no
    CHECK(heard() == "nothing");
    rules.biff_port = ntohs(address.sin_port);
    const std::size_t length = content(scratch.path + "/mbox").size();
    REQUIRE(deliver(rules));
    CHECK(heard() == "fred@" + std::to_string(length) + std::string(1, '\0'));
    rules.size_limit = 3;
    CHECK_FALSE(deliver(rules));
    CHECK(heard() == "nothing");
    rules.size_limit = 0;
    rules.biff_user.clear();                      // a file that an alias names
    REQUIRE(deliver(rules));
    CHECK(heard() == "nothing");
    CHECK(biff_port() != 0);
}

TEST_CASE("mailboxes that must not be written are left alone", "[local]") {
    const Scratch scratch;
    const MessagePtr message = message_of("Subject: hi\n", "\nbody\n");
    const std::string path = scratch.path + "/mbox";
    MailboxRules rules = quick_rules();

    REQUIRE(deliver_mbox(*message, path, "", geteuid(), rules).kind == queue::kDelivered);
    const std::string before = content(path);

    CHECK(deliver_mbox(*message, path, "", geteuid() + 1, rules).dsn == "4.2.0");   // somebody else's
    REQUIRE(link(path.c_str(), (path + "2").c_str()) == 0);
    CHECK(deliver_mbox(*message, path, "", geteuid(), rules).kind == queue::kBounced);
    REQUIRE(unlink((path + "2").c_str()) == 0);
    REQUIRE(symlink(path.c_str(), (path + "3").c_str()) == 0);
    CHECK(deliver_mbox(*message, path + "3", "", geteuid(), rules).kind != queue::kDelivered);
    rules.size_limit = static_cast<long>(before.size()) + 3;
    CHECK(deliver_mbox(*message, path, "", geteuid(), rules).dsn == "5.2.2");
    rules.size_limit = 3;
    CHECK(deliver_maildir(*message, message->recipient(0), scratch.path + "/m", "", rules).dsn == "5.2.2");
    rules = quick_rules();
    const UniqueFd lock(open((path + ".lock").c_str(), O_CREAT | O_WRONLY, 0600));
    CHECK(deliver_mbox(*message, path, "", geteuid(), rules).dsn == "4.2.0");
    rules.stale_lock_time = -5;
    rules.lock_attempts = 2;
    rules.lock_delay = 0;
    CHECK(content(path) == before);
    CHECK(deliver_mbox(*message, path, "", geteuid(), rules).kind == queue::kDelivered);   // a stale lock is taken away
    CHECK(deliver_mbox(*message, "/dev/null", "", 0, rules).text == "destination /dev/null is not a regular file");
    const std::string pipe = scratch.path + "/pipe";
    REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(deliver_mbox(*message, pipe, "", geteuid(), rules).text == "cannot open file: No such device or address");
    rules.plain_file = true;
    CHECK(deliver_mbox(*message, "/dev/null", "", 0, rules).kind == queue::kDelivered);
    REQUIRE(chmod(path.c_str(), 0700) == 0);
    CHECK(deliver_mbox(*message, path, "", geteuid(), rules).dsn == "5.7.1");
    CHECK(deliver_mbox(*message, scratch.path, "", geteuid(), rules).kind == queue::kBounced);
}

TEST_CASE("body filters do the same however the bytes are cut", "[local]") {
    const std::string text = "From a\n.dot\n..two\nFro\nFrom\n From b\nFrom c";
    BodyFilter filter;
    filter.quote_from = true;
    filter.stuff_dots = true;
    filter.eol = "\r\n";
    const std::string expected = ">From a\r\n..dot\r\n...two\r\nFro\r\nFrom\r\n From b\r\n>From c\r\n";
    for (std::size_t piece = 1; piece <= text.size(); ++piece) {
        CAPTURE(piece);
        CHECK(filtered(filter, text, piece) == expected);
    }
    CHECK(filtered(BodyFilter(), text, 3) == text + "\n");
    filter = BodyFilter();
    filter.quote_from = true;
    CHECK(filtered(filter, "x\nFro", 1) == "x\nFro\n");
    CHECK(filtered(filter, "\n\n", 1) == "\n\n");
}

TEST_CASE("headers are found, folded or not", "[local]") {
    const MessagePtr message = message_of("Subject: a\n b\nDelivered-To: X@Example.com\nsubject: c\n", "\n");
    CHECK(message->field("Subject") == "a b");
    CHECK(message->field("SUBJECT", 1) == "c");
    CHECK(message->field("To").empty());
    CHECK(message->was_delivered_to("x@example.COM"));
    CHECK_FALSE(message->was_delivered_to("y@example.com"));
}

TEST_CASE("exit statuses mean what sysexits says", "[local]") {
    const auto outcome = [](int code, const std::string& output = "") {
        const Outcome one = command_outcome(code << 8, false, "cmd", output, "fine");
        return one.dsn + " " + one.text;
    };
    CHECK(outcome(0) == "2.0.0 fine");
    CHECK(outcome(1) == "5.3.0 Command died with status 1: \"cmd\"");
    CHECK(outcome(1, "why\nnot\n") == "5.3.0 Command died with status 1: \"cmd\". Command output: why not");
    CHECK(outcome(67) == "5.1.1 user unknown");
    CHECK(outcome(75, "later") == "4.3.0 temporary failure. Command output: later");
    CHECK(outcome(1, "4.2.1 mailbox busy") == "4.2.1 mailbox busy");
    CHECK(outcome(75, "5.7.1 never") == "5.7.1 never");
    CHECK(outcome(1, "2.0.0 odd") == "5.3.0 Command died with status 1: \"cmd\". Command output: 2.0.0 odd");
    CHECK(outcome(1, "4.2 no") == "5.3.0 Command died with status 1: \"cmd\". Command output: 4.2 no");
    CHECK(command_outcome(9, false, "cmd", "", "").text == "Command died with signal 9: \"cmd\"");
    CHECK(command_outcome(0, true, "cmd", "", "").text == "Command time limit exceeded: \"cmd\"");
    CHECK(command_outcome(0, true, "cmd", "", "").diagnostic == "x-unix; internal software error");
    CHECK(command_outcome(3 << 8, false, "cmd", "", "").diagnostic == "x-unix; unknown mail system error 3");
    CHECK(command_outcome(67 << 8, false, "cmd", "", "").diagnostic == "x-unix; user unknown");
    CHECK(command_outcome(67 << 8, false, "cmd", "who?\n", "").diagnostic == "x-unix; who?");
    CHECK(command_outcome(1 << 8, false, "cmd", "5.7.2 keep out\n", "").diagnostic == "x-unix; keep out");
    CHECK(command_outcome(0, false, "cmd", "", "fine").diagnostic.empty());
}

TEST_CASE("commands get the message and the environment, and nothing else", "[local]") {
    CHECK(run("cat").text == "done (Prefix: x Subject: s  body)");
    CHECK(run("echo $LOCAL; exit 67").text == "user unknown. Command output: value");
    CHECK(run("/no/such/program").dsn == "4.3.0");
    CHECK(run("/no/such/program").text ==
          "temporary failure. Command output: fatal: execvp /no/such/program: No such file or directory");
    CHECK(run("env | sort | tr '\\n' ' '").text.find("done (LOCAL=value PATH=/usr/bin:/bin PWD=") == 0);
    CHECK(run("ls /proc/self/fd").text.find("3 4") == std::string::npos);
    CHECK(run("kill -TERM $$").text == "Command died with signal 15: \"kill -TERM $$\"");
    if (geteuid() == 0) {
        CHECK(run("id -u").text == "done (65534)");
    }
}

TEST_CASE("a command need not read its message, and may not take for ever", "[local]") {
    const std::string big(2'000'000, 'x');
    CHECK(run("exit 0", Seconds(10), "\n" + big).text == "done");
    CHECK(run("wc -c", Seconds(10), "\n" + big + "\n").text == "done (2000023)");
    CHECK(run("sleep 20; echo no", Seconds(1)).text.substr(0, 28) == "Command time limit exceeded:");
    CHECK(run("exec >/dev/null 2>&1; sleep 20", Seconds(1)).text.substr(0, 28) == "Command time limit exceeded:");
}

TEST_CASE("alias items are told apart", "[local]") {
    const auto shown = [](std::string_view text) {
        std::string out;
        for (const AddressItem& item : parse_address_items(text)) {
            out += "acfi!"[static_cast<int>(item.kind)] + std::string("<") + item.text + ">";
        }
        return out;
    };
    CHECK(shown("a, b@c") == "a<a>a<b@c>");
    CHECK(shown("|/bin/cat, \"|cmd a, b\", |\"cmd c, d\"") == "c</bin/cat>c<cmd a, b>c<cmd c, d>");
    CHECK(shown("/var/x, \"/var/y z\"") == "f</var/x>f</var/y z>");
    CHECK(shown(":include:/l, \":include:/m n\"") == "i</l>i</m n>");
    CHECK(shown("\\user, \"\\user\"") == "a<\\user>a<user>");   // quotes take the backslash away
    CHECK(shown("# comment\nName <x@y>\n\nz\n") == "a<x@y>a<z>");
    CHECK(shown("\"a b\"@c") == "a<a b@c>");
    CHECK(shown(",, ,\n,") == "");
    CHECK(shown("<>") == "!<<>>");
    CHECK(shown("a b, (c), (d)\n(unclosed\ne") == "a<a>a<b>a<e>");
    CHECK(shown("friends: a, b@c;") == "a<a>a<b@c>");
    CHECK(shown("~/box, |cmd a: b;") == "f<~/box>c<cmd a: b;>");
}

TEST_CASE("pipe attributes are read from master.cf and mistakes are named", "[local]") {
    Result<PipeAttributes> attributes = parse_pipe_attributes(
        {"flags=DRX.", "user=nobody", "eol=\\r\\n", "size=100", "null_sender=", "argv=/bin/x", "-f", "${sender}", "$recipient"});
    REQUIRE(attributes);
    CHECK(attributes->delivered_to);
    CHECK(attributes->stuff_dots);
    CHECK(attributes->eol == "\r\n");
    CHECK(attributes->size_limit == 100);
    CHECK(attributes->null_sender.empty());
    CHECK(attributes->argv == std::vector<std::string>{"/bin/x", "-f", "${sender}", "$recipient"});
    CHECK(parse_pipe_attributes({"user=x"}).error().what == "missing argv= attribute");
    CHECK(parse_pipe_attributes({"argv=/bin/x"}).error().what == "missing user= attribute");
    CHECK(parse_pipe_attributes({"flags=Z", "user=x", "argv=y"}).error().what == "unknown flag 'Z' in flags=Z");
    CHECK(parse_pipe_attributes({"colour=red"}).error().what == "unknown attribute \"colour\"");
    CHECK_FALSE(parse_pipe_attributes({"word"}));
}

TEST_CASE("pipe arguments that speak of the recipient are there for each recipient", "[local]") {
    const Result<PipeAttributes> attributes = parse_pipe_attributes(
        {"flags=hqu", "user=nobody", "argv=/bin/x", "${sender}", "-r", "${recipient}", "${user}/${extension?+$extension}", "$size"});
    REQUIRE(attributes);
    queue::Deliver request;
    request.sender = "";
    request.headers.length = 5;
    request.body.length = 6;
    for (const char* address : {"A b+Tag@Example.COM", "c@d"}) {
        queue::DeliverTo to;
        to.recipient.address = address;
        request.recipients.push_back(to);
    }
    const Result<std::vector<std::string>> argv = expand_pipe_argv(*attributes, request, "+");
    REQUIRE(argv);
    CHECK(*argv == std::vector<std::string>{"/bin/x", "MAILER-DAEMON", "-r", "\"a b+tag\"@example.com", "c@d", "a b/+tag", "c/", "11"});
    const Result<PipeAttributes> wrong = parse_pipe_attributes({"user=nobody", "argv=/bin/x", "${recipient}", "$no_such_name"});
    REQUIRE(wrong);
    CHECK(expand_pipe_argv(*wrong, request, "+").error().what == "unknown macro name: \"no_such_name\"");
}

TEST_CASE("environment values are cleaned for shells", "[local]") {
    CHECK(censored("a;b`c", "abc") == "a_b_c");
    const auto environment = exported_environment("NAME=value, {TWO = a b} NO_SUCH_VARIABLE_HERE");
    REQUIRE(environment.size() == 2);
    CHECK(environment[1].second == "a b");
}

TEST_CASE("a command does not get half of a message that cannot be read", "[local]") {
    const Scratch scratch;
    char name[] = "/tmp/local-test-msg-XXXXXX";
    UniqueFd fd(mkstemp(name));
    REQUIRE(fd);
    unlink(name);
    const std::string body = "\n" + std::string(300'000, 'x') + "\n", headers = "Subject: s\n";
    REQUIRE(write(fd.get(), (headers + body).data(), headers.size() + body.size()) == static_cast<ssize_t>(headers.size() + body.size()));
    const int file = fd.get();
    queue::Deliver request;
    request.queue_id = "4A1B2C";
    request.message = std::move(fd);
    request.headers = {0, headers.size()};
    request.body = {headers.size(), body.size()};
    request.recipients.emplace_back();
    Result<MessagePtr> message = Message::load(std::move(request), false);
    REQUIRE(message);
    REQUIRE(ftruncate(file, 150'000) == 0);   // as a disk that fails behind our back
    Command command;
    command.shell_text = "cat > " + scratch.path + "/copy; touch " + scratch.path + "/complete";
    command.user.uid = command.user.gid = 65534;
    const Outcome outcome = Loop::current().run_until(run_command(std::move(command), *message));
    CHECK(outcome.kind == queue::kDeferred);
    CHECK(outcome.dsn == "4.3.0");
    CHECK(access((scratch.path + "/complete").c_str(), F_OK) != 0);
}
