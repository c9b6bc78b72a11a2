/// Maildir below the index: scanning, names, links.  See backend.h for what each call promises.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/unique_fd.h"
#include "lib/store/backend.h"

namespace postern::store {

/// The names in a directory.  They stay where the kernel wrote them.
class DirListing {
public:
    struct File {
        std::string_view base, suffix;
        bool in_new = false;
    };
    /// Adds all files of `path` (hidden ones and directories left out).  Errors: not_found, denied, io.
    Result<void> read(const std::string& path, bool is_new);
    const std::vector<File>& files() const { return files_; }

private:
    std::vector<std::unique_ptr<char[]>> buffers_;
    std::vector<File> files_;
};

/// Modification time in nanoseconds; -1 when there is no such directory.
std::int64_t modified(const std::string& path);
std::int64_t now_nanoseconds();

class MaildirBackend : public Backend {
public:
    explicit MaildirBackend(bool hard_links) : hard_links_(hard_links) {}
    Result<bool> needs_scan(const Folder& folder, const DirState& state, const MailboxRecord& record,
                            Access access) override;
    Result<void> scan(const Placed& mailbox, Access access) override;
    Result<Message> open(const Folder& folder, const Entry& entry, const StoredName& name) override;
    Result<Summary> stat(const Folder& folder, const Entry& entry, const StoredName& name) override;
    Result<std::unique_ptr<Appender>> append(const Folder& folder) override;
    Result<Appended> commit(const Placed& mailbox, std::span<const std::unique_ptr<Appender>> messages,
                            std::vector<std::pair<std::string, std::string>>& cached) override;
    Result<void> set_flags(const Placed& mailbox, std::span<const FlagEdit> edits, UidSet& missing) override;
    Result<void> expunge(const Placed& mailbox, const UidSet& uids, UidSet& missing) override;
    Result<Copied> copy(const Placed& from, const Placed& to, const UidSet& uids, bool move,
                        UidSet& missing) override;
    void committed(const Folder& folder, MailboxEditor& editor) override;
    std::vector<std::string> watched(const Folder& folder) const override;

private:
    bool hard_links_;
};

/// Path of a message below its Maildir: "cur/NAME" or "new/NAME".
std::string message_file(const Entry& entry, const StoredName& name);

/// Whether listing cur/ would bring nothing new.
bool cur_is_unchanged(const Folder& folder, const DirState& state, const MailboxRecord& record);

/// Notes that a change of cur/ was our own, so that it alone is no reason to scan.  Made before the
/// first change; finish() after the last.
class OwnChange {
public:
    OwnChange(const Folder& folder, DirState& state);
    void finish(const MailboxRecord& record);

private:
    const Folder& folder_;
    DirState& state_;
    bool was_known_;                ///< nothing unseen had happened before
};

/// dovecot-keywords: `index name` lines; reads what changed into the record, and writes the first 26 names.
void read_keywords_file(const Folder& folder, MailboxEditor& editor, DirState& state);
void write_keywords_file(const Folder& folder, MailboxEditor& editor, DirState& state);

}  // namespace postern::store
