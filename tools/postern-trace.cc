/// postern-trace - says how an address would be delivered, without sending anything; run as `postern trace`.
///
/// Speaks to: DNS servers, mta-sts(8), and whatever the tables of main.cf ask.  Runs as the caller.
///
/// It runs the code that serves mail (cleanup's address maps, the router, the SMTP client's search for hosts), with a
/// watch on the tables.  Exit status: 0 when every recipient has a way, 1 when one is refused, 75 when something
/// cannot be said now.
#include <fmt/format.h>
#include <getopt.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "cleanup/maps.h"
#include "lib/base/json.h"
#include "lib/base/strings.h"
#include "lib/config/main_cf.h"
#include "lib/config/master_cf.h"
#include "lib/log/log.h"
#include "lib/route/router.h"
#include "smtp/client.h"
#include "tools/queue_command.h"

namespace postern::tools {
namespace {

constexpr const char* kUsage = "usage: postern trace [-c directory] [-f sender] [--json] address...";

struct Options {
    std::string directory = Config::default_directory();
    std::string sender;
    bool json = false;
    std::vector<std::string> addresses;
};

Options parse(int argc, char** argv) {
    Options options;
    constexpr option kLong[] = {{"json", no_argument, nullptr, 'j'}, {nullptr, 0, nullptr, 0}};
    for (int given = 0; (given = ::getopt_long(argc, argv, "c:f:j", kLong, nullptr)) != -1;) {
        switch (given) {
        case 'c': options.directory = optarg; break;
        case 'f': options.sender = optarg; break;
        case 'j': options.json = true; break;
        default: die(EX_USAGE, kUsage);
        }
    }
    options.addresses.assign(argv + optind, argv + argc);
    if (options.addresses.empty()) {
        die(EX_USAGE, kUsage);
    }
    return options;
}

struct Step {
    std::string name;
    std::string text;
};

/// What was found out, in order.  A lookup that was made twice is told once.
class Steps final : public LookupWatch {
public:
    Steps() : before_(watch_lookups(this)) {}
    ~Steps() override { watch_lookups(before_); }
    Steps(const Steps&) = delete;
    Steps& operator=(const Steps&) = delete;

    void add(std::string name, std::string text) {
        const auto same = [&](const Step& one) { return one.name == name && one.text == text; };
        if (std::none_of(steps_.begin(), steps_.end(), same)) {
            steps_.push_back({std::move(name), std::move(text)});
        }
    }

    void looked_up(const std::string& title, const std::string& table, std::string_view key, const Lookup& answer) override {
        if (!seen_.insert(fmt::format("{} {} {}", title, table, key)).second) {
            return;
        }
        const std::string name = table.size() <= kLongName ? table : table.substr(0, kLongName) + "...";
        if (!answer) {
            add(title, fmt::format("{}: {}", printable(key), answer.error().what));
        } else if (*answer) {
            add(title, fmt::format("{}: {} = {}", name, printable(key), printable(**answer)));
        } else if (const std::string none = name + ": no entry for ";
                   !steps_.empty() && steps_.back().name == title && steps_.back().text.starts_with(none)) {
            steps_.back().text += ", " + printable(key);
        } else {
            add(title, none + printable(key));
        }
    }

    void listed(const std::string& title, const std::string& pattern, std::string_view text) override {
        const bool excluded = pattern.starts_with('!');
        add(title, fmt::format("{} {} ({})", excluded ? "excludes" : "lists", printable(text), pattern));
    }

