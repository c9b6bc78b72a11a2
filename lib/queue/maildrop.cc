#include "lib/queue/maildrop.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "lib/ipc/channel.h"
#include "lib/queue/queue_id.h"

namespace postern::queue {
namespace {

/// Addresses end up in headers, file names and commands.
void make_harmless(std::string& text) {
    for (char& c : text) {
        c = static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
    }
}

}  // namespace

bool is_maildrop_name(std::string_view name) { return is_queue_id(name); }

Result<std::unique_ptr<QueueFileWriter>> create_maildrop_file(const std::string& queue_directory,
                                                              std::uint64_t size_limit_bytes) {
    WriterOptions options;
    options.queue_directory = queue_directory;
    options.directory = "maildrop";
    options.size_limit_bytes = size_limit_bytes;
    options.long_queue_ids = true;
    options.mode = 0744;   // pickup(8) is another user; the directory keeps everybody else out
    return QueueFileWriter::create(std::move(options));
}

Envelope user_envelope(Envelope said, std::int64_t uid, std::int64_t now_usec) {
    Envelope out;
    out.sender = std::move(said.sender);
    out.recipients = std::move(said.recipients);
    out.dsn_envid = std::move(said.dsn_envid);
    out.dsn_ret = said.dsn_ret;
    out.encoding = said.encoding;
    out.smtputf8 = said.smtputf8;
    out.requiretls = said.requiretls;
    out.sender_full_name = std::move(said.sender_full_name);
    out.verp_delimiters = std::move(said.verp_delimiters);
    out.trace = said.trace;
    out.verify_only = said.verify_only;
    out.rewrite_local = said.rewrite_local;
    out.origin = kOriginSendmail;
    out.submit_uid = uid;
    for (std::string* text : {&out.sender, &out.dsn_envid, &out.verp_delimiters}) {
        make_harmless(*text);
    }
    for (Recipient& recipient : out.recipients) {
        for (std::string* text : {&recipient.address, &recipient.original, &recipient.dsn_orcpt}) {
            make_harmless(*text);
        }
    }
    const bool plausible = said.arrival_usec > 0 && said.arrival_usec <= now_usec;
    out.arrival_usec = plausible ? said.arrival_usec : now_usec;
    return out;
}

Result<void> remove_maildrop_source(const Envelope& envelope, int queue_file, const std::string& queue_directory) {
    if (!is_maildrop_name(envelope.maildrop_file)) {
        return {};
    }
    const std::string path = queue_directory + "/maildrop/" + envelope.maildrop_file;
    if (::access(path.c_str(), F_OK) != 0) {
        return {};
    }
    if (::fsync(queue_file) != 0) {
        return errno_error("fsync queue file of " + path);
    }
    (void)::unlink(path.c_str());
    return {};
}

bool try_lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; }

void trigger_service(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return;
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket && ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
        // Failure is no harm: who is triggered also looks by itself now and then (master.cf, wakeup).
        (void)!::send(socket.get(), kTriggerFrame, sizeof kTriggerFrame, MSG_NOSIGNAL);
    }
}

}  // namespace postern::queue
