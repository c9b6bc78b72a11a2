#include "tlspolicy/tlsrpt_report.h"

#include <fmt/format.h>
#include <zlib.h>

#include <ctime>

#include "lib/base/json.h"
#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/date.h"

namespace postern::tlspolicy {
namespace {

constexpr std::int64_t kDaySeconds = 86'400;

/// A JSON object or array as it grows.
class Writer {
public:
    void open(char bracket) {
        comma();
        out_ += bracket;
        first_ = true;
    }
    void close(char bracket) {
        out_ += bracket;
        first_ = false;
    }
    void name(std::string_view text) {
        value(text);
        out_ += ':';
        first_ = true;
    }
    void value(std::string_view text) {
        comma();
        out_ += '"';
        append_json_string(out_, clean_text(text));
        out_ += '"';
    }
    void value(std::uint64_t number) {
        comma();
        out_ += std::to_string(number);
    }
    template <class T>
    void member(std::string_view key, const T& what) {
        name(key);
        value(what);
    }
    /// Left out when there is nothing to say.
    void optional(std::string_view key, const std::string& text) {
        if (!text.empty()) {
            member(key, std::string_view(text));
        }
    }
    void list(std::string_view key, const std::vector<std::string>& texts) {
        if (texts.empty()) {
            return;
        }
        name(key);
        open('[');
        for (const std::string& text : texts) {
            value(std::string_view(text));
        }
        close(']');
    }
    std::string take() { return std::move(out_); }

private:
    void comma() {
        if (!first_) {
            out_ += ',';
        }
        first_ = false;
    }
    static std::string clean_text(std::string_view text) { return printable(text, text.size()); }

    std::string out_;
    bool first_ = true;
};

void write_details(Writer& json, const std::vector<FailureDetail>& details) {
    json.name("failure-details");
    json.open('[');
    for (const FailureDetail& detail : details) {
        json.open('{');
        json.member("result-type", tlsrpt_result_name(static_cast<TlsrptResult>(detail.result)));
        json.optional("sending-mta-ip", detail.sending_ip);
        json.optional("receiving-ip", detail.receiving_ip);
        json.optional("receiving-mx-hostname", detail.receiving_host);
        json.optional("receiving-mx-helo", detail.receiving_helo);
        json.member("failed-session-count", detail.count);
        json.optional("failure-reason-code", detail.reason);
        json.close('}');
    }
    json.close(']');
}

void write_policy(Writer& json, const std::string& domain, const PolicyCounts& counts) {
    json.open('{');
    json.name("policy");
    json.open('{');
    json.member("policy-type", tlsrpt_policy_name(static_cast<TlsrptPolicy>(counts.policy)));
    json.list("policy-string", counts.strings);
    json.member("policy-domain", std::string_view(domain));
    json.list("mx-host", counts.mx_patterns);
    json.close('}');
    json.name("summary");
    json.open('{');
    json.member("total-successful-session-count", counts.success);
    json.member("total-failure-session-count", counts.failure);
    json.close('}');
    if (!counts.details.empty()) {
        write_details(json, counts.details);
    }
    json.close('}');
}

/// In lines of 76 characters (RFC 2045 section 6.8).
std::string base64_lines(std::string_view bytes) {
    constexpr std::size_t kLine = 76;
    const std::string text = base64_encode(bytes);
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += kLine) {
        out += text.substr(at, kLine) + "\n";
    }
    return out;
}

}  // namespace

Reporter Reporter::from(const Config& config) {
    return {config.tlsrpt_organization_name(), config.tlsrpt_contact_info(), config.tlsrpt_sender(), config.mydomain(),
            config.myhostname()};
}

