#include "qmgr/bounce_session.h"

#include <algorithm>
#include <iterator>

#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/notice/postmaster.h"
#include "lib/queue/queue_file.h"
#include "qmgr/agent_pool.h"

namespace postern::qmgr {
namespace {

constexpr std::size_t kPiece = 256 * 1024;

}  // namespace

/// Never a bounce about a bounce (RFC 5321 section 6.1): what was to go to the null sender goes to the postmaster.
std::vector<NoticePlan> notices_for(const Config& config, const Report& report) {
    std::vector<NoticePlan> plans;
    const NotifyClasses classes(config);
    const bool failure = report.kind == kReportFailure;
    const std::string postmaster_sender = double_bounce_address(config);
    if (is_double_bounce(config, report.told())) {
        if (failure) {
            log_warning("{}: undeliverable postmaster notification discarded", report.queue_id);
        }
        return plans;
    }
    if (report.told().empty()) {
        if (classes.contains(Trouble::double_bounce) && report.kind != kReportDelay) {
            const Audience audience = failure ? Audience::double_bounce : Audience::sender;   // in the words that were asked for
            plans.push_back({audience, complete_address(config, config._2bounce_notice_recipient()), postmaster_sender});
        }
        return plans;
    }
    plans.push_back({Audience::sender, report.told(), ""});
    if (failure && classes.contains(Trouble::bounce)) {
        plans.push_back({Audience::postmaster, complete_address(config, config.bounce_notice_recipient()), postmaster_sender});
    }
    if (report.kind == kReportDelay && classes.contains(Trouble::delay)) {
        plans.push_back({Audience::postmaster, complete_address(config, config.delay_notice_recipient()), postmaster_sender});
    }
    return plans;
}

std::vector<ReportRecipient> hide_unwanted(Report& report, const NoticePlan& plan) {
    const std::uint8_t kind = report.kind == kReportFailure ? queue::kNotifyFailure : queue::kNotifyDelay;
    const bool told_all = plan.audience != Audience::sender || (report.kind != kReportFailure && report.kind != kReportDelay);
    const auto wanted = [&](const ReportRecipient& line) { return told_all || wants_notice(line.recipient, kind); };
    const auto first = std::stable_partition(report.recipients.begin(), report.recipients.end(), wanted);
    std::vector<ReportRecipient> hidden(std::make_move_iterator(first), std::make_move_iterator(report.recipients.end()));
    report.recipients.erase(first, report.recipients.end());
    return hidden;
}

Task<> BounceSession::run() {
    for (;;) {
        Result<ToBounce> request = co_await channel_.receive(kForever);
        if (!request) {
            co_return;
        }
        Report& report = std::get<Report>(*request);
        Reported answer = co_await handle(report);
        const Result<void> sent = co_await channel_.send(std::move(answer));
        if (!sent) {
            co_return;
        }
    }
}

/// The copy for the postmaster is a courtesy; the other notices decide.
Task<Reported> BounceSession::handle(Report& report) {
    Reported answer;
    answer.ok = true;
    if (report.recipients.empty() || !report.message || report.kind < kReportFailure || report.kind > kReportTrace) {
        answer.ok = false;
        answer.text = "malformed report";
        co_return answer;
    }
    for (const NoticePlan& plan : notices_for(config_, report)) {
        std::vector<ReportRecipient> hidden = hide_unwanted(report, plan);
        if (report.recipients.empty()) {
            report.recipients = std::move(hidden);
            continue;
        }
        const Result<std::string> queued = co_await send(report, plan);
        std::move(hidden.begin(), hidden.end(), std::back_inserter(report.recipients));
        const std::string name = notice_name(report.kind, plan.audience);
        if (queued) {
            log_info("{}: {}: {}", report.queue_id, name, *queued);
        } else if (plan.audience != Audience::postmaster) {
            answer.ok = false;
            answer.text = queued.error().what;
            co_return answer;
        } else {
            log_warning("{}: {} failure: {}", report.queue_id, name, queued.error().what);
        }
    }
    co_return answer;
}

Task<Result<void>> BounceSession::send_extent(int fd, queue::Extent extent) {
    while (extent.length > 0 && !cleanup_.answered_early()) {
        const queue::Extent piece{extent.offset, std::min<std::uint64_t>(extent.length, kPiece)};
        const Result<std::string> bytes = queue::read_extent(fd, piece, kPiece);
        if (!bytes) {
            co_return bytes.error();
        }
        const Result<void> sent = co_await cleanup_.content(*bytes);
        if (!sent) {
            co_return sent;
        }
        extent.offset += piece.length;
        extent.length -= piece.length;
    }
    co_return Result<void>();
}

Task<Result<std::string>> BounceSession::send(const Report& report, const NoticePlan& plan) {
    std::string header;
    if (config_.enable_threaded_bounces()) {
        const queue::Extent start{report.headers.offset, std::min<std::uint64_t>(report.headers.length, kPiece)};
        const Result<std::string> read = queue::read_extent(report.message.get(), start, kPiece);
        header = read ? *read : "";
    }
    const NoticeText notice = make_notice(config_, report, plan.audience, plan.to, wall_clock_usec(), header, templates_);
    queue::Begin begin;
    begin.envelope.sender = plan.sender;
    queue::Recipient recipient;
    recipient.address = plan.to;
    begin.envelope.recipients.push_back(std::move(recipient));
    begin.envelope.origin = queue::kOriginBounce;
    begin.envelope.rewrite_local = true;
    begin.envelope.encoding = notice.eight_bit ? queue::kEncoding8bit : report.encoding;
    begin.envelope.smtputf8 = notice.utf8;
    begin.envelope.requiretls = report.requiretls && !config_.requiretls_redact_dsn();   // what has no content may go any way (RFC 8689 section 5)
    begin.complete_headers = true;
    begin.add_bcc = false;
    begin.check_headers_and_body = inspects_internal_mail(config_, "bounce");
    begin.content = notice.head;
    const Result<void> begun = co_await cleanup_.begin(std::move(begin));
    if (!begun) {
        co_return begun.error();
    }
    Result<void> copied = co_await send_extent(report.message.get(), report.headers);
    if (copied && !notice.headers_only) {
        copied = co_await send_extent(report.message.get(), report.body);
    }
    if (copied && !cleanup_.answered_early()) {
        copied = co_await cleanup_.content(notice.tail);
    }
    if (!copied) {
        cleanup_.cancel();
        co_return copied.error();
    }
    Result<queue::FromCleanup> answer = co_await cleanup_.end();
    if (!answer) {
        co_return answer.error();
    }
    if (const auto* refused = std::get_if<queue::Refused>(&*answer)) {
        co_return Error(Errc::temporary, "cleanup: " + refused->text);
    }
    co_return std::get<queue::Queued>(*answer).queue_id;
}

}  // namespace postern::qmgr
