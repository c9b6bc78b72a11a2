/// Which UIDVALIDITYs this program has given UIDs under, in the mbox files of an account: kept apart from the index.
///
/// An mbox file does not know the UIDs of what other programs have delivered to it, and perhaps removed again: only the index does.
/// So when that was lost, the file's own X-IMAPbase must not be taken up a second time, or UIDs would be given twice (RFC 9051
/// section 2.3.1.1).  Another program's, such as Dovecot's, may, once.
#pragma once

#include <cstdint>
#include <string>

#include "lib/base/result.h"

namespace postern::store {

/// For an index that begins with a file: `found`, the file's own, unless that is 0 or was claimed before; else `fresh` or the next
/// above it that is neither claimed nor below `found`.  What is returned is claimed, durably.  Errors: denied, no_space, io, too_big.
Result<std::uint32_t> claim_uidvalidity(const std::string& control, std::uint32_t found, std::uint32_t fresh);

/// For an index that is there already: its own is claimed, if it is not yet.  Errors: as above.
Result<void> note_uidvalidity(const std::string& control, std::uint32_t uidvalidity);

}  // namespace postern::store
