/// Reading many messages: index blocks and cache entries in order, files only for what was never computed.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <tuple>

#include "lib/mail/header.h"
#include "lib/mail/mime.h"
#include "lib/store/header_cache.h"
#include "lib/store/shared.h"

namespace postern::store {
namespace {

constexpr std::size_t kFlushEntries = 512;
constexpr std::size_t kFlushBytes = 4u << 20;
constexpr std::uint64_t kMaxParsed = std::uint64_t{2} << 30;      ///< a message beyond it is not looked into
constexpr std::size_t kMaxHeader = 64u << 20;                     ///< a header beyond it is not read

/// Appends the next `size` bytes of the file, or what there still is.
Result<void> read_on(const Message& message, std::size_t size, std::string& out) {
    std::size_t have = out.size();
    out.resize(have + size);
    while (have < out.size()) {
        const ssize_t n = pread(message.fd.get(), out.data() + have, out.size() - have, static_cast<off_t>(have));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno_error("read message");
        }
        if (n == 0) {
            break;
        }
        have += static_cast<std::size_t>(n);
    }
    out.resize(have);
    return {};
}

Result<void> read_whole(const Message& message, std::uint64_t limit, std::string& out) {
    if (message.size > limit) {
        return Error(Errc::too_big, "message is too big to be read at once");
    }
    out.clear();
    return read_on(message, message.size, out);
}

/// Whether the empty line that ends a header is in `text`, of which the first `seen` bytes were looked at before.
bool header_ends(std::string_view text, std::size_t seen) {
    const std::size_t from = seen - std::min<std::size_t>(seen, 3);        // it may lie across the seam
    return text.find("\n\n", from) != std::string_view::npos || text.find("\n\r\n", from) != std::string_view::npos ||
           text.starts_with('\n') || text.starts_with("\r\n");
}

/// Reads as much of the file as its header needs, and leaves that header, with its empty line.
Result<void> read_header(const Message& message, std::string& out) {
    out.clear();
    for (std::size_t size = 8192; out.size() < message.size; size = std::min(size * 2, std::size_t{1} << 20)) {
        const std::size_t seen = out.size();
        if (seen > kMaxHeader) {
            return Error(Errc::too_big, "header is too big to be read");
        }
        if (Result<void> read = read_on(message, std::min<std::uint64_t>(size, message.size - seen), out); !read) {
            return read;
        }
        if (out.size() == seen || header_ends(out, seen)) {
            break;
        }
    }
    out.resize(out.size() - split_message(out).body.size());
    return {};
}

}  // namespace

struct Reader::Impl {
    Shared& shared;
    ViewState& view;
    std::optional<Txn> index;
    std::optional<Txn> cache;
    std::optional<Cursor> summaries, headers;     ///< in `cache`
    std::optional<std::uint32_t> block;           ///< which block `entries` is
    EntriesView entries;
    std::vector<CacheEntry> computed;             ///< not yet in the cache
    std::size_t computed_bytes = 0;
    CacheEntry last;                              ///< the message computed last
    std::string text;
    std::string fields;

    Impl(Shared& account, ViewState& mailbox) : shared(account), view(mailbox) {}

    Result<void> begin();
    void end();
    Result<Entry> entry(Uid uid);
    Result<StoredName> name(Uid uid);
    Result<std::optional<std::string_view>> cached(std::optional<Cursor>& cursor, Kind kind, Uid uid);
    template <class Use>
    auto with_file(Uid uid, Use&& use) -> decltype(use(Entry(), StoredName()));
    Result<void> compute(Uid uid);
    void flush();
    /// The next sync() or select() builds a damaged index anew.
    void note(const Error& error) {
        if (error.code == Errc::corrupt) {
            const std::lock_guard<std::mutex> lock(shared.mutex);
            note_damage(shared, view.folder, error);
        }
    }
};

Result<void> Reader::Impl::begin() {
    if (!index) {
        Result<Txn> txn = Txn::begin(*shared.index, false);
        if (!txn) {
            return txn.error();
        }
        index.emplace(std::move(*txn));
        block.reset();
    }
    if (!cache) {
        Result<Txn> txn = Txn::begin(shared.cache->env(), false);
        if (!txn) {
            return txn.error();
        }
        cache.emplace(std::move(*txn));
        summaries.emplace(*cache, kSummaryDb);
        headers.emplace(*cache, kHeadersDb);
    }
    return {};
}

void Reader::Impl::end() {
    summaries.reset();
    headers.reset();
    cache.reset();
    index.reset();
    block.reset();
}

