/// cleanup(8)'s work on one message, with a configuration and a queue of its own.
#pragma once

#include <catch2/catch.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <regex>

#include "cleanup/message.h"
#include "lib/async/loop.h"
#include "lib/log/capture.h"

namespace postern::cleanup {

inline constexpr const char* kBaseConfig =
    "myhostname = mx.example.org\nmydomain = example.org\nmyorigin = example.org\nmail_name = Postern\n"
    "mydestination = example.org\nalias_maps =\nlocal_recipient_maps =\nmessage_size_limit = 100000\n"
    "compatibility_level = 3.8\n";

inline queue::Begin local_mail(const std::string& content) {
    queue::Begin begin;
    begin.envelope.sender = "user";
    begin.envelope.recipients = {{"rcpt", "", "", 0}};
    begin.envelope.origin = queue::kOriginSendmail;
    begin.envelope.submit_uid = 1000;
    begin.envelope.arrival_usec = 1700000000000000;
    begin.envelope.rewrite_local = true;
    begin.complete_headers = true;
    begin.content = content;
    return begin;
}

inline queue::Begin remote_mail(const std::string& content) {
    queue::Begin begin;
    begin.envelope.sender = "from@remote.example";
    begin.envelope.recipients = {{"rcpt@example.org", "", "", 0}};
    begin.envelope.client.name = "client.example";
    begin.envelope.client.address = "192.0.2.1";
    begin.envelope.client.helo = "helo.example";
    begin.envelope.client.protocol = "ESMTPSA";
    begin.envelope.arrival_usec = 1700000000000000;
    begin.content = content;
    return begin;
}

/// A cleanup with its own configuration and queue.
class Cleanup {
public:
    explicit Cleanup(const std::string& settings = "")
        : config_(load(std::string(kBaseConfig) + settings)) {
        ::setenv("TZ", "UTC", 1);
        ::tzset();
        char name[] = "/tmp/cleanup_test.XXXXXX";
        directory_ = ::mkdtemp(name);
        for (const char* sub : {"/incoming", "/hold"}) {
            ::mkdir((directory_ + sub).c_str(), 0700);
        }
        const TableContext context = table_context(config_);
        Result<std::unique_ptr<Router>> router = Router::create(config_, context);
        REQUIRE(router.ok());
        router_ = std::move(*router);
        auto maps = AddressMaps::open(config_, context, *router_);
        REQUIRE(maps.ok());
        maps_ = std::move(*maps);
        auto checks = ContentChecks::open(config_, context);
        REQUIRE(checks.ok());
        checks_ = std::move(*checks);
        shared_ = std::make_unique<Shared>(config_, *maps_, *checks_);
        shared_->queue_directory = directory_;
    }
    ~Cleanup() {
        for (const char* sub : {"/incoming", "/hold"}) {
            for (const std::string& file : files(sub)) {
                ::unlink((directory_ + sub + "/" + file).c_str());
            }
            ::rmdir((directory_ + sub).c_str());
        }
        ::rmdir(directory_.c_str());
    }

    std::vector<std::string> files(const std::string& sub) const {
        std::vector<std::string> names;
        DIR* dir = ::opendir((directory_ + sub).c_str());
        while (const dirent* entry = ::readdir(dir)) {
            if (entry->d_name[0] != '.') {
                names.emplace_back(entry->d_name);
            }
        }
        ::closedir(dir);
        return names;
    }

    /// Puts the message through, in pieces of `cut` bytes; true when it was queued.
    bool submit(queue::Begin begin, std::size_t cut = 100000) {
        const std::string content = std::move(begin.content);
        Message message(*shared_, std::move(begin));
        Refusal no = message.start();
        for (std::size_t at = 0; !no && at < content.size(); at += cut) {
            no = message.content(std::string_view(content).substr(at, cut));
        }
        if (no) {
            refused = *no;
            return false;
        }
        queue::FromCleanup answer = Loop::current().run_until(message.finish());
        if (auto* why = std::get_if<queue::Refused>(&answer)) {
            refused = *why;
            return false;
        }
        id = std::get<queue::Queued>(answer).queue_id;
        std::optional<queue::NewMessage> notice = message.notice();
        told_qmgr = notice.has_value();
        const UniqueFd fd(::open((directory_ + (told_qmgr ? "/incoming/" : "/hold/") + id).c_str(), O_RDONLY));
        if (fd) {
            const Result<queue::QueueFile> file = queue::QueueFile::read(fd.get(), journal);
            REQUIRE(file.ok());
            REQUIRE(file->verify_content(fd.get()).ok());
            envelope = file->envelope();
            header = *queue::read_extent(fd.get(), file->headers(), 1 << 24);
            body = *queue::read_extent(fd.get(), file->body(), 1 << 24);
        }
        return true;
    }
    /// The header with the queue id as QID.
    std::string normal_header() const {
        std::string out = header;
        for (std::size_t at = out.find(id); at != std::string::npos; at = out.find(id)) {
            out.replace(at, id.size(), "QID");
        }
        return out;
    }
    std::string recipients() const {
        std::string out;
        for (const queue::Recipient& r : envelope.recipients) {
            out += (out.empty() ? "" : " ") + r.address + (r.original.empty() ? "" : "(" + r.original + ")");
        }
        return out;
    }

    std::string id, header, body;
    queue::Envelope envelope;
    std::vector<queue::JournalRecord> journal;
    queue::Refused refused;
    bool told_qmgr = false;
    LogCapture log;

private:
    static Config load(const std::string& text) {
        Result<Config> config = Config::from_text(text);
        if (!config) {
            FAIL(config.error().what);
        }
        return std::move(*config);
    }
    Config config_;
    std::string directory_;
    std::unique_ptr<Router> router_;
    std::unique_ptr<AddressMaps> maps_;
    std::unique_ptr<ContentChecks> checks_;
    std::unique_ptr<Shared> shared_;
};

inline const std::string kDate = "Tue, 14 Nov 2023 22:13:20 +0000 (UTC)";

}  // namespace postern::cleanup
