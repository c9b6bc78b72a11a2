#include "lib/mail/verp.h"

namespace postern {

bool valid_verp_delimiters(std::string_view delimiters, std::string_view allowed) {
    return delimiters.size() == 2 && delimiters.find_first_not_of(allowed) == std::string_view::npos;
}

std::string verp_sender(std::string_view sender, std::string_view recipient, std::string_view delimiters) {
    if (sender.empty() || delimiters.size() != 2) {
        return std::string(sender);
    }
    const std::size_t at = sender.rfind('@'), recipient_at = recipient.rfind('@');
    std::string out(sender.substr(0, at));
    out += delimiters[0];
    out += recipient.substr(0, recipient_at);
    if (recipient_at != std::string_view::npos) {
        out += delimiters[1];
        out += recipient.substr(recipient_at + 1);
    }
    if (at != std::string_view::npos) {
        out += sender.substr(at);
    }
    return out;
}

}  // namespace postern
