// Before login, held in memory; auth(8) is not there.
#include <catch2/catch.hpp>

#include "lib/async/loop.h"
#include "lib/config/config.h"
#include "lib/log/capture.h"
#include "lib/stream/stream.h"
#include "pop3d/front.h"

using namespace postern;

namespace {

/// Leaves what it has sent behind when it goes.
class KeptStream : public MemoryStream {
public:
    explicit KeptStream(std::string& kept) : kept_(kept) {}
    ~KeptStream() override { kept_ = sent(); }

private:
    std::string& kept_;
};

class FrontDialogue {
public:
    explicit FrontDialogue(const std::string& remote = "192.0.2.9", const std::string& settings = "")
        : config_(std::move(*Config::from_text(settings + "\nauth_service_name = postern-test-no-such-socket\nssl = no\n"))),
          front_(std::move(*LoginFront::create(config_, "pop3", "private/nothing"))) {
        auto stream = std::make_unique<KeptStream>(kept_);
        stream_ = stream.get();
        LoginAddresses addresses;
        addresses.remote_ip = remote;
        addresses.local_ip = "192.0.2.1";
        spawn(run(std::move(stream), std::move(addresses), *front_, done_));
        greeting_ = stream_->sent();
    }
    ~FrontDialogue() { hang_up(); }

    const std::string& greeting() const { return greeting_; }
    std::string say(const std::string& text) {
        stream_->forget_sent();
        stream_->feed(text);
        settle();
        return done_ ? kept_ : stream_->sent();
    }
    void expire() {
        stream_->forget_sent();
        stream_->expire();
        settle();
    }
    void hang_up() {
        if (!done_) {
            stream_->hang_up();
            settle();
        }
    }
    bool done() const { return done_; }
    const std::string& last_words() const { return kept_; }

private:
    static Task<> run(std::unique_ptr<Stream> stream, LoginAddresses addresses, LoginFront& front, bool& done) {
        co_await pop3d::serve_front(std::move(stream), std::move(addresses), front, false);
        done = true;
    }
    static Task<> pause() {
        co_await sleep_for(Millis(3));
    }
    static void settle() { Loop::current().run_until(pause()); }

