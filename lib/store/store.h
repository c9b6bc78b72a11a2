/// The mail store as imapd and pop3d see it: an account of mailboxes, each with a stable list of messages.
///
///     Account -> select() -> Mailbox (one client's snapshot) -> reader() -> rows, summaries, message text
///
/// What is promised:
///  * Maildir (or mbox) is the truth for messages and flags.  Other programs may add, rename and remove files
///    at any time; sync() notices.  UIDs, UIDVALIDITY and mod-sequences live in the index (maildir_index(5))
///    and are on stable storage before a call that reveals them returns.
///  * A Mailbox is a snapshot: sequence numbers change only in sync(), never behind the caller's back, so
///    several Mailbox objects of one mailbox (in one process or many) are independent of each other.
///  * Everything read from disk is checked; a damaged or lost index is rebuilt.
///
/// Threads: calls on one Account and on its Mailboxes may come from any thread (so that offload() can run the
/// slow ones: select, sync, store, expunge, copy, move, commit); the account serialises them with a mutex.  One
/// Mailbox, Reader or Appender is used by one thread at a time.  Appender::write() and finish() take no lock.
/// fork(): an Account belongs to the process that opened it; a child must open its own.
///
/// Names of mailboxes are UTF-8 (NFC is the caller's business) with separator() between levels; "INBOX" in any
/// case is the inbox.  Text that comes out in "wire form" is ready to be sent in an IMAP response.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"
#include "lib/store/mbox_lock.h"
#include "lib/store/uid_set.h"

namespace postern::store {

using Modseq = std::uint64_t;       ///< RFC 7162: 1 .. 2^63-1

/// System flags (RFC 9051 section 2.3.2), or-ed together.
enum Flag : std::uint32_t {
    kSeen = 1, kAnswered = 2, kFlagged = 4, kDeleted = 8, kDraft = 16,
    kRecent = 32,                   ///< only in what is read; never stored
};
constexpr std::uint32_t kStorableFlags = 31;
constexpr std::size_t kMaxKeywords = 64;          ///< per mailbox; the first 26 are also in Maildir file names

struct SpecialUse {
    std::string mailbox;            ///< such as "Sent"
    std::string use;                ///< such as "\\Sent" (RFC 6154)
};

/// A mailbox that is made when an account is opened without it.
struct AutoMailbox {
    std::string name;
    bool subscribe = false;        ///< and subscribed to, then
};

struct AccountOptions {
    /// Dovecot's mail_location: "maildir:~/Maildir", "maildir:/x/%u:LAYOUT=fs:INDEX=/y/%u",
    /// "mbox:~/mail:INBOX=/var/mail/%u".  %u %n %d %h %% and ~/ are expanded.
    std::string location;
    std::string user;               ///< for %u, %n, %d and logs
    std::string home;               ///< for %h and ~
    char separator = 0;             ///< 0: the layout's own ('.' for Maildir++, '/' for LAYOUT=fs and mbox)
    std::vector<SpecialUse> special_use = {{"Drafts", "\\Drafts"}, {"Junk", "\\Junk"}, {"Trash", "\\Trash"},
                                           {"Sent", "\\Sent"}, {"Sent Messages", "\\Sent"}, {"Archive", "\\Archive"}};
    bool create = true;             ///< make the INBOX when it is not there yet
    MboxLocking mbox_locking{};
    std::vector<AutoMailbox> auto_mailboxes{};
    std::string debug_as{};            ///< logs what is done to mailboxes, in lines that begin so; empty: does not
    bool copy_with_hardlinks = true;   ///< of a Maildir: copies share the message's file where they can
};

struct MailboxInfo {
    std::string name;
    bool exists = true;             ///< false: only a parent of others, or only subscribed (\NonExistent)
    bool has_children = false;
    bool subscribed = false;
    bool subscribed_descendant = false;   ///< for LIST RECURSIVEMATCH and LSUB "%"
    std::string special_use;        ///< "\\Sent", several separated by blanks, or empty
};

struct Status {
    std::uint32_t messages = 0;
    std::uint32_t recent = 0;
    std::uint32_t unseen = 0;
    std::uint32_t uidvalidity = 0;
    Uid uidnext = 1;
    Modseq highest_modseq = 1;
};

enum class Access : unsigned char { read_write, read_only };

class Account;
class Mailbox;
class Reader;
class Backend;                      // lib/store/backend.h
struct Shared;                      // the account's state, kept alive by everything made from it

/// One message being added.  write() pieces, finish(), then Account::commit_appends().  Destroyed before the
/// commit: nothing remains.
class Appender {
public:
    virtual ~Appender() = default;
    /// Takes the message with CRLF or LF line ends, cut anywhere; CRLF is stored as LF, all else byte-exact.
    /// Errors: no_space, io.
    virtual Result<void> write(std::string_view bytes) = 0;
    /// Makes the bytes durable (fsync) and parses them for the cache.  Takes no lock: made for offload().
    /// Set internal_date before.  Errors: no_space, io.
    virtual Result<void> finish() = 0;
    /// commit_appends() is done: the message stays when this object goes.
    virtual void keep() = 0;

