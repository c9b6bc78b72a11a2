/// A conversation with smtpd held in memory: the test plays the client, and cleanup.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/log/capture.h"
#include "lib/stream/stream.h"
#include "smtpd/session.h"

namespace postern::smtpd {

/// What a test's cleanup got.
struct Submitted {
    queue::Begin begin;
    std::string content;
};

class MemoryOutlet : public Outlet {
public:
    std::vector<Submitted> messages;
    Receipt answer;

    std::unique_ptr<Submission> begin(queue::Begin begin) override {
        return std::make_unique<Memory>(*this, std::move(begin));
    }

private:
    struct Memory : Submission {
        Memory(MemoryOutlet& owner, queue::Begin start) : outlet(owner) { message.begin = std::move(start); }
        Task<> write(std::string& content) override {
            message.content += content;
            content.clear();
            co_return;
        }
        Task<Receipt> finish(std::string content) override {
            message.content += content;
            outlet.messages.push_back(std::move(message));
            co_return outlet.answer;
        }
        MemoryOutlet& outlet;
        Submitted message;
    };
};

/// Counts clients without anvil(8); no time unit is ever over.
class MemoryCounts : public ClientCounts {
public:
    Task<std::optional<ClientNumbers>> opened(std::string client) override {
        ++open_[client];
        co_return co_await event(client, ClientEvent::connection, 1);
    }
    Task<std::optional<ClientNumbers>> event(std::string client, ClientEvent what, std::uint32_t amount) override {
        std::uint32_t& rate = rates_[{client, what}];
        rate += amount;
        co_return ClientNumbers{open_[client], rate};
    }
    void closed(const std::string& client, const EventTally&, bool) override { --open_[client]; }

private:
    std::map<std::string, std::uint32_t> open_;
    std::map<std::pair<std::string, ClientEvent>, std::uint32_t> rates_;
};

class SmtpDialogue {
public:
    /// `settings` are main.cf lines; every test client is c.example[192.0.2.1] unless `address` says otherwise.
    explicit SmtpDialogue(const std::string& settings = "", const std::string& address = "192.0.2.1") {
        const std::string text = "myhostname = mail.example.org\nmydestination = example.org\nmynetworks = 10.0.0.0/8\n"
                                 "smtpd_error_sleep_time = 0\nalias_maps =\nlocal_recipient_maps = "
                                 "inline:{ a=x, b=x, postmaster=x }\n" +
                                 settings;
        Result<Config> config = Config::from_text(text);
        if (!config) {
            throw std::runtime_error(config.error().what);
        }
        config_ = std::make_unique<Config>(std::move(*config));
        Result<std::unique_ptr<Server>> server = Server::create(*config_, "smtp");
        if (!server) {
            throw std::runtime_error(server.error().what);
        }
        server_ = std::move(*server);
        auto outlet = std::make_unique<MemoryOutlet>();
        outlet->answer.queued = true;
        outlet->answer.queue_id = "4A1B";
        outlet_ = outlet.get();
        server_->set_outlet(std::move(outlet));
        server_->limits().set_counts(std::make_unique<MemoryCounts>());
        ClientInfo info;
        info.name = info.reverse_name = "c.example";
        info.address = address;
        session_ = std::make_unique<Session>(stream_, *server_, std::move(info));
        spawn(session_->run());
    }

    ~SmtpDialogue() { stream_.hang_up(); }   // lets the session end before what it uses goes
    SmtpDialogue(const SmtpDialogue&) = delete;
    SmtpDialogue& operator=(const SmtpDialogue&) = delete;

    void client(std::string_view bytes) { stream_.feed(bytes); }
    void hang_up() { stream_.hang_up(); }
    const std::string& sent() const { return stream_.sent(); }
    bool closed() const { return stream_.closed(); }
    MemoryOutlet& cleanup() { return *outlet_; }
    const LogCapture& log() const { return log_; }

    /// The codes of all replies, multi-line ones once: "220 250 354".
    std::string codes() const {
        std::string out;
        std::size_t at = 0;
        while (at < sent().size()) {
            const std::size_t end = sent().find("\r\n", at);
            if (end - at >= 4 && sent()[at + 3] == ' ') {
                out += (out.empty() ? "" : " ") + sent().substr(at, 3);
            }
            at = end + 2;
        }
        return out;
    }
    /// The last reply, without its CRLF.
    std::string last_reply() const {
        const std::size_t end = sent().rfind("\r\n");
        const std::size_t start = end == 0 ? std::string::npos : sent().rfind("\r\n", end - 1);
        return sent().substr(start == std::string::npos ? 0 : start + 2, end - (start == std::string::npos ? 0 : start + 2));
    }

private:
    LogCapture log_;
    std::unique_ptr<Config> config_;
    std::unique_ptr<Server> server_;
    MemoryOutlet* outlet_ = nullptr;
    MemoryStream stream_;
    std::unique_ptr<Session> session_;
};

}  // namespace postern::smtpd
