/// What master.cf says about one pipe(8) service: name=value words, and the command.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/queue/deliver.h"
#include "lib/sandbox/identity.h"

namespace postern::local {

struct PipeAttributes {
    std::vector<std::string> argv;     ///< with $names, not yet expanded
    std::string user;                  ///< "user" or "user:group"
    std::string directory;
    std::string chroot;
    std::string eol = "\n";
    std::string null_sender = "MAILER-DAEMON";
    long size_limit = 0;               ///< size=; 0: none

    bool blank_at_end = false;         ///< B
    bool delivered_to = false;         ///< D
    bool from_line = false;            ///< F
    bool original_to = false;          ///< O
    bool return_path = false;          ///< R
    bool final_delivery = false;       ///< X
    bool fold_domain = false;          ///< h
    bool quote_addresses = false;      ///< q
    bool fold_local = false;           ///< u
    bool stuff_dots = false;           ///< .
    bool quote_from = false;           ///< >
};

/// Errors: config, naming the word.
Result<PipeAttributes> parse_pipe_attributes(const std::vector<std::string>& words);

/// The command line for one request.  Words that speak of the recipient stand there once for each recipient.
/// Errors: syntax.
Result<std::vector<std::string>> expand_pipe_argv(const PipeAttributes& attributes, const queue::Deliver& request,
                                                  const std::string& recipient_delimiter);

/// user= looked up.  Errors: config.
Result<UserIdentity> pipe_user(const std::string& user);

}  // namespace postern::local