    std::uint32_t flags = 0;                      ///< of Flag
    std::vector<std::string> keywords;
    std::optional<std::int64_t> internal_date;    ///< seconds since 1970; now when absent
};

/// For APPENDUID and COPYUID (RFC 4315): the n-th source UID became the n-th new UID.
struct Assigned {
    std::uint32_t uidvalidity = 0;
    std::vector<Uid> source;        ///< empty for appends
    std::vector<Uid> uids;
};

/// One user's mail.
class Account {
public:
    /// Errors: config (location cannot be understood), denied, no_space, io.
    static Result<std::unique_ptr<Account>> open(AccountOptions options);
    ~Account();

    char separator() const;
    /// False when the files of the account were replaced or removed by others: only a new Account can use what is there
    /// now.
    bool is_current() const;

    /// All mailboxes, parents that do not exist themselves, and subscribed names; sorted by name, INBOX first.
    Result<std::vector<MailboxInfo>> list();
    bool exists(std::string_view name);
    /// Parents need not exist.  `special_use` (RFC 6154) is as in MailboxInfo; kept beside what AccountOptions gives to
    /// names.  Errors: exists, syntax (name not allowed here), denied, no_space.
    Result<void> create(std::string_view name, const std::string& special_use = {});
    /// Children stay (RFC 9051 section 6.3.5).  Errors: not_found, denied (INBOX).
    Result<void> remove(std::string_view name);
    /// With its children; INBOX: its messages move and INBOX stays, empty (RFC 9051 section 6.3.6).
    /// Errors: not_found, exists, syntax.
    Result<void> rename(std::string_view from, std::string_view to);
    /// Name need not exist when unsubscribing.  Kept in Dovecot's `subscriptions`.
    Result<void> subscribe(std::string_view name, bool on);

    /// From the index, after a look whether the directory changed.  Errors: not_found, denied, no_space, io.
    Result<Status> status(std::string_view name);
    /// STATUS SIZE (RFC 8438): sum of RFC822.SIZE.  Cheap once sizes are known.
    Result<std::uint64_t> total_size(std::string_view name);

    /// Read-write claims \Recent messages.  Errors: not_found, denied, no_space, io.
    Result<std::unique_ptr<Mailbox>> select(std::string_view name, Access access);

    /// Errors: not_found (APPEND answers TRYCREATE), denied, no_space, io.
    Result<std::unique_ptr<Appender>> append(std::string_view mailbox);
    /// All of them or none (RFC 3502); all were made by append() for this mailbox and finished.  Durable when it returns.
    Result<Assigned> commit_appends(std::string_view mailbox, std::span<const std::unique_ptr<Appender>> messages);

