#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "lib/base/unique_fd.h"
#include "lib/log/log.h"
#include "lib/queue/queue_file.h"
#include "local/mailbox_file.h"

namespace postern::local {
namespace {

constexpr std::size_t kCopyBuffer = 256 * 1024;

/// Tells this recipient's file from those of the message's other recipients, also from one that came to the same address by another
/// one (FNV-1a).
std::uint64_t recipient_hash(const queue::Recipient& recipient) {
    std::uint64_t hash = 14695981039346656037ULL;
    for (const char c : recipient.address + (recipient.original == recipient.address ? "" : "\n" + recipient.original)) {
        hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    }
    return hash;
}

/// In a file name, '/' and ':' mean something else.
std::string safe_hostname(std::string_view hostname) {
    std::string out;
    for (const char c : hostname) {
        out += c == '/' ? std::string("\\057") : c == ':' ? std::string("\\072") : std::string(1, c);
    }
    return out;
}

/// Counts the line ends that a client will see as two bytes where the file has one: LF without CR before it, as the
/// mail store counts them.  `last` is the byte before `text`, and then the last byte of it.
std::uint64_t count_lines(std::string_view text, char& last) {
    std::uint64_t count = 0;
    for (std::size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1)) {
        count += (at > 0 ? text[at - 1] : last) != '\r' ? 1 : 0;
    }
    last = text.empty() ? last : text.back();
    return count;
}

/// Whether two files begin with the same `size` bytes.
bool same_content(int one, int other, std::uint64_t size) {
    std::string left(static_cast<std::size_t>(std::min<std::uint64_t>(size, kCopyBuffer)), '\0'), right = left;
    for (std::uint64_t at = 0; at < size; at += left.size()) {
        const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(size - at, left.size()));
        if (!queue::read_exactly(one, left.data(), piece, at) || !queue::read_exactly(other, right.data(), piece, at) ||
            memcmp(left.data(), right.data(), piece) != 0) {
            return false;
        }
    }
    return true;
}

bool make_directory(const std::string& path) {
    return mkdir(path.c_str(), 0700) == 0 || errno == EEXIST;
}

/// `path` with all its parents.
bool make_directories(const std::string& path) {
    for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        const std::string parent = path.substr(0, slash);
        struct stat info {};
        if (stat(parent.c_str(), &info) != 0 && !make_directory(parent)) {
            return false;
        }
    }
    return make_directory(path);
}

/// One delivery into one Maildir.
class MaildirDelivery {
public:
    MaildirDelivery(const Message& message, const std::string& directory, const std::string& prefix,
                    const MailboxRules& rules)
        : message_(message), directory_(directory), prefix_(prefix), rules_(rules) {
        while (directory_.size() > 1 && directory_.back() == '/') {
            directory_.pop_back();
        }
    }

    Outcome run(const queue::Recipient& recipient) {
        static std::atomic<unsigned> serial{0};
        const queue::Deliver& request = message_.request();
        unique_ = fmt::format("{}.M{:06}Q{}R{:016x}.{}", request.arrival_usec / 1'000'000,
                              request.arrival_usec % 1'000'000, request.queue_id, recipient_hash(recipient),
                              safe_hostname(rules_.hostname));
        const std::uint64_t size = prefix_.size() + message_.size_bytes();
        if (rules_.size_limit > 0 && size > static_cast<std::uint64_t>(rules_.size_limit)) {
            return failure(EFBIG, "create maildir file " + directory_);
        }
        // Not two attempts may write one file: an alias can lead to the same Maildir twice, at the same time.
        temporary_ = fmt::format("{}/tmp/{}.{}.{}", directory_, unique_, getpid(), serial++);
        fd_ = create();
        if (!fd_) {
            return failure(errno, "create maildir file " + temporary_);
        }
        if (!write_message()) {
            const int error = errno;
            unlink(temporary_.c_str());
            return failure(error, "write maildir file " + temporary_);
        }
        return publish(fmt::format("{},S={},W={}", unique_, size, size + lines_), size);
    }

private:
    Outcome failure(int error, const std::string& what) const {
        const std::string reason = what + ": " + strerror(error);
        if (error == EACCES) {   // the thread's ids are those of the recipient here
            log_warning("maildir access problem for UID/GID={}/{}: {}", geteuid(), getegid(), reason);
            log_warning("perhaps you need to create the maildirs in advance");
        }
        return failed(file_error_dsn(error, rules_.failure_dsn), "maildir delivery failed: " + reason);
    }
    Outcome done() const { return sent("delivered to maildir"); }