    std::vector<Step> take() { return std::move(steps_); }

private:
    static constexpr std::size_t kLongName = 60;   // an inline table may be any length
    LookupWatch* before_;
    std::set<std::string> seen_;
    std::vector<Step> steps_;
};

void print_text(const std::string& address, const std::vector<Step>& steps) {
    std::size_t width = 0;
    for (const Step& step : steps) {
        width = std::max(width, step.name.size());
    }
    fmt::print("{}\n", printable(address));
    for (const Step& step : steps) {
        fmt::print("    {:<{}}  {}\n", step.name, width, step.text);
    }
}

void print_json(const std::string& address, const std::vector<Step>& steps) {
    const auto member = [](std::string& out, const char* name, const std::string& text) {
        out += fmt::format("\"{}\":\"", name);
        append_json_string(out, text);
        out += '"';
    };
    std::string line = "{";
    member(line, "address", address);
    line += ",\"steps\":[";
    for (const Step& step : steps) {
        line += &step == steps.data() ? "{" : ",{";
        member(line, "step", step.name);
        line += ',';
        member(line, "text", step.text);
        line += '}';
    }
    fmt::print("{}]}}\n", line);
}

const char* class_text(AddressClass address_class) {
    switch (address_class) {
    case AddressClass::local: return "local: mydestination or an address of this host";
    case AddressClass::virtual_alias: return "virtual_alias_domains";
    case AddressClass::virtual_mailbox: return "virtual_mailbox_domains";
    case AddressClass::relay: return "relay_domains";
    case AddressClass::other: break;
    }
    return "other: no list of ours has its domain";
}

class Tracer {
public:
    Tracer(const Config& config, std::string directory) : config_(config), directory_(std::move(directory)) {}

    void open() {
        TableContext tables = table_context(config_);
        tables.proxymap_socket.clear();   // proxied tables are read here: this works while the mail system is down
        router_ = checked(Router::create(config_, tables));
        maps_ = checked(cleanup::AddressMaps::open(config_, tables, *router_));
        Result<std::string> text = read_config_file(directory_ + "/master.cf");
        services_ = checked(parse_master_cf(checked(std::move(text)), directory_ + "/master.cf"));
    }

    std::vector<Step> trace(const std::string& sender, const std::string& address) {
        Steps steps;
        const Result<std::string> rewritten = maps_->rewrite(address, cleanup::kEnvelopeRecipient, true);
        if (!rewritten) {
            fail(steps, EX_TEMPFAIL, "deferred", rewritten.error().what);
            return steps.take();
        }
        if (*rewritten != address) {
            steps.add("address", printable(*rewritten));
        }
        const Result<std::vector<std::string>> recipients = maps_->expand(*rewritten);
        if (!recipients) {
            fail(steps, EX_TEMPFAIL, "deferred", recipients.error().what);
            return steps.take();
        }
        for (const std::string& recipient : *recipients) {
            trace_recipient(steps, sender, recipient);
        }
        return steps.take();
    }

    int status() const { return status_; }

private:
    template <class T>
    static T checked(Result<T> result) {
        if (!result) {
            die(EX_CONFIG, result.error().what);
        }
        return std::move(*result);
    }

    void fail(Steps& steps, int status, const std::string& what, const std::string& why) {
        steps.add(what, why);
        status_ = std::max(status_, status);
    }

    void trace_recipient(Steps& steps, const std::string& sender, const std::string& recipient) {
        steps.add("recipient", printable(recipient));
        const Result<Route> route = router_->resolve(sender, recipient);
        if (!route) {
            return fail(steps, EX_TEMPFAIL, "deferred", route.error().what);
        }
        steps.add("class", class_text(route->address_class));
        const Result<Listing> listing = router_->recipient_known(recipient);
        if (!listing) {
            return fail(steps, EX_TEMPFAIL, "deferred", listing.error().what);
        }
        if (!listing->known && listing->error_text.empty()) {
            fail(steps, 1, "refused", fmt::format("{} User unknown{} ({})", listing->reply_code,
                                                 listing->table_text.empty() ? "" : " in " + listing->table_text,
                                                 listing->code_parameter));
        }
        if (route->recipient != recipient) {
            steps.add("delivered to", printable(route->recipient));
        }
        if (route->transport == config_.error_service_name()) {
            return fail(steps, 1, "bounced", route->nexthop);
        }
        trace_transport(steps, *route);
    }