    Account(const Account&) = delete;
    Account& operator=(const Account&) = delete;

private:
    explicit Account(std::shared_ptr<Shared> shared);
    std::shared_ptr<Shared> shared_;    ///< other owners: this account's Mailboxes, Readers, Watches
};

/// What the index knows of one message.
struct Row {
    std::uint32_t seq = 0;
    Uid uid = 0;
    std::uint32_t flags = 0;        ///< of Flag, with kRecent as this snapshot sees it
    std::uint64_t keywords = 0;     ///< bit n: Mailbox::keywords()[n]
    Modseq modseq = 0;
};

/// What sync() found.  Send expunged, then exists/recent, then flags.
struct Changes {
    std::vector<std::uint32_t> expunged;          ///< sequence numbers in sending order (highest first)
    UidSet vanished;                              ///< the same messages by UID
    std::optional<std::uint32_t> exists;          ///< set when messages arrived
    std::optional<std::uint32_t> recent;          ///< set when it changed
    struct FlagUpdate {
        Row row;                                  ///< numbered as after all of `expunged`
        bool silent = false;                      ///< only this Mailbox's own store(silent): FLAGS need not be sent
    };
    std::vector<FlagUpdate> flags;                ///< not for messages that just arrived
    bool keywords_changed = false;                ///< FLAGS and PERMANENTFLAGS should be sent again first
    bool expunges_pending = false;                ///< some were held back as the caller wished
    Modseq highest_modseq = 0;
};

enum class Expunges : unsigned char { hold, show };
enum class Arrivals : unsigned char { hold, show };   ///< held: new messages stay outside the snapshot until a sync() that shows them

struct FlagChange {
    enum class How : unsigned char { replace, add, remove };
    How how = How::replace;
    std::uint32_t flags = 0;
    std::vector<std::string> keywords;
    std::optional<Modseq> unchanged_since;        ///< RFC 7162 section 3.1.3
    bool silent = false;
};

struct StoreResult {
    UidSet modified;                ///< failed unchanged_since
    UidSet gone;                    ///< expunged meanwhile
    Modseq modseq = 0;              ///< of the changed messages; 0 when nothing changed
};

/// A file descriptor to wait on for changes (inotify); see Mailbox::watch().
class Watch {
public:
    virtual ~Watch() = default;
    /// Readable when something may have changed: drain(), then Mailbox::sync().
    virtual int fd() const = 0;
    virtual void drain() = 0;
};

/// A message's text: LF line ends (CRLF where the file has them), from the beginning of `fd` to `size`.
struct Message {
    UniqueFd fd;
    std::uint64_t size = 0;
};

/// One client's snapshot of one mailbox.
class Mailbox {
public:
    Mailbox(std::shared_ptr<Shared> shared, std::unique_ptr<struct ViewState> state);
    ~Mailbox();

    const std::string& name() const;
    bool read_only() const;
    std::uint32_t uidvalidity() const;
    Uid uidnext() const;                          ///< as of the last sync
    Modseq highest_modseq() const;                ///< as of the last sync
    std::uint32_t exists() const;
    std::uint32_t recent() const;
    /// Names of keywords; positions never change while the mailbox exists.
    const std::vector<std::string>& keywords() const;
    /// Whether a keyword that is not in keywords() can still be made (PERMANENTFLAGS \*).
    bool can_add_keywords() const;
    /// 32 hex digits, the same for the life of the mailbox, renames included (RFC 8474 MAILBOXID).
    std::string mailbox_id() const;

    /// 0 when there is none; numbers are those of the snapshot.
    Uid uid_of(std::uint32_t seq) const;
    std::uint32_t seq_of(Uid uid) const;
    /// The snapshot's UIDs.
    const UidSet& uids() const;
    /// The lowest seq whose UID is >= uid; exists()+1 when there is none.
    std::uint32_t lower_seq(Uid uid) const;
    /// First message without \Seen, 0 when all have it (RFC 3501 OK [UNSEEN n]).
    Result<std::uint32_t> first_unseen();

    /// Looks for changes by others and by this Mailbox, and brings the snapshot up to date.
    /// hold: EXPUNGE may not be sent now (RFC 9051 section 7.5.1); such messages stay numbered.
    /// Errors: io, denied, no_space; corrupt when UIDVALIDITY changed: say BYE or close the mailbox.
    Result<Changes> sync(Expunges expunges, Arrivals arrivals = Arrivals::show);

    /// For FETCH and SEARCH.  Make one per command (or per few thousand messages), not per message; do not
    /// keep it while waiting for a client for long: it pins old index pages.  It must not outlive the Mailbox.
    std::unique_ptr<Reader> reader();

