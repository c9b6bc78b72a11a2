#include "tlspolicy/sts_server.h"

#include <algorithm>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"

namespace postern::tlspolicy {
namespace {

constexpr Millis kDnsPatience = std::chrono::seconds(20);
constexpr Millis kPatience = std::chrono::seconds(10);
constexpr std::size_t kMaxFetches = 200;
constexpr std::size_t kMaxVerdicts = 50'000;
constexpr std::size_t kMaxDomain = 240;   ///< "_mta-sts." still fits in front

/// RFC 8461 section 3.2: text/plain, with whatever parameters.
bool is_plain_text(std::string_view type) {
    return equals_ignoring_case(trim(type.substr(0, type.find(';'))), "text/plain");
}

}  // namespace

StsServer::StsServer(Dns& dns, Https& https, StsCache& cache, Clock clock)
    : dns_(dns), https_(https), cache_(cache), clock_(clock), fetches_(kMaxFetches) {}

Task<> StsServer::serve(UniqueFd process) {
    const auto peer = std::make_shared<Peer>(std::move(process), kMaxStsQuestion);
    peers_.insert(peer.get());
    for (;;) {
        Result<ToMtaSts> message = co_await peer->receive(kForever);
        if (!message) {
            if (message.error().code == Errc::syntax || message.error().code == Errc::too_big) {
                log_warning("client: {}", message.error().what);
            }
            break;
        }
        if (peer->pending_output() > kMaxStsAnswer * 4) {
            break;   // it asks and does not listen
        }
        spawn(answer(peer, std::move(std::get<StsQuestion>(*message))));
    }
    peers_.erase(peer.get());
    peer->close();
}

void StsServer::close_all() {
    for (Peer* const peer : peers_) {
        peer->close();
    }
}

Task<> StsServer::answer(std::shared_ptr<Peer> peer, StsQuestion question) {
    StsAnswer found = co_await find(std::move(question.domain));
    found.id = question.id;
    if (!peer->is_open()) {
        co_return;
    }
    peer->post(std::move(found));
    const Result<void> sent = co_await peer->flush(kPatience);
    if (!sent) {
        log_debug("answer: {}", sent.error().what);   // the reader in serve() notices too
    }
}

StsAnswer StsServer::answer_from(const std::string& domain, const std::optional<StoredPolicy>& entry) const {
    StsAnswer out;
    if (const auto verdict = verdicts_.find(domain); verdict != verdicts_.end()) {
        out.problem = static_cast<std::uint8_t>(verdict->second.problem);
        out.problem_text = verdict->second.text;
    }
    if (entry && entry->expires() > clock_()) {
        out.found = true;
        out.mode = static_cast<std::uint8_t>(entry->policy.mode);
        out.mx = entry->policy.mx;
        out.policy_id = entry->id;
        out.fetched = entry->fetched;
        out.expires = entry->expires();
        out.lines = entry->policy.lines;
    }
    return out;
}

Task<StsAnswer> StsServer::find(std::string domain) {
    domain = to_lower(domain);
    if (!valid_hostname(domain) || valid_ip_address(domain) || domain.size() > kMaxDomain) {
        co_return StsAnswer();
    }
    std::optional<StoredPolicy> entry = cache_.find(domain);
    bool kept = entry && entry->expires() > clock_();
    const auto verdict = verdicts_.find(domain);
    if (verdict == verdicts_.end() || verdict->second.until <= clock_()) {
        std::shared_ptr<Lookup> lookup = lookups_[domain];
        if (lookup == nullptr) {
            lookup = lookups_[domain] = std::make_shared<Lookup>();
            spawn(look_up(domain, lookup, false));
        }
        if (!lookup->done) {
            const Millis patience = kept ? kWithCache : kWithoutCache;
            co_await lookup->news.wait(patience);
        }
        entry = lookup->fresh ? lookup->fresh : cache_.find(domain);
        kept = kept && !lookup->fresh;
    }
    if (entry && clock_() - entry->used >= kDay) {
        entry->used = clock_();
        co_await keep(domain, *entry);
    }
    StsAnswer out = answer_from(domain, entry);
    out.kept = out.found && kept;
    co_return out;
}

/// The record, and when it announces something new, the policy.  Nothing here undoes a policy that is kept: only time and a
/// newer one do (RFC 8461 section 5.1).
Task<> StsServer::look_up(std::string domain, std::shared_ptr<Lookup> lookup, bool even_if_same) {
    const Result<DnsAnswer> records = co_await dns_.query("_mta-sts." + domain, DnsType::txt, kDnsPatience);
    std::optional<std::string> id;
    if (records) {
        std::vector<std::string> texts;
        for (const DnsAnswer::Record& record : records->records) {
            texts.push_back(record.text);
        }
        id = find_sts_id(texts);
    }
    std::optional<StoredPolicy> entry = cache_.find(domain);
    const bool known = id && entry && entry->id == *id && entry->expires() > clock_();
    if (!id) {
        remember(domain, StsProblem::none, "");
    } else if (known && !even_if_same) {
        verdicts_.erase(domain);
    } else {
        StsProblem problem = StsProblem::none;
        co_await fetches_.acquire();
        Result<StsPolicy> policy = co_await fetch(domain, problem);
        fetches_.release();
        if (policy) {
            verdicts_.erase(domain);
            StoredPolicy fresh{*id, clock_(), entry ? entry->used : clock_(), std::move(*policy)};
            log_info("policy of {}: mode {}, id {}, max_age {}", domain, sts_mode_name(fresh.policy.mode), fresh.id, fresh.policy.max_age);
            lookup->fresh = fresh;
            co_await keep(domain, std::move(fresh));
        } else {
            log_warning("policy of {}: {}", domain, policy.error().what);
            remember(domain, problem, policy.error().what);
        }
    }
    lookup->done = true;
    lookups_.erase(domain);
    lookup->news.notify_all();
}

/// RFC 8461 section 3.3.
Task<Result<StsPolicy>> StsServer::fetch(std::string domain, StsProblem& problem) {
    HttpsRequest request;
    request.url = "https://mta-sts." + domain + "/.well-known/mta-sts.txt";
    request.max_bytes = kMaxStsPolicy;
    Result<HttpsAnswer> answer = co_await https_.perform(std::move(request));
    problem = StsProblem::fetch_error;
    if (!answer) {
        problem = answer.error().code == Errc::denied ? StsProblem::webpki_invalid : problem;
        co_return answer.error();
    }
    if (answer->status != 200) {
        co_return Error(Errc::not_found, "the web server answers " + std::to_string(answer->status));
    }
    if (!is_plain_text(answer->content_type)) {
        co_return Error(Errc::syntax, "content type " + printable(answer->content_type, 100) + " instead of text/plain");
    }
    problem = StsProblem::invalid;
    co_return parse_sts_policy(answer->body);
}

Task<> StsServer::keep(std::string domain, StoredPolicy entry) {
    StsCache& cache = cache_;
    auto store = [&cache, domain, entry] { return cache.store(domain, entry); };
    const Result<void> stored = co_await offload(std::move(store));
    if (!stored) {
        log_warning("policy of {} is not kept: {}", domain, stored.error().what);
    }
}

void StsServer::remember(const std::string& domain, StsProblem problem, std::string text) {
    const std::int64_t now = clock_();
    if (verdicts_.size() >= kMaxVerdicts) {
        std::erase_if(verdicts_, [now](const auto& each) { return each.second.until <= now; });
    }
    if (verdicts_.size() >= kMaxVerdicts) {
        verdicts_.clear();
    }
    verdicts_[domain] = Verdict{now + kRetry, problem, std::move(text)};
}

Task<> StsServer::refresh() {
    if (refreshing_) {
        co_return;
    }
    refreshing_ = true;
    const std::vector<std::pair<std::string, StoredPolicy>> entries = cache_.all();
    for (const auto& [domain, listed] : entries) {
        const std::int64_t now = clock_();
        const std::optional<StoredPolicy> entry = cache_.find(domain);   // fetches take time: it may be a newer one by now
        if (!entry || lookups_.count(domain) != 0) {
            continue;
        }
        if (entry->expires() <= now) {
            StsCache& cache = cache_;
            const std::string name = domain;
            auto remove = [&cache, name] { return cache.remove(name); };
            const Result<void> removed = co_await offload(std::move(remove));
            if (!removed) {
                log_warning("{}", removed.error().what);
            }
        } else if (now - entry->fetched >= kDay && now - entry->used < kUnused) {
            const auto lookup = std::make_shared<Lookup>();
            lookups_[domain] = lookup;
            co_await look_up(domain, lookup, true);
        }
    }
    refreshing_ = false;
}

}  // namespace postern::tlspolicy
