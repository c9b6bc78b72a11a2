#include "qmgr/notice_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/mail/date.h"
#include "lib/mail/header.h"
#include "lib/notice/postmaster.h"
#include "lib/notice/wrap.h"

namespace postern::qmgr {
namespace {

/// Of message ids in References: more than any line may have, and more than threads need.
constexpr std::size_t kMaxMessageId = 900, kMaxReferences = 20;

constexpr std::size_t kWidth = 79;

/// `Sun, 22 Nov 2026 10:55:01 +0000 (UTC)`
std::string date_text(std::int64_t usec) {
    const std::time_t seconds = usec / 1'000'000;
    std::tm parts{};
    ::localtime_r(&seconds, &parts);
    const std::string date = format_rfc5322_date(local_date(seconds));
    return parts.tm_zone != nullptr ? fmt::format("{} ({})", date, parts.tm_zone) : date;
}

/// One line of a status field; nothing that came from outside may start another.
std::string one_line(std::string_view text) {
    std::string line(text);
    for (char& c : line) {
        if (static_cast<unsigned char>(c) < 32 || c == 127) {
            c = ' ';
        }
    }
    return line;
}

const NoticeTemplate& template_for(const NoticeTemplates& templates, std::uint8_t kind) {
    switch (kind) {
    case kReportDelay: return templates.delay;
    case kReportSuccess: return templates.success;
    case kReportTrace: return templates.verify;
    default: return templates.failure;
    }
}

const std::string& subject(const NoticeTemplate& chosen, Audience audience) {
    const bool copy = audience != Audience::sender && !chosen.postmaster_subject.empty();
    return copy ? chosen.postmaster_subject : chosen.subject;
}

/// The part for people, before the recipients.
std::string human_text(const Config& config, const NoticeTemplate& chosen) {
    Result<std::string> text = expand_notice(config, chosen.body);
    if (!text) {   // looked at when the process started; a value may have become too long since
        log_warning("bounce_template_file: {}", text.error().what);
        return "This is the mail system at host " + config.myhostname() + ".\n";
    }
    return std::move(*text);
}

std::string sanitized(const ReportRecipient& recipient) {
    const std::string address = one_line(external_form(recipient.recipient.address));
    const std::string original = one_line(external_form(recipient.recipient.original));
    const std::string reason = one_line(recipient.reason);
    return recipient.recipient.original.empty() || original == address
               ? fmt::format("<{}>: {}", address, reason)
               : fmt::format("<{}> (expanded from <{}>): {}", address, original, reason);
}

/// The xtext of RFC 3461 section 4 decoded for ENVID: what the client meant.
std::string decode_xtext(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '+' && i + 2 < text.size()) {
            if (const auto code = parse_hex(text.substr(i + 1, 2))) {
                out += static_cast<char>(*code);
                i += 2;
                continue;
            }
        }
        out += text[i];
    }
    return out;
}

/// ORCPT of type utf-8 is written in ASCII: "\x{FC}" (RFC 6533 section 3, utf-8-addr-xtext and unitext alike).
std::string decode_unitext(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::size_t end = text.substr(i, 3) == "\\x{" ? text.find('}', i) : text.npos;
        const auto code = end != text.npos && end - i <= 9 ? parse_hex(text.substr(i + 3, end - i - 3)) : std::nullopt;
        const bool good = code && *code < 0x110000 && (*code < 0xD800 || *code > 0xDFFF);
        if (!good) {
            out += text[i];
            continue;
        }
        append_utf8(out, static_cast<char32_t>(*code));
        i = end;
    }
    return out;
}

std::string_view address_type(std::string_view address) { return has_eight_bit(address) ? "utf-8" : "rfc822"; }

/// The sender as notices name it: the null sender's mail comes from the mail system.
std::string named_sender(const Config& config, const Report& report) {
    return one_line(external_form(report.sender.empty() ? complete_address(config, "MAILER-DAEMON") : report.sender));
}

/// Per-message fields (RFC 3464 section 2.2).
std::string message_fields(const Config& config, const Report& report) {
    std::string text = fmt::format("Reporting-MTA: dns; {}\n", config.myhostname());
    if (!report.dsn_envid.empty()) {
        text += fmt::format("Original-Envelope-Id: {}\n", one_line(decode_xtext(report.dsn_envid)));
    }
    text += fmt::format("X-{}-Queue-ID: {}\n", config.mail_name(), report.queue_id);
    text += fmt::format("X-{}-Sender: {}; {}\n", config.mail_name(), address_type(report.sender), named_sender(config, report));
    text += fmt::format("Arrival-Date: {}\n", date_text(report.arrival_usec));
    return text;
}