    /// UIDs outside the snapshot are ignored.  Renames Maildir files, then commits once.  The next sync()
    /// reports the changes.  Errors: denied (read-only), no_space, io, too_big (more than kMaxKeywords).
    Result<StoreResult> store(const UidSet& uids, const FlagChange& change);

    /// Removes these messages for good (the caller has chosen those with \Deleted).  The next sync() reports them.
    Result<void> expunge(const UidSet& uids);
    /// Those of `among` (all of the snapshot when absent) that have \Deleted now.
    Result<UidSet> deleted(const UidSet* among = nullptr);

    /// By hard link where possible, with flags, keywords, date and cached data.  All or nothing.
    /// Errors: not_found (TRYCREATE), exists never, no_space, io; `gone` messages are skipped.
    Result<Assigned> copy_to(const UidSet& uids, std::string_view mailbox);
    /// RFC 6851.  Never leaves a message in neither place.
    Result<Assigned> move_to(const UidSet& uids, std::string_view mailbox);

    /// UIDs expunged after `since` (RFC 7162 section 3.2.5.2 VANISHED (EARLIER)); may contain more than was
    /// strictly expunged since then, never a UID that exists.
    Result<UidSet> vanished_since(Modseq since);
    /// UIDs of the snapshot with a modseq above `since`.
    Result<UidSet> changed_since(Modseq since);

    /// For IDLE and NOTIFY.  Errors: temporary when the kernel has no inotify instance left: poll with sync()
    /// every 30 seconds then.
    Result<std::unique_ptr<Watch>> watch();

    /// POP3's exclusive lock (RFC 1939 section 4), held until the Mailbox goes; IMAP does not ask for it.
    /// Errors: temporary (another POP3 session has it: "-ERR [IN-USE]").
    Result<void> lock_exclusively();

    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;

private:
    friend class Reader;
    std::shared_ptr<Shared> shared_;    ///< see Account
    std::unique_ptr<struct ViewState> state_;
};

/// What is computed once per message and then kept.  The views live until the next call on the Reader.
struct Summary {
    std::uint64_t size = 0;                       ///< RFC822.SIZE: with CRLF line ends
    std::int64_t internal_date = 0;               ///< seconds since 1970
    std::string_view envelope;                    ///< ENVELOPE in wire form, "(...)"
    std::string_view body;                        ///< BODY in wire form
    std::string_view bodystructure;               ///< BODYSTRUCTURE in wire form
    std::uint64_t header_size = 0;                ///< RFC822.HEADER: octets with CRLF, blank line included
};

/// What a Summary must have; the rest may be there or not.
enum class Need : unsigned char {
    size_and_date,                  ///< file name and stat() are enough
    all,                            ///< reads and parses the message the first time ever
};

/// Reads many messages of one Mailbox with one view of the index.  not_found from any call: the message was
/// expunged by another session ("NO [EXPUNGEISSUED]" or just left out).
class Reader {
public:
    explicit Reader(Mailbox& mailbox);
    ~Reader();                                    ///< also stores what was newly parsed

    Result<Row> row(Uid uid);
    Result<Summary> summary(Uid uid, Need need);
    /// Raw header fields with CRLF, in message order, no blank line at the end.  `names` in lower case, without
    /// colon.  The usual ones (see kCachedHeaders in header_cache.h) come from the cache.
    Result<std::string_view> header_fields(Uid uid, std::span<const std::string> names);
    Result<Message> message(Uid uid);
    /// The header as it is stored, with its empty line if it has one; no more of the file is read than that.
    /// Errors: too_big (64 MiB).
    Result<std::string> header(Uid uid);
    /// The whole text with CRLF line ends.  Errors: too_big.
    Result<std::string> text(Uid uid, std::uint64_t limit_bytes);
    /// A name for the message that never changes (POP3 UIDL %f and %g, RFC 8474 EMAILID).
    Result<std::string> guid(Uid uid);

    /// Lets go of old index pages before a long wait; the next call starts anew.  Views become invalid.
    void pause();

    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace postern::store
