#include "cleanup/pickup_notice.h"

#include <fmt/format.h>

#include "cleanup/received.h"
#include "lib/base/strings.h"
#include "lib/mail/address.h"

namespace postern::pickup {

queue::Begin refusal_notice(const Config& config, const queue::Envelope& envelope, const queue::Refused& refused,
                            const std::string& header) {
    queue::Begin begin;
    begin.envelope.origin = queue::kOriginBounce;
    begin.envelope.rewrite_local = true;
    queue::Recipient sender;
    sender.address = envelope.sender;
    sender.notify = queue::kNotifyNever;
    begin.envelope.recipients.push_back(sender);
    begin.complete_headers = true;
    begin.add_bcc = false;
    begin.check_headers_and_body = false;

    const std::string boundary = "refused." + hex_encode(random_bytes(12)) + "/" + config.myhostname();
    const std::string reason = printable(fmt::format("{} {} {}", refused.code, refused.dsn, refused.text));
    std::string& text = begin.content;
    text = fmt::format("From: MAILER-DAEMON (Mail Delivery System)\nTo: {}\nSubject: Undelivered Mail Returned to Sender\n"
                       "Auto-Submitted: auto-replied\nMIME-Version: 1.0\n"
                       "Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"{}\"\n\n"
                       "This is a MIME-encapsulated message.\n\n--{}\nContent-Description: Notification\n"
                       "Content-Type: text/plain; charset=us-ascii\n\n"
                       "This is the mail system at host {}.\n\n"
                       "Your message could not be queued and is returned:\n\n    {}\n\n",
                       external_form(envelope.sender), boundary, boundary, config.myhostname(), reason);
    text += fmt::format("--{}\nContent-Description: Delivery report\nContent-Type: message/delivery-status\n\n"
                        "Reporting-MTA: dns; {}\nArrival-Date: {}\n",
                        boundary, config.myhostname(), cleanup::mail_date(envelope.arrival_usec / 1000000));
    for (const queue::Recipient& recipient : envelope.recipients) {
        text += fmt::format("\nFinal-Recipient: rfc822; {}\nAction: failed\nStatus: {}\nDiagnostic-Code: X-Postfix; {}\n",
                            printable(external_form(recipient.address)), refused.dsn, reason);
    }
    text += fmt::format("\n--{}\nContent-Description: Undelivered Message Headers\nContent-Type: text/rfc822-headers\n\n{}\n--{}--\n",
                        boundary, header, boundary);
    begin.last = true;
    return begin;
}

}  // namespace postern::pickup
