#include "lib/dns/dns.h"

#include <arpa/inet.h>
#include <unbound.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "lib/base/strings.h"
#include "lib/dns/ascii_name.h"
#include "lib/dns/records.h"
#include "lib/dns/resolv_conf.h"
#include "lib/mail/address.h"

namespace postern {

namespace {

std::string without_final_dot(std::string name) {
    if (!name.empty() && name.back() == '.') {
        name.pop_back();
    }
    return name;
}

/// /etc/hosts, both ways: libunbound does not answer PTR questions from it.
struct HostsFile {
    std::map<std::string, std::string> name_of;
    std::map<std::string, std::vector<std::string>> addresses_of;

    void read(const std::string& path) {
        std::ifstream file(path);
        std::string line;
        while (std::getline(file, line)) {
            const std::vector<std::string> words = split(line.substr(0, line.find('#')), " \t\r");
            for (std::size_t i = 1; i < words.size(); ++i) {
                name_of.emplace(words[0], words[i]);
                addresses_of[to_lower(words[i])].push_back(words[0]);
            }
        }
    }
};

/// The library reads anchors when it is first asked, and can do nothing at all when one is bad.  So it is asked here, by a context of
/// the anchor's own, for what it knows without any server.
Result<void> check_anchor(const std::string& anchor) {
    ub_ctx* const context = ub_ctx_create();
    ub_result* answer = nullptr;
    const bool good = context != nullptr && ub_ctx_debugout(context, nullptr) == 0 && ub_ctx_add_ta(context, anchor.c_str()) == 0 && ub_resolve(context, "localhost", 1, 1, &answer) == 0;
    ub_resolve_free(answer);
    ub_ctx_delete(context);
    return good ? Result<void>() : Error(Errc::config, "DNSSEC trust anchor \"" + printable(anchor, 80) + "\" is not understood");
}

class Unbound : public Dns {
public:
    Unbound() : context_(ub_ctx_create()) {}
    ~Unbound() override {
        reader_->context = nullptr;
        reader_->events.close();
        ub_ctx_delete(context_);
    }

    Result<void> configure(const DnsOptions& options) {
        const std::string& server = options.server;
        if (context_ == nullptr) {
            return Error(Errc::config, "cannot start the resolver library");
        }
        if (server.empty()) {
            const int status = ub_ctx_resolvconf(context_, options.resolv_conf.c_str());
            const ResolvConf conf = read_resolv_conf(options.resolv_conf);
            if (status == 0 && conf.servers > 0) {   // otherwise the library asks the root servers itself
                patience_ = conf.patience();
            }
        } else if (const int status = ub_ctx_set_fwd(context_, server.c_str()); status != 0) {
            return Error(Errc::config, "DNS server \"" + server + "\": " + ub_strerror(status));
        }
        for (const std::string& anchor : options.anchors) {
            if (Result<void> checked = check_anchor(anchor); !checked) {
                return checked;
            }
            ub_ctx_add_ta(context_, anchor.c_str());
        }
        // The resolver may well be on this host, and know private networks.
        ub_ctx_set_option(context_, "do-not-query-localhost:", "no");
        ub_ctx_set_option(context_, "unblock-lan-zones:", "yes");
        ub_ctx_set_option(context_, "insecure-lan-zones:", "yes");
        use_hosts_ = options.hosts;
        idna_ = options.idna;
        if (use_hosts_ != HostsUse::never) {
            hosts_.read(options.hosts_file);
        }
        return {};
    }

    Task<Result<DnsAnswer>> query(std::string name, DnsType type, Millis timeout) override {
        name = ascii_name(name, idna_).value_or(name);
        DnsAnswer known;
        if (use_hosts_ == HostsUse::first && from_hosts(name, type, known)) {
            co_return known;
        }
        Result<DnsAnswer> answer = co_await ask(name, type, timeout);
        const bool nothing = !answer || answer->records.empty();
        if (use_hosts_ == HostsUse::last && nothing && from_hosts(name, type, known)) {
            co_return known;
        }
        co_return answer;
    }

private:
    /// The name servers.
    Task<Result<DnsAnswer>> ask(std::string name, DnsType type, Millis timeout) {
        start();
        Waiting waiting;
        waiting.type = type;
        int id = 0;
        const int status = ub_resolve_async(context_, name.c_str(), static_cast<int>(type), 1, &waiting,
                                            &Unbound::answered, &id);
        if (status != 0) {
            co_return Error(Errc::temporary, "DNS lookup of " + printable(name) + ": " + ub_strerror(status));
        }
        if (!waiting.done) {
            const Wake wake = co_await waiting.notice.wait(std::min(timeout, patience_));
            if (wake != Wake::ready) {
                ub_cancel(context_, id);
                co_return Error(Errc::timeout, "DNS lookup of " + printable(name) + ": timeout");
            }
        }
        if (waiting.failed) {
            co_return Error(Errc::temporary, "DNS lookup of " + printable(name) + ": " + waiting.reason);
        }
        co_return std::move(waiting.answer);
    }

    /// What process() needs.  It wakes up for the last time when the resolver is gone.
    struct Reader {
        ub_ctx* context = nullptr;
        FdEvents events;
    };

    struct Waiting {
        DnsType type = DnsType::a;
        bool done = false;
        bool failed = false;
        std::string reason;
        DnsAnswer answer;
        Notice notice;
    };

