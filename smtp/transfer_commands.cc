// The commands of a transfer (RFC 5321 section 4.1.1, RFC 3461, XFORWARD_README).
#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/address.h"
#include "lib/mail/xtext.h"
#include "smtp/transfer.h"

namespace postern::smtp {
namespace {

std::string notify_names(std::uint8_t notify) {
    if ((notify & queue::kNotifyNever) != 0) {
        return "NEVER";
    }
    std::string names;
    const auto add = [&](std::uint8_t bit, std::string_view name) {
        if ((notify & bit) != 0) {
            names += names.empty() ? "" : ",";
            names += name;
        }
    };
    add(queue::kNotifySuccess, "SUCCESS");
    add(queue::kNotifyFailure, "FAILURE");
    add(queue::kNotifyDelay, "DELAY");
    return names;
}

bool contains_word(std::string_view list, std::string_view word) {
    for (const std::string& one : split(list, " ")) {
        if (one == word) {
            return true;
        }
    }
    return false;
}

}  // namespace

std::string Transfer::mail_command() const {
    const Features& features = session_.features();
    const queue::Deliver& request = delivery_.request();
    const std::string sender = settings_.quote_rfc821_envelope() ? external_form(delivery_.wire_sender()) : delivery_.wire_sender();
    std::string out = fmt::format("MAIL FROM:<{}>", sender);
    if (features.size) {
        out += fmt::format(" SIZE={}", delivery_.content().size_bytes());
    }
    if (features.eight_bit && request.encoding != queue::kEncodingUnspecified) {
        out += request.encoding == queue::kEncoding8bit ? " BODY=8BITMIME" : " BODY=7BIT";
    }
    if (needs_utf8_) {
        out += " SMTPUTF8";
    }
    if (features.requiretls && session_.tls() != nullptr && delivery_.requiretls() >= RequireTlsLevel::opportunistic) {   // never in the clear
        out += " REQUIRETLS";
    }
    if (!features.auth.empty() && settings_.send_dummy_mail_auth()) {
        out += " AUTH=<>";
    }
    if (features.dsn && request.dsn_ret != queue::kRetNone) {
        out += request.dsn_ret == queue::kRetFull ? " RET=FULL" : " RET=HDRS";
    }
    if (features.dsn && !request.dsn_envid.empty()) {
        out += " ENVID=" + request.dsn_envid;
    }
    return out;
}

std::string Transfer::rcpt_command(std::size_t i) const {
    const queue::Recipient& to = delivery_.recipient(i);
    const std::string& address = delivery_.wire_recipient(i);
    std::string out = fmt::format("RCPT TO:<{}>", settings_.quote_rfc821_envelope() ? external_form(address) : address);
    if (!session_.features().dsn) {
        return out;
    }
    const std::string& original = to.original.empty() ? to.address : to.original;
    if (!to.dsn_orcpt.empty()) {
        out += " ORCPT=" + to.dsn_orcpt;
    } else if (!has_eight_bit(original)) {
        out += " ORCPT=rfc822;" + xtext_encode(external_form(original));
    }
    if (to.notify != 0) {
        out += " NOTIFY=" + notify_names(to.notify);
    }
    return out;
}

/// The first client's name and so on, for servers that trust us (XFORWARD_README).
void Transfer::plan_xforward() {
    const std::string& offered = session_.features().xforward;
    if (!settings_.send_xforward_command() || offered.empty()) {
        return;
    }
    const queue::Client& client = delivery_.request().client;
    struct Attribute {
        std::string_view name;
        std::string value;
    };
    const Attribute first[] = {{"NAME", client.name},
                               {"ADDR", client.address.find(':') == client.address.npos ? client.address : "IPv6:" + client.address},
                               {"PORT", client.port}};
    const Attribute second[] = {{"PROTO", client.protocol},
                                {"HELO", client.helo},
                                {"IDENT", client.ident.empty() ? delivery_.request().queue_id : client.ident},
                                {"SOURCE", delivery_.request().rewrite_local ? "LOCAL" : "REMOTE"}};
    const auto add = [&](auto& attributes) {
        std::string command = "XFORWARD";
        for (const Attribute& attribute : attributes) {
            const bool known = !attribute.value.empty() && attribute.value != "unknown";
            if (known && contains_word(offered, attribute.name)) {   // what is not told is unavailable
                command += fmt::format(" {}={}", attribute.name, xtext_encode(attribute.value));
            }
        }
        if (command.find('=') != command.npos) {
            steps_.push_back({Step::Kind::xforward, 0, std::move(command)});
        }
    };
    add(first);
    add(second);
}

}  // namespace postern::smtp
