/// biff: comsat(8) is told of new mail, and tells users on their terminals.
#pragma once

#include <cstdint>
#include <string>

namespace postern::local {

/// The port of the service "biff" (512 where /etc/services has none).  Reads files: ask once, at the start.
std::uint16_t biff_port();

/// Sends "USER@OFFSET" and a NUL byte by UDP to this machine, as Postfix does: the user's mailbox has a new message that begins
/// at `offset`.  Never waits; nobody has to be there.
void notify_biff(std::uint16_t port, const std::string& user, std::uint64_t offset);

}  // namespace postern::local
