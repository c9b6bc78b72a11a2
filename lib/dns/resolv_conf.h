/// /etc/resolv.conf, of which libunbound reads the name servers only: resolv.conf(5).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lib/async/loop.h"

namespace postern {

struct ResolvConf {
    std::size_t servers = 0;               ///< at most 3 count, as in the C library
    unsigned timeout = 5;                  ///< seconds, at most 30
    unsigned attempts = 2;                 ///< at most 5
    std::size_t ndots = 1;                 ///< names with so many dots are asked for as they are first; at most 15
    std::vector<std::string> search{};     ///< without final dots; the first is the "current domain"

    /// How long the C library waits for servers that are all silent: `attempts` rounds in which each server has the timeout, from
    /// round to round twice as much time, shared by the servers after the first.
    Millis patience() const;
};

/// Whatever is no line of resolv.conf(5) is passed over.  `domain` is searched when no line names one.
ResolvConf parse_resolv_conf(std::string_view text, std::string_view domain = "");

/// The file; defaults when it cannot be read.  Without a domain in it this host's own is searched.
ResolvConf read_resolv_conf(const std::string& path = "/etc/resolv.conf");

}  // namespace postern
