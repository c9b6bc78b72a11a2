// sendmail(1): its options and what it makes of standard input.
#include <catch2/catch.hpp>

#include "tools/sendmail_input.h"
#include "tools/sendmail_options.h"

using namespace postern;
using namespace postern::sendmail;

namespace {

Options parse(const std::vector<std::string>& arguments, const std::string& program = "sendmail") {
    Result<Options> options = parse_options(program, arguments);
    if (!options) {
        FAIL(options.error().what);
    }
    return std::move(*options);
}

bool refused(const std::vector<std::string>& arguments) { return !parse_options("sendmail", arguments).ok(); }

std::string filtered(const std::string& input, InputOptions options = {}, std::size_t cut = 1000000) {
    InputFilter filter(options);
    std::string out;
    for (std::size_t at = 0; at < input.size(); at += cut) {
        out += filter.feed(std::string_view(input).substr(at, cut));
    }
    return out + filter.finish();
}

}  // namespace

TEST_CASE("sendmail options as scripts write them", "[sendmail]") {
    const Options o = parse({"-t", "-oi", "-f", "me@x.example", "-FFull Name", "-N", "success,DELAY", "-R", "hdrs", "-V", "id=1",
                             "-B8BITMIME", "-v"});
    CHECK(o.recipients_from_header);
    CHECK_FALSE(o.dot_ends);
    CHECK(o.envelope.sender == "me@x.example");
    CHECK(o.envelope.sender_full_name == "Full Name");
    CHECK(o.notify == (queue::kNotifySuccess | queue::kNotifyDelay));
    CHECK(o.envelope.dsn_ret == queue::kRetHeaders);
    CHECK(o.envelope.dsn_envid == "id+3D1");
    CHECK(o.envelope.encoding == queue::kEncoding8bit);
    CHECK(o.envelope.trace);
    CHECK(o.envelope.rewrite_local);
    CHECK(o.recipients.empty());
}

TEST_CASE("flags may share a word and recipients end the options", "[sendmail]") {
    const Options o = parse({"-tiv", "-odb", "-oem", "-oeq", "-em", "-m", "-n", "-U", "-om", "-h", "5", "-L", "tag", "-X", "log", "-d",
                             "-A", "c", "-Ac", "-p", "SMTP:x", "-O", "DeliveryMode=b", "-oQ/dir", "-or", "1h", "--", "-odd@x", "b"});
    CHECK(o.recipients_from_header);
    CHECK(o.recipients == std::vector<std::string>{"-odd@x", "b"});
    CHECK(parse({"user", "-t"}).recipients == std::vector<std::string>{"user", "-t"});
    CHECK(parse({"-i", "a", "b"}).recipients.size() == 2);
    CHECK(parse({"-ti", "-fbounce@x", "-"}).recipients == std::vector<std::string>{"-"});
}

TEST_CASE("the null sender in all its spellings", "[sendmail]") {
    for (const char* text : {"<>", "", " <> "}) {
        const Options o = parse({"-f", text, "rcpt"});
        CHECK(o.has_sender);
        CHECK(o.envelope.sender.empty());
        CHECK(o.recipients == std::vector<std::string>{"rcpt"});
    }
    CHECK(parse({"-f<a@b>", "r"}).envelope.sender == "a@b");
    CHECK(parse({"-r", "Name <a@b>", "r"}).envelope.sender == "a@b");
    CHECK_FALSE(parse({"r"}).has_sender);
}

