#include "tlspolicy/tlsrpt_record.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/http/https.h"
#include "lib/mail/address.h"

namespace postern::tlspolicy {
namespace {

constexpr std::string_view kVersion = "v=TLSRPTv1";
constexpr std::size_t kMaxRecord = 8192;

bool is_uri_character(char c) { return c > ' ' && c < 127 && c != ';' && c != ',' && c != '"' && c != '<' && c != '>'; }

/// RFC 3986 section 2.1.
std::optional<std::string> percent_decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        const auto value = i + 2 < text.size() ? parse_hex(text.substr(i + 1, 2)) : std::nullopt;
        if (!value || *value < ' ' || *value == 127) {
            return std::nullopt;
        }
        out += static_cast<char>(*value);
        i += 2;
    }
    return out;
}

}  // namespace

std::optional<ReportUri> parse_report_uri(std::string_view uri) {
    constexpr std::string_view kMail = "mailto:";
    if (!std::all_of(uri.begin(), uri.end(), is_uri_character)) {
        return std::nullopt;
    }
    ReportUri out;
    if (starts_with_ignoring_case(uri, "https:")) {
        if (!parse_https_url(uri)) {
            return std::nullopt;
        }
        out.url = uri;
        return out;
    }
    if (!starts_with_ignoring_case(uri, kMail)) {
        return std::nullopt;
    }
    uri.remove_prefix(kMail.size());
    const std::optional<std::string> address = percent_decoded(uri.substr(0, uri.find('?')));
    if (!address) {
        return std::nullopt;
    }
    const Result<SmtpPath> path = parse_path("<" + *address + ">", {.strict = true, .allow_null = false});
    if (!path || !path->parameters.empty() || !valid_hostname(path->address.domain)) {
        return std::nullopt;
    }
    out.address = path->address.internal();
    return out;
}

std::vector<ReportUri> find_report_uris(const std::vector<std::string>& records) {
    std::string_view found;
    for (const std::string& record : records) {
        const std::string_view text = record;
        const std::size_t delimiter = text.find_first_not_of(" \t", kVersion.size());
        if (text.substr(0, kVersion.size()) != kVersion || delimiter == std::string_view::npos || text[delimiter] != ';') {
            continue;
        }
        if (!found.empty()) {
            return {};
        }
        found = text.substr(delimiter + 1);
    }
    std::vector<ReportUri> out;
    if (found.size() > kMaxRecord) {
        return out;
    }
    bool has_rua = false;
    for (const std::string& field : split_exact(found, ';')) {
        const std::string_view text = trim(field);
        const std::size_t equals = text.find('=');
        if (text.empty()) {
            continue;
        }
        if (equals == std::string_view::npos || equals == 0) {
            return {};
        }
        if (text.substr(0, equals) != "rua" || has_rua) {
            continue;
        }
        has_rua = true;
        for (const std::string& uri : split_exact(text.substr(equals + 1), ',')) {
            std::optional<ReportUri> parsed = parse_report_uri(trim(uri));
            if (parsed && out.size() < kMaxReportUris) {
                out.push_back(std::move(*parsed));
            }
        }
    }
    return out;
}

}  // namespace postern::tlspolicy