/// ORCPT is "type;xtext" (RFC 3461 section 4.2); the field has it decoded.
std::string original_recipient(const queue::Recipient& recipient) {
    if (!recipient.dsn_orcpt.empty()) {
        const std::size_t semicolon = recipient.dsn_orcpt.find(';');
        if (semicolon != std::string::npos) {
            const std::string type = recipient.dsn_orcpt.substr(0, semicolon), rest = recipient.dsn_orcpt.substr(semicolon + 1);
            return one_line(type + ";" + (equals_ignoring_case(type, "utf-8") ? decode_unitext(rest) : decode_xtext(rest)));
        }
    }
    const std::string& original = recipient.original.empty() ? recipient.address : recipient.original;
    return fmt::format("{};{}", address_type(original), one_line(external_form(original)));
}

/// Per-recipient fields (RFC 3464 section 2.3), after an empty line.
std::string recipient_fields(const Config& config, const Report& report, const ReportRecipient& line) {
    const std::string& address = line.recipient.address;
    std::string text = fmt::format("\nFinal-Recipient: {}; {}\n", address_type(address), one_line(external_form(address)));
    if (report.list_owner.empty()) {   // else nobody has asked for it
        text += fmt::format("Original-Recipient: {}\n", original_recipient(line.recipient));
    }
    text += fmt::format("Action: {}\nStatus: {}\n", one_line(line.action), one_line(line.dsn));
    if (!line.remote_mta.empty()) {
        text += fmt::format("Remote-MTA: dns; {}\n", one_line(line.remote_mta));
    }
    if (!line.diagnostic.empty()) {
        text += wrap_text(fmt::format("Diagnostic-Code: {}", one_line(line.diagnostic)), kWidth);
    } else {
        text += wrap_text(fmt::format("Diagnostic-Code: X-{}; {}", config.mail_name(), one_line(line.reason)), kWidth);
    }
    if (report.kind == kReportDelay && report.expires_usec != 0) {
        text += fmt::format("Will-Retry-Until: {}\n", date_text(report.expires_usec));
    }
    return text;
}

std::string from_line(const Config& config, const NoticeTemplate& chosen) {
    if (!chosen.from.empty()) {
        return fmt::format("From: {}\n", chosen.from);
    }
    const std::string address = "MAILER-DAEMON@" + config.myorigin();
    return config.header_from_format() == "obsolete" ? fmt::format("From: {} (Mail Delivery System)\n", address)
                                                     : fmt::format("From: Mail Delivery System <{}>\n", address);
}

/// Whole message, or only its header fields?  RET=HDRS asks for those; a message over bounce_size_limit and the copy
/// for a postmaster get them, and a success report never returns content (RFC 3461 section 5.2.5).
bool wants_headers_only(const Config& config, const Report& report, Audience audience) {
    const std::uint64_t size = report.headers.length + report.body.length;
    const bool too_big = size > static_cast<std::uint64_t>(config.bounce_size_limit());
    if (report.kind != kReportFailure || too_big || audience == Audience::postmaster) {
        return true;
    }
    const bool secret = report.requiretls && config.requiretls_redact_dsn();   // the way back may be less safe (RFC 8689 section 5)
    return secret || report.dsn_ret == queue::kRetHeaders;
}

/// RFC 5322 section 3.6.4: what the message refers to, then the message.
std::string thread_fields(std::string_view header) {
    const auto ids_in = [header](std::string_view field) {
        const std::string text = strip_comments(unfold(find_field(header, field).value));
        std::vector<std::string> ids = split(one_line(text), " \t");
        std::erase_if(ids, [](const std::string& id) { return id.size() < 3 || id.front() != '<' || id.back() != '>'; });
        return ids;
    };
    const std::vector<std::string> own = ids_in("message-id");
    if (own.size() != 1 || own.front().size() > kMaxMessageId) {
        return "";
    }
    std::vector<std::string> references = ids_in("references");
    if (references.size() > kMaxReferences) {   // the first says what the thread is, the last where in it
        references.erase(references.begin() + 1, references.end() - (kMaxReferences - 1));
    }
    std::string text = "References:";
    for (const std::string& id : references) {
        text += id.size() > kMaxMessageId ? "" : " " + id + "\n";
    }
    return text + " " + own.front() + "\nIn-Reply-To: " + own.front() + "\n";
}