    /// What a crash leaves there, readers of Maildirs remove when it is old.
    UniqueFd create() {
        constexpr int kFlags = O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
        UniqueFd fd(open(temporary_.c_str(), kFlags, 0600));
        if (!fd && errno == ENOENT) {
            for (const char* part : {"new", "cur", "tmp"}) {   // who finds tmp/ may rely on the others
                if (!make_directories(directory_ + "/" + part)) {
                    return UniqueFd();
                }
            }
            fd.reset(open(temporary_.c_str(), kFlags, 0600));
        }
        return fd;
    }

    /// False with errno.
    bool write_message() {
        const std::string_view body = message_.body();
        iovec pieces[3] = {{const_cast<char*>(prefix_.data()), prefix_.size()},
                           {const_cast<char*>(message_.headers().data()), message_.headers().size()},
                           {const_cast<char*>(body.data()), body.size()}};
        for (const std::string_view piece : {std::string_view(prefix_), std::string_view(message_.headers()), body}) {
            lines_ += count_lines(piece, last_);
        }
        return write_pieces(pieces, 3) && (message_.has_body() || copy_body());
    }

    bool write_pieces(iovec* pieces, int count) {
        while (count > 0) {
            const ssize_t put = writev(fd_.get(), pieces, count);
            if (put < 0 && errno == EINTR) {
                continue;
            }
            if (put < 0) {
                return false;
            }
            auto left = static_cast<std::size_t>(put);
            while (count > 0 && left >= pieces->iov_len) {
                left -= pieces->iov_len;
                ++pieces;
                --count;
            }
            if (count > 0) {
                pieces->iov_base = static_cast<char*>(pieces->iov_base) + left;
                pieces->iov_len -= left;
            }
        }
        return true;
    }

    /// Reads rather than copy_file_range(2): the lines are counted on the way, for the name.
    bool copy_body() {
        std::string buffer(kCopyBuffer, '\0');
        for (std::uint64_t at = 0; at < message_.body_length();) {
            const Result<std::size_t> got = message_.read_body(at, buffer.data(), buffer.size());
            if (!got) {
                errno = EIO;
                return false;
            }
            lines_ += count_lines(std::string_view(buffer.data(), *got), last_);
            iovec piece{buffer.data(), *got};
            if (!write_pieces(&piece, 1)) {
                return false;
            }
            at += *got;
        }
        return true;
    }

    /// Moves the complete file to new/ and makes both durable.  The one fsync(2) comes after the rename: it forces
    /// the file's content and, as the rename is a change of the same inode, its name.
    Outcome publish(const std::string& name, std::uint64_t size) {
        const std::string final_name = directory_ + "/new/" + name;
        if (message_.may_be_repeated() && is_in_cur(name, size)) {
            unlink(temporary_.c_str());
            return done();
        }
        if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, final_name.c_str(), RENAME_NOREPLACE) != 0) {
            // An earlier attempt got as far as this; its content need not have reached the disk.
            const bool again = errno == EEXIST || errno == EINVAL || errno == ENOSYS;
            if (!again || rename(temporary_.c_str(), final_name.c_str()) != 0) {
                const int error = errno;
                unlink(temporary_.c_str());
                return failure(error, "rename maildir file to " + final_name);
            }
        }
        if (fsync(fd_.get()) != 0) {
            const int error = errno;
            unlink(final_name.c_str());
            return failure(error, "sync maildir file " + final_name);
        }
        return done();
    }

    /// Mail readers move files from new/ to cur/ and add flags behind a colon.
    bool is_in_cur(const std::string& name, std::uint64_t size) const {
        DIR* const directory = opendir((directory_ + "/cur").c_str());
        if (!directory) {
            return false;
        }
        bool found = false;
        while (const dirent* entry = readdir(directory)) {
            if (strncmp(entry->d_name, name.c_str(), name.size()) == 0) {
                const char next = entry->d_name[name.size()];
                found = found || ((next == ':' || next == '\0') && is_whole(dirfd(directory), entry->d_name, size));
            }
        }
        closedir(directory);
        return found;
    }

    /// A power failure may have left an earlier attempt's file with its name and even its size, and zeros for content.  Or
    /// that attempt was killed before its fsync(2).
    bool is_whole(int directory, const char* name, std::uint64_t size) const {
        const UniqueFd file(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
        struct stat info {};
        return file && fstat(file.get(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) == size &&
               same_content(fd_.get(), file.get(), size) && fsync(file.get()) == 0;
    }

    const Message& message_;
    std::string directory_;
    const std::string& prefix_;
    const MailboxRules& rules_;
    std::string unique_;
    std::string temporary_;
    UniqueFd fd_;
    std::uint64_t lines_ = 0;   ///< bytes that the message has more with CRLF line ends
    char last_ = '\n';
};

}  // namespace

Outcome deliver_maildir(const Message& message, const queue::Recipient& recipient, const std::string& directory,
                        const std::string& prefix, const MailboxRules& rules) {
    return MaildirDelivery(message, directory, prefix, rules).run(recipient);
}

}  // namespace postern::local
