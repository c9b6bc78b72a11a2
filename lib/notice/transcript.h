/// What two programs said to each other, for the postmaster: the SMTP server's sessions and the SMTP client's (notify_classes).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "lib/config/config.h"
#include "lib/notice/postmaster.h"
#include "lib/queue/messages.h"

namespace postern {

/// What stands in a transcript instead of what nobody may read.
inline constexpr std::string_view kNotShown = "(not shown)";

/// "AUTH PLAIN (not shown)": a command of RFC 4954 without what came with it.  Only a mechanism's name that everybody knows
/// is kept: anything else might be a password at the wrong place.
std::string without_secret(std::string_view auth_command);

/// Command lines up to an AUTH among them, without what may be a password.
std::string before_secret(std::string_view lines);

/// The last lines of one session: at most kMaxBytes of them.
class Transcript {
public:
    static constexpr std::size_t kMaxBytes = 32 * 1024, kMaxLine = 512;

    /// Nothing is kept when there are no `classes`.
    explicit Transcript(NotifyClasses classes) : classes_(classes) {}

    /// `text` may have several lines; what follows a line's kMaxLine bytes is not kept.
    void heard(std::string_view text) { note("In:  ", text); }
    void said(std::string_view text) { note("Out: ", text); }
    void happened(Trouble what);
    /// Something of a wanted class has happened.
    bool due() const { return due_; }
    /// Lines noted, those that were dropped included.
    std::size_t lines() const { return lines_; }
    /// As new.
    void clear();

    /// The notice: to bounce_notice_recipient when the trouble was that, else to error_notice_recipient.  `subject` follows
    /// mail_name: "SMTP server: errors from X"; `opening` is a line before the transcript, `ending` what comes after it.
    queue::Begin notice(const Config& config, std::string_view subject, std::string_view opening, std::string_view ending) const;

private:
    void note(std::string_view who, std::string_view text);
    void note_line(std::string_view who, std::string_view line);

    NotifyClasses classes_;
    std::string text_;           ///< lines with their LF
    std::size_t lines_ = 0;
    bool dropped_ = false;       ///< the first lines are gone
    bool bounced_ = false;
    bool due_ = false;
};

}  // namespace postern
