#include "cleanup/drop_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "lib/queue/journal.h"
#include "lib/queue/maildrop.h"

namespace postern::pickup {

Result<DropFile> open_drop_file(const std::string& queue_directory, const std::string& name, uid_t queue_owner) {
    const std::string path = queue_directory + "/maildrop/" + name;
    DropFile drop;
    drop.name = name;
    drop.fd.reset(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!drop.fd) {
        // A symbolic link gives ELOOP: nothing of ours, and nothing to follow.
        return errno == ELOOP ? Error(Errc::corrupt, "open " + path + ": symbolic link") : errno_error("open " + path);
    }
    struct stat status {};
    if (::fstat(drop.fd.get(), &status) != 0) {
        return errno_error("stat " + path);
    }
    if (!S_ISREG(status.st_mode)) {
        return Error(Errc::corrupt, path + ": uid " + std::to_string(status.st_uid) + ": not a regular file");
    }
    if (status.st_nlink != 1) {   // a hard link may point to a file of somebody else
        return Error(Errc::temporary, path + ": more than one link");
    }
    Result<queue::QueueFile> file = queue::QueueFile::read(drop.fd.get());
    if (!file) {
        return Error(file.error().code, path + ": " + file.error().what);
    }
    const Result<void> content = file->verify_content(drop.fd.get());
    if (!content) {
        return Error(content.error().code, path + ": " + content.error().what);
    }
    drop.owner = status.st_uid;
    drop.file = std::move(*file);
    drop.requeued = drop.owner == queue_owner && drop.file.headers().length > 0;
    return drop;
}

Result<queue::Envelope> envelope_to_submit(const DropFile& drop, std::int64_t now_usec) {
    const queue::Envelope& stored = drop.file.envelope();
    queue::Envelope out;
    if (drop.requeued) {
        out = stored;
        const Result<std::vector<queue::JournalRecord>> records = drop.file.journal(drop.fd.get());
        if (!records) {
            return records.error();
        }
        const queue::JournalState state = queue::replay(*records, stored.recipients);
        out.recipients.clear();
        for (std::size_t i = 0; i < stored.recipients.size(); ++i) {
            if (!state.recipients[i].finished()) {
                out.recipients.push_back(stored.recipients[i]);
            }
        }
        out.origin = queue::kOriginForward;
        out.hold = false;
        out.redirect.clear();   // its recipients are in the place of the others already
    } else {
        out = queue::user_envelope(stored, drop.owner, now_usec);
    }
    out.maildrop_file = drop.name;
    return out;
}

}  // namespace postern::pickup
