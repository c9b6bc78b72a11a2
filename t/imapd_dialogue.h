/// An IMAP conversation held in memory, over a real mail store in a scratch directory.
#pragma once

#include <catch2/catch.hpp>

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "imapd/session.h"
#include "lib/async/loop.h"
#include "lib/config/config.h"
#include "lib/log/capture.h"
#include "lib/store/store.h"
#include "lib/stream/stream.h"

namespace postern::imapd {

/// A user's mail in a directory of its own, removed at the end.
class ScratchAccount {
public:
    /// `separator` as in store::AccountOptions.
    explicit ScratchAccount(char separator = 0) {
        char name[] = "/tmp/postern-imapd-XXXXXX";
        directory_ = ::mkdtemp(name);
        store::AccountOptions options;
        options.location = "maildir:" + directory_ + "/Maildir";
        options.user = "fred";
        options.home = directory_;
        options.separator = separator;
        auto opened = store::Account::open(options);
        if (!opened) {
            throw std::runtime_error(opened.error().what);
        }
        account_ = std::move(*opened);
        appends_ = std::make_unique<AppendQueue>(account_);
    }
    ~ScratchAccount() {
        appends_.reset();
        account_.reset();
        std::filesystem::remove_all(directory_);
    }
    store::Account& account() { return *account_; }
    AppendQueue& appends() { return *appends_; }
    const std::string& directory() const { return directory_; }

private:
    std::string directory_;
    std::shared_ptr<store::Account> account_;
    std::unique_ptr<AppendQueue> appends_;
};

/// One client.  send() says something and gives back what the server answered to it.
class Dialogue {
public:
    explicit Dialogue(ScratchAccount& scratch, std::string settings = "")
        : config_(std::move(*Config::from_text(settings))) {
        auto stream = std::make_unique<MemoryStream>();
        stream_ = stream.get();
        session_ = std::make_unique<Session>(std::move(stream), scratch.account(), scratch.appends(), config_,
                                             ClientInfo{"fred", "s1"});
        spawn(run(*session_, done_));
    }
    ~Dialogue() {
        if (!done_) {
            stream_->hang_up();
            wait([this] { return done_; });
        }
    }

    /// Feeds `text` and waits until the reply to `tag` is complete.  Returns everything that was sent since.
    std::string send(const std::string& text, const std::string& tag) {
        stream_->forget_sent();
        stream_->feed(text);
        wait([&] { return done_ || has_reply(tag); });
        return stream_->sent();
    }
    /// One command with a tag of its own; the answer without that tag.
    std::string command(const std::string& text) {
        const std::string tag = "t" + std::to_string(++tags_);
        std::string answer = send(tag + " " + text + "\r\n", tag);
        const std::size_t at = find_reply(answer, tag);
        if (at != std::string::npos) {
            answer.erase(at, tag.size() + 1);
        }
        return answer;
    }
    void feed(const std::string& text) { stream_->feed(text); }
    /// Waits until what was sent contains `text`; what was sent then.
    std::string wait_for(const std::string& text) {
        wait([&] { return done_ || stream_->sent().find(text) != std::string::npos; });
        return stream_->sent();
    }
    void forget() { stream_->forget_sent(); }
    MemoryStream& stream() { return *stream_; }
    Session& session() { return *session_; }
    bool done() const { return done_; }

    std::string append(const std::string& mailbox, const std::string& message, const std::string& before = "") {
        return command("APPEND " + mailbox + " " + before + "{" + std::to_string(message.size()) + "+}\r\n" + message);
    }

private:
    static Task<> run(Session& session, bool& done) {
        co_await session.run("login OK Logged in\r\n");
        done = true;
    }
    static std::size_t find_reply(const std::string& sent, const std::string& tag) {
        if (sent.compare(0, tag.size() + 1, tag + " ") == 0) {
            return 0;
        }
        const std::size_t at = sent.find("\r\n" + tag + " ");
        return at == std::string::npos ? at : at + 2;
    }
    bool has_reply(const std::string& tag) const {
        const std::size_t at = find_reply(stream_->sent(), tag);
        return at != std::string::npos && stream_->sent().find("\r\n", at) != std::string::npos;
    }
    template <class Condition>
    static Task<> poll(Condition condition) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (!condition() && std::chrono::steady_clock::now() < end) {
            co_await sleep_for(Millis(1));
        }
    }
    template <class Condition>
    void wait(Condition condition) {
        if (!condition()) {
            Loop::current().run_until(poll(condition));
        }
    }

    Config config_;
    MemoryStream* stream_ = nullptr;       ///< owned by the session
    std::unique_ptr<Session> session_;
    bool done_ = false;
    int tags_ = 0;
};

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline const std::string kMessage =
    "From: Fred <fred@example.org>\r\nTo: joe@example.net\r\nSubject: first\r\n"
    "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nMessage-ID: <1@example.org>\r\n\r\nbody line\r\nsecond\r\n";

/// An INBOX with `count` copies of kMessage, selected.
inline void fill(Dialogue& client, int count) {
    for (int i = 0; i < count; ++i) {
        REQUIRE(has(client.append("INBOX", kMessage), "OK [APPENDUID"));
    }
    REQUIRE(has(client.command("SELECT INBOX"), "OK [READ-WRITE]"));
}

}  // namespace postern::imapd
