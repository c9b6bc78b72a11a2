/// The syntax of master.cf: one service in each logical line (lines.h).
///
///     name type private unpriv chroot wakeup maxproc command [argument...]
///
/// "-" is a column's default.  An argument in braces may contain white space: -o { name = value with spaces }.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"

namespace postern {

enum class ServiceType : unsigned char { inet, unix_stream, unix_dgram, fifo, pass };

/// "inet", "unix", "unix-dgram", "fifo", "pass".
std::string_view service_type_name(ServiceType type);

struct MasterEntry {
    std::string name;                     ///< "smtp", "127.0.0.1:submission", "[::1]:25", "cleanup"
    ServiceType type = ServiceType::unix_stream;
    bool is_private = true;               ///< only Postern's own programs may connect
    bool unprivileged = true;             ///< runs as mail_owner or less
    bool chroot = false;
    long wakeup_seconds = 0;              ///< 0: never
    bool wakeup_if_used = false;          ///< "10?": only once somebody used the service
    long process_limit = -1;              ///< 0: none; -1: default_process_limit
    std::string command;                  ///< relative to daemon_directory
    std::vector<std::string> arguments;   ///< braces removed; "-o" is always followed by "name=value"
    std::array<std::string, 7> columns;   ///< as written, without command
    std::string where;                    ///< "file:line"

    /// What -o sets, in order; and how many -v there are.
    std::vector<std::pair<std::string, std::string>> overrides() const;
    int verbosity() const;
    /// The arguments without -o name=value and -v.  Only what stands before the first word that is not an option
    /// counts as an option: "pipe argv=/bin/x -o y" leaves -o y to /bin/x.
    std::vector<std::string> other_arguments() const;
    /// "name/type", what postconf -M and master_service_disable call it.
    std::string label() const;
};

struct MasterCf {
    std::vector<MasterEntry> entries;     ///< in the file's order; of two with one label the last one counts
    std::vector<std::string> notices;     ///< "file:line: text", such as a service given twice
};

/// `file` is the name for messages.  Errors: config with "file:line: reason"; too_big.
Result<MasterCf> parse_master_cf(std::string_view text, std::string_view file);

/// One entry from its logical line, for postconf -M name/type="...".  Errors: syntax.
Result<MasterEntry> parse_master_entry(std::string_view line);

/// The entry as one logical line in postconf's layout.  `fold`: each -o on a line of its own, the rest in lines of less than 80 bytes.
std::string to_text(const MasterEntry& entry, bool fold = false);

/// Splits an inet service's name into host (empty: inet_interfaces) and port; "[v6]:port" loses its brackets.
struct InetName {
    std::string host, port;
};
Result<InetName> parse_inet_name(std::string_view name);

}  // namespace postern