Result<Entry> Reader::Impl::entry(Uid uid) {
    if (Result<void> begun = begin(); !begun) {
        return begun.error();
    }
    const std::uint32_t wanted = uid >> kBlockBits;
    if (block != wanted) {
        block.reset();
        const std::string key = key_of(view.record.id, wanted);
        Result<std::optional<std::string_view>> value = index->get(kEntriesDb, key);
        if (!value) {
            return value.error();
        }
        if (!*value) {
            return Error(Errc::not_found, "message is gone");
        }
        Result<std::string_view> payload = unseal(Kind::entries, key, **value);
        Result<EntriesView> parsed = payload ? EntriesView::parse(*payload, wanted) : payload.error();
        if (!parsed) {
            return parsed.error();
        }
        entries = *parsed;
        block = wanted;
    }
    const std::size_t at = entries.find(uid);
    return at < entries.size() ? Result<Entry>(entries.at(at)) : Result<Entry>(Errc::not_found, "message is gone");
}

Result<StoredName> Reader::Impl::name(Uid uid) {
    const std::string key = key_of(view.record.id, uid >> kBlockBits);
    Result<std::optional<std::string_view>> value = index->get(kNamesDb, key);
    if (!value) {
        return value.error();
    }
    Result<std::string_view> payload = unseal(Kind::names, key, value->value_or(std::string_view()));
    Result<NamesView> names = payload ? NamesView::parse(*payload) : payload.error();
    if (!names) {
        return names.error();
    }
    while (names->next()) {
        if (names->uid() == uid) {
            return StoredName{uid, std::string(names->base()), std::string(names->odd_suffix())};
        }
    }
    return Error(Errc::corrupt, "index: damaged names");
}

/// Finds the file by its name in the index; when it is not there, looks at the directory and tries once more.
template <class Use>
auto Reader::Impl::with_file(Uid uid, Use&& use) -> decltype(use(Entry(), StoredName())) {
    for (int attempt = 0;; ++attempt) {
        Result<Entry> found = entry(uid);
        if (!found) {
            note(found.error());
            return found.error();
        }
        Result<StoredName> stored = name(uid);
        if (!stored) {
            note(stored.error());
            return stored.error();
        }
        auto result = use(*found, *stored);
        if (result || result.error().code != Errc::not_found || attempt == 1) {
            return result;
        }
        end();
        const std::lock_guard<std::mutex> lock(shared.mutex);
        Refresh how;
        how.access = view.access;
        how.look_closely = true;
        if (Result<Refreshed> fresh = refresh(shared, view.folder, how); !fresh) {
            return fresh.error();
        }
    }
}

Result<std::optional<std::string_view>> Reader::Impl::cached(std::optional<Cursor>& cursor, Kind kind, Uid uid) {
    if (Result<void> begun = begin(); !begun) {
        return begun.error();
    }
    const std::string key = key_of(view.record.id, uid);
    // Messages are mostly read in order: the next entry is then the one.
    if (!cursor->at(key)) {
        Result<bool> next = cursor->next();
        if (!next || !*next || cursor->key() != key) {
            next = cursor->seek(key);
        }
        if (!next || !*next || cursor->key() != key) {
            return std::optional<std::string_view>();
        }
    }
    Result<std::string_view> payload = unseal(kind, key, cursor->value());
    return payload ? std::optional<std::string_view>(*payload) : std::optional<std::string_view>();
}

Result<void> Reader::Impl::compute(Uid uid) {
    if (last.uid == uid) {
        return {};
    }
    struct Nothing {};
    const auto done = with_file(uid, [&](const Entry& found, const StoredName& stored) -> Result<Nothing> {
        Result<Message> message = shared.backend->open(view.folder, found, stored);
        if (!message) {
            return message.error();
        }
        Result<Summary> status = shared.backend->stat(view.folder, found, stored);
        if (!status) {
            return status.error();
        }
        if (Result<void> read = read_whole(*message, kMaxParsed, text); !read) {
            return read.error();
        }
        std::tie(last.summary, last.headers) = summarise(text, status->internal_date);
        return Nothing{};
    });
    if (!done) {
        return done.error();
    }
    last.uid = uid;
    computed.push_back(last);
    computed_bytes += last.summary.size() + last.headers.size();
    if (computed.size() >= kFlushEntries || computed_bytes >= kFlushBytes) {
        flush();
    }
    return {};
}

