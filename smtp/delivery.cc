#include "smtp/delivery.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/log/delivery.h"
#include "lib/log/log.h"
#include "lib/mail/logged_address.h"
#include "smtp/tls_report.h"
#include "smtp/transfer.h"

namespace postern::smtp {
namespace {

std::int64_t now_usec() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
}

std::string_view status_word(std::uint8_t outcome, bool verify_only) {
    if (verify_only) {
        return outcome == queue::kDelivered ? "deliverable" : "undeliverable";
    }
    return outcome == queue::kDelivered ? "sent" : outcome == queue::kBounced ? "bounced" : "deferred";
}

}  // namespace

Delivery::Delivery(Client& client, Listener& listener, queue::Deliver request)
    : client_(client), listener_(listener), request_(std::move(request)), states_(request_.recipients.size(), State::open),
      kept_(request_.recipients.size()) {}

std::vector<std::size_t> Delivery::open_recipients() const {
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < states_.size(); ++i) {
        if (states_[i] == State::open) {
            open.push_back(i);
        }
    }
    return open;
}

std::size_t Delivery::left() const {
    return states_.size() - static_cast<std::size_t>(std::count(states_.begin(), states_.end(), State::answered));
}

void Delivery::reopen() {
    std::replace(states_.begin(), states_.end(), State::kept, State::open);
}

std::string Delivery::relay_of(const Session* session) const {
    if (session == nullptr) {
        return "none";
    }
    std::string relay = session->host().with_port();
    if (session->uses() > 0) {
        relay += fmt::format(", conn_use={}", session->uses() + 1);
    }
    return relay;
}

/// The recipient's line in the log, and the word to the queue manager.
void Delivery::answer(std::size_t i, Fate fate) {
    states_[i] = State::answered;
    Failure& why = fate.why;
    if (client_.status_filter().apply(why.dsn, why.text) && fate.outcome != queue::kDelivered) {
        fate.outcome = why.hard() ? queue::kBounced : queue::kDeferred;
    }
    const bool softened = fate.outcome == queue::kBounced && client_.config().soft_bounce() && !request_.verify_only;
    if (softened) {   // a safety net while testing
        fate.outcome = queue::kDeferred;
        why.dsn.replace(0, std::min<std::size_t>(1, why.dsn.size()), "4");
    }
    const queue::Recipient& to = recipient(i);
    const std::string address = logged_address(client_.config(), to.address);
    const std::string original = logged_address(client_.config(), to.original);
    DeliveryLine line;
    line.queue_id = request_.queue_id;
    line.to = address;
    line.orig_to = to.original == to.address ? std::string_view() : std::string_view(original);
    line.relay = fate.relay;
    line.times = {request_.arrival_usec, request_.active_usec, request_.handed_usec, connected_usec_, now_usec()};
    line.tls = fate.tls;
    line.dsn = why.dsn;
    line.status = softened ? "SOFTBOUNCE" : status_word(fate.outcome, request_.verify_only);
    line.text = why.text;
    line.resolution = static_cast<int>(client_.config().delay_logging_resolution_limit());
    log_delivery(line);
    queue::RecipientDone done;
    done.index = request_.recipients[i].index;
    done.outcome = fate.outcome;
    done.dsn = std::move(why.dsn);
    done.reason = std::move(why.text);
    done.action = std::move(fate.action);
    done.relay = fate.relay.substr(0, fate.relay.find(','));
    done.remote_mta = std::move(why.remote_mta);
    done.diagnostic = std::move(why.diagnostic);
    done.unreachable = why.destination_dead && fate.outcome == queue::kDeferred;
    listener_.done(std::move(done));
}

void Delivery::sending(const std::vector<std::size_t>& recipients) {
    std::vector<std::uint32_t> indices;
    for (const std::size_t i : recipients) {
        indices.push_back(request_.recipients[i].index);
    }
    listener_.sending(indices, client_.settings().lmtp());
}

void Delivery::sent(std::size_t i, const Session& session, const Reply& reply) {
    if (states_[i] != State::open) {
        return;
    }
    Fate fate{queue::kDelivered, {}, relay_of(&session)};
    fate.tls = tls_status(&session);
    fate.why.dsn = reply.dsn;
    fate.why.text = reply.one_line();
    fate.why.remote_mta = session.host().host;
    fate.why.diagnostic = "smtp; " + reply.one_line();
    const bool traced = request_.trace || request_.verify_only;
    if (session.features().dsn && !traced) {
        fate.action = "none";   // the server has taken on the duty to report (RFC 3461 section 5.2.2)
    } else if (client_.settings().assume_final() && !session.features().dsn) {
        fate.action = "delivered";
    } else {
        fate.action = "relayed";
    }
    answer(i, std::move(fate));
}