TEST_CASE("modes by option and by program name", "[sendmail]") {
    CHECK(parse({}, "mailq").mode == Mode::list_queue);
    CHECK(parse({}, "newaliases").mode == Mode::make_aliases);
    CHECK(parse({"-bp"}).mode == Mode::list_queue);
    CHECK(parse({"-bi"}).mode == Mode::make_aliases);
    CHECK(parse({"-I"}).mode == Mode::make_aliases);
    CHECK(parse({"-bs"}).mode == Mode::smtp);
    CHECK(parse({"-bd", "-q15m"}).mode == Mode::daemon);
    CHECK(parse({"-q15m"}).mode == Mode::daemon);
    CHECK(parse({"-q"}).mode == Mode::flush);
    const Options id = parse({"-qI4A1B2C"});
    CHECK(id.mode == Mode::flush_id);
    CHECK(id.argument == "4A1B2C");
    CHECK(parse({"-qRexample.org"}).mode == Mode::flush_site);
    CHECK(parse({"-bm", "x"}).mode == Mode::submit);
    CHECK(parse({"-bv", "x"}).envelope.verify_only);
    CHECK(parse({"-G", "x"}).envelope.rewrite_local == false);
    CHECK(parse({"-XV-=", "x"}).envelope.verp_delimiters == "-=");
    CHECK(parse({"-C", "/etc/x/main.cf"}).config_directory == "/etc/x");
    CHECK(parse({"-oA/etc/other", "-bi"}).alias_database == "/etc/other");
}

TEST_CASE("bad options are usage errors", "[sendmail]") {
    CHECK(refused({"-Z"}));
    CHECK(refused({"-f"}));
    CHECK(refused({"-B", "9BIT", "x"}));
    CHECK(refused({"-bz"}));
    CHECK(refused({"-qX"}));
    CHECK(refused({"-XVabc", "x"}));
}

TEST_CASE("-V is VERP where it was before it was for envelope ids", "[sendmail]") {
    const auto meaning = [](const std::vector<std::string>& words) {
        const Options o = parse(words);
        return std::string(o.verp ? "verp " : "id ") + (o.verp ? o.envelope.verp_delimiters : o.envelope.dsn_envid) +
               (o.warnings.size() == 1 && o.warnings[0].find("is deprecated with Postfix 2.3; specify -XV") != std::string::npos ? " old" : "");
    };
    CHECK(meaning({"-V", "-f", "a@b", "x"}) == "verp  old");
    CHECK(meaning({"-V", "ab", "x"}) == "verp  old");
    CHECK(meaning({"-V-=", "x"}) == "verp -= old");
    CHECK(meaning({"-XV-=", "x"}) == "verp -=");
    CHECK(meaning({"-V", "ENV1", "x"}) == "id ENV1");
    CHECK(meaning({"-V", "y", "x"}) == "id y");
    CHECK(meaning({"-Vabcd", "x"}) == "id abcd");
    CHECK(meaning({"-Va", "x"}) == "id a");
}

TEST_CASE("a bad report option or sender is warned about and the message is sent, as with Postfix", "[sendmail]") {
    const auto warned = [](const std::vector<std::string>& words) {
        const Options options = parse(words);
        CHECK(options.recipients == std::vector<std::string>{"x"});
        CHECK(options.notify == 0);
        CHECK(options.envelope.dsn_ret == 0);
        CHECK(options.envelope.dsn_envid.empty());
        return options.warnings.size() == 1 ? options.warnings[0] : std::string("no warning");
    };
    CHECK(warned({"-N", "sometimes", "x"}).starts_with("bad -N option value"));
    CHECK(warned({"-N", "never,success", "x"}).starts_with("bad -N option value"));
    CHECK(warned({"-R", "all", "x"}).starts_with("bad -R option value"));
    CHECK(warned({"-V", std::string(101, 'x'), "x"}).starts_with("bad -V option value"));
    CHECK(warned({"-V", "", "x"}).starts_with("bad -V option value"));
    CHECK(warned({"-f", "x@y z@w", "x"}) == "-f option specified malformed sender: x@y z@w");
    CHECK(parse({"-f", "x@y z@w", "x"}).envelope.sender == "x@y");
    CHECK(refused({"-f", "<", "x"}));
}

TEST_CASE("-e has a value, in the same word or the next", "[sendmail]") {
    CHECK(parse({"-ep", "user"}).recipients == std::vector<std::string>{"user"});
    CHECK(parse({"-e", "m", "user"}).recipients == std::vector<std::string>{"user"});
}

