/// Which of this host's addresses a connection comes from.
#pragma once

#include <string>

#include "lib/stream/stream.h"

namespace postern {

/// "192.0.2.1", "2001:db8::1"; empty for what is no TCP connection.
std::string local_ip_address(const Stream& stream);

}  // namespace postern
