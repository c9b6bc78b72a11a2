/// mbox as a Backend.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/store/backend.h"
#include "lib/store/mbox_file.h"
#include "lib/store/mbox_lock.h"

namespace postern::store {

/// A file in memory as long as the object lives; the caller holds the lock that keeps it from being shortened.
class MboxMapping {
public:
    MboxMapping(int fd, std::size_t size) : size_(size) {
        if (size > 0) {
            map_ = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
        }
    }
    ~MboxMapping() {
        if (map_ != nullptr && map_ != MAP_FAILED) {
            munmap(map_, size_);
        }
    }
    MboxMapping(const MboxMapping&) = delete;
    MboxMapping& operator=(const MboxMapping&) = delete;
    bool ok() const { return map_ != MAP_FAILED; }
    std::string_view text() const { return map_ == nullptr ? std::string_view() : std::string_view(static_cast<char*>(map_), size_); }

private:
    void* map_ = nullptr;
    std::size_t size_;
};

class MboxTruncate;

class MboxBackend : public Backend {
public:
    explicit MboxBackend(MboxLocking locking) : locking_(std::move(locking)) {}
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
    /// What is known of a file, as long as it looks the same.
    struct Parsed {
        std::uint64_t inode = 0, size = 0;
        std::int64_t mtime = 0, checked = 0;
        MboxFile file;
        std::unordered_map<std::string, std::size_t> by_id;
    };
    struct NewMessage {
        std::string text;
        std::int64_t date = 0;
        Entry entry;
    };
    struct Edit {
        Uid uid = 0;
        std::uint32_t flags = 0;
        std::uint64_t keywords = 0;
        bool remove = false;
    };

    MboxLocking locking_;
    std::string journal_of(const Folder& folder) const;
    MboxLocking locking_of(const Folder& folder) const;
    Result<MboxLock> lock(const Folder& folder, MboxLock::Mode mode);
    /// Needs a lock on `fd`.  look_again: a change may hide behind an unchanged time and size.
    Result<const Parsed*> parsed(const Folder& folder, int fd, bool look_again);
    struct Located {
        const Parsed* file;
        const MboxMessage* message;
    };
    /// Needs a lock on `fd`.  Errors: as parsed(), not_found.
    Result<Located> locate(const Folder& folder, int fd, const StoredName& name);
    void note_state(int fd, const MailboxRecord& record, DirState& state);
    Result<void> adopt(const Folder& folder, const MboxFile& file, MailboxEditor& editor);
    Result<std::uint64_t> keyword_bits(MailboxEditor& editor, const std::vector<std::string>& keywords);
    Result<void> compare(MailboxEditor& editor, const std::vector<std::pair<Uid, const MboxMessage*>>& same,
                         const UidSet& gone);
    Result<void> add(MailboxEditor& editor, const MboxMessage& message, bool adopt_uid);
    Result<std::pair<std::string, std::int64_t>> read(const Folder& folder, const StoredName& name);
    static std::string formatted_all(const std::vector<NewMessage>& messages, const MailboxRecord& record, bool file_is_empty,
                                     std::size_t padding);
    Result<std::vector<Uid>> add_messages(const Placed& mailbox, std::vector<NewMessage> messages, MboxTruncate& undo);
    /// Texts and flags of `uids`, for another mailbox; `found` are those that were there.
    Result<std::vector<NewMessage>> read_messages(const Placed& from, const Placed& to, const UidSet& uids, UidSet& found,
                                                  UidSet& missing);
    Result<void> rewrite(const Placed& mailbox, const std::vector<Edit>& edits, UidSet& missing);

    Result<void> renumber_copies(MailboxEditor& editor, const std::vector<std::string>& before, const MboxFile& now);

    class Rewriting;
    std::recursive_mutex mutex_;    ///< Readers come here without the account's mutex
    std::map<std::string, Parsed> files_;
};

}  // namespace postern::store
