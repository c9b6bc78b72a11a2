/// A delivery by the SMTP client against servers, and a name server, that the test has written down beforehand.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "lib/log/capture.h"
#include "lib/stream/stream.h"
#include "smtp/client.h"
#include "smtp/delivery.h"

namespace postern::smtp {

/// Says its script, whatever it hears, then hangs up; what it hears is kept.  A read gives one line, in pieces; lines that end in LF
/// alone come together with the next.
class ScriptStream final : public Stream {
public:
    ScriptStream(std::string script, std::shared_ptr<std::string> heard) : script_(std::move(script)), heard_(std::move(heard)) {}
    void interrupt() override {}
    void close() override { script_.clear(); }
    Task<Result<void>> start_tls(TlsContext&, Millis) override { co_return Error(Errc::unsupported, "no TLS"); }

protected:
    Task<Result<void>> read_some(Millis) override {
        if (script_.empty()) {
            co_return Error(Errc::closed, "lost connection");
        }
        const std::size_t end = script_.find("\r\n");
        const std::size_t size = std::min(kPiece, end == script_.npos ? script_.size() : end + 2);
        receive(script_.substr(0, size));
        script_.erase(0, size);
        co_return Result<void>();
    }
    Task<Result<std::size_t>> write_some(std::string_view bytes, Millis) override {
        *heard_ += bytes;
        co_return bytes.size();
    }
    Task<Wake> wait_readable(Millis) override { co_return script_.empty() ? Wake::closed : Wake::ready; }

private:
    static constexpr std::size_t kPiece = 50;
    std::string script_;
    std::shared_ptr<std::string> heard_;
};

/// Connections succeed where a script is left for the address, in order.
class ScriptConnector final : public Connector {
public:
    struct Server {
        std::vector<std::string> scripts;
        std::vector<std::shared_ptr<std::string>> heard;
    };
    std::map<std::string, Server> servers;    ///< by address
    std::vector<std::string> tried;

    Task<Result<std::unique_ptr<Stream>>> connect(const HostAddress& to) override {
        tried.push_back(to.address);
        const auto found = servers.find(to.address);
        if (found == servers.end() || found->second.scripts.empty()) {
            co_return Error(Errc::closed, "Connection refused");
        }
        std::string script = std::move(found->second.scripts.front());
        found->second.scripts.erase(found->second.scripts.begin());
        found->second.heard.push_back(std::make_shared<std::string>());
        std::unique_ptr<Stream> stream = std::make_unique<ScriptStream>(std::move(script), found->second.heard.back());
        co_return stream;
    }
};

class ScriptDns final : public Dns {
public:
    std::map<std::pair<std::string, DnsType>, DnsAnswer> answers;
    std::map<std::string, Errc> broken;      ///< names for which the server fails

    void add(const std::string& name, DnsType type, const std::string& text, std::uint16_t preference = 0) {
        answers[{name, type}].records.push_back({text, preference});
    }
    Task<Result<DnsAnswer>> query(std::string name, DnsType type, Millis) override {
        if (broken.count(name) != 0) {
            co_return Error(broken[name], "broken");
        }
        const auto found = answers.find({name, type});
        if (found != answers.end()) {
            co_return found->second;
        }
        DnsAnswer none;
        none.nxdomain = answers.count({name, DnsType::a}) == 0 && answers.count({name, DnsType::mx}) == 0;
        co_return none;
    }
};

class FateList final : public Listener {
public:
    std::map<std::uint32_t, queue::RecipientDone> fates;
    bool open = true;
    int doubles = 0;       ///< answers for somebody who had one
    void done(queue::RecipientDone answer) override {
        doubles += fates.count(answer.index) != 0 ? 1 : 0;
        const std::uint32_t index = answer.index;
        fates[index] = std::move(answer);
    }
    Task<> flush() override { co_return; }
    bool is_open() override { return open; }
};

class DeliveryDialogue {
public:
    explicit DeliveryDialogue(const std::string& settings = "", Protocol protocol = Protocol::smtp) {
        Result<Config> config = Config::from_text("myhostname = us.example\ninet_interfaces = 192.0.2.99\ninet_protocols = ipv4\n"
                                                  "smtp_tls_security_level = none\n" + settings);
        if (!config) {
            throw std::runtime_error(config.error().what);
        }
        config_ = std::make_unique<Config>(std::move(*config));
        auto connector = std::make_unique<ScriptConnector>();
        auto dns = std::make_unique<ScriptDns>();
        net = connector.get();
        names = dns.get();
        Result<std::unique_ptr<Client>> client = Client::create(*config_, protocol, std::move(dns), std::move(connector));
        if (!client) {
            throw std::runtime_error(client.error().what);
        }
        client_ = std::move(*client);
    }