    Config config_;
    std::unique_ptr<LoginFront> front_;
    KeptStream* stream_ = nullptr;             ///< until done_
    std::string greeting_, kept_;
    bool done_ = false;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the greeting has no APOP timestamp and CAPA tells what can be done", "[pop3d]") {
    LogCapture log;
    FrontDialogue client("192.0.2.9");
    CHECK(client.greeting() == "+OK Postern ready.\r\n");
    const std::string capa = client.say("CAPA\r\n");
    CHECK(capa.substr(0, 5) == "+OK\r\n");
    CHECK(capa.substr(capa.size() - 5) == "\r\n.\r\n");
    CHECK(has(capa, "RESP-CODES\r\n"));
    CHECK_FALSE(has(capa, "USER"));            // disable_plaintext_auth
    CHECK_FALSE(has(capa, "STLS"));            // no certificate
    CHECK_FALSE(has(capa, "SASL"));            // nobody to ask
    CHECK(has(FrontDialogue("192.0.2.1").say("CAPA\r\n"), "USER\r\n"));
    CHECK(has(FrontDialogue("192.0.2.9", "disable_plaintext_auth = no").say("CAPA\r\n"), "USER\r\n"));
}

TEST_CASE("a password is refused before it is sent in the clear", "[pop3d]") {
    LogCapture log;
    {
        FrontDialogue client;
        CHECK(client.say("USER fred\r\n").substr(0, 12) == "-ERR [AUTH] ");
        CHECK(client.say("PASS secret\r\n") == "-ERR No username given.\r\n");
        CHECK(client.say("AUTH PLAIN AGZyZWQAc2VjcmV0\r\n").substr(0, 12) == "-ERR [AUTH] ");
        client.hang_up();
    }
    CHECK(log.count("pop3-login: Disconnected") == 1);
    CHECK(log.count("tried to use disallowed plaintext auth") + log.count("tried to use disallowed cleartext auth") == 1);
    CHECK(log.count("secret") == 0);
}

TEST_CASE("login without auth(8) is a temporary failure", "[pop3d]") {
    LogCapture log;
    FrontDialogue client("192.0.2.1");
    CHECK(client.say("USER fred\r\nPASS  with spaces \r\n") == "+OK\r\n-ERR [SYS/TEMP] Temporary authentication failure.\r\n");
    CHECK(client.say("PASS again\r\n") == "-ERR No username given.\r\n");
    CHECK(client.say("AUTH PLAIN =\r\n").substr(0, 16) == "-ERR [SYS/TEMP] ");
    CHECK(client.say("AUTH PLAIN not+base64!\r\n").substr(0, 5) == "-ERR ");
}

TEST_CASE("every command refuses what it cannot use", "[pop3d]") {
    LogCapture log;
    for (const char* bad : {"", "FOO", "STAT", "RETR 1", "USER", "PASS", "PASS x", "STLS", "STLS x", "CAPA x", "NOOP x", "QUIT x",
                            "AUTH a b c", "APOP fred c4c9334bac560ecc979e58001b3e22fb", "\x80\xff", "GET / HTTP/1.1"}) {
        FrontDialogue client("192.0.2.1");
        CAPTURE(bad);
        const std::string answer = client.say(std::string(bad) + "\r\n");
        CHECK(answer.substr(0, 5) == "-ERR ");
        CHECK(answer.find("\r\n") == answer.size() - 2);
        CHECK(client.say("NOOP\r\n") == "+OK\r\n");
    }
    FrontDialogue client("192.0.2.1");
    CHECK(client.say("USER " + std::string(300, 'x') + "\r\n") == "-ERR Command line too long.\r\n");
    CHECK(client.say("AUTH PLAIN " + std::string(20000, 'x') + "\r\n") == "-ERR Command line too long.\r\n");
    CHECK(client.say("AUTH\r\n") == "+OK\r\n.\r\n");
    // A password may be a token, and is as long here as in AUTH.
    CHECK(client.say("USER fred\r\n") == "+OK\r\n");
    CHECK(client.say("PASS " + std::string(2000, 'x') + "\r\n").find("too long") == std::string::npos);
}

TEST_CASE("wrong commands, silence and QUIT end the conversation and are logged", "[pop3d]") {
    LogCapture log;
    FrontDialogue noisy;
    for (int i = 0; i < 10; ++i) {
        CHECK_FALSE(noisy.done());
        noisy.say("FOO\r\n");
    }
    CHECK(noisy.done());
    CHECK(has(noisy.last_words(), "-ERR Too many invalid commands.\r\n"));
    CHECK(log.count("pop3-login: Disconnected: Too many invalid commands") == 1);

    FrontDialogue silent;
    silent.expire();
    CHECK(silent.done());
    CHECK(silent.last_words() == "-ERR Disconnected for inactivity.\r\n");
    CHECK(log.count("pop3-login: Disconnected: Inactivity") == 1);

    FrontDialogue polite;
    CHECK(polite.say("quit\r\n") == "+OK Logging out\r\n");
    CHECK(polite.done());
    CHECK(log.count("pop3-login: Aborted login") == 1);
}

TEST_CASE("pipelined commands are answered in order however they are cut", "[pop3d]") {
    LogCapture log;
    const std::string script = "CAPA\r\nNOOP\r\nFOO\r\nUSER fred\r\nNOOP\r\n";
    const std::string whole = FrontDialogue("192.0.2.1").say(script);
    for (std::size_t cut = 1; cut < script.size(); ++cut) {
        CAPTURE(cut);
        FrontDialogue pieces("192.0.2.1");
        std::string sent = pieces.say(script.substr(0, cut));
        sent += pieces.say(script.substr(cut));
        CHECK(sent == whole);
    }
}