TEST_CASE("a lone dot ends the message unless -i was given, however the input is cut", "[sendmail]") {
    const std::string input = "Subject: x\n\n..\n. \nline\n.\nnot this\n";
    for (std::size_t cut = 1; cut <= input.size(); ++cut) {
        CAPTURE(cut);
        REQUIRE(filtered(input, {}, cut) == "Subject: x\n\n..\n. \nline\n");
        REQUIRE(filtered(input, {.dot_ends = false}, cut) == input);
    }
    CHECK(filtered("a\r\n.\r\nb\r\n") == "a\n");
    CHECK(filtered("no newline") == "no newline\n");
    CHECK(filtered("").empty());
    CHECK(filtered(".") == "");
}

TEST_CASE("line ends are fixed as sendmail_fix_line_endings says", "[sendmail]") {
    const std::string mixed = "a\r\nb\nc\r\r\nd\re\r\n\r";
    for (std::size_t cut = 1; cut <= mixed.size(); ++cut) {
        CAPTURE(cut);
        REQUIRE(filtered(mixed, {.fix = FixLineEndings::always}, cut) == "a\nb\nc\r\nd\re\n\n");
        REQUIRE(filtered(mixed, {.fix = FixLineEndings::strict}, cut) == "a\nb\nc\r\nd\re\n\n");
        REQUIRE(filtered(mixed, {.fix = FixLineEndings::never}, cut) == mixed + "\n");
        REQUIRE(filtered("x\n" + mixed, {.fix = FixLineEndings::strict}, cut) == "x\n" + mixed + "\n");
    }
}

TEST_CASE("an mbox From line is left out, but only as the first line", "[sendmail]") {
    CHECK(filtered("From me Tue\nSubject: x\n\nFrom here\n") == "Subject: x\n\nFrom here\n");
    CHECK(filtered(">From me Tue\r\nSubject: x\n") == "Subject: x\n");
    CHECK(filtered("From: me\n") == "From: me\n");
}

TEST_CASE("long lines and NUL pass", "[sendmail]") {
    const std::string line = std::string(300000, 'x') + std::string("\0y", 2) + std::string(200000, 'z');
    for (const std::size_t cut : {std::size_t{4096}, std::size_t{65536}, std::size_t{1000000}}) {
        CHECK(filtered(line + "\r\nnext\n", {}, cut) == line + "\nnext\n");
    }
}

TEST_CASE("-t finds recipients, in resent messages those of the resending", "[sendmail]") {
    InputFilter filter({.dot_ends = true, .want_header = true});
    (void)filter.feed("To: a, B <b@x>,\n c@y\nCc: G: d, a;\nbCC: \"e f\"@z\nReply-To: no\n\nTo: body\n");
    CHECK(recipients_in_header(filter.header()) == std::vector<std::string>{"a", "b@x", "c@y", "d", "e f@z"});
    CHECK(recipients_in_header("To: a\nResent-To: b\nResent-Cc: c\nResent-Bcc: d\n") == std::vector<std::string>{"b", "c", "d"});
    CHECK(recipients_in_header("To: a\nResent-From: x\n").empty());
    CHECK(recipients_in_header("Subject: nobody\n").empty());
}

TEST_CASE("an argument may hold several recipients", "[sendmail]") {
    CHECK(recipients_in_argument("a,b@x") == std::vector<std::string>{"a", "b@x"});
    CHECK(recipients_in_argument("Name <a@b>") == std::vector<std::string>{"a@b"});
    CHECK(recipients_in_argument("\"a b\"@c") == std::vector<std::string>{"a b@c"});
    for (const char* nobody : {"", " ", ",", "<>", ">", "()", "(x)", "\"\""}) {
        CAPTURE(nobody);
        CHECK(recipients_in_argument(nobody) == std::vector<std::string>{""});
    }
    CHECK(recipients_in_argument("<") == std::vector<std::string>{"<"});
    CHECK(recipients_in_argument("<a") == std::vector<std::string>{"<a"});
}