    /// Runs one delivery to its end; fates are in `fates`.
    void deliver(const std::string& nexthop, const std::vector<std::string>& recipients, const std::string& content = "Subject: x\n\nbody\n") {
        queue::Deliver request;
        request.queue_id = "4A1B";
        request.nexthop = nexthop;
        request.sender = "s@us.example";
        for (std::size_t i = 0; i < recipients.size(); ++i) {
            queue::DeliverTo to;
            to.recipient.address = recipients[i];
            to.index = static_cast<std::uint32_t>(i);
            request.recipients.push_back(std::move(to));
        }
        deliver(std::move(request), content);
    }

    void deliver(queue::Deliver request, const std::string& content) {
        char name[] = "/tmp/postern-delivery-XXXXXX";
        request.message = UniqueFd(::mkstemp(name));
        ::unlink(name);
        const std::size_t end = content.find("\n\n");
        const std::string headers = content.substr(0, end + 1), body = content.substr(end + 1);
        const std::string file = body + headers;
        if (::write(request.message.get(), file.data(), file.size()) != static_cast<ssize_t>(file.size())) {
            throw std::runtime_error("temporary file");
        }
        request.body = {0, body.size()};
        request.headers = {body.size(), headers.size()};
        if (lost_bytes > 0) {   // the body's end is not there: it stands at the end
            const std::string other = headers + body.substr(0, body.size() - lost_bytes);
            if (::ftruncate(request.message.get(), 0) != 0 || ::pwrite(request.message.get(), other.data(), other.size(), 0) < 0) {
                throw std::runtime_error("temporary file");
            }
            request.headers = {0, headers.size()};
            request.body = {headers.size(), body.size()};
        }
        Delivery delivery(*client_, fates, std::move(request));
        Loop::current().run_until(delivery.run());
    }

    /// "sent 2.0.0", "deferred 4.4.1", "bounced 5.1.1", or "nothing".
    std::string fate(std::uint32_t index) const {
        const auto found = fates.fates.find(index);
        if (found == fates.fates.end()) {
            return "nothing";
        }
        const queue::RecipientDone& done = found->second;
        return (done.outcome == queue::kDelivered ? "sent " : done.outcome == queue::kBounced ? "bounced " : "deferred ") + done.dsn;
    }
    std::string reason(std::uint32_t index) const { return fates.fates.at(index).reason; }
    /// What the server at `address` heard in its `nth` conversation.
    std::string heard(const std::string& address, std::size_t nth = 0) const { return *net->servers.at(address).heard.at(nth); }
    Client& client() { return *client_; }
    const LogCapture& log() const { return log_; }
    void forget_log() { log_.clear(); }

    FateList fates;
    std::size_t lost_bytes = 0;   ///< of the body, which cannot be read
    ScriptConnector* net = nullptr;
    ScriptDns* names = nullptr;

private:
    LogCapture log_;
    std::unique_ptr<Config> config_;
    std::unique_ptr<Client> client_;
};

/// A server that takes everything, for `recipients` of them.
inline std::string good_script(std::size_t recipients = 1, const std::string& features = "250-PIPELINING\r\n250 8BITMIME\r\n") {
    std::string script = "220 mx.example ESMTP\r\n250-mx.example\r\n" + features + "250 2.1.0 Ok\r\n";
    for (std::size_t i = 0; i < recipients; ++i) {
        script += "250 2.1.5 Ok\r\n";
    }
    return script + "354 go\r\n250 2.0.0 queued\r\n221 bye\r\n";
}

}  // namespace postern::smtp
