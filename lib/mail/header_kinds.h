/// The header fields that cleanup(8) treats in a special way (RFC 5322 section 3.6).
#pragma once

#include <cstdint>
#include <string_view>

namespace postern {

enum class Header : std::uint8_t {
    other, apparently_to, bcc, cc, content_length, date, delivered_to, disposition_notification_to, errors_to, from,
    mail_followup_to, message_id, received, reply_to, resent_bcc, resent_cc, resent_date, resent_from,
    resent_message_id, resent_reply_to, resent_sender, resent_to, return_path, return_receipt_to, sender, to,
};

struct HeaderKind {
    std::string_view name;
    Header header = Header::other;
    bool sender_addresses = false;     ///< rewritten as header_sender
    bool recipient_addresses = false;  ///< rewritten as header_recipient
    bool resent = false;               ///< makes the message a resent one (RFC 5322 section 3.6.6)
};

/// The entry for a field name (case does not matter), or one with Header::other.
const HeaderKind& header_kind(std::string_view name);

/// A set of Header values.
class HeaderSet {
public:
    void add(Header header) { bits_ |= bit(header); }
    bool has(Header header) const { return (bits_ & bit(header)) != 0; }

private:
    static std::uint32_t bit(Header header) { return std::uint32_t{1} << static_cast<unsigned>(header); }
    std::uint32_t bits_ = 0;
};

}  // namespace postern