std::string utc_day(std::int64_t seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

std::int64_t day_begin(std::string_view day) {
    if (day.size() != 10 || day[4] != '-' || day[7] != '-') {
        return 0;
    }
    const auto year = parse_number(day.substr(0, 4)), month = parse_number(day.substr(5, 2)), date = parse_number(day.substr(8, 2));
    if (!year || !month || !date || *month < 1 || *month > 12 || *date < 1 || *date > 31) {
        return 0;
    }
    const std::int64_t seconds =
        days_from_civil(static_cast<std::int64_t>(*year), static_cast<int>(*month), static_cast<int>(*date)) * kDaySeconds;
    return utc_day(seconds) == day ? seconds : 0;
}

std::string report_id(const Reporter& reporter, const BookKey& key) { return fmt::format("{}.{}@{}", key.day, key.domain, reporter.host); }

std::string report_json(const Reporter& reporter, const BookKey& key, const DomainDay& counts) {
    Writer json;
    json.open('{');
    json.member("organization-name", std::string_view(reporter.organization));
    json.name("date-range");
    json.open('{');
    json.member("start-datetime", std::string_view(key.day + "T00:00:00Z"));
    json.member("end-datetime", std::string_view(key.day + "T23:59:59Z"));
    json.close('}');
    json.member("contact-info", std::string_view(reporter.contact));
    json.member("report-id", std::string_view(report_id(reporter, key)));
    json.name("policies");
    json.open('[');
    for (const PolicyCounts& policy : counts.policies) {
        write_policy(json, key.domain, policy);
    }
    json.close(']');
    json.close('}');
    return json.take();
}

Result<std::string> gzip(std::string_view bytes) {
    z_stream stream{};
    constexpr int kGzip = 16;   // added to the window's size: gzip's head and end instead of zlib's
    if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzip, MAX_MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        return Error(Errc::io, "gzip: cannot begin");
    }
    std::string in(bytes);
    std::string out(deflateBound(&stream, in.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int status = deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return status == Z_STREAM_END ? Result<std::string>(std::move(out)) : Error(Errc::io, "gzip failed");
}

std::string report_message(const Reporter& reporter, const BookKey& key, const std::string& recipient, std::string_view compressed,
                           std::int64_t now) {
    const std::string id = report_id(reporter, key);
    const std::string boundary = "report-" + hex_encode(random_bytes(12));
    const std::int64_t begin = day_begin(key.day);
    const std::string file = fmt::format("{}!{}!{}!{}.json.gz", reporter.submitter, key.domain, begin, begin + kDaySeconds - 1);
    std::string out;
    out += fmt::format("From: {}\nTo: {}\nDate: {}\n", external_form(reporter.sender), external_form(recipient),
                       format_rfc5322_date(local_date(now)));
    out += fmt::format("Subject: Report Domain: {}\n Submitter: {}\n Report-ID: <{}>\n", key.domain, reporter.submitter, id);
    out += fmt::format("Message-ID: <{}.{}>\n", hex_encode(random_bytes(8)), id);
    out += fmt::format("TLS-Report-Domain: {}\nTLS-Report-Submitter: {}\n", key.domain, reporter.submitter);
    out += "TLS-Required: No\n";   // RFC 8460 section 3: a report about broken TLS shall arrive all the same (RFC 8689 section 5)
    out += "Auto-Submitted: auto-generated\nMIME-Version: 1.0\n";
    out += fmt::format("Content-Type: multipart/report; report-type=\"tlsrpt\";\n boundary=\"{}\"\n\n", boundary);
    out += fmt::format("--{}\nContent-Type: text/plain; charset=us-ascii\n\n", boundary);
    out += fmt::format("This is an aggregate TLS report (RFC 8460) of {}\nabout mail to {} on {} (UTC).\n\nContact: {}\n\n", reporter.submitter,
                       key.domain, key.day, reporter.contact);
    out += fmt::format("--{}\nContent-Type: application/tlsrpt+gzip\nContent-Transfer-Encoding: base64\n", boundary);
    out += fmt::format("Content-Disposition: attachment;\n filename=\"{}\"\n\n", file);
    out += base64_lines(compressed);
    out += fmt::format("--{}--\n", boundary);
    return out;
}

}  // namespace postern::tlspolicy
