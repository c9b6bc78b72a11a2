/// What templates of replies may name: default_rbl_reply, rbl_reply_maps, smtpd_reject_footer.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/config/config.h"
#include "lib/config/expand.h"
#include "smtpd/restrictions.h"

namespace postern::smtpd {

/// $client, $client_address, $client_name, $client_port, $reverse_client_name, $helo_name, $sender, $sender_name, $sender_domain,
/// $recipient, $recipient_name, $recipient_domain, $server_name, $server_address, and more of the caller's.  Values have no
/// control characters and none that is not in smtpd_expansion_filter, and are not expanded again.
class ReplyNames : public NameSource {
public:
    using More = std::vector<std::pair<std::string_view, std::string>>;
    /// `subject` outlives this.
    ReplyNames(const Config& config, const Subject& subject, More more);
    std::optional<Value> find(std::string_view name) const override;

private:
    std::optional<std::string> text_of(std::string_view name) const;

    const Config& config_;
    const Subject& subject_;
    More more_;
    std::string allowed_;   ///< the bytes of smtpd_expansion_filter
};

/// Whether that can be said to a client who is refused: a code that begins with 4 or 5 and text, one line.
bool is_refusal(std::string_view reply);

/// A refusal with text behind it (smtpd_reject_footer): "\c" at the front puts it at the end of the last line, otherwise it has
/// lines of its own, separated by "\n", each with the reply's codes.  `reply` is "550 5.1.1 text", perhaps of several lines.
std::string with_footer(std::string_view reply, std::string_view footer);

}  // namespace postern::smtpd