void Delivery::failed(std::size_t i, const Session* session, Failure why) {
    if (states_[i] != State::open) {
        return;
    }
    Fate fate{why.hard() ? queue::kBounced : queue::kDeferred, std::move(why), relay_of(session)};
    fate.tls = tls_status(session);
    if (fate.outcome == queue::kDeferred && !final_server_) {
        log_info("{}: {}", request_.queue_id, fate.why.text);
        states_[i] = State::kept;
        kept_[i] = std::move(fate);
        return;
    }
    answer(i, std::move(fate));
}

/// As failed(), but a failure of the destination is not taken as final from a server that others can stand in for.
void Delivery::failed_all(const Session* session, const Failure& why) {
    const bool keep = !final_server_ && (why.destination_dead || !why.hard());
    bool logged = false;
    for (const std::size_t i : open_recipients()) {
        Fate fate{why.hard() ? queue::kBounced : queue::kDeferred, why, relay_of(session)};
        fate.tls = tls_status(session);
        if (!keep) {
            answer(i, std::move(fate));
            continue;
        }
        if (!logged) {
            log_info("{}: {}", request_.queue_id, why.text);
            logged = true;
        }
        states_[i] = State::kept;
        kept_[i] = std::move(fate);
    }
}

/// The next hop's list, then smtp_fallback_relay.
std::vector<std::string> Delivery::destinations() {
    std::vector<std::string> list = next_hop_list(request_.nexthop);
    if (list.empty() || list.front().substr(0, 5) == "unix:") {
        return list;
    }
    for (std::string& fallback : next_hop_list(client_.settings().fallback_relay())) {
        if (std::find(list.begin(), list.end(), fallback) == list.end()) {
            list.push_back(std::move(fallback));
        }
    }
    return list;
}

/// Errors: temporary.
Result<void> Delivery::apply_generic_maps() {
    wire_sender_ = request_.sender;
    GenericMaps& generic = client_.generic();
    if (generic.empty()) {
        return {};
    }
    Result<std::string> sender = generic.map(request_.sender);
    Result<std::string> headers = generic.map_headers(content_.headers());
    if (!sender || !headers) {
        return sender ? headers.error() : sender.error();
    }
    for (const queue::DeliverTo& to : request_.recipients) {
        Result<std::string> recipient_now = generic.map(to.recipient.address);
        if (!recipient_now) {
            return recipient_now.error();
        }
        wire_recipients_.push_back(std::move(*recipient_now));
    }
    wire_sender_ = std::move(*sender);
    content_.replace_headers(std::move(*headers));
    return {};
}

/// smtp_header_checks and its kin, each time the content is sent.
void Delivery::filter_content() {
    if (client_.checks().empty()) {
        return;
    }
    content_.set_filter([this](bool looking) {
        const Config& config = client_.config();
        const MimeWalker::Limits limits{static_cast<std::size_t>(config.line_length_limit()), static_cast<std::size_t>(config.header_size_limit()),
                                        static_cast<std::size_t>(config.mime_nesting_limit()),
                                        static_cast<std::size_t>(config.mime_boundary_length_limit()), true};
        auto log = [id = request_.queue_id](const char* action, const char* what, std::string_view line, std::string_view text) {
            log_info("{}: {}: {} {}{}{}", id, action, what, line.substr(0, 60), text.empty() ? "" : ": ", text);
        };
        const auto body_limit = static_cast<std::uint64_t>(config.body_checks_size_limit());
        return std::make_unique<CheckFilter>(client_.checks(), limits, body_limit, looking ? CheckFilter::Logger() : std::move(log));
    });
}

Task<> Delivery::run() {
    Result<void> opened = content_.open(request_);
    if (opened) {
        opened = apply_generic_maps();
        filter_content();
    }
    if (!opened) {
        log_warning("{}: {}", request_.queue_id, opened.error().what);
        final_server_ = true;
        failed_all(nullptr, {"4.3.0", opened.error().code == Errc::temporary ? "table lookup failure" : "queue file cannot be read"});
        co_return co_await tell();
    }
    const std::vector<std::string> list = destinations();
    const std::size_t own = next_hop_list(request_.nexthop).size();
    for (std::size_t i = 0; i < list.size() && left() > 0; ++i) {
        reopen();
        used_fallback_ = i >= own;
        co_await try_destination(list[i], i + 1 == list.size());
        if (loops_) {
            break;   // others would only make it worse
        }
    }
    if (loops_) {
        co_await pass_to_best_mx();
    }
    give_up();
    co_await tell();
}

