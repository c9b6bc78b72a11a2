#include "pop3d/maildrop.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "lib/base/strings.h"
#include "lib/mail/header.h"

namespace postern::pop3d {

namespace {

/// What is read of a message for %m; a header that is longer counts up to here.
constexpr std::size_t kMaxHashedHeader = 1024 * 1024;

struct FlagName {
    std::string_view name;
    std::uint32_t flag;
};
constexpr std::array<FlagName, 5> kSystemFlags = {{{"\\Seen", store::kSeen},
                                                   {"\\Answered", store::kAnswered},
                                                   {"\\Flagged", store::kFlagged},
                                                   {"\\Deleted", store::kDeleted},
                                                   {"\\Draft", store::kDraft}}};

/// The bit of a system flag; 0 for a keyword.
std::uint32_t system_flag(std::string_view name) {
    for (const FlagName& known : kSystemFlags) {
        if (equals_ignoring_case(known.name, name)) {
            return known.flag;
        }
    }
    return 0;
}

Result<std::string> read_start(const store::Message& message) {
    std::string text(static_cast<std::size_t>(std::min<std::uint64_t>(message.size, kMaxHashedHeader)), '\0');
    std::size_t have = 0;
    while (have < text.size()) {
        const ssize_t got = ::pread(message.fd.get(), text.data() + have, text.size() - have, static_cast<off_t>(have));
        if (got < 0) {
            return errno_error("read message");
        }
        if (got == 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    text.resize(have);
    return text;
}

}  // namespace

Maildrop::Maildrop(const Config& config, std::shared_ptr<store::Account> account, std::unique_ptr<store::Mailbox> mailbox,
                   UidlFormat format)
    : config_(config),
      account_(std::move(account)),
      mailbox_(std::move(mailbox)),
      uidl_format_(std::move(format)),
      rename_duplicates_(equals_ignoring_case(config.pop3_uidl_duplicates(), "rename")) {}

Maildrop::~Maildrop() { reader_.reset(); }

Result<std::unique_ptr<Maildrop>> Maildrop::open(std::shared_ptr<store::Account> account, const Config& config,
                                                 const KnownSizes* known) {
    Result<UidlFormat> format = UidlFormat::parse(config.pop3_uidl_format());
    if (!format) {
        return format.error();
    }
    Result<std::unique_ptr<store::Mailbox>> mailbox = account->select("INBOX", store::Access::read_write);
    if (!mailbox) {
        return mailbox.error();
    }
    if (config.pop3_lock_session()) {
        if (Result<void> locked = (*mailbox)->lock_exclusively(); !locked) {
            const bool taken = locked.error().code == Errc::temporary;
            return Error(taken ? Errc::exists : locked.error().code, locked.error().what);
        }
    }
    std::unique_ptr<Maildrop> drop(new Maildrop(config, std::move(account), std::move(*mailbox), std::move(*format)));
    if (Result<void> read = drop->read_entries(known); !read) {
        return read.error();
    }
    return drop;
}

/// `at` is where the search in `known` stands; UIDs are asked for in ascending order.
Result<std::uint64_t> Maildrop::size_of(store::Uid uid, const KnownSizes* known, std::size_t& at) {
    if (known != nullptr && known->uidvalidity == mailbox_->uidvalidity()) {
        while (at < known->sizes.size() && known->sizes[at].first < uid) {
            ++at;
        }
        if (at < known->sizes.size() && known->sizes[at].first == uid) {
            return known->sizes[at].second;
        }
    }
    const Result<store::Summary> summary = reader().summary(uid, store::Need::size_and_date);
    return summary ? Result<std::uint64_t>(summary->size) : Result<std::uint64_t>(summary.error());
}

Result<void> Maildrop::read_entries(const KnownSizes* known) {
    const bool look_at_flags = !config_.pop3_deleted_flag().empty() || config_.pop3_enable_last();
    std::size_t at = 0;
    entries_.reserve(mailbox_->exists());
    for (std::uint32_t seq = 1; seq <= mailbox_->exists(); ++seq) {
        const store::Uid uid = mailbox_->uid_of(seq);
        const Result<std::uint64_t> size = size_of(uid, known, at);
        if (!size && size.error().code == Errc::not_found) {
            continue;   // gone since the mailbox was opened
        }
        if (!size) {
            return size.error();
        }
        if (look_at_flags) {
            const Result<store::Row> row = reader().row(uid);
            if (!row && row.error().code != Errc::not_found) {
                return row.error();   // a list that leaves it out would be believed
            }
            if (!row || hidden(*row)) {
                continue;
            }
            last_seen_ = (row->flags & store::kSeen) != 0 ? count() + 1 : last_seen_;
        }
        Entry entry;
        entry.uid = uid;
        entry.size = *size;
        octets_ += entry.size;
        entries_.push_back(entry);
    }
    pause();
    return {};
}

KnownSizes Maildrop::sizes() const {
    KnownSizes known;
    known.uidvalidity = mailbox_->uidvalidity();
    known.sizes.reserve(entries_.size());
    for (const Entry& entry : entries_) {
        known.sizes.emplace_back(entry.uid, entry.size);
    }
    return known;
}

/// With pop3_deleted_flag a message that a POP3 client deleted stays for IMAP and is no more seen here.
bool Maildrop::hidden(const store::Row& row) const {
    const std::string& name = config_.pop3_deleted_flag();
    if (name.empty()) {
        return false;
    }
    if (const std::uint32_t flag = system_flag(name); flag != 0) {
        return (row.flags & flag) != 0;
    }
    const std::vector<std::string>& keywords = mailbox_->keywords();
    for (std::size_t i = 0; i < keywords.size(); ++i) {
        if (equals_ignoring_case(keywords[i], name)) {
            return (row.keywords >> i & 1) != 0;
        }
    }
    return false;
}

store::Reader& Maildrop::reader() {
    if (reader_ == nullptr) {
        reader_ = mailbox_->reader();
    }
    return *reader_;
}

void Maildrop::pause() {
    if (reader_ != nullptr) {
        reader_->pause();
    }
}

std::uint32_t Maildrop::remaining() const {
    return static_cast<std::uint32_t>(
        std::count_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return !entry.deleted; }));
}

std::uint64_t Maildrop::remaining_octets() const {
    std::uint64_t sum = 0;
    for (const Entry& entry : entries_) {
        sum += entry.deleted ? 0 : entry.size;
    }
    return sum;
}

void Maildrop::undelete_all() {
    for (Entry& entry : entries_) {
        entry.deleted = false;
    }
}

Result<store::Message> Maildrop::message(std::uint32_t number) { return reader().message(entry(number).uid); }

// --- unique ids -------------------------------------------------------------------------------------------

Result<std::string> Maildrop::header_md5(std::uint32_t number) {
    Result<store::Message> found = message(number);
    if (!found) {
        return found.error();
    }
    const Result<std::string> text = read_start(*found);
    if (!text) {
        return text.error();
    }
    return md5_hex(split_message(*text).header);
}

Result<void> Maildrop::make_uidl(std::uint32_t number, std::string& out) {
    const store::Uid uid = entry(number).uid;
    if (config_.pop3_reuse_xuidl()) {
        const std::array<std::string, 1> names = {"x-uidl"};
        const Result<std::string_view> field = reader().header_fields(uid, names);
        if (!field) {
            return field.error();
        }
        const std::string value = unfold(find_field(*field, "x-uidl").value);
        const bool good = !value.empty() && value.size() <= kMaxUidl &&
                          std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x21 && c <= 0x7E; });
        if (good) {
            out += value;
            return {};
        }
    }
    UidlValues values;
    values.uid = uid;
    values.uidvalidity = mailbox_->uidvalidity();
    std::string name;
    std::string md5;
    if (uidl_format_.needs_name()) {
        Result<std::string> guid = reader().guid(uid);
        if (!guid) {
            return guid.error();
        }
        name = std::move(*guid);
        values.name = name;
    }
    if (uidl_format_.needs_header()) {
        Result<std::string> digest = header_md5(number);
        if (!digest) {
            return digest.error();
        }
        md5 = std::move(*digest);
        values.header_md5 = md5;
    }
    return uidl_format_.append(out, values);
}

