/// The message on sendmail(1)'s standard input: line ends, the lone dot, recipients in the header.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern::sendmail {

enum class FixLineEndings : unsigned char { always, strict, never };   ///< sendmail_fix_line_endings

struct InputOptions {
    bool dot_ends = true;
    bool want_header = false;            ///< keep the header for recipients_in_header()
    FixLineEndings fix = FixLineEndings::always;
};

/// Turns raw input into message content: an mbox "From " line at the start is left out, CR before LF is removed as
/// configured, a line that is "." ends the message when asked for, the last line gets its LF.
class InputFilter {
public:
    explicit InputFilter(InputOptions options) : options_(options) {}

    /// Content made from the next bytes; pieces may be cut anywhere.
    std::string feed(std::string_view bytes);
    /// Content that was waiting for a line's end.
    std::string finish();
    /// The lone dot was seen: the rest of the input does not matter.
    bool ended() const { return ended_; }

    /// The header as far as it was collected; complete once body bytes or the end were seen.
    const std::string& header() const { return header_; }

private:
    void line(std::string_view text, bool start, bool complete, std::string& out);
    void collect_header(std::string_view text, bool start, bool complete);
    bool strips_cr() const;

    InputOptions options_;
    std::string partial_;       ///< the beginning of a line whose end has not come
    std::string header_;
    bool inside_long_line_ = false;   ///< the beginning of the present line has been given out
    bool skipping_ = false;           ///< the present line is left out
    bool first_line_ = true, first_had_cr_ = false, ended_ = false, header_done_ = false;
};

/// Header lines that are kept for -t at most.
inline constexpr std::size_t kMaxHeaderForRecipients = 16 * 1024 * 1024;

/// What -t finds: To, Cc and Bcc, or Resent-To, Resent-Cc and Resent-Bcc when the message is a resent one
/// (RFC 5322 section 3.6.6).  Addresses in internal form, without duplicates.
std::vector<std::string> recipients_in_header(std::string_view header);

/// The addresses that `argument` has, separated by commas.  Empty when there is none.
std::vector<std::string> addresses_in(std::string_view argument);

/// The recipients that one command line argument stands for: its addresses, and never nobody: an argument without an address ("",
/// "<>", a comment) is the empty one, which cleanup sends to empty_address_recipient, and a "<" without its ">" belongs to a user's
/// name.  So does Postfix: mail that a script sends to nobody comes to the postmaster, and is not lost.
std::vector<std::string> recipients_in_argument(std::string_view argument);

}  // namespace postern::sendmail
