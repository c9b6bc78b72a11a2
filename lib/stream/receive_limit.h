/// For what is read in front of TLS.
#pragma once

#include "lib/stream/stream.h"

namespace postern {

/// From now on no more than `bytes` are taken from the socket at a time; 0: as many as come.  What a reader does not ask for stays
/// there, where TLS finds it, which drops what has been buffered in the clear.  With 1, nothing but what was asked for is read.
/// No effect on other kinds of stream, and within TLS.
void limit_receive(Stream& stream, std::size_t bytes);

}  // namespace postern
