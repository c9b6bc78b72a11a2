/// A POP3 conversation held in memory, over a real mail store in a scratch directory.
#pragma once

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

#include "lib/async/loop.h"
#include "lib/config/config.h"
#include "lib/log/capture.h"
#include "lib/store/store.h"
#include "lib/stream/stream.h"
#include "pop3d/session.h"

namespace postern::pop3d {

/// A user's mail in a directory of its own, removed at the end.
class ScratchAccount {
public:
    ScratchAccount() {
        char name[] = "/tmp/postern-pop3d-XXXXXX";
        directory_ = ::mkdtemp(name);
        store::AccountOptions options;
        options.location = "maildir:" + directory_ + "/Maildir";
        options.user = "fred";
        options.home = directory_;
        auto opened = store::Account::open(options);
        if (!opened) {
            throw std::runtime_error(opened.error().what);
        }
        account_ = std::move(*opened);
    }
    ~ScratchAccount() {
        account_.reset();
        std::filesystem::remove_all(directory_);
    }
    std::shared_ptr<store::Account> account() { return account_; }
    const std::string& directory() const { return directory_; }

    void add(std::string_view message) {
        std::vector<std::unique_ptr<store::Appender>> list;
        auto appender = account_->append("INBOX");
        if (!appender || !(*appender)->write(message) || !(*appender)->finish()) {
            throw std::runtime_error("append");
        }
        list.push_back(std::move(*appender));
        if (!account_->commit_appends("INBOX", list)) {
            throw std::runtime_error("commit");
        }
        list.front()->keep();
    }
    store::Status status() { return *account_->status("INBOX"); }

private:
    std::string directory_;
    std::shared_ptr<store::Account> account_;
};

/// One client.  say() gives back what the server answered.
class Dialogue {
public:
    explicit Dialogue(ScratchAccount& scratch, const std::string& settings = "")
        : config_(std::move(*Config::from_text(settings))) {
        auto stream = std::make_unique<MemoryStream>();
        stream_ = stream.get();
        session_ = std::make_unique<Session>(std::move(stream), Maildrop::open(scratch.account(), config_), config_, ClientInfo{"fred", "s1"});
        spawn(run(*session_, done_, sent_at_end_, *stream_));
        wait([this] { return done_ || stream_->sent().find("\r\n") != std::string::npos; });
        greeting_ = stream_->sent();
    }
    ~Dialogue() { hang_up(); }

    const std::string& greeting() const { return greeting_; }
    /// Says something and waits until the conversation has come to rest.
    std::string say(const std::string& text) {
        stream_->forget_sent();
        stream_->feed(text);
        if (text.find("QUIT\r\n") != std::string::npos) {
            wait([this] { return done_; });
        }
        return done_ ? sent_at_end_ : stream_->sent();
    }
    void hang_up() {
        if (!done_) {
            stream_->hang_up();
            wait([this] { return done_; });
        }
    }
    void expire() {
        stream_->forget_sent();
        stream_->expire();
        wait([this] { return done_; });
    }
    void stop() {
        stream_->forget_sent();
        session_->stop();
        wait([this] { return done_; });
    }
    bool done() const { return done_; }
    const std::string& last_words() const { return sent_at_end_; }

private:
    static Task<> run(Session& session, bool& done, std::string& sent_at_end, MemoryStream& stream) {
        co_await session.run();
        sent_at_end = stream.sent();
        done = true;
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
    MemoryStream* stream_ = nullptr;           ///< owned by the session
    std::unique_ptr<Session> session_;
    std::string greeting_;
    std::string sent_at_end_;
    bool done_ = false;
};

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace postern::pop3d