std::string content_description(std::uint8_t kind, bool headers_only) {
    const std::string_view what = kind == kReportDelay || kind == kReportFailure ? "Undelivered " : "";
    return fmt::format("{}Message{}", what, headers_only ? " Headers" : "");
}

std::string_view encoding_field(const Report& report, bool eight_bit) {
    if (eight_bit) {
        return "Content-Transfer-Encoding: 8bit\n";
    }
    return report.encoding == queue::kEncoding7bit ? "Content-Transfer-Encoding: 7bit\n" : "";
}

std::string returned_part_head(const Config& config, const Report& report, bool headers_only, bool utf8, bool eight_bit) {
    std::string text = fmt::format("Content-Description: {}\n", content_description(report.kind, headers_only));
    text += fmt::format("Content-Type: {}\n", headers_only ? (utf8 ? "message/global-headers" : "text/rfc822-headers")
                                                         : (utf8 ? "message/global" : "message/rfc822"));
    text += encoding_field(report, eight_bit);
    text += fmt::format("\nReturn-Path: <{}>\n", named_sender(config, report));
    return text;
}

}  // namespace

std::string notice_name(std::uint8_t kind, Audience audience) {
    const std::string_view who = audience == Audience::sender ? "sender" : "postmaster";
    const std::string_view what = kind == kReportDelay     ? "delay"
                                  : kind == kReportFailure ? "non-delivery"
                                                           : "delivery status";
    return fmt::format("{} {} notification", who, what);
}

NoticeText make_notice(const Config& config, const Report& report, Audience audience, std::string_view to,
                       std::int64_t now_usec, std::string_view original_header, const NoticeTemplates& templates) {
    const NoticeTemplate& chosen = template_for(templates, report.kind);
    NoticeText notice;
    notice.headers_only = wants_headers_only(config, report, audience);
    std::string status;
    std::string people;
    const bool address_utf8 =
        has_eight_bit(report.sender) || std::any_of(report.recipients.begin(), report.recipients.end(), [](const ReportRecipient& line) {
            return has_eight_bit(line.recipient.address) || has_eight_bit(line.recipient.original) || has_eight_bit(line.reason);
        });
    notice.utf8 = report.smtputf8 || address_utf8;
    for (const ReportRecipient& line : report.recipients) {
        people += "\n" + wrap_text(sanitized(line), kWidth);
        status += recipient_fields(config, report, line);
    }
    const std::string boundary = fmt::format("{}.{}/{}", report.queue_id, now_usec / 1'000'000, config.myhostname());
    // Reasons may quote the message, and servers: with SMTPUTF8 in use nothing promises that they are ASCII.
    notice.eight_bit = notice.utf8 || report.encoding == queue::kEncoding8bit || config.smtputf8_enable();
    const bool eight_bit_people = notice.eight_bit || !chosen.is_ascii();
    const std::string charset = chosen.charset != "us-ascii" ? chosen.charset : eight_bit_people ? "utf-8" : "us-ascii";
    const std::string_view status_encoding = notice.utf8 ? "Content-Transfer-Encoding: 8bit\n" : "";
    std::string& head = notice.head;
    head = from_line(config, chosen);
    head += fmt::format("Subject: {}\nTo: {}\n", subject(chosen, audience), one_line(external_form(to)));
    head += thread_fields(original_header);
    head += fmt::format("Auto-Submitted: auto-{}\nMIME-Version: 1.0\n", audience == Audience::sender ? "replied" : "generated");
    head += fmt::format("Content-Type: multipart/report; report-type={};\n\tboundary=\"{}\"\n",
                        notice.utf8 ? "global-delivery-status" : "delivery-status", boundary);
    head += encoding_field(report, notice.eight_bit);
    head += "\nThis is a MIME-encapsulated message.\n";
    head += fmt::format("\n--{}\nContent-Description: Notification\nContent-Type: text/plain; charset={}\n{}\n", boundary,
                        charset, eight_bit_people ? "Content-Transfer-Encoding: 8bit\n" : "");
    head += (audience == Audience::sender ? human_text(config, chosen) : std::string()) + people;   // a postmaster knows
    head += fmt::format("\n--{}\nContent-Description: Delivery report\nContent-Type: message/{}\n{}\n", boundary,
                        notice.utf8 ? "global-delivery-status" : "delivery-status", status_encoding);
    head += message_fields(config, report) + status;
    head += fmt::format("\n--{}\n", boundary) + returned_part_head(config, report, notice.headers_only, notice.utf8, notice.eight_bit);
    notice.tail = fmt::format("\n--{}--\n", boundary);
    return notice;
}

}  // namespace postern::qmgr
