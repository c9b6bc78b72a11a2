/// Changing the middle of an mbox file so that a crash at any moment leaves the old or the new content.
///
/// The file is not replaced (other programs hold it open and locked, and in /var/mail we may not create files):
/// the new tail is first written and synced to a journal beside the account's other control files, then copied over
/// the old one.  Whoever takes the write lock next finishes what a crash interrupted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/result.h"

namespace postern::store {

/// A piece of the new content: bytes [begin, end) of the file as it is, or text when begin == end.
struct MboxPiece {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::string text;
};

/// Makes `pieces` what follows offset `from` in the write-locked file `fd`; durable when it returns.
/// Errors: no_space, io; the file is then as it was, or finish_rewrite() will make it new.
Result<void> rewrite_tail(int fd, const std::string& journal, std::uint64_t from, const std::vector<MboxPiece>& pieces);

/// Applies a complete journal, drops an incomplete one; nothing to do when there is none.  `fd` is write-locked.
Result<void> finish_rewrite(int fd, const std::string& journal);

}  // namespace postern::store
