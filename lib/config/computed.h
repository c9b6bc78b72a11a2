/// Defaults that depend on the machine.
#pragma once

#include <string>
#include <string_view>

namespace postern {

/// The host's name made fully qualified: what gethostname(2) says, with `domain` (or "localdomain" when that is
/// empty) behind it when it has no dot.
std::string default_myhostname(std::string_view domain);

/// `hostname` without its first label; "localdomain" when it has only one.
std::string default_mydomain(std::string_view hostname);

/// The networks of the interfaces that `inet_interfaces` names, as mynetworks_style wants them: host (each address
/// alone), subnet or class.  `inet_protocols` is the parameter's text.
std::string default_mynetworks(std::string_view style, std::string_view inet_interfaces, std::string_view inet_protocols);

}  // namespace postern