Result<void> Maildrop::prepare_uidls() {
    if (!rename_duplicates_ || !uidls_.empty()) {
        return {};
    }
    std::unordered_map<std::string, unsigned> used;
    std::vector<std::string> made;
    for (std::uint32_t number = 1; number <= count(); ++number) {
        std::string uidl;
        if (Result<void> result = make_uidl(number, uidl); !result && result.error().code != Errc::not_found) {
            return result;
        }
        if (const unsigned copies = used[uidl]++; copies > 0) {   // Dovecot: id, id-2, id-3
            const std::string suffix = fmt::format("-{}", copies + 1);
            uidl = uidl.substr(0, kMaxUidl - suffix.size()) + suffix;
        }
        made.push_back(std::move(uidl));
    }
    uidls_ = std::move(made);
    return {};
}

Result<void> Maildrop::append_uidl(std::uint32_t number, std::string& out) {
    if (!rename_duplicates_) {
        return make_uidl(number, out);
    }
    if (Result<void> prepared = prepare_uidls(); !prepared) {
        return prepared;
    }
    out += uidls_[number - 1];
    return {};
}

// --- the end ----------------------------------------------------------------------------------------------

/// Sets \Seen on what was retrieved, and pop3_deleted_flag on what was deleted when that is how deleting is done.
Result<void> Maildrop::flag(bool removed) {
    store::UidSet seen;
    store::UidSet deleted;
    for (const Entry& entry : entries_) {
        if (entry.retrieved && !(removed && entry.deleted)) {
            const Result<store::Row> row = reader().row(entry.uid);
            if (row && (row->flags & store::kSeen) == 0) {
                seen.add(entry.uid);
            }
        }
        if (removed && entry.deleted) {
            deleted.add(entry.uid);
        }
    }
    reader_.reset();
    if (!seen.empty() && !config_.pop3_no_flag_updates()) {
        store::FlagChange change;
        change.how = store::FlagChange::How::add;
        change.flags = store::kSeen;
        change.silent = true;
        if (Result<store::StoreResult> stored = mailbox_->store(seen, change); !stored) {
            return stored.error();
        }
    }
    if (deleted.empty()) {
        return {};
    }
    const std::string& name = config_.pop3_deleted_flag();
    if (name.empty() || equals_ignoring_case(config_.pop3_delete_type(), "expunge")) {
        return mailbox_->expunge(deleted);
    }
    store::FlagChange change;
    change.how = store::FlagChange::How::add;
    change.flags = system_flag(name);
    if (change.flags == 0) {
        change.keywords.push_back(name);
    }
    change.silent = true;
    Result<store::StoreResult> stored = mailbox_->store(deleted, change);
    return stored ? Result<void>() : Result<void>(stored.error());
}

Result<void> Maildrop::update() { return flag(true); }

Result<void> Maildrop::keep_flags() { return flag(false); }

}  // namespace postern::pop3d
