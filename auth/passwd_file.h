/// Dovecot's passwd-file: password and user database in one text file.
///
///     user:password:uid:gid:gecos:home:shell:extra fields
///
/// Fields after the password may be missing.  Extra fields are words separated by spaces, `name=value` or
/// `name`; those that begin with `userdb_` belong to the user database, the others (`nologin`,
/// `allow_nets`, `nodelay`, `nopassword`, `user`) to the password check.  A colon is an ordinary character
/// in the extra fields.  Empty lines and lines that begin with `#` are skipped.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/base/result.h"

namespace postern {

constexpr std::size_t kMaxPasswdFile = 256u << 20;
constexpr std::size_t kMaxPasswdLine = 8192;
constexpr std::size_t kMaxExtraFields = 64;

struct PasswdEntry {
    std::string user;
    std::string password;                    ///< with its {SCHEME}; empty: may not log in by password
    std::optional<std::uint32_t> uid, gid;   ///< also from userdb_uid, userdb_gid
    std::string uid_name, gid_name;          ///< instead of a number: a user and a group of the system
    std::string home;                        ///< also from userdb_home
    std::string mail;                        ///< userdb_mail: overrides mail_location
    std::vector<std::pair<std::string, std::string>> extra;   ///< the rest, `userdb_` kept
    /// A field without "=value" has the value "yes".
    const std::string* find_extra(std::string_view name) const;
};

/// One line without its newline.  nothing for a comment or an empty line.
/// Errors: syntax (empty user, control characters, numbers out of range), too_big.
Result<std::optional<PasswdEntry>> parse_passwd_line(std::string_view line);

struct PasswdTable {
    std::unordered_map<std::string, PasswdEntry> users;
    std::vector<std::string> problems;       ///< "line 3: ..."; at most 100 are kept
};

/// A line that is wrong is left out and noted; the first of two lines for one user counts.
PasswdTable parse_passwd_file(std::string_view text);

/// A passwd-file that follows the file on disk.  Safe to use from several threads.
class PasswdFile {
public:
    explicit PasswdFile(std::string path) : path_(std::move(path)) {}

    /// Errors: the file's (not_found, denied, io), too_big: then nobody is known, and the caller should
    /// answer with a temporary failure rather than "unknown user".
    Result<std::optional<PasswdEntry>> lookup(const std::string& user);

    /// Reads the file again if it changed (mtime, inode or size; looked at once a second at most).
    Result<void> refresh();
    /// Changes with every reading: whatever was remembered about an older one is void.
    std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
    /// What was wrong at the last reading; handed out once.
    std::vector<std::string> take_problems();
    /// Whether the file could ever be read: one that was there and is gone is another matter than one never made.
    bool was_read() const { return was_read_.load(std::memory_order_acquire); }
    const std::string& path() const { return path_; }

private:
    struct Stamp {
        std::int64_t seconds = 0, nanoseconds = 0, size = -1;
        std::uint64_t inode = 0, device = 0;
        bool operator==(const Stamp&) const = default;
    };
    Result<void> refresh_locked();
    Result<void> read_locked(int fd, std::size_t size);

    std::string path_;
    std::mutex mutex_;
    std::shared_ptr<const PasswdTable> table_;   ///< shared with lookups under way in other threads
    Stamp stamp_;
    std::chrono::steady_clock::time_point looked_{};
    std::optional<Error> error_;
    std::vector<std::string> problems_;
    std::atomic<std::uint64_t> generation_{0};
    std::atomic<bool> was_read_{false};
};

}  // namespace postern
