#include "smtpd/transcript.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"

namespace postern::smtpd {
namespace {

constexpr std::size_t kMaxLines = 100, kMaxLine = 512;

bool has_class(const Config& config, std::string_view name) {
    const std::vector<std::string> words = split_list(config.notify_classes());
    return std::any_of(words.begin(), words.end(), [name](const std::string& word) { return equals_ignoring_case(word, name); });
}

std::string complete(const Config& config, const std::string& address) {
    return address.find('@') == std::string::npos ? address + "@" + config.myorigin() : address;
}

}  // namespace

bool Transcript::wanted(const Config& config) { return has_class(config, "policy") || has_class(config, "protocol"); }

Transcript::Transcript(const Config& config) : policy_(has_class(config, "policy")), protocol_(has_class(config, "protocol")) {}

void Transcript::note(std::string_view who, std::string_view line) {
    if (lines_.size() == kMaxLines) {
        lines_.pop_front();
    }
    lines_.push_back(std::string(who) + printable(line, kMaxLine));
}

void Transcript::happened(Trouble trouble) { due_ = due_ || (trouble == Trouble::policy ? policy_ : protocol_); }

queue::Begin Transcript::notice(const Config& config, std::string_view client, std::string_view reason) const {
    queue::Begin begin;
    begin.envelope.sender = complete(config, config.double_bounce_sender());
    queue::Recipient recipient;
    recipient.address = complete(config, config.error_notice_recipient());
    begin.content = fmt::format("From: Mail Delivery System <{}>\nTo: Postmaster <{}>\nSubject: {} SMTP server: errors from {}\n\n"
                                "Transcript of session follows.\n\n",
                                complete(config, "MAILER-DAEMON"), recipient.address, config.mail_name(), printable(client, 300));
    begin.envelope.recipients.push_back(std::move(recipient));
    begin.envelope.origin = queue::kOriginBounce;
    begin.envelope.rewrite_local = true;
    begin.complete_headers = true;
    begin.add_bcc = false;
    begin.check_headers_and_body = false;
    for (const std::string& line : lines_) {
        begin.content += " " + line + "\n";
    }
    if (!reason.empty()) {
        begin.content += fmt::format("\nSession aborted, reason: {}\n", reason);
    }
    begin.content += "\nFor other details, see the local mail logfile\n";
    return begin;
}

}  // namespace postern::smtpd
