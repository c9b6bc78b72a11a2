#include "smtpd/reply_names.h"

#include "lib/base/escapes.h"
#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/table/address_lookup.h"

namespace postern::smtpd {
namespace {

constexpr std::size_t kMaxValue = 400;

/// "550 5.1.1 text": how long the enhanced code and its blank are; 0 when there is none.
std::size_t dsn_length(std::string_view text) {
    const std::size_t end = text.find(' ');
    const std::vector<std::string> numbers = split_exact(text.substr(0, end), '.');
    const bool good = end != text.npos && numbers.size() == 3 && (numbers[0] == "4" || numbers[0] == "5") && parse_number(numbers[1]) &&
                      parse_number(numbers[2]);
    return good ? end + 1 : 0;
}

std::vector<std::string> footer_lines(std::string_view footer) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at <= footer.size();) {
        const std::size_t end = std::min(footer.find("\\n", at), footer.size());
        lines.push_back(printable(footer.substr(at, end - at), 500));
        at = end + 2;
    }
    if (lines.size() > 1 && lines.back().empty()) {   // "\n" at the end
        lines.pop_back();
    }
    return lines;
}

}  // namespace

bool is_refusal(std::string_view reply) {
    const bool code = reply.size() > 4 && (reply[0] == '4' || reply[0] == '5') && parse_number(reply.substr(0, 3)) && reply[3] == ' ';
    return code && reply.find_first_of("\r\n") == reply.npos;
}

ReplyNames::ReplyNames(const Config& config, const Subject& subject, More more)
    : config_(config), subject_(subject), more_(std::move(more)), allowed_(without_escapes(config.smtpd_expansion_filter())) {}

std::optional<NameSource::Value> ReplyNames::find(std::string_view name) const {
    std::optional<std::string> text = text_of(name);
    if (!text) {
        return std::nullopt;
    }
    for (char& c : *text) {
        c = allowed_.find(c) == allowed_.npos ? '_' : c;
    }
    return Value{printable(*text, kMaxValue), true};
}

std::optional<std::string> ReplyNames::text_of(std::string_view name) const {
    for (const auto& [key, text] : more_) {
        if (key == name) {
            return text;
        }
    }
    const std::string sender = subject_.sender.value_or("");
    const std::string recipient = subject_.recipient.value_or("");
    const std::pair<std::string_view, std::string> known[] = {
        {"client", subject_.client_name + "[" + subject_.client_address + "]"},
        {"client_address", subject_.client_address},
        {"client_port", subject_.client_port},
        {"client_name", subject_.client_name},
        {"reverse_client_name", subject_.reverse_name},
        {"helo_name", subject_.helo},
        {"sender", sender},
        {"sender_name", std::string(split_address(sender).local)},
        {"sender_domain", std::string(split_address(sender).domain)},
        {"recipient", recipient},
        {"recipient_name", std::string(split_address(recipient).local)},
        {"recipient_domain", std::string(split_address(recipient).domain)},
        {"server_name", config_.myhostname()},
        {"server_address", subject_.server_address},
        {"server_port", subject_.server_port},
    };
    for (const auto& [key, text] : known) {
        if (key == name) {
            return text;
        }
    }
    return std::nullopt;
}

std::string with_footer(std::string_view reply, std::string_view footer) {
    if (reply.size() < 4) {
        return std::string(reply);
    }
    const bool same_line = footer.starts_with("\\c");
    std::vector<std::string> lines = footer_lines(same_line ? footer.substr(2) : footer);
    std::string out(reply);
    std::size_t last = out.rfind('\n') == out.npos ? 0 : out.rfind('\n') + 1;
    std::size_t next = 0;
    if (same_line) {
        out += lines[next++];
    }
    const std::string code(reply.substr(0, 3));
    const std::string_view behind = reply.substr(4);
    const std::string dsn(behind.substr(0, dsn_length(behind)));
    for (; next < lines.size(); ++next) {
        out[last + 3] = '-';
        out += "\r\n";
        last = out.size();
        out += code + " " + dsn + lines[next];
    }
    return out;
}

}  // namespace postern::smtpd
