#include "lib/notice/transcript.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "lib/base/strings.h"
#include "lib/notice/wrap.h"

namespace postern {
namespace {

constexpr std::size_t kWidth = 78;

constexpr std::string_view kMechanisms[] = {"ANONYMOUS",   "CRAM-MD5",         "DIGEST-MD5",  "EXTERNAL",     "GSSAPI",
                                            "LOGIN",       "NTLM",             "OAUTHBEARER", "PLAIN",        "SCRAM-SHA-1",
                                            "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512",
                                            "SCRAM-SHA-512-PLUS", "XOAUTH2"};

}  // namespace

std::string without_secret(std::string_view auth_command) {
    const std::vector<std::string> words = split(auth_command, " \t");
    const bool named = words.size() > 1 && std::any_of(std::begin(kMechanisms), std::end(kMechanisms), [&words](std::string_view known) {
        return equals_ignoring_case(words[1], known);
    });
    if (words.size() == 1) {
        return "AUTH";
    }
    return fmt::format("AUTH{}{}{}{}", named ? " " : "", named ? words[1] : "", named && words.size() == 2 ? "" : " ",
                       named && words.size() == 2 ? "" : kNotShown);
}

std::string before_secret(std::string_view lines) {
    for (std::size_t at = 0; at < lines.size();) {
        const std::size_t end = std::min(lines.find('\n', at), lines.size());
        const std::vector<std::string> words = split(lines.substr(at, end - at), " \t\r");
        if (!words.empty() && equals_ignoring_case(words[0], "AUTH")) {
            return fmt::format("{}AUTH {}", lines.substr(0, at), kNotShown);
        }
        at = end + 1;
    }
    return std::string(lines);
}

void Transcript::note(std::string_view who, std::string_view text) {
    if (classes_.empty()) {
        return;
    }
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        note_line(who, line);
    }
}

void Transcript::note_line(std::string_view who, std::string_view line) {
    if (text_.size() > kMaxBytes) {   // half of it at once, so that long sessions do not move bytes for each line
        text_.erase(0, text_.find('\n', kMaxBytes / 2) + 1);
        dropped_ = true;
    }
    text_ += who;
    line = line.substr(0, kMaxLine);
    text_ += line.substr(0, line.find_last_not_of(" \t") + 1);
    text_ += '\n';
    ++lines_;
}

void Transcript::happened(Trouble what) {
    if (classes_.contains(what)) {
        due_ = true;
        bounced_ = bounced_ || what == Trouble::bounce;
    }
}

void Transcript::clear() {
    text_.clear();
    lines_ = 0;
    dropped_ = bounced_ = due_ = false;
}

queue::Begin Transcript::notice(const Config& config, std::string_view subject, std::string_view opening, std::string_view ending) const {
    queue::Begin begin;
    begin.envelope.sender = double_bounce_address(config);
    queue::Recipient recipient;
    recipient.address = complete_address(config, bounced_ ? config.bounce_notice_recipient() : config.error_notice_recipient());
    begin.content = postmaster_fields(config, recipient.address);
    begin.content += fmt::format("Subject: {} {}\n\n{}{}Transcript of session follows.\n\n", config.mail_name(), printable(subject, 400),
                                 printable(opening, 400), opening.empty() ? "" : "\n\n");
    begin.envelope.recipients.push_back(std::move(recipient));
    begin.envelope.origin = queue::kOriginBounce;
    begin.envelope.rewrite_local = true;
    begin.complete_headers = true;
    begin.add_bcc = false;
    begin.check_headers_and_body = inspects_internal_mail(config, "notify");
    begin.content += dropped_ ? " [earlier lines were not kept]\n" : "";
    for (std::string_view rest = text_; !rest.empty();) {
        const std::size_t end = rest.find('\n');
        begin.content += wrap_text(printable(rest.substr(0, end)), kWidth, " ");
        rest.remove_prefix(end + 1);
    }
    begin.content += fmt::format("\n{}For other details, see the local mail logfile\n", ending);
    return begin;
}

}  // namespace postern
