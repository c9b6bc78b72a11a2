/// The command line of sendmail(1): Postfix's options, and without effect those that scripts for other mailers use.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/queue/envelope.h"

namespace postern::sendmail {

enum class Mode : unsigned char {
    submit,        ///< -bm: read a message
    daemon,        ///< -bd, -bl, -bD: start the mail system
    smtp,          ///< -bs: SMTP on standard input
    list_queue,    ///< -bp, mailq
    make_aliases,  ///< -bi, -I, newaliases
    flush,         ///< -q
    flush_id,      ///< -qIid
    flush_site,    ///< -qRsite
    nothing,       ///< modes that other mailers have and that need nothing done (-bH)
};

struct Options {
    Mode mode = Mode::submit;
    std::string config_directory;      ///< -C; empty: the usual place
    std::string argument;              ///< id or site of -q
    bool recipients_from_header = false;   ///< -t
    bool dot_ends = true;              ///< without -i
    bool verp = false;                 ///< -XV; without delimiters in the envelope: default_verp_delimiters
    bool has_sender = false;           ///< -f or -r was given
    std::string alias_database;        ///< -oA
    queue::Envelope envelope;          ///< sender, DSN requests, encoding, full name, flags
    std::uint8_t notify = 0;           ///< -N
    std::vector<std::string> recipients;   ///< as given
    std::vector<std::string> warnings;     ///< about options that were not understood and have no effect
};

/// `arguments` without argv[0]; `program` is its last path component.  Errors: syntax, the text for EX_USAGE.
Result<Options> parse_options(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace postern::sendmail
