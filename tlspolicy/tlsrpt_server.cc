#include "tlspolicy/tlsrpt_server.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/queue/checksum.h"

namespace postern::tlspolicy {
namespace {

constexpr Millis kPatience = std::chrono::seconds(30);
constexpr std::int64_t kDaySeconds = 86'400;
constexpr std::size_t kMaxNoted = 20'000;      ///< domains between two writes, when the disk is full
constexpr std::size_t kMaxShown = kMaxTlsrptText - 1024 * 1024;

std::string name_of(const ReportUri& uri) { return uri.url.empty() ? "mailto:" + uri.address : uri.url; }

}  // namespace

Task<> TlsrptServer::serve(UniqueFd process) {
    Peer peer(std::move(process), kMaxTlsrptMessage);
    peers_.insert(&peer);
    for (bool good = true; good;) {
        Result<ToTlsrpt> message = co_await peer.receive(kForever);
        if (!message) {
            if (message.error().code == Errc::syntax || message.error().code == Errc::too_big) {
                log_warning("client: {}", message.error().what);
            }
            break;
        }
        good = co_await handle(std::move(*message), peer);
    }
    peers_.erase(&peer);
}

void TlsrptServer::close_all() {
    for (Peer* const peer : peers_) {
        peer->close();
    }
}

/// False: the conversation is over.
Task<bool> TlsrptServer::handle(ToTlsrpt message, Peer& peer) {
    TlsrptText answer;
    if (const auto* outcome = std::get_if<TlsrptOutcome>(&message)) {
        count(*outcome);
        co_return true;
    }
    if (std::holds_alternative<Trigger>(message)) {
        co_await send_due();
        co_return true;
    }
    if (const auto* send = std::get_if<TlsrptSend>(&message)) {
        answer.text = co_await send_now(send->day, send->domain);
    } else if (const auto* what = std::get_if<TlsrptShow>(&message)) {
        write_rest();
        answer.text = show(*what);
    }
    const Result<void> sent = co_await peer.send(std::move(answer), kPatience);
    co_return sent.ok();
}

void TlsrptServer::count(const TlsrptOutcome& outcome) {
    if (noted_.size() >= kMaxNoted || !add_outcome(noted_, utc_day(parts_.clock()), outcome)) {
        return;
    }
    if (!committing_) {
        committing_ = true;
        parts_.begin_work();
        spawn(commit_soon());
    }
}

/// Many sessions, one write.
Task<> TlsrptServer::commit_soon() {
    while (!noted_.empty()) {
        co_await sleep_for(kCommit);
        Counts taken = std::exchange(noted_, {});
        TlsrptBook& book = parts_.book;
        auto add = [&book, &taken] { return book.add(taken); };
        const Result<void> added = co_await offload(std::move(add));
        if (!added) {
            log_warning("counts are not written: {}", added.error().what);
            for (const auto& [key, counts] : taken) {
                merge(noted_[key], counts);
            }
            co_await sleep_for(kPatience);
        }
    }
    committing_ = false;
    parts_.end_work();
}

void TlsrptServer::write_rest() {
    if (noted_.empty()) {
        return;
    }
    if (const Result<void> added = parts_.book.add(noted_); !added) {
        log_warning("counts are not written: {}", added.error().what);
        return;
    }
    noted_.clear();
}

/// Sender, day and domain decide the moment, so that a process that is started again chooses the same.
bool TlsrptServer::is_due(const BookKey& key) const {
    const std::int64_t now = parts_.clock();
    const std::int64_t after = day_begin(key.day) + kDaySeconds;
    const std::int64_t spread = queue::crc32c(0, parts_.reporter.host + key.day) % kSpread;
    return day_begin(key.day) != 0 && now >= after + spread;
}

Task<> TlsrptServer::send_due() {
    if (sending_) {
        co_return;
    }
    sending_ = true;
    parts_.begin_work();
    const std::vector<BookKey> keys = parts_.book.keys();
    for (const BookKey& key : keys) {
        const ReportState state = parts_.book.state(key);
        if (!state.done && state.next <= parts_.clock() && is_due(key)) {
            const std::string what = co_await report(key, false);
            log_info("{}", what);
        }
    }
    const std::string oldest = utc_day(parts_.clock() - kKeepDays * kDaySeconds);
    if (!keys.empty() && keys.front().day < oldest) {
        TlsrptBook& book = parts_.book;
        auto forget = [&book, oldest] { return book.forget_before(oldest); };
        const Result<void> forgotten = co_await offload(std::move(forget));
        if (!forgotten) {
            log_warning("{}", forgotten.error().what);
        }
    }
    sending_ = false;
    parts_.end_work();
}

Task<std::string> TlsrptServer::send_now(std::string day, std::string domain) {
    write_rest();
    std::string out;
    const Counts all = parts_.book.read(day, domain);
    for (const auto& [key, counts] : all) {
        BookKey one = key;
        const std::string what = co_await report(std::move(one), true);
        log_info("{}", what);
        out += what + "\n";
    }
    co_return out;
}

/// Looks for the addresses, makes the report, hands it over, and notes how far that got.  `again`: to all addresses.
Task<std::string> TlsrptServer::report(BookKey key, bool again) {
    const std::string about = fmt::format("report for {} on {}: ", key.domain, key.day);
    ReportState state = parts_.book.state(key);
    const bool over = key.day < utc_day(parts_.clock());   // more may be counted until then
    const Result<DnsAnswer> records = co_await parts_.dns.query("_smtp._tls." + key.domain, DnsType::txt, kPatience);
    std::vector<std::string> texts;
    for (std::size_t i = 0; records && i < records->records.size(); ++i) {
        texts.push_back(records->records[i].text);
    }
    const std::vector<ReportUri> uris = find_report_uris(texts);
    const DomainDay counts = parts_.book.counts_of(key);
    const Result<std::string> compressed = gzip(report_json(parts_.reporter, key, counts));
    bool all = records.ok() && compressed.ok();
    state.note = !records ? records.error().what : !compressed ? compressed.error().what : uris.empty() ? "nobody wants it" : "";
    for (std::size_t i = 0; compressed && i < uris.size(); ++i) {
        const std::string name = name_of(uris[i]);
        if (!again && std::find(state.delivered.begin(), state.delivered.end(), name) != state.delivered.end()) {
            continue;
        }
        const Result<void> delivered = co_await deliver(uris[i], key, *compressed);
        all = all && delivered.ok();
        state.note += (state.note.empty() ? "" : "; ") + printable(name, 300) + (delivered ? " has it" : ": " + delivered.error().what);
        if (delivered && over) {
            state.delivered.push_back(name);
        }
    }
    const std::string what = about + state.note;
    if (over) {
        ++state.attempts;
        state.done = all || state.attempts >= kAttempts;
        state.next = parts_.clock() + kRetry;
        co_await note(key, std::move(state));
    }
    co_return what;
}

/// RFC 8460 section 3: by mail or by POST.
Task<Result<void>> TlsrptServer::deliver(const ReportUri& uri, const BookKey& key, const std::string& compressed) {
    if (uri.url.empty()) {
        std::string content = report_message(parts_.reporter, key, uri.address, compressed, parts_.clock());
        co_return co_await parts_.mailer.send(parts_.reporter.sender, uri.address, std::move(content));
    }
    HttpsRequest request;
    request.url = uri.url;
    request.post = true;
    request.body = compressed;
    request.content_type = "application/tlsrpt+gzip";
    const Result<HttpsAnswer> answer = co_await parts_.https.perform(std::move(request));
    if (!answer) {
        co_return answer.error();
    }
    if (answer->status < 200 || answer->status > 299) {
        co_return Error(Errc::io, fmt::format("the web server answers {}", answer->status));
    }
    co_return Result<void>();
}

Task<> TlsrptServer::note(const BookKey& key, ReportState state) {
    TlsrptBook& book = parts_.book;
    auto set = [&book, key, state] { return book.set_state(key, state); };
    const Result<void> done = co_await offload(std::move(set));
    if (!done) {
        log_warning("{}", done.error().what);
    }
}

std::string TlsrptServer::show(const TlsrptShow& what) const {
    std::string out;
    for (const auto& [key, counts] : parts_.book.read(what.day, what.domain)) {
        if (out.size() > kMaxShown) {
            break;
        }
        if (what.json) {
            out += report_json(parts_.reporter, key, counts) + "\n";
            continue;
        }
        for (const PolicyCounts& policy : counts.policies) {
            out += fmt::format("{} {} {}: {} good, {} failed\n", key.day, key.domain,
                               tlsrpt_policy_name(static_cast<TlsrptPolicy>(policy.policy)), policy.success, policy.failure);
            for (const FailureDetail& detail : policy.details) {
                out += fmt::format("    {} {} {}[{}]{}\n", detail.count, tlsrpt_result_name(static_cast<TlsrptResult>(detail.result)),
                                   detail.receiving_host, detail.receiving_ip, detail.reason.empty() ? "" : ": " + detail.reason);
            }
        }
        if (const ReportState state = parts_.book.state(key); !state.note.empty()) {
            out += fmt::format("    {}: {}\n", state.done ? "reported" : "to be reported", state.note);
        }
    }
    return out;
}

}  // namespace postern::tlspolicy
