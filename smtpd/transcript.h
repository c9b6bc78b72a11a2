/// What client and server said, for the postmaster: notify_classes "policy" and "protocol".
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "lib/config/config.h"
#include "lib/queue/messages.h"

namespace postern::smtpd {

/// Why a session may be worth a notice.
enum class Trouble : unsigned char {
    policy,      ///< a restriction refused something
    protocol,    ///< the client did what SMTP does not allow
};

/// The last lines of one session.
class Transcript {
public:
    /// Whether notify_classes asks for such notices at all.
    static bool wanted(const Config& config);

    explicit Transcript(const Config& config);
    void heard(std::string_view line) { note("In:  ", line); }
    void said(std::string_view line) { note("Out: ", line); }
    void happened(Trouble trouble);
    /// Something of a wanted class has happened.
    bool due() const { return due_; }
    /// The notice to error_notice_recipient.  `client` is name[address]; `reason`: why the session ended early, or empty.
    queue::Begin notice(const Config& config, std::string_view client, std::string_view reason) const;

private:
    void note(std::string_view who, std::string_view line);

    std::deque<std::string> lines_;
    bool policy_, protocol_;
    bool due_ = false;
};

}  // namespace postern::smtpd
