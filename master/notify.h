/// What systemd wants to know (sd_notify(3)): one datagram to $NOTIFY_SOCKET.
#pragma once

#include <string_view>

namespace postern::master {

/// `state` such as "READY=1" or "STOPPING=1".  Nothing happens when nobody asked to be told.
void notify_supervisor(std::string_view state);

}  // namespace postern::master
