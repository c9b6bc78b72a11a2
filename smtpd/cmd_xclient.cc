/// XCLIENT and XFORWARD (Postfix XCLIENT_README, XFORWARD_README): authorised clients say who their client is.
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/xtext.h"
#include "smtpd/session.h"

namespace postern::smtpd {

namespace {

constexpr const char* kUnavailable = "[UNAVAILABLE]";
constexpr const char* kTemporary = "[TEMPUNAVAIL]";

struct Attribute {
    std::string name;    ///< upper case
    std::string value;   ///< decoded; empty for [UNAVAILABLE]
    bool unavailable = false;
    bool temporary = false;
};

/// "NAME=value" with the value as xtext; nothing when malformed.
std::optional<Attribute> parse_attribute(const std::string& word) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
        return std::nullopt;
    }
    Attribute out;
    out.name = to_upper(word.substr(0, equals));
    const std::string raw = word.substr(equals + 1);
    out.temporary = equals_ignoring_case(raw, kTemporary);
    out.unavailable = out.temporary || equals_ignoring_case(raw, kUnavailable);
    if (!out.unavailable) {
        const auto decoded = xtext_decode(raw);
        if (!decoded || decoded->empty()) {
            return std::nullopt;
        }
        out.value = printable(*decoded, 255);
    }
    return out;
}

/// "IPV6:2001:db8::1" as XCLIENT writes it, or a plain address; empty when it is none.
std::string address_of(const std::string& value) {
    const std::string plain = starts_with_ignoring_case(value, "IPV6:") ? value.substr(5) : value;
    return valid_ip_address(plain) ? plain : std::string();
}

/// False when the attribute's value is not acceptable or its name unknown.
bool apply_xclient(const Attribute& attribute, ClientInfo& info, std::string& helo, bool& esmtp, SaslState& sasl) {
    const std::string& value = attribute.value;
    if (attribute.name == "NAME") {
        info.name = attribute.unavailable ? "unknown" : value;
        info.name_temporary = attribute.temporary;
        return attribute.unavailable || valid_hostname(value, true);
    }
    if (attribute.name == "REVERSE_NAME") {
        info.reverse_name = attribute.unavailable ? "unknown" : value;
        return attribute.unavailable || valid_hostname(value, true);
    }
    if (attribute.name == "ADDR") {
        info.address = attribute.unavailable ? "unknown" : address_of(value);
        return !info.address.empty();
    }
    if (attribute.name == "PORT") {
        info.port = attribute.unavailable ? "unknown" : value;
        return attribute.unavailable || parse_number(value).value_or(65536) <= 65535;
    }
    if (attribute.name == "HELO") {
        helo = value;
        return true;
    }
    if (attribute.name == "PROTO") {
        esmtp = equals_ignoring_case(value, "ESMTP");
        return esmtp || equals_ignoring_case(value, "SMTP");
    }
    if (attribute.name == "LOGIN") {
        sasl.username = value;
        sasl.method = attribute.unavailable ? "" : "XCLIENT";
        return true;
    }
    if (attribute.name == "DESTADDR") {
        info.server_address = attribute.unavailable ? "unknown" : address_of(value);
        return !info.server_address.empty();
    }
    if (attribute.name == "DESTPORT") {
        info.server_port = value;
        return attribute.unavailable || parse_number(value).value_or(65536) <= 65535;
    }
    return false;
}

/// False when the attribute's name is unknown.  "[UNAVAILABLE]" is what the fields are before anything is told.
bool apply_xforward(const Attribute& attribute, ForwardedInfo& info) {
    using Field = std::string ForwardedInfo::*;
    constexpr std::pair<const char*, Field> kFields[] = {
        {"NAME", &ForwardedInfo::name}, {"ADDR", &ForwardedInfo::address}, {"PORT", &ForwardedInfo::port},
        {"PROTO", &ForwardedInfo::protocol}, {"HELO", &ForwardedInfo::helo},
        {"IDENT", &ForwardedInfo::ident}, {"SOURCE", &ForwardedInfo::source}};
    for (const auto& [name, field] : kFields) {
        if (attribute.name == name) {
            const std::string value = attribute.name == "ADDR" ? address_of(attribute.value) : attribute.value;
            info.*field = value.empty() ? ForwardedInfo().*field : value;
            info.has_client = info.has_client || (attribute.name != "IDENT" && attribute.name != "SOURCE");
            return true;
        }
    }
    return false;
}

}  // namespace

Task<> Session::xclient(const Command& command) {
    Result<bool> allowed = server_.clients().xclient.matches(info_.name, info_.address);
    if (!allowed || !*allowed) {
        co_return co_await reject("XCLIENT", 550, "5.7.0", "Error: insufficient authorization");
    }
    if (mail_) {
        co_return co_await refuse("503 5.5.1 Error: MAIL transaction in progress");
    }
    const std::vector<std::string> words = split(command.argument, " \t");
    if (words.empty()) {
        co_return co_await refuse("501 5.5.4 Syntax: XCLIENT attribute=value...");
    }
    ClientInfo info = info_;
    SaslState sasl;
    std::string helo;
    bool esmtp = esmtp_;
    for (const std::string& word : words) {
        const std::optional<Attribute> attribute = parse_attribute(word);
        if (!attribute || !apply_xclient(*attribute, info, helo, esmtp, sasl)) {
            co_return co_await refuse("501 5.5.4 Bad XCLIENT attribute: " + printable(word, 100));
        }
    }
    info_ = std::move(info);
    sasl_ = std::move(sasl);
    helo_ = std::move(helo);
    esmtp_ = esmtp;
    forwarded_ = ForwardedInfo{};
    co_await greet();   // the conversation begins again, as for the client that was named
}

Task<> Session::xforward(const Command& command) {
    Result<bool> allowed = server_.clients().xforward.matches(info_.name, info_.address);
    if (!allowed || !*allowed) {
        co_return co_await reject("XFORWARD", 550, "5.7.0", "Error: insufficient authorization");
    }
    if (mail_) {
        co_return co_await refuse("503 5.5.1 Error: MAIL transaction in progress");
    }
    ForwardedInfo info = forwarded_;
    for (const std::string& word : split(command.argument, " \t")) {
        const std::optional<Attribute> attribute = parse_attribute(word);
        if (!attribute || !apply_xforward(*attribute, info)) {
            co_return co_await refuse("501 5.5.4 Bad XFORWARD attribute: " + printable(word, 100));
        }
    }
    forwarded_ = std::move(info);
    co_await reply("250 2.0.0 Ok");
}

}  // namespace postern::smtpd