    void trace_transport(Steps& steps, const Route& route) {
        const auto service = std::find_if(services_.entries.rbegin(), services_.entries.rend(), [&](const MasterEntry& entry) {
            return entry.name == route.transport && entry.type == ServiceType::unix_stream;
        });
        if (service == services_.entries.rend()) {
            return fail(steps, EX_TEMPFAIL, "deferred", fmt::format("{} has no service \"{}\"", directory_ + "/master.cf", route.transport));
        }
        steps.add("transport", fmt::format("{} ({}, {})", route.transport, service->command, service->where));
        steps.add("next hop", printable(route.nexthop));
        if (service->command == "smtp" || service->command == "lmtp") {
            trace_hosts(steps, *service, route.nexthop);
        }
    }

    /// As the client would look for hosts, with the service's own -o settings.
    void trace_hosts(Steps& steps, const MasterEntry& service, const std::string& next_hops) {
        Config config = checked(Config::load(directory_, service.overrides()));
        config.set_process(service.command, service.name);
        const auto protocol = service.command == "lmtp" ? smtp::Protocol::lmtp : smtp::Protocol::smtp;
        const std::unique_ptr<smtp::Client> client = checked(smtp::Client::create(config, protocol));
        std::vector<std::string> hops = smtp::next_hop_list(next_hops);
        const std::vector<std::string> fallback = smtp::next_hop_list(client->settings().fallback_relay());
        hops.insert(hops.end(), fallback.begin(), fallback.end());
        bool any = false;
        std::string why;
        int worst = 1;
        for (const std::string& text : hops) {
            const Result<smtp::NextHop> hop = smtp::parse_next_hop(text, client->settings(), client->services());
            if (!hop) {
                return fail(steps, EX_TEMPFAIL, "deferred", hop.error().what);
            }
            std::optional<smtp::TlsPolicy> policy = trace_tls(steps, *client, *hop);
            if (policy) {
                trace_sts(steps, *client, *hop, *policy);
            }
            const smtp::HostList found = Loop::current().run_until(client->hosts().find(*hop));
            for (const smtp::HostAddress& host : found.addresses) {
                steps.add("host", fmt::format("{}{}", host.with_port(),
                                              hop->literal_host || host.is_unix() ? "" : fmt::format(" preference {}", host.preference)));
                any = true;
                if (policy) {
                    trace_host_tls(steps, *client, *policy, *hop, host);
                }
            }
            if (found.addresses.empty()) {
                steps.add("no host", fmt::format("{}: {} {}", text, found.failure.dsn, found.failure.text));
                worst = found.failure.hard() ? worst : EX_TEMPFAIL;
            }
            if (found.backup_mx) {
                break;
            }
        }
        if (!any) {
            fail(steps, worst, worst == 1 ? "bounced" : "deferred", "no host to deliver to");
        }
    }

    /// What the destination's policy is, and who says so.  Nothing when it cannot be told: the mail would wait.
    std::optional<smtp::TlsPolicy> trace_tls(Steps& steps, smtp::Client& client, const smtp::NextHop& hop) {
        Result<smtp::TlsPolicy> policy = client.tls().find(hop);
        if (!policy) {
            fail(steps, EX_TEMPFAIL, "deferred", "TLS policy: " + policy.error().what);
            return std::nullopt;
        }
        const std::string from = client.settings().prefix() + (policy->from_table ? "_tls_policy_maps" : "_tls_security_level");
        steps.add("TLS policy", fmt::format("{} ({})", smtp::tls_level_name(policy->level), from));
        return std::move(*policy);
    }

