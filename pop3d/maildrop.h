/// The INBOX as one POP3 session sees it: messages numbered once and for all, marks that take effect at QUIT
/// (RFC 1939 sections 4 to 6).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/store/store.h"
#include "pop3d/uidl_format.h"

namespace postern::pop3d {

/// One message.  Its number is its place in the list, from 1.
struct Entry {
    store::Uid uid = 0;
    bool deleted = false;            ///< DELE in this session
    bool retrieved = false;          ///< RETR in this session: gets \Seen at the end
    std::uint64_t size = 0;          ///< octets with CRLF line ends
};

/// Sizes that an earlier session of this process has learnt.  A message's size never changes.
struct KnownSizes {
    std::uint32_t uidvalidity = 0;
    std::vector<std::pair<store::Uid, std::uint64_t>> sizes;   ///< sorted by UID
};

/// All calls block on the disk; the slow ones (open, update) belong into offload().
class Maildrop {
public:
    /// Opens the INBOX of `account`, locks it with pop3_lock_session, and learns all sizes.
    /// `known`, which may be null, saves asking the store.
    /// Errors: exists (another session has the lock: [IN-USE]), config (pop3_uidl_format), and the store's.
    static Result<std::unique_ptr<Maildrop>> open(std::shared_ptr<store::Account> account, const Config& config,
                                                  const KnownSizes* known = nullptr);
    ~Maildrop();

    std::uint32_t count() const { return static_cast<std::uint32_t>(entries_.size()); }
    Entry& entry(std::uint32_t number) { return entries_[number - 1]; }
    const std::vector<Entry>& entries() const { return entries_; }
    /// Of messages without a deletion mark.
    std::uint32_t remaining() const;
    std::uint64_t remaining_octets() const;
    std::uint64_t octets() const { return octets_; }
    void undelete_all();
    KnownSizes sizes() const;
    /// The highest number whose message had \Seen at the start; only looked for with pop3_enable_last.
    std::uint32_t last_seen() const { return last_seen_; }

    /// Errors: not_found when another program has removed the message.
    Result<store::Message> message(std::uint32_t number);
    /// Appends the unique id.  Errors: as message().
    Result<void> append_uidl(std::uint32_t number, std::string& out);
    /// Makes the ids of all messages ready, which pop3_uidl_duplicates = rename needs.
    Result<void> prepare_uidls();
    /// Lets go of what the store holds while the session waits for its client.
    void pause();

    /// QUIT: what was retrieved gets \Seen, and what was marked is removed.  Errors: the store's.
    Result<void> update();
    /// The session ended without QUIT: \Seen only (RFC 1939 section 6: nothing is removed).
    Result<void> keep_flags();

private:
    Maildrop(const Config& config, std::shared_ptr<store::Account> account, std::unique_ptr<store::Mailbox> mailbox,
             UidlFormat format);
    Result<void> read_entries(const KnownSizes* known);
    Result<std::uint64_t> size_of(store::Uid uid, const KnownSizes* known, std::size_t& at);
    bool hidden(const store::Row& row) const;
    store::Reader& reader();
    Result<std::string> header_md5(std::uint32_t number);
    Result<void> make_uidl(std::uint32_t number, std::string& out);
    Result<void> flag(bool removed);

    const Config& config_;
    std::shared_ptr<store::Account> account_;      ///< other owners: the process, its other sessions
    std::unique_ptr<store::Mailbox> mailbox_;
    std::unique_ptr<store::Reader> reader_;        ///< before mailbox_ goes
    UidlFormat uidl_format_;
    std::vector<Entry> entries_;
    std::vector<std::string> uidls_;               ///< only for pop3_uidl_duplicates = rename
    std::uint64_t octets_ = 0;
    std::uint32_t last_seen_ = 0;
    bool rename_duplicates_ = false;
};

}  // namespace postern::pop3d
