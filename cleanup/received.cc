#include "cleanup/received.h"

#include <fmt/format.h>

#include <ctime>

#include "lib/mail/header_rewrite.h"
#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/date.h"
#include "lib/mail/encoded_word.h"

namespace postern::cleanup {
namespace {

/// Text from a client in a header: control characters become '?', UTF-8 stays (RFC 6531).
std::string header_text(std::string_view text) {
    std::string out(text.substr(0, 1000));
    for (char& c : out) {
        const auto byte = static_cast<unsigned char>(c);
        c = byte < 32 || byte == 127 ? '?' : c;
    }
    return out;
}

/// A display name as it stands: quoted when it has characters that no phrase may have bare (RFC 5322 section 3.2.5).
std::string phrase(const std::string& name) {
    if (name.find_first_of("()<>[]:;@\\,.\"") == std::string::npos) {
        return name;
    }
    std::string out = "\"";
    for (const char c : name) {
        if (c == '"' || c == '\\') {
            out += '\\';
        }
        out += c;
    }
    return out + '"';
}

std::string from_client(const Config& config, const queue::Client& client) {
    std::string out = fmt::format("Received: from {} ({} [{}{}{}])\n", header_text(client.helo.empty() ? client.name : client.helo),
                                  header_text(client.name), client.address.find(':') != std::string::npos ? "IPv6:" : "",
                                  header_text(client.address),
                                  config.smtpd_client_port_logging() ? ":" + header_text(client.port) : "");
    for (const std::string& line : client.tls_comments) {
        out += "\t" + header_text(line) + "\n";
    }
    if (config.smtpd_sasl_authenticated_header() && !client.sasl_username.empty()) {
        out += fmt::format("\t(Authenticated sender: {})\n", header_text(client.sasl_username));
    }
    return out;
}

}  // namespace

std::string mail_date(std::int64_t unix_time) {
    const auto when = static_cast<time_t>(unix_time);
    struct tm local {};
    ::localtime_r(&when, &local);
    char zone[32] = "";
    (void)std::strftime(zone, sizeof zone, " (%Z)", &local);
    return format_rfc5322_date(local_date(unix_time)) + zone;
}

std::string received_field(const Config& config, const queue::Begin& begin, std::string_view queue_id) {
    const queue::Envelope& envelope = begin.envelope;
    const queue::Client& client = begin.peer ? *begin.peer : envelope.client;
    const std::string date = mail_date(envelope.arrival_usec / 1000000);
    const std::string by = fmt::format("by {} ({}", config.myhostname(), config.mail_name());
    if (envelope.origin == queue::kOriginSendmail && envelope.submit_uid >= 0) {
        return fmt::format("Received: {}, from userid {})\n\tid {}; {}\n", by, envelope.submit_uid, queue_id, date);
    }
    if (envelope.origin != queue::kOriginSmtp || begin.hide_client) {
        return fmt::format("Received: {})\n\tid {}; {}\n", by, queue_id, date);
    }
    std::string out = from_client(config, client);
    out += fmt::format("\t{}) with {} id {}", by, header_text(client.protocol), queue_id);
    if (envelope.recipients.size() == 1) {
        const queue::Recipient& only = envelope.recipients.front();
        const std::string& address = only.original.empty() ? only.address : only.original;
        out += fmt::format("\n\tfor <{}>; {}\n", header_text(external_form(address)), date);
    } else {
        out += fmt::format(";\n\t{}\n", date);
    }
    return out;
}

std::string make_message_id(const Config& config, std::string_view queue_id, std::int64_t unix_time) {
    if (config.enable_long_queue_ids()) {
        return fmt::format("{}@{}", queue_id, config.myhostname());
    }
    const auto when = static_cast<time_t>(unix_time);
    struct tm utc {};
    ::gmtime_r(&when, &utc);
    char stamp[32] = "";
    (void)std::strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", &utc);
    return fmt::format("{}.{}@{}", stamp, queue_id, config.myhostname());
}

std::string from_field(const Config& config, std::string_view resent, std::string_view sender,
                       std::string_view full_name) {
    const std::string name = header_text(trim(full_name));
    const std::string address = header_address(sender.empty() ? "MAILER-DAEMON" : sender);
    if (sender.empty() || name.empty()) {
        return fmt::format("{}From: {}\n", resent, address);
    }
    if (equals_ignoring_case(config.header_from_format(), "obsolete")) {
        return fmt::format("{}From: {} ({})\n", resent, address, encode_header_text(name, false, config.full_name_encoding_charset()));
    }
    const std::string encoded = encode_header_text(name, true, config.full_name_encoding_charset());
    if (encoded != name) {
        return fmt::format("{}From: {} <{}>\n", resent, encoded, address);
    }
    return fmt::format("{}From: {} <{}>\n", resent, phrase(name), address);
}

}  // namespace postern::cleanup
