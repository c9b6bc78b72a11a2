/// Messages that wait in maildrop/ for pickup(8): queue files (queue_file.h) whose body extent is the message as it
/// was submitted and whose header extent is empty.  Their names are long queue ids, which never come back, so that
/// a name says for ever which submission is meant.
///
/// A submission M becomes one message, whoever dies, and when.  Four rules see to it:
///
///  1. One pickup(8) at a time starts submissions: it holds a lock (flock(2)) on the directory maildrop/.
///  2. Whoever works on M holds M's lock: pickup takes it on the descriptor that it reads, and hands a copy of the
///     descriptor to cleanup (Begin::source), so that the lock lasts until both are done with M, or dead.
///  3. cleanup writes M's name into the queue file (Envelope::maildrop_file), makes the file durable under its name in
///     incoming/ or hold/, removes M, and only then closes its copy, answers and tells qmgr.
///  4. A queue file leaves incoming/ or hold/ for elsewhere (active/, deferred/, or nowhere at all) only after
///     remove_maildrop_source(): qmgr and postsuper call it first, for who wrote the file may have died before it
///     removed M.
///
/// So when pickup (rule 1) finds M unlocked (rule 2), at a moment t, nobody works on M, nor will anybody before pickup
/// itself does.  If a queue file was made of M, it was made before t; then either it is in incoming/ or hold/ still,
/// or M is gone (rule 4).  pickup therefore looks, after t, into incoming/ and then hold/ (files move from the first to
/// the second, never back) for files that name M, and then opens M.  Found: M is removed, after the queue file was
/// synced and qmgr woken, for its writer may have died before that.  Not found, and M opened: it was never queued, and is submitted.  M
/// locked: an orphaned cleanup is at work on it, which will come to an end; M is looked at again later.
///
/// pickup looks so when it gets the lock of maildrop/, after it lost a cleanup, and while it found anything locked.  A file
/// that comes into maildrop/ after that was never in anybody else's hands.  After a power failure there are no locks,
/// and rule 3's order on the disk is what the file system's journal keeps; a queue file without its content does not
/// pass its checksums, and does not count.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/queue/queue_file.h"

namespace postern::queue {

/// Safe as a file name in maildrop/.
bool is_maildrop_name(std::string_view name);

/// A writer for maildrop/: body() takes the whole content, header() is not used, write_out() finishes.
/// Errors: as QueueFileWriter::create(); denied when the caller may not write there.
Result<std::unique_ptr<QueueFileWriter>> create_maildrop_file(const std::string& queue_directory,
                                                              std::uint64_t size_limit_bytes);

/// What a user may say about a message of theirs; all other members (client attributes, filters, other origins) are
/// set to what is true of a local submission by `uid`.  arrival_usec is kept when it is not after `now_usec`; control
/// characters in addresses become "?".
Envelope user_envelope(Envelope said, std::int64_t uid, std::int64_t now_usec);

/// Removes maildrop/<maildrop_file> if the envelope of `queue_file` (open) names one, after making the queue file
/// durable.  Not being there is the usual case.  Errors: io, when the queue file cannot be synced; nothing is removed.
Result<void> remove_maildrop_source(const Envelope& envelope, int queue_file, const std::string& queue_directory = ".");

/// Takes the lock of an open maildrop file, or of the directory.  False when somebody else has it.
bool try_lock(int fd);

/// Wakes pickup(8) or qmgr(8), whose socket is `path`, if it runs; without waiting, and without an event loop.
void trigger_service(const std::string& path);

}  // namespace postern::queue
