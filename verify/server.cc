#include "verify/server.h"

#include <algorithm>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/log/log.h"
#include "lib/queue/cleanup_client.h"
#include "lib/verify/client.h"

namespace postern::verify {
namespace {

using ClientChannel = Channel<FromVerify, ToVerify>;

constexpr std::size_t kProbesAtOnce = 20;
constexpr std::string_view kInProgress = "Address verification in progress";

/// One line: it ends up in an SMTP reply, and in a log.
std::string one_line(std::string_view text) {
    std::string line(text.substr(0, kMaxVerifyText));
    for (char& c : line) {
        c = static_cast<unsigned char>(c) < 32 || c == 127 ? ' ' : c;
    }
    return line;
}

bool usable_address(std::string_view address) {
    return !address.empty() && address.size() <= kMaxVerifyAddress &&
           std::none_of(address.begin(), address.end(), [](char c) { return c == '\0' || c == '\n' || c == '\r'; });
}

}  // namespace

Server::Server(const Config& config, Cache& cache, Prober prober, Clock clock)
    : config_(config), cache_(cache), prober_(std::move(prober)), clock_(std::move(clock)), lifetimes_(config),
      places_(kProbesAtOnce) {}

Task<> Server::serve(UniqueFd socket, bool trusted) {
    ClientChannel channel(std::move(socket), kMaxVerifyMessage);
    for (;;) {
        Result<ToVerify> message = co_await channel.receive(kForever);
        if (!message) {
            if (message.error().code == Errc::syntax || message.error().code == Errc::too_big) {
                log_warning("request: {}", message.error().what);
            }
            co_return;
        }
        VerifyAnswer answer;
        if (auto* question = std::get_if<VerifyQuery>(&*message)) {
            answer = co_await query(std::move(*question));
        } else {
            answer = update(std::get<VerifyUpdate>(*message), trusted);
        }
        const Result<void> sent = co_await channel.send(std::move(answer));
        if (!sent) {
            co_return;
        }
    }
}

/// What is known and may still be believed.
Entry Server::look_up(const std::string& address) const {
    std::optional<Entry> known = cache_.find(address);
    if (known && !lifetimes_.is_expired(*known, clock_())) {
        return std::move(*known);
    }
    Entry unknown;
    unknown.text = kInProgress;
    return unknown;
}

/// Without address_verify_negative_cache nothing is remembered of addresses that were never good.
void Server::probe_if_due(const std::string& address, const Entry& entry) {
    const std::int64_t now = clock_();
    if (!lifetimes_.wants_probe(entry, now)) {
        return;
    }
    if (entry.updated != 0 || config_.address_verify_negative_cache()) {
        Entry marked = entry;
        marked.probed = now;
        cache_.put(address, std::move(marked));
    }
    spawn(probe(address));   // when it fails, it takes the mark away
}

Task<> Server::probe(std::string address) {
    co_await places_.acquire();
    const Result<void> sent = co_await prober_(address);
    places_.release();
    if (!sent) {
        log_warning("probe of <{}>: {}", printable(address, 200), sent.error().what);
        std::optional<Entry> entry = cache_.find(address);
        if (entry) {   // the next question tries again
            entry->probed = 0;
            cache_.put(address, std::move(*entry));
        }
    }
}

Task<VerifyAnswer> Server::query(VerifyQuery question) {
    VerifyAnswer answer;
    answer.ok = true;
    if (!usable_address(question.address)) {
        answer.status = kUndeliverable;
        answer.text = "bad address syntax";
        co_return answer;
    }
    Entry entry = look_up(question.address);
    probe_if_due(question.address, entry);
    using Steady = std::chrono::steady_clock;
    const Steady::time_point end = Steady::now() + Millis(std::min(question.wait_msec, kMaxWaitMsec));
    Waiting& waiting = waiting_[question.address];   // references to elements stay good in this container
    ++waiting.clients;
    while (entry.status == kUnknown) {
        const Millis left = std::chrono::duration_cast<Millis>(end - Steady::now());
        if (left.count() <= 0) {
            break;
        }
        co_await waiting.news.wait(left);
        entry = look_up(question.address);
    }
    if (--waiting.clients == 0) {
        waiting_.erase(question.address);
    }
    answer.status = entry.status;
    answer.text = entry.text;
    co_return answer;
}

/// A good address stays good while the probes that refresh it fail, until it expires; a probe that comes home late does not end it.
VerifyAnswer Server::update(const VerifyUpdate& result, bool trusted) {
    VerifyAnswer answer;
    if (!trusted || !usable_address(result.address) || result.status >= kUnknown) {
        log_warning("update for <{}> refused", printable(result.address, 200));
        return answer;
    }
    answer.ok = true;
    answer.status = result.status;
    const std::int64_t now = clock_();
    const std::optional<Entry> known = cache_.find(result.address);
    const bool was_good = known && known->status == kDeliverable && !lifetimes_.is_expired(*known, now);
    if (result.status != kDeliverable && (was_good || !config_.address_verify_negative_cache())) {
        return answer;
    }
    Entry entry;
    entry.status = result.status;
    entry.updated = now;
    entry.text = one_line(result.text);
    cache_.put(result.address, std::move(entry));
    if (const auto waiting = waiting_.find(result.address); waiting != waiting_.end()) {
        waiting->second.news.notify_all();
    }
    return answer;
}

Task<Result<void>> submit_probe(const Config& config, std::string address) {
    const std::vector<std::string> utf8_for = split_list(config.smtputf8_autodetect_classes());
    const bool detects = std::any_of(utf8_for.begin(), utf8_for.end(), [](const auto& word) { return word == "verify" || word == "all"; });
    queue::Begin probe;
    probe.envelope.smtputf8 = config.smtputf8_enable() && detects && has_eight_bit(address);
    probe.envelope.sender = probe_sender(config, std::time(nullptr));
    queue::Recipient recipient;
    recipient.address = std::move(address);
    recipient.notify = queue::kNotifyNever;
    probe.envelope.recipients.push_back(std::move(recipient));
    probe.envelope.origin = queue::kOriginVerify;
    probe.envelope.rewrite_local = true;
    probe.envelope.verify_only = true;
    probe.complete_headers = true;
    probe.add_bcc = false;
    probe.check_headers_and_body = false;
    probe.content = "Subject: Address verification probe\n\nNobody should see this message.\n";
    queue::CleanupClient cleanup("public/" + config.cleanup_service_name());
    const Result<queue::FromCleanup> answer = co_await cleanup.submit(std::move(probe));
    if (!answer) {
        co_return answer.error();
    }
    if (const auto* refused = std::get_if<queue::Refused>(&*answer)) {
        co_return Error(Errc::temporary, "cleanup: " + refused->text);
    }
    co_return Result<void>();
}

}  // namespace postern::verify
