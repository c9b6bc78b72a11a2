#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/log/log.h"
#include "local/biff.h"
#include "local/mailbox_file.h"

namespace postern::local {
namespace {

constexpr std::size_t kWriteAt = 256 * 1024;

/// NAME.lock beside the mailbox, as mail readers make it; removed with its owner.
class DotLock {
public:
    DotLock() = default;
    DotLock(const DotLock&) = delete;
    DotLock& operator=(const DotLock&) = delete;
    ~DotLock() {
        if (!path_.empty()) {
            unlink(path_.c_str());
        }
    }

    /// False with errno; EEXIST when somebody else keeps it.
    bool take(const std::string& mailbox, const MailboxRules& rules) {
        const std::string path = mailbox + ".lock";
        for (long attempt = 0; attempt < rules.lock_attempts; ++attempt) {
            if (attempt > 0) {
                sleep(static_cast<unsigned>(rules.lock_delay));
            }
            const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
            if (fd) {
                path_ = path;
                return true;
            }
            if (errno != EEXIST) {
                return false;
            }
            struct stat info {};
            if (stat(path.c_str(), &info) == 0 && info.st_ctime + rules.stale_lock_time < time(nullptr)) {
                unlink(path.c_str());
            }
        }
        errno = EEXIST;
        return false;
    }

private:
    std::string path_;
};

/// Kernel locks, tried as often as dot locks.  False with errno.
bool lock_file(int fd, const MailboxRules& rules) {
    for (long attempt = 0; attempt < rules.lock_attempts; ++attempt) {
        if (attempt > 0) {
            sleep(static_cast<unsigned>(rules.lock_delay));
        }
        struct flock whole {};
        whole.l_type = F_WRLCK;
        whole.l_whence = SEEK_SET;
        if (rules.flock_lock && flock(fd, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK && errno != EINTR) {
                return false;
            }
            continue;
        }
        // A lock of the open file, not of the process: several threads may be at one mailbox.
        if (!rules.fcntl_lock || fcntl(fd, F_OFD_SETLK, &whole) == 0) {
            return true;
        }
        if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
            return false;
        }
        if (rules.flock_lock) {
            flock(fd, LOCK_UN);
        }
    }
    errno = EAGAIN;
    return false;
}

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return false;
        }
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
}

/// The message as mbox text: lines beginning with "From " are quoted, an empty line follows.
bool write_message(int fd, const Message& message, const std::string& prefix) {
    BodyFilter filter;
    filter.quote_from = true;
    std::string out = prefix;
    filter.add(message.headers(), out);
    std::string buffer;
    if (message.has_body()) {
        filter.add(message.body(), out);
    } else {
        buffer.resize(kWriteAt);
    }
    for (std::uint64_t at = 0; !message.has_body() && at < message.body_length();) {
        const Result<std::size_t> got = message.read_body(at, buffer.data(), buffer.size());
        if (!got) {
            errno = EIO;
            return false;
        }
        filter.add(std::string_view(buffer.data(), *got), out);
        at += *got;
        if (!write_all(fd, out)) {
            return false;
        }
        out.clear();
    }
    filter.finish(out);
    out += '\n';
    return write_all(fd, out);
}

/// One delivery to one mailbox file.
class MboxDelivery {
public:
    MboxDelivery(const Message& message, const std::string& path, const std::string& prefix, const MailboxRules& rules)
        : message_(message), path_(path), prefix_(prefix), rules_(rules) {}

    Outcome run(uid_t owner) {
        DotLock dot_lock;
        struct stat info {};
        const bool exists = lstat(path_.c_str(), &info) == 0;
        const bool link = exists && S_ISLNK(info.st_mode);
        if (link && !link_of_the_system(info)) {
            return failed(rules_.failure_dsn, prefix_text() + "file is a symbolic link");
        }
        const bool regular = !exists || link || S_ISREG(info.st_mode);
        if (regular && rules_.dotlock && !dot_lock.take(path_, rules_)) {
            if (errno == EEXIST || !rules_.plain_file) {
                return failure(errno, "4.2.0", "unable to create lock file " + path_ + ".lock");
            }
            log_warning("unable to create lock file {}.lock: {}", path_, strerror(errno));
        }
        // Not blocking: a pipe that nobody reads is an error, as mail that is written into it would be lost.
        const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (link ? 0 : O_NOFOLLOW);
        const UniqueFd fd(open(path_.c_str(), flags, 0600));
        if (!fd || fstat(fd.get(), &info) != 0) {
            return failure(errno, {}, exists ? "cannot open file" : "cannot create file exclusively");
        }
        if (std::optional<Outcome> refused = refusal(info, owner)) {
            return std::move(*refused);
        }
        if (!S_ISREG(info.st_mode)) {
            fcntl(fd.get(), F_SETFL, O_WRONLY);
            return write_message(fd.get(), message_, prefix_) ? done() : failure(errno, {}, "write error");
        }
        if (!lock_file(fd.get(), rules_)) {
            return failure(errno, "4.2.0", "unable to lock for exclusive access");
        }
        return append(fd.get());
    }

private:
    Outcome done() const { return sent("delivered to " + rules_.file_text); }
    const std::string& prefix_text() const { return rules_.trouble_text; }