/// What a connection has to have in common with the deliveries it is used for.
std::string Delivery::cache_key(const NextHop& hop) const {
    std::string key = hop.socket_path.empty() ? to_lower(hop.listed_as) : hop.listed_as;
    key += '\0';
    key += to_lower(hop.text);
    key += '\0';
    key += policy_.signature() + fmt::format("\nrequiretls {}", static_cast<int>(requiretls_));
    if (client_.settings().sasl_auth_enable() && client_.settings().sender_dependent_authentication()) {
        key += '\0';
        key += request_.sender;
    }
    if (policy_.sts && policy_.authenticates()) {
        key += std::string("\0sts", 4);   // a connection from before the policy may lack what it demands
    }
    return key;
}

/// Where the policy differs from host to host, so do the connections.
std::string Delivery::cache_key(const std::string& destination_key, const HostAddress& host, const TlsPolicy& policy) const {
    return policy_.is_dane() ? fmt::format("{}\n{}\n{}", destination_key, host.with_port(), policy.signature()) : destination_key;
}

Task<> Delivery::try_destination(std::string destination, bool last) {
    const Result<NextHop> hop = parse_next_hop(destination, client_.settings(), client_.services());
    if (!hop) {
        log_warning("{}", hop.error().what);
        not_asked({"4.3.5", "Mail system configuration error"});
        co_return;
    }
    if (!find_tls_policies(*hop)) {
        co_return;
    }
    const bool demanding = policy_.level > TlsLevel::may || client_.tls().wants_sts(*hop, policy_);
    if (demanding && tls_is_not_required()) {
        policy_ = client_.tls().opportunistic(std::move(policy_));
    } else {
        co_await ask_sts(*hop);
    }
    const std::string key = cache_key(*hop);
    client_.cache().begin(key);
    std::string used;
    if (!policy_.is_dane()) {
        used = co_await try_kept_session(key);
    }
    if (left() > 0) {
        HostList hosts;
        if (hop->socket_path.empty()) {
            hosts = co_await client_.hosts().find(*hop);
        } else {
            hosts.addresses.push_back({client_.config().myhostname(), hop->socket_path});
        }
        if (hosts.addresses.empty()) {
            not_asked(hosts.failure);
        }
        loops_ = hosts.loops;
        co_await try_hosts(*hop, hosts, key, std::move(used), last || hosts.backup_mx);
    }
    client_.cache().end(key);
}

/// A connection that was kept, if there is one.  Yields the address of its server, when that has had its say.
Task<std::string> Delivery::try_kept_session(const std::string& key) {
    final_server_ = false;
    std::unique_ptr<Session> session = client_.cache().take(key);
    if (session == nullptr) {
        co_return std::string();
    }
    std::string address = session->host().address;
    connected_usec_ = now_usec();
    const bool told = co_await transfer(std::move(session), key);
    co_return told ? address : std::string();
}

/// One address after another, as many as smtp_mx_address_limit and smtp_mx_session_limit allow.  `skip`: the address
/// that a kept connection went to.
Task<> Delivery::try_hosts(const NextHop& hop, const HostList& hosts, const std::string& key, std::string skip, bool last) {
    const Settings& settings = client_.settings();
    const auto limit = static_cast<std::size_t>(settings.mx_address_limit());
    const std::size_t count = limit == 0 ? hosts.addresses.size() : std::min(limit, hosts.addresses.size());
    long sessions = 0;
    for (std::size_t i = 0; i < count && left() > 0; ++i) {
        const HostAddress& host = hosts.addresses[i];
        if (host.address == skip) {
            continue;
        }
        reopen();
        std::optional<TlsPolicy> policy = co_await policy_for(host, hop);
        if (!policy) {
            continue;
        }
        const std::string host_key = cache_key(key, host, *policy);
        if (policy_.is_dane()) {
            co_await try_kept_session(host_key);
            if (left() == 0) {
                break;
            }
        }
        final_server_ = last && i + 1 == count;
        const bool best = host.preference == hosts.addresses.front().preference;
        std::unique_ptr<Session> session = co_await open_session(host, hop, std::move(*policy), best);
        if (session == nullptr) {
            continue;
        }
        ++sessions;
        const bool enough = settings.mx_session_limit() > 0 && sessions >= settings.mx_session_limit();
        final_server_ = final_server_ || (last && enough);
        co_await transfer(std::move(session), host_key);
        if (enough) {
            break;
        }
    }
    final_server_ = false;
}

