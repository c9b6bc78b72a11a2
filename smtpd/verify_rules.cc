/// reject_unverified_sender, reject_unverified_recipient: addresses that mail can be delivered to, as verify(8) knows or finds out.
#include <fmt/format.h>

#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/verify/client.h"
#include "smtpd/restriction_rules.h"

namespace postern::smtpd {
namespace {

/// What differs between the two.
struct Settings {
    Settings(const Config& config, bool sender)
        : defer_code(sender ? config.unverified_sender_defer_code() : config.unverified_recipient_defer_code()),
          reject_code(sender ? config.unverified_sender_reject_code() : config.unverified_recipient_reject_code()),
          reason(sender ? config.unverified_sender_reject_reason() : config.unverified_recipient_reject_reason()),
          action(sender ? config.unverified_sender_tempfail_action() : config.unverified_recipient_tempfail_action()),
          dsn(sender ? "4.1.7" : "4.1.1") {}
    long defer_code, reject_code;
    const std::string &reason, &action;
    const char* dsn;
};

constexpr std::size_t kMaxReason = 250;

}  // namespace

/// The client waits address_verify_poll_count - 1 times address_verify_poll_delay at most, for one probe.
Task<Verdict> evaluate_unverified(const Rule& rule, Evaluation& evaluation) {
    const Config& config = *evaluation.context.config;
    const bool sender = rule.kind == RuleKind::reject_unverified_sender;
    const std::optional<std::string>& address = sender ? evaluation.subject.sender : evaluation.subject.recipient;
    if (!address || address->empty()) {
        co_return Verdict{};
    }
    const Settings settings(config, sender);
    const Millis patience = config.address_verify_poll_delay() * (config.address_verify_poll_count() - 1);
    const std::string path = "private/" + config.address_verify_service_name();
    const Result<verify::VerifyAnswer> answer = co_await verify::query(path, *address, patience);
    if (!answer || !answer->ok) {
        log_warning("problem talking to service {}: {}", path, answer ? "refused" : answer.error().what);
        Verdict trouble = rejected(rule.kind, evaluation, 450, "4.3.0", "address verification problem");
        co_return soft_failure(evaluation, settings.action, std::move(trouble));
    }
    if (answer->status == verify::kDeliverable) {
        co_return Verdict{};
    }
    const bool failed = answer->status == verify::kUndeliverable;
    const int code = static_cast<int>(failed ? settings.reject_code : settings.defer_code);
    if (code < 400) {
        co_return Verdict{};
    }
    const std::string text = settings.reason.empty() ? answer->text : settings.reason;
    const std::string why = fmt::format("{} address: {}", code >= 500 ? "undeliverable" : "unverified", text.substr(0, kMaxReason));
    Verdict verdict = rejected(rule.kind, evaluation, code, settings.dsn, why);
    if (code >= 500) {
        co_return verdict;
    }
    co_return soft_failure(evaluation, settings.action, std::move(verdict));
}

}  // namespace postern::smtpd
