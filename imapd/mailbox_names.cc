#include "imapd/mailbox_names.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "imapd/response.h"

namespace postern::imapd {

Result<std::string> MailboxNames::from_client(std::string_view name) const {
    Result<std::string> decoded = mailbox_from_client(name, separator_);
    if (!decoded) {
        return decoded;
    }
    if (forgiving_ && decoded->size() > 1 && decoded->back() == separator_ && *decoded != prefix_) {
        decoded->pop_back();
    }
    if (prefix_.empty() || *decoded == "INBOX") {
        return decoded;
    }
    if (prefix_.starts_with(*decoded + separator_)) {
        return Error(Errc::not_found, "no mailbox, but what mailboxes are below of");
    }
    if (*decoded == prefix_) {
        return Error(Errc::syntax, "Invalid mailbox name: Ends with hierarchy separator");   // Dovecot's words, as the next
    }
    if (!decoded->starts_with(prefix_)) {
        return Error(Errc::syntax, fmt::format("Client tried to access nonexistent namespace. (Mailbox name should probably be "
                                               "prefixed with: {})", prefix_));
    }
    return decoded->substr(prefix_.size());
}

std::vector<store::MailboxInfo> MailboxNames::listing(std::vector<store::MailboxInfo> boxes) const {
    if (prefix_.empty()) {
        return boxes;
    }
    const auto is_below = [](const store::MailboxInfo& box) { return box.name != "INBOX"; };
    const bool any = std::any_of(boxes.begin(), boxes.end(), is_below);
    const bool any_subscribed = std::any_of(boxes.begin(), boxes.end(), [&](const store::MailboxInfo& box) {
        return is_below(box) && (box.subscribed || box.subscribed_descendant);
    });
    std::vector<store::MailboxInfo> above;
    for (std::size_t at = prefix_.find(separator_); at != std::string::npos; at = prefix_.find(separator_, at + 1)) {
        store::MailboxInfo level;
        level.name = prefix_.substr(0, at);
        level.exists = false;
        level.has_children = any;
        level.subscribed_descendant = any_subscribed;
        above.push_back(std::move(level));
    }
    for (store::MailboxInfo& box : boxes) {
        if (is_below(box)) {
            box.name = prefix_ + box.name;
            continue;
        }
        const bool holds_the_rest = !above.empty() && above.front().name == "INBOX";
        box.has_children = holds_the_rest && any;
        box.subscribed_descendant = holds_the_rest && any_subscribed;
        if (holds_the_rest) {
            above.erase(above.begin());
        }
    }
    boxes.insert(boxes.end(), std::make_move_iterator(above.begin()), std::make_move_iterator(above.end()));
    return boxes;
}

}  // namespace postern::imapd
