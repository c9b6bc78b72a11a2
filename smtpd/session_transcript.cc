// What was said, for the postmaster (notify_classes).
#include <fmt/format.h>

#include <memory>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "smtpd/session.h"

namespace postern::smtpd {

/// What logs in is nobody's business: neither the argument of AUTH nor lines that a client sends after it without waiting for
/// our answer, which are taken for commands when that was a refusal.
void Session::note_command(const Command& command) {
    const bool known = find_command(command.verb) != nullptr;
    if (command.verb == "AUTH") {
        secrets_follow_ = true;
        return note_heard(without_secret(command.line));
    }
    secrets_follow_ = secrets_follow_ && !known;
    note_heard(secrets_follow_ ? kNotShown : std::string_view(command.line));
}

/// debug_peer_list sees what the postmaster sees.
void Session::note_heard(std::string_view line) {
    if (debugged_) {
        log_info("< {}: {}", info_.text(), printable(line));
    }
    transcript_.heard(line);
}

/// 334 is a challenge (RFC 4954 section 4): together with its response it would be enough to guess passwords.
void Session::note_reply(std::string_view text) {
    const std::string challenge = text.starts_with("334") ? fmt::format("334 {}", kNotShown) : std::string();
    const std::string_view shown = challenge.empty() ? text : std::string_view(challenge);
    if (debugged_) {
        log_info("> {}: {}", info_.text(), printable(shown));
    }
    transcript_.said(shown);
}

/// A line of an AUTH exchange.
void Session::note_response(std::string_view line) { note_heard(line == "*" ? line : kNotShown); }

/// After smtpd_history_flush_threshold lines, where a message or the session begins anew.
Task<> Session::flush_transcript() {
    if (transcript_.lines() > static_cast<std::size_t>(config_.smtpd_history_flush_threshold())) {
        co_await tell_postmaster();
        transcript_.clear();
    }
}

Task<> Session::tell_postmaster() {
    if (!transcript_.due() || info_.local) {
        co_return;
    }
    const std::string ending = aborted_.empty() ? "\n" : fmt::format("Session aborted, reason: {}\n\n", aborted_);
    queue::Begin begin = transcript_.notice(config_, "SMTP server: errors from " + info_.text(), "", ending);
    std::string content = std::move(begin.content);
    begin.content.clear();
    const std::unique_ptr<Submission> submission = server_.outlet().begin(std::move(begin));
    const Receipt receipt = co_await submission->finish(std::move(content));
    if (!receipt.queued) {
        log_warning("postmaster notice about {}: {}", info_.text(), receipt.text);
    }
}

}  // namespace postern::smtpd