void Reader::Impl::flush() {
    if (!computed.empty()) {
        const std::lock_guard<std::mutex> lock(shared.mutex);
        shared.cache->store(view.record.id, computed);
        computed.clear();
        computed_bytes = 0;
    }
}

Reader::Reader(Mailbox& mailbox) : impl_(std::make_unique<Impl>(*mailbox.shared_, *mailbox.state_)) {}
Reader::~Reader() { impl_->flush(); }

std::unique_ptr<Reader> Mailbox::reader() { return std::make_unique<Reader>(*this); }

void Reader::pause() { impl_->end(); }

Result<Row> Reader::row(Uid uid) {
    Result<Entry> entry = impl_->entry(uid);
    if (!entry) {
        impl_->note(entry.error());
        return entry.error();
    }
    const ViewState& view = impl_->view;
    Row row;
    row.seq = view.seq_of(uid);
    row.uid = uid;
    row.flags = (entry->flags & kStorableFlags) | (view.recent.contains(uid) ? kRecent : 0u);
    row.keywords = entry->keywords;
    row.modseq = entry->modseq;
    return row;
}

Result<Summary> Reader::summary(Uid uid, Need need) {
    Result<std::optional<std::string_view>> stored = impl_->cached(impl_->summaries, Kind::summary, uid);
    if (!stored) {
        return stored.error();
    }
    Result<CachedSummary> decoded = *stored ? decode_summary(**stored) : Result<CachedSummary>(Errc::not_found, "");
    if (!decoded && need == Need::size_and_date && impl_->last.uid != uid) {
        Result<Summary> status = impl_->with_file(uid, [&](const Entry& entry, const StoredName& name) {
            return impl_->shared.backend->stat(impl_->view.folder, entry, name);
        });
        if (!status || status->size > 0) {
            return status;
        }
    }
    if (!decoded) {
        if (Result<void> computed = impl_->compute(uid); !computed) {
            return computed.error();
        }
        decoded = decode_summary(impl_->last.summary);
        if (!decoded) {
            return decoded.error();
        }
    }
    Summary summary;
    summary.size = decoded->size;
    summary.internal_date = decoded->internal_date;
    summary.header_size = decoded->header_size;
    summary.envelope = decoded->envelope;
    summary.body = decoded->body;
    summary.bodystructure = decoded->bodystructure;
    return summary;
}

Result<std::string_view> Reader::header_fields(Uid uid, std::span<const std::string> names) {
    bool usual = true;
    for (const std::string& name : names) {
        usual = usual && is_cached_header(name);
    }
    if (usual) {
        Result<std::optional<std::string_view>> stored = impl_->cached(impl_->headers, Kind::headers, uid);
        if (!stored) {
            return stored.error();
        }
        impl_->fields.clear();
        if (*stored && pick_cached_fields(**stored, names, impl_->fields)) {
            return std::string_view(impl_->fields);
        }
        if (Result<void> computed = impl_->compute(uid); !computed) {
            return computed.error();
        }
        impl_->fields.clear();
        pick_cached_fields(impl_->last.headers, names, impl_->fields);
        return std::string_view(impl_->fields);
    }
    Result<std::string> text = header(uid);
    if (!text) {
        return text.error();
    }
    impl_->fields = named_fields(split_message(*text).header, names);
    return std::string_view(impl_->fields);
}

Result<std::string> Reader::header(Uid uid) {
    Result<Message> opened = message(uid);
    if (!opened) {
        return opened.error();
    }
    std::string stored;
    if (Result<void> read = read_header(*opened, stored); !read) {
        return read.error();
    }
    return stored;
}

Result<Message> Reader::message(Uid uid) {
    return impl_->with_file(uid, [&](const Entry& entry, const StoredName& name) {
        return impl_->shared.backend->open(impl_->view.folder, entry, name);
    });
}

Result<std::string> Reader::text(Uid uid, std::uint64_t limit_bytes) {
    Result<Message> opened = message(uid);
    if (!opened) {
        return opened.error();
    }
    std::string stored;
    if (Result<void> read = read_whole(*opened, limit_bytes, stored); !read) {
        return read.error();
    }
    std::string out;
    out.reserve(stored.size() + stored.size() / 32);
    append_crlf(out, stored);
    return out;
}

Result<std::string> Reader::guid(Uid uid) {
    if (Result<Entry> entry = impl_->entry(uid); !entry) {
        return entry.error();
    }
    Result<StoredName> name = impl_->name(uid);
    if (!name) {
        return name.error();
    }
    return name->base.substr(0, name->base.find(','));
}

}  // namespace postern::store