    /// The destination's own policy, as smtp(8) would have it at this moment; `policy` becomes what it makes of it.
    void trace_sts(Steps& steps, smtp::Client& client, const smtp::NextHop& hop, smtp::TlsPolicy& policy) {
        if (policy.sts) {
            steps.add("MTA-STS", fmt::format("{}: a policy in {}_tls_policy_maps", policy.sts->domain, client.settings().prefix()));
        }
        if (!client.tls().wants_sts(hop, policy)) {
            return;
        }
        Result<StsAnswer> answer = Loop::current().run_until(ask_sts(config_.queue_directory() + "/" + kStsSocket, hop.domain));
        if (!answer) {
            const bool stopped = answer.error().code == Errc::not_found || answer.error().code == Errc::closed;
            steps.add("MTA-STS", fmt::format("{}: not known: mta-sts(8) cannot be asked{}: {}", hop.domain,
                                             stopped ? ", the mail system or this service is not running" : "", answer.error().what));
            return;
        }
        if (!answer->problem_text.empty()) {
            steps.add("MTA-STS", fmt::format("{}: the policy it announces cannot be had: {}", hop.domain, printable(answer->problem_text)));
        }
        if (answer->found) {
            add_sts_policy(steps, hop.domain, *answer);
        } else if (answer->problem_text.empty()) {
            steps.add("MTA-STS", hop.domain + ": no policy");
        }
        const smtp::TlsLevel before = policy.level;
        policy = client.tls().under_sts(std::move(policy), hop.domain, std::move(*answer));
        if (policy.level != before) {
            steps.add("TLS policy", fmt::format("{} (MTA-STS)", smtp::tls_level_name(policy.level)));
        }
    }

    static void add_sts_policy(Steps& steps, const std::string& domain, const StsAnswer& answer) {
        const std::int64_t now = std::time(nullptr);
        const auto mode = static_cast<StsMode>(std::min<std::uint8_t>(answer.mode, static_cast<std::uint8_t>(StsMode::enforce)));
        const std::string age = answer.kept ? fmt::format("cached, {}s old", std::max<std::int64_t>(0, now - answer.fetched)) : "fetched now";
        steps.add("MTA-STS", fmt::format("{}: mode {}, id {}, {}, expires in {}s", domain, sts_mode_name(mode), printable(answer.policy_id),
                                         age, std::max<std::int64_t>(0, answer.expires - now)));
        for (const std::string& pattern : answer.mx) {
            steps.add("MTA-STS", fmt::format("{}: mx {}", domain, printable(pattern)));
        }
    }

    /// What it comes to for one host: with DANE that is another question to the DNS.
    void trace_host_tls(Steps& steps, smtp::Client& client, const smtp::TlsPolicy& policy, const smtp::NextHop& hop,
                        const smtp::HostAddress& host) {
        const smtp::HostPolicy found = Loop::current().run_until(client.dane().find(policy, hop, host));
        for (const std::string& line : found.found) {
            steps.add("DANE", printable(line));
        }
        if (!found.failure.dsn.empty()) {
            steps.add("TLS", fmt::format("{}: not used: {} {}", host.host, found.failure.dsn, found.failure.text));
            return;
        }
        if (const std::optional<std::string> reason = client.tls().forbids(found.policy, host)) {
            steps.add("TLS", fmt::format("{}: not used: {}", host.host, *reason));
            return;
        }
        const TlsDemand demand = client.tls().demand(found.policy, hop, host);
        std::string text = fmt::format("{}: {}", host.host, smtp::tls_level_name(found.policy.level));
        for (const std::string& name : demand.names) {
            text += (&name == demand.names.data() ? ", certificate for " : ", ") + name;
        }
        text += demand.fingerprints.empty() ? "" : fmt::format(", one of {} fingerprints", demand.fingerprints.size());
        text += found.policy.tlsa.empty() ? "" : fmt::format(", vouched for by one of {} TLSA records or trust anchors", found.policy.tlsa.size());
        text += found.policy.level > smtp::TlsLevel::none && !demand.server_name.empty() ? ", SNI " + demand.server_name : "";
        steps.add("TLS", text);
    }

    const Config& config_;
    std::string directory_;
    std::unique_ptr<Router> router_;
    std::unique_ptr<cleanup::AddressMaps> maps_;
    MasterCf services_;
    int status_ = 0;
};

}  // namespace
}  // namespace postern::tools

int main(int argc, char** argv) {
    using namespace postern;
    using namespace postern::tools;
    log_open("postern-trace", LogDestination());
    const Options options = parse(argc, argv);
    const Config config = load_command_config("postern-trace", options.directory, EX_CONFIG);
    Tracer tracer(config, options.directory);
    tracer.open();
    for (const std::string& address : options.addresses) {
        const std::vector<Step> steps = tracer.trace(options.sender, address);
        options.json ? print_json(address, steps) : print_text(address, steps);
    }
    return tracer.status();
}
