/// The envelope extent of a queue file: tagged fields, so that later versions may add some.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/queue/envelope.h"

namespace postern::queue {

/// Fields with their default value are left out.
std::string encode_envelope(const Envelope& envelope);

/// Tags that are not known are ignored.  Errors: corrupt.
Result<Envelope> decode_envelope(std::string_view bytes);

}  // namespace postern::queue
