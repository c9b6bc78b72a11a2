/// What the postmaster wants to hear of: notify_classes, and the addresses such mail goes to and comes from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/config/config.h"

namespace postern {

/// The words of notify_classes.
enum class Trouble : std::uint8_t {
    bounce,          ///< mail that goes back to its sender, or that smtpd did not take for lack of such a recipient
    double_bounce,   ///< a notice that cannot be delivered ("2bounce")
    data,            ///< a table that cannot be searched
    delay,
    policy,          ///< a restriction refused something
    protocol,        ///< somebody did what SMTP does not allow
    resource,        ///< no room in the queue, and the like
    software,        ///< a mistake in the configuration or in a program
};

class NotifyClasses {
public:
    explicit NotifyClasses(const Config& config);
    /// "bounce" implies "2bounce".
    bool contains(Trouble what) const { return (mask_ & bit(what)) != 0; }
    bool empty() const { return mask_ == 0; }
    /// `what` if it is among them, and nothing else.
    NotifyClasses only(Trouble what) const {
        NotifyClasses out(*this);
        out.mask_ = static_cast<std::uint8_t>(out.mask_ & bit(what));
        return out;
    }

private:
    static constexpr std::uint8_t bit(Trouble what) { return static_cast<std::uint8_t>(1U << static_cast<unsigned>(what)); }
    std::uint8_t mask_ = 0;
};

/// `address` with $myorigin, unless it has a domain.
std::string complete_address(const Config& config, const std::string& address);

/// The sender of what goes to the postmaster, from which nothing ever goes back (double_bounce_sender).
std::string double_bounce_address(const Config& config);
bool is_double_bounce(const Config& config, std::string_view sender);

/// internal_mail_filter_classes has `what` ("bounce", "notify"): header and body checks see such mail.
bool inspects_internal_mail(const Config& config, std::string_view what);

/// From: and To: of such mail, in header_from_format.  `recipient` is complete.
std::string postmaster_fields(const Config& config, std::string_view recipient);

}  // namespace postern