    /// Root's link in a directory that only root can change leads where root wants it to.
    bool link_of_the_system(const struct stat& link) const {
        const std::size_t slash = path_.rfind('/');
        const std::string parent = slash == std::string::npos ? "." : path_.substr(0, std::max<std::size_t>(slash, 1));
        struct stat info {};
        return link.st_uid == 0 && lstat(parent.c_str(), &info) == 0 && info.st_uid == 0 && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
    }

    /// Why the open file is not written to.
    std::optional<Outcome> refusal(const struct stat& info, uid_t owner) const {
        if (S_ISDIR(info.st_mode)) {
            return failure(EISDIR, {}, "cannot open file");
        }
        if (S_ISREG(info.st_mode) && info.st_nlink > 1) {
            return failed(rules_.failure_dsn, fmt::format("{}file has {} hard links", prefix_text(), info.st_nlink));
        }
        if (!S_ISREG(info.st_mode) && !rules_.plain_file) {
            return failed(rules_.failure_dsn, fmt::format("{}destination {} is not a regular file", prefix_text(), path_));
        }
        if (rules_.plain_file && (info.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH))) {
            return failed("5.7.1", prefix_text() + "file is executable");
        }
        if (rules_.strict_ownership && info.st_uid != owner) {
            log_warning("specify \"strict_mailbox_ownership = no\" to ignore mailbox ownership mismatch");
            return failed("4.2.0", fmt::format("{}destination {} is not owned by recipient", prefix_text(), path_));
        }
        return std::nullopt;
    }
    Outcome failure(int error, std::string_view dsn, const std::string& what) const {
        return failed(dsn.empty() ? file_error_dsn(error, rules_.failure_dsn) : std::string(dsn),
                      prefix_text() + what + ": " + strerror(error));
    }

    Outcome append(int fd) {
        struct stat info {};
        if (fstat(fd, &info) != 0) {
            return failure(errno, {}, "cannot open file");
        }
        const std::uint64_t after = static_cast<std::uint64_t>(info.st_size) + prefix_.size() + message_.size_bytes();
        if (rules_.size_limit > 0 && after > static_cast<std::uint64_t>(rules_.size_limit)) {
            return failure(EFBIG, "5.2.2", "error writing message");
        }
        if (!write_message(fd, message_, prefix_) || fsync(fd) != 0) {
            const int error = errno;
            if (ftruncate(fd, info.st_size) != 0) {
                return failed("4.3.0", prefix_text() + "cannot truncate after a failed write");
            }
            return failure(error, {}, "error writing message");
        }
        if (rules_.biff_port != 0 && !rules_.biff_user.empty()) {
            notify_biff(rules_.biff_port, rules_.biff_user, static_cast<std::uint64_t>(info.st_size));
        }
        return done();
    }

    const Message& message_;
    const std::string& path_;
    const std::string& prefix_;
    const MailboxRules& rules_;
};

/// "From sender  Thu Nov 22 10:00:00 2026", in local time as mail readers expect it.
std::string from_line(const std::string& sender) {
    const std::time_t now = time(nullptr);
    tm parts{};
    localtime_r(&now, &parts);
    char date[64];
    strftime(date, sizeof date, "%a %b %e %H:%M:%S %Y", &parts);
    return fmt::format("From {}  {}\n", sender.empty() ? "MAILER-DAEMON" : quoted(sender), date);
}

}  // namespace

std::string copy_headers(const Message& message, const queue::Recipient& recipient, std::string_view delivered_to,
                         const CopyHeaders& wanted) {
    std::string text;
    const std::string& sender = wanted.sender ? *wanted.sender : message.request().sender;
    if (wanted.from_line) {
        text += from_line(sender);
    }
    if (wanted.return_path) {
        text += "Return-Path: <" + quoted(sender) + ">\n";
    }
    if (wanted.original_to) {
        text += "X-Original-To: " + quoted(recipient.original.empty() ? recipient.address : recipient.original) + "\n";
    }
    if (wanted.delivered_to) {
        text += "Delivered-To: " + quoted(delivered_to) + "\n";
    }
    return text;
}

Result<MailboxRules> mailbox_rules(const Config& config, const std::string& lock_names, std::string_view limit_name,
                                   long size_limit) {
    const long largest = config.message_size_limit();
    if (size_limit > 0 && (largest == 0 || largest > size_limit)) {
        return Error(Errc::config, std::string(limit_name) + " is smaller than message_size_limit");
    }
    MailboxRules rules;
    rules.dotlock = rules.fcntl_lock = false;
    for (const std::string& name : split_list(lock_names)) {
        if (name == "dotlock") {
            rules.dotlock = true;
        } else if (name == "fcntl") {
            rules.fcntl_lock = true;
        } else if (name == "flock") {
            rules.flock_lock = true;
        } else {
            return Error(Errc::config, "unknown mailbox lock \"" + name + "\"; there are dotlock, fcntl and flock");
        }
    }
    rules.lock_attempts = config.deliver_lock_attempts();
    rules.lock_delay = config.deliver_lock_delay().count();
    rules.stale_lock_time = config.stale_lock_time().count();
    rules.size_limit = size_limit;
    rules.strict_ownership = config.strict_mailbox_ownership();
    rules.hostname = config.myhostname();
    return rules;
}

Outcome deliver_mbox(const Message& message, const std::string& path, const std::string& prefix, uid_t owner,
                     const MailboxRules& rules) {
    return MboxDelivery(message, path, prefix, rules).run(owner);
}

}  // namespace postern::local
