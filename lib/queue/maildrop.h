/// Messages that wait in maildrop/ for pickup(8): queue files (queue_file.h) whose body extent is the message as it
/// was submitted and whose header extent is empty.  Their names are long queue ids, which never come back, so that
/// a name says for ever which submission is meant.
///
/// A crash between "the queue file is durable" and "the maildrop file is gone" must not deliver twice.  cleanup(8)
/// records the maildrop name in the queue file (Envelope::maildrop_file) and removes the maildrop file before it
/// tells qmgr.  Who finds a queue file in incoming/ by scanning calls remove_maildrop_source() before it delivers;
/// pickup(8), when it starts or lost cleanup, passes over what incoming/ and hold/ have already.
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
/// set to what is true of a local submission by `uid`.  arrival_usec is kept when it is not after `now_usec`.
Envelope user_envelope(Envelope said, std::int64_t uid, std::int64_t now_usec);

/// Removes maildrop/<maildrop_file> if the envelope names one.  Not being there is the usual case.
void remove_maildrop_source(const Envelope& envelope, const std::string& queue_directory = ".");

/// Wakes pickup(8) if it runs; without waiting, and without an event loop.
void wake_pickup(const std::string& queue_directory);

}  // namespace postern::queue
