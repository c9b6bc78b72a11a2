/// The text of delivery status notifications: multipart/report (RFC 3462) with a part for people, a
/// message/delivery-status (RFC 3464) or message/global-delivery-status (RFC 6533), and the returned message, in Postfix's
/// words and order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/config/config.h"
#include "lib/notice/templates.h"
#include "qmgr/report.h"

namespace postern::qmgr {

/// Who gets a notice about a message.
enum class Audience : std::uint8_t {
    sender,         ///< the envelope sender
    postmaster,     ///< a copy, when notify_classes asks for it
    double_bounce,  ///< 2bounce_notice_recipient, when the message had the null sender
};

/// What the notice is made of, apart from the returned content.
struct NoticeText {
    std::string head;       ///< header fields and all parts up to where the returned content begins
    std::string tail;       ///< closing boundary
    bool headers_only = false;   ///< return the header fields, not the whole message
    bool utf8 = false;      ///< the notice needs SMTPUTF8 (RFC 6533)
    bool eight_bit = false; ///< it may have bytes above 127
};

/// `to` is the address the notice goes to.  `original_header` is the header of the message that the notice is about,
/// when the notice is to refer to it (enable_threaded_bounces; RFC 5322 section 3.6.4).
NoticeText make_notice(const Config& config, const Report& report, Audience audience, std::string_view to,
                       std::int64_t now_usec, std::string_view original_header = {},
                       const NoticeTemplates& templates = NoticeTemplates::builtin());

/// What log lines call it: "sender non-delivery notification".
std::string notice_name(std::uint8_t kind, Audience audience);

}  // namespace postern::qmgr
