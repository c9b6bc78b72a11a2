/// A scratch account for tests of lib/store, and the messages to put into it.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "lib/store/layout.h"
#include "lib/store/store.h"

namespace postern::store {

/// A directory that goes with the object.
class Scratch {
public:
    Scratch() {
        // Memory where possible: these tests sync thousands of times.
        const char* const chosen = std::getenv("TMPDIR");
        const std::string base = chosen != nullptr ? chosen : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        std::string name = base + "/postern-store-XXXXXX";
        path_ = mkdtemp(name.data());
    }
    ~Scratch() { remove_tree(path_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    const std::string& path() const { return path_; }
    std::string maildir() const { return path_ + "/Maildir"; }

    std::unique_ptr<Account> open(const std::string& location = "") const {
        AccountOptions options;
        options.location = location.empty() ? "maildir:" + maildir() : location;
        options.user = "user@example.org";
        options.home = path_;
        Result<std::unique_ptr<Account>> account = Account::open(std::move(options));
        if (!account) {
            FAIL(account.error().what);
        }
        return std::move(*account);
    }

private:
    std::string path_;
};

inline void write_file(const std::string& path, const std::string& text) {
    std::FILE* const file = std::fopen(path.c_str(), "w");
    REQUIRE(file != nullptr);
    REQUIRE(std::fwrite(text.data(), 1, text.size(), file) == text.size());
    std::fclose(file);
}

inline std::string read_file(const std::string& path) {
    std::string text;
    if (std::FILE* const file = std::fopen(path.c_str(), "r")) {
        char buffer[4096];
        for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) {
            text.append(buffer, n);
        }
        std::fclose(file);
    }
    return text;
}

inline std::vector<std::string> files_in(const std::string& path) {
    std::set<std::string> names;
    if (DIR* const directory = opendir(path.c_str())) {
        while (const dirent* entry = readdir(directory)) {
            if (entry->d_name[0] != '.') {
                names.insert(entry->d_name);
            }
        }
        closedir(directory);
    }
    return {names.begin(), names.end()};
}

inline std::string sample(int n) {
    return "From: a" + std::to_string(n) + "@example.org\nTo: b@example.org\nSubject: number " + std::to_string(n) +
           "\nDate: Thu, 13 Feb 1969 23:32:54 -0330\nMessage-ID: <" + std::to_string(n) +
           "@example.org>\n\nbody of " + std::to_string(n) + "\n";
}

inline Assigned append(Account& account, const std::string& mailbox, const std::string& text, std::uint32_t flags = 0,
                       std::vector<std::string> keywords = {}) {
    Result<std::unique_ptr<Appender>> appender = account.append(mailbox);
    REQUIRE(appender);
    (*appender)->flags = flags;
    (*appender)->keywords = std::move(keywords);
    REQUIRE((*appender)->write(text));
    REQUIRE((*appender)->finish());
    std::vector<std::unique_ptr<Appender>> all;
    all.push_back(std::move(*appender));
    Result<Assigned> assigned = account.commit_appends(mailbox, all);
    if (!assigned) {
        FAIL(assigned.error().what);
    }
    return *assigned;
}

inline std::unique_ptr<Mailbox> select(Account& account, const std::string& name = "INBOX",
                                       Access access = Access::read_write) {
    Result<std::unique_ptr<Mailbox>> mailbox = account.select(name, access);
    if (!mailbox) {
        FAIL(mailbox.error().what);
    }
    return std::move(*mailbox);
}

inline Changes sync(Mailbox& mailbox, Expunges expunges = Expunges::show) {
    Result<Changes> changes = mailbox.sync(expunges);
    if (!changes) {
        FAIL(changes.error().what);
    }
    return std::move(*changes);
}

inline Row row(Mailbox& mailbox, Uid uid) {
    const Result<Row> found = mailbox.reader()->row(uid);
    if (!found) {
        FAIL(found.error().what);
    }
    return *found;
}

inline void store_flags(Mailbox& mailbox, Uid uid, FlagChange::How how, std::uint32_t flags,
                        std::vector<std::string> keywords = {}) {
    FlagChange change;
    change.how = how;
    change.flags = flags;
    change.keywords = std::move(keywords);
    const Result<StoreResult> stored = mailbox.store(UidSet({uid, uid}), change);
    if (!stored) {
        FAIL(stored.error().what);
    }
}

/// Runs `work` in another process; it must open an account of its own.
inline int in_child(const std::function<void()>& work) {
    const pid_t child = fork();
    if (child == 0) {
        work();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

}  // namespace postern::store