/// From the greeting to where MAIL may be sent.
Task<std::optional<Failure>> Delivery::prepare(Session& session, const NextHop& hop, const TlsPolicy& policy, bool best) {
    Session::Hello how;
    how.nexthop = request_.nexthop;
    how.loop_test = hop.port == 25;
    how.best_mx = best;
    how.ignored = client_.ignored_keywords(session.host().address);
    std::optional<Failure> failure;
    const bool wrapped = client_.settings().tls_wrappermode() && policy.level != TlsLevel::none;
    if (wrapped) {
        failure = co_await session.wrap(client_.tls(), policy, hop);
    }
    if (!failure) {
        failure = co_await session.greet();
    }
    if (!failure) {
        failure = co_await session.hello(how);
    }
    if (!failure && !wrapped) {
        failure = co_await session.secure(client_.tls(), policy, hop, how);
    }
    if (!failure) {
        failure = co_await session.authenticate(client_.sasl(), hop.text, request_.sender);
    }
    session.may_be_kept = session.tls() == nullptr || policy.reuse;
    co_return failure;
}

/// Null when the server cannot be used; the reason is noted.
Task<std::unique_ptr<Session>> Delivery::open_session(const HostAddress& host, const NextHop& hop, TlsPolicy policy, bool best) {
    if (std::optional<std::string> reason = client_.tls().forbids(policy, host)) {
        log_info("{}", *reason);
        if (counts_sessions(client_.settings(), hop)) {
            client_.tlsrpt().tell(outcome_of_forbidden(hop, policy, host));
        }
        not_asked({"4.7.5", std::move(*reason), true});
        co_return nullptr;
    }
    for (;;) {
        connected_usec_ = 0;
        Result<std::unique_ptr<Stream>> stream = co_await client_.connector().connect(host);
        if (!stream) {
            Failure why{"4.4.1", fmt::format("connect to {}: {}", host.with_port(), stream.error().what), true};
            log_info("{}", why.text);
            not_asked(std::move(why));
            co_return nullptr;
        }
        auto session = std::make_unique<Session>(client_.settings(), client_.reply_filter(), std::move(*stream), host);
        session->debugged = client_.debugs(host);
        const std::optional<Failure> failure = co_await prepare(*session, hop, policy, best);
        connected_usec_ = now_usec();
        count_session(hop, policy, *session);
        if (!failure) {
            co_return session;
        }
        if (plaintext_fallback(*session, policy)) {
            log_info("{}: {}: trying without TLS", request_.queue_id, failure->text);
            policy.level = TlsLevel::none;
            co_await session->quit();
            continue;
        }
        Failure why = *failure;
        const bool for_lack_of_tls = why.dsn == "4.7.4" || (why.dsn == "4.7.5" && !session->tls_failed());
        if (requiretls_ >= RequireTlsLevel::opportunistic_starttls && for_lack_of_tls) {
            why.dsn = "5.7.10";   // no waiting for what a sender shall decide about: when no host is better, it goes back
            why.text = "REQUIRETLS: " + why.text;
        }
        failed_all(session.get(), why);
        co_await tell();
        co_await session->quit();
        std::optional<queue::Begin> notice = session->take_transcript();
        co_await tell_postmaster(std::move(notice));
        co_return nullptr;
    }
}

/// False when the session turned out to be stale.
Task<bool> Delivery::transfer(std::unique_ptr<Session> session, const std::string& key) {
    content_.rewind();
    const bool keep = session->may_be_kept && client_.cache().wants(key, *session);
    Transfer one(*this, *session, !keep);
    const bool told = co_await one.run();
    session->count_use();
    std::optional<queue::Begin> notice;
    if (!session->dead() && keep) {
        notice = session->take_transcript();
        client_.cache().keep(key, std::move(session));
    } else {
        co_await tell();
        co_await session->quit();
        notice = session->take_transcript();
    }
    co_await tell_postmaster(std::move(notice));
    co_return told;
}

/// Trouble with a notice is no reason for another.
Task<> Delivery::tell_postmaster(std::optional<queue::Begin> notice) {
    if (!notice || client_.postmaster == nullptr || request_.sender.empty() || is_double_bounce(client_.config(), request_.sender)) {
        co_return;
    }
    co_await tell();   // nobody waits for this
    const Result<void> queued = co_await client_.postmaster->submit(std::move(*notice));
    if (!queued) {
        log_warning("postmaster notify: {}", queued.error().what);
    }
}

}  // namespace postern::smtp