    bool from_hosts(const std::string& name, DnsType type, DnsAnswer& out) const {
        if (type == DnsType::ptr) {
            for (const auto& [address, host] : hosts_.name_of) {
                if (reverse_name(address) == to_lower(name)) {
                    out.records.push_back({host});
                    out.from_hosts_file = true;
                    return true;
                }
            }
            return false;
        }
        const auto found = hosts_.addresses_of.find(to_lower(name));
        if (found == hosts_.addresses_of.end() || (type != DnsType::a && type != DnsType::aaaa)) {
            return false;
        }
        for (const std::string& address : found->second) {
            if ((address.find(':') != std::string::npos) == (type == DnsType::aaaa)) {
                out.records.push_back({address});
            }
        }
        out.from_hosts_file = true;
        return true;
    }

    /// The library's thread and pipe begin with the first real question.
    void start() {
        if (started_) {
            return;
        }
        started_ = true;
        ub_ctx_async(context_, 1);
        reader_->context = context_;
        reader_->events.open(ub_fd(context_));
        spawn(process(reader_));
    }

    static Task<> process(std::shared_ptr<Reader> reader) {
        while (reader->context != nullptr) {
            ub_process(reader->context);
            const Wake wake = co_await reader->events.readable(kForever);
            if (wake == Wake::closed) {
                co_return;
            }
        }
    }

    static void answered(void* argument, int status, ub_result* result) {
        auto* waiting = static_cast<Waiting*>(argument);
        waiting->done = true;
        if (status != 0 || result == nullptr) {
            waiting->failed = true;
            waiting->reason = ub_strerror(status);
        } else {
            fill(*waiting, *result);
        }
        ub_resolve_free(result);
        waiting->notice.notify_all();
    }

    static void fill(Waiting& waiting, const ub_result& result) {
        constexpr int kNxdomain = 3;
        waiting.answer.nxdomain = result.nxdomain != 0;
        waiting.answer.secure = result.secure != 0;
        waiting.answer.ttl = static_cast<std::uint32_t>(std::max(0, result.ttl));
        if (result.bogus != 0 || (result.rcode != 0 && result.rcode != kNxdomain)) {
            waiting.failed = true;
            waiting.reason = result.bogus != 0 ? "DNSSEC validation failed" : "the server failed";
            return;
        }
        if (result.canonname != nullptr) {
            waiting.answer.canonical = without_final_dot(result.canonname);
        }
        for (int i = 0; result.havedata != 0 && result.data[i] != nullptr; ++i) {
            DnsAnswer::Record record;
            const std::string_view wire(result.data[i], static_cast<std::size_t>(result.len[i]));
            if (decode_record(waiting.type, wire, record)) {
                waiting.answer.records.push_back(std::move(record));
            }
        }
    }

    ub_ctx* context_;
    HostsFile hosts_;
    HostsUse use_hosts_ = HostsUse::first;
    IdnaRules idna_ = IdnaRules::current;
    std::shared_ptr<Reader> reader_ = std::make_shared<Reader>();
    bool started_ = false;
    Millis patience_ = kForever;
};

constexpr Millis kPatience = std::chrono::seconds(10);

}  // namespace

Result<std::unique_ptr<Dns>> Dns::create(const DnsOptions& options) {
    auto dns = std::make_unique<Unbound>();
    if (Result<void> ready = dns->configure(options); !ready) {
        return ready.error();
    }
    return std::unique_ptr<Dns>(std::move(dns));
}

std::string reversed_labels(std::string_view address) {
    const std::string text(address);
    std::array<unsigned char, 16> bytes{};
    std::string out;
    if (::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) {
        for (std::size_t i = 4; i-- > 0;) {
            out += std::to_string(bytes[i]) + (i > 0 ? "." : "");
        }
        return out;
    }
    if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) {
        return out;
    }
    constexpr std::string_view kDigits = "0123456789abcdef";
    for (std::size_t i = 16; i-- > 0;) {
        out += kDigits[bytes[i] & 15];
        out += '.';
        out += kDigits[bytes[i] >> 4];
        out += i > 0 ? "." : "";
    }
    return out;
}

std::string reverse_name(std::string_view address) {
    const std::string labels = reversed_labels(address);
    if (labels.empty()) {
        return labels;
    }
    return labels + (address.find(':') != std::string_view::npos ? ".ip6.arpa" : ".in-addr.arpa");
}

Task<HostName> host_name_of(Dns& dns, std::string address) {
    HostName out;
    const std::string question = reverse_name(address);
    if (question.empty()) {
        co_return out;
    }
    Result<DnsAnswer> pointer = co_await dns.query(question, DnsType::ptr, kPatience);
    // Whoever holds the reverse zone writes what he likes: only a host name may get into logs and headers.
    if (!pointer || pointer->records.empty() || !valid_hostname(pointer->records[0].text)) {
        out.temporary = !pointer;
        co_return out;
    }
    out.reverse = pointer->records[0].text;
    const DnsType type = address.find(':') != std::string::npos ? DnsType::aaaa : DnsType::a;
    Result<DnsAnswer> forward = co_await dns.query(out.reverse, type, kPatience);
    if (!forward) {
        out.temporary = true;
        out.problem = forward.error().what;
        co_return out;
    }
    for (const DnsAnswer::Record& record : forward->records) {
        if (reverse_name(record.text) == question) {
            out.verified = out.reverse;
        }
    }
    out.forged = out.verified != out.reverse;
    if (out.forged && forward->records.empty()) {
        out.problem = forward->nxdomain ? "Name or service not known" : "No address associated with hostname";
    }
    co_return out;
}

}  // namespace postern
