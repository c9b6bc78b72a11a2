#include "lib/notice/postmaster.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "lib/base/strings.h"

namespace postern {
namespace {

struct Word {
    std::string_view name;
    Trouble what;
};
constexpr Word kWords[] = {{"bounce", Trouble::bounce},     {"2bounce", Trouble::double_bounce}, {"data", Trouble::data},
                           {"delay", Trouble::delay},       {"policy", Trouble::policy},         {"protocol", Trouble::protocol},
                           {"resource", Trouble::resource}, {"software", Trouble::software}};

}  // namespace

NotifyClasses::NotifyClasses(const Config& config) {
    for (const std::string& word : split_list(config.notify_classes())) {
        for (const Word& known : kWords) {
            if (equals_ignoring_case(word, known.name)) {
                mask_ |= bit(known.what);
            }
        }
    }
    if (contains(Trouble::bounce)) {
        mask_ |= bit(Trouble::double_bounce);
    }
}

std::string complete_address(const Config& config, const std::string& address) {
    return address.find('@') == std::string::npos ? address + "@" + config.myorigin() : address;
}

std::string double_bounce_address(const Config& config) { return complete_address(config, config.double_bounce_sender()); }

bool is_double_bounce(const Config& config, std::string_view sender) {
    return equals_ignoring_case(sender, double_bounce_address(config)) || equals_ignoring_case(sender, config.double_bounce_sender());
}

bool inspects_internal_mail(const Config& config, std::string_view what) {
    const std::vector<std::string> words = split_list(config.internal_mail_filter_classes());
    return std::any_of(words.begin(), words.end(), [what](const std::string& word) { return equals_ignoring_case(word, what); });
}

std::string postmaster_fields(const Config& config, std::string_view recipient) {
    const std::string from = complete_address(config, "MAILER-DAEMON");
    return config.header_from_format() == "obsolete"
               ? fmt::format("From: {} (Mail Delivery System)\nTo: {} (Postmaster)\n", from, recipient)
               : fmt::format("From: Mail Delivery System <{}>\nTo: Postmaster <{}>\n", from, recipient);
}

}  // namespace postern
