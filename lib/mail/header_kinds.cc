#include "lib/mail/header_kinds.h"

#include "lib/base/strings.h"

namespace postern {
namespace {

constexpr HeaderKind kSender(std::string_view name, Header header, bool resent = false) {
    return {name, header, true, false, resent};
}
constexpr HeaderKind kRecipient(std::string_view name, Header header, bool resent = false) {
    return {name, header, false, true, resent};
}
constexpr HeaderKind kPlain(std::string_view name, Header header, bool resent = false) {
    return {name, header, false, false, resent};
}

constexpr HeaderKind kKinds[] = {
    kRecipient("apparently-to", Header::apparently_to),
    kRecipient("bcc", Header::bcc),
    kRecipient("cc", Header::cc),
    kPlain("content-length", Header::content_length),
    kPlain("date", Header::date),
    kPlain("delivered-to", Header::delivered_to),
    kSender("disposition-notification-to", Header::disposition_notification_to),
    kSender("errors-to", Header::errors_to),
    kSender("from", Header::from),
    kSender("mail-followup-to", Header::mail_followup_to),
    kPlain("message-id", Header::message_id),
    kPlain("received", Header::received),
    kSender("reply-to", Header::reply_to),
    kRecipient("resent-bcc", Header::resent_bcc, true),
    kRecipient("resent-cc", Header::resent_cc, true),
    kPlain("resent-date", Header::resent_date, true),
    kSender("resent-from", Header::resent_from, true),
    kPlain("resent-message-id", Header::resent_message_id, true),
    kRecipient("resent-reply-to", Header::resent_reply_to, true),
    kSender("resent-sender", Header::resent_sender, true),
    kRecipient("resent-to", Header::resent_to, true),
    kSender("return-path", Header::return_path),
    kSender("return-receipt-to", Header::return_receipt_to),
    kSender("sender", Header::sender),
    kRecipient("to", Header::to),
};

constexpr HeaderKind kOther{};

}  // namespace

const HeaderKind& header_kind(std::string_view name) {
    for (const HeaderKind& kind : kKinds) {
        if (equals_ignoring_case(kind.name, name)) {
            return kind;
        }
    }
    return kOther;
}

}  // namespace postern
