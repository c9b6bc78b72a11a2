/// Submission by sendmail(1): from standard input to maildrop/, directly where the caller may write there, else
/// through postdrop(1).
#pragma once

#include "lib/config/config.h"
#include "tools/sendmail_options.h"

namespace postern::sendmail {

/// A message on its way into maildrop/.  Everything blocks.
class Submission {
public:
    virtual ~Submission() = default;
    /// Errors: too_big, no_space, io, closed (postdrop ended: finish() knows why).
    virtual Result<void> content(std::string_view bytes) = 0;
    /// Exit status of sysexits.h; EX_OK means: on stable storage.  What went wrong has been printed.
    virtual int finish(const queue::Envelope& envelope) = 0;
};

/// The exit status for a message of this kind that was read from `input`; EX_OK means: on stable storage.
int submit(const Config& config, Options options, int input);

/// Where messages to the user go besides standard error: syslog, in the facility and under the name that `config` says, if any.
void open_log(const Config* config);

/// Prints "sendmail: fatal: TEXT" to standard error and the mail log.
void report_fatal(const std::string& text);

}  // namespace postern::sendmail
