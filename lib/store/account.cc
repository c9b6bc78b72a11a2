#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <map>
#include <set>
#include <system_error>

#include "lib/base/strings.h"
#include "lib/sandbox/identity.h"
#include "lib/store/shared.h"
#include "lib/store/special_use.h"
#include "lib/store/subscriptions.h"

namespace postern::store {
namespace {

Result<void> open_files(Shared& shared) {
    const Location& location = shared.layout.location();
    for (const std::string* const directory : {&location.root, &location.control, &location.index}) {
        if (Result<void> made = make_directories(*directory); !made) {
            return made;
        }
    }
    shared.index_directory = location.index + (location.fs_layout ? "/.postern.index" : "/postern.index");
    Result<std::shared_ptr<Env>> index = open_index(shared.index_directory);
    if (!index) {
        return index.error();
    }
    shared.index = std::move(*index);
    Result<std::unique_ptr<Cache>> cache = Cache::open(shared.index_directory);
    if (!cache) {
        return cache.error();
    }
    shared.cache = std::move(*cache);
    return {};
}

bool is_below(std::string_view name, std::string_view parent, char separator) {
    return name.size() > parent.size() && name.substr(0, parent.size()) == parent && name[parent.size()] == separator;
}

}  // namespace

Account::Account(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
Account::~Account() = default;

Result<std::unique_ptr<Account>> Account::open(AccountOptions options) {
    Result<Location> location = parse_location(options.location, options.user, options.home);
    if (!location) {
        return location.error();
    }
    const bool mbox = location->driver == Driver::mbox;
    const char separator = options.separator;
    auto shared = std::make_shared<Shared>(std::move(options), Layout(std::move(*location), separator));
    shared->backend = mbox ? make_mbox_backend(shared->options.mbox_locking) : make_maildir_backend(shared->options.copy_with_hardlinks);
    if (Result<void> opened = open_files(*shared); !opened) {
        return opened.error();
    }
    Result<Folder> inbox = shared->layout.folder("INBOX");
    if (inbox && shared->options.create && !shared->layout.exists(*inbox)) {
        Result<void> made = shared->layout.create(*inbox);
        if (!made && made.error().code == Errc::denied && inbox->spool && shared->options.mbox_locking.privileged) {
            const SavedGroup group;
            made = shared->layout.create(*inbox);
        }
        // A spool file that is not there is an empty inbox, also where we may not make one.
        if (!made && made.error().code != Errc::exists && !mbox) {
            return made.error();
        }
    }
    shared->debug("{}: root={}, index={}, inbox={}", mbox ? "mbox" : "maildir", shared->layout.location().root, shared->index_directory,
                  inbox ? inbox->path : "");
    return std::unique_ptr<Account>(new Account(std::move(shared)));
}

char Account::separator() const { return shared_->layout.separator(); }

bool Account::is_current() const {
    struct stat status {};
    return shared_->index->is_current() && shared_->cache->env().is_current() &&
           ::stat(shared_->layout.location().root.c_str(), &status) == 0;
}

Result<std::vector<MailboxInfo>> Account::list() {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<std::vector<std::string>> names = shared_->layout.names();
    Result<std::set<std::string>> subscribed = read_subscriptions(shared_->layout);
    if (!names || !subscribed) {
        return names ? subscribed.error() : names.error();
    }
    const Result<std::map<std::string, std::string>> uses = read_special_uses(shared_->layout);
    if (!uses) {
        return uses.error();
    }
    std::map<std::string, MailboxInfo> found;
    auto entry = [&found](const std::string& name) -> MailboxInfo& {
        MailboxInfo& info = found[name];
        if (info.name.empty()) {
            info.name = name;
            info.exists = false;
        }
        return info;
    };
    auto for_parents = [&](const std::string& name, auto&& visit) {
        for (std::size_t at = name.rfind(separator()); at != std::string::npos && at > 0; at = name.rfind(separator(), at - 1)) {
            visit(entry(canonical_name(name.substr(0, at))));
        }
    };
    for (const std::string& name : *names) {
        entry(name).exists = true;
        for_parents(name, [](MailboxInfo& parent) { parent.has_children = true; });
    }
    for (const std::string& name : *subscribed) {
        entry(name).subscribed = true;
        for_parents(name, [](MailboxInfo& parent) { parent.subscribed_descendant = true; });
    }
    for (const SpecialUse& special : shared_->options.special_use) {
        if (const auto at = found.find(special.mailbox); at != found.end()) {
            at->second.special_use = special.use;
        }
    }
    for (const auto& [name, special_use] : *uses) {
        if (const auto at = found.find(name); at != found.end() && at->second.exists) {
            at->second.special_use = special_use;
        }
    }
    std::vector<MailboxInfo> out;
    if (const auto inbox = found.find("INBOX"); inbox != found.end()) {
        out.push_back(std::move(inbox->second));
        found.erase(inbox);
    }
    for (auto& [name, info] : found) {
        out.push_back(std::move(info));
    }
    return out;
}

bool Account::exists(std::string_view name) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    return existing_folder(*shared_, name).ok();
}

Result<void> Account::create(std::string_view name, const std::string& special_use) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = shared_->layout.folder(name);
    if (!folder) {
        return folder.error();
    }
    // A record, and special uses, may be left from files that another program removed: that was another mailbox.
    if (!shared_->layout.exists(*folder)) {
        if (Result<void> noted = write_special_use(shared_->layout, folder->name, special_use); !noted) {
            return noted;
        }
        Result<Txn> txn = Txn::begin(*shared_->index, true);
        Result<void> forgotten = txn ? forget_mailbox(*txn, folder->name) : Result<void>(txn.error());
        if (forgotten) {
            forgotten = txn->commit();
        }
        if (!forgotten) {
            return forgotten;
        }
    }
    shared_->debug("Mailbox {}: Mailbox is created", folder->name);
    return shared_->layout.create(*folder);
}

Result<void> Account::remove(std::string_view name) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = existing_folder(*shared_, name);
    if (!folder) {
        return folder.error();
    }
    if (folder->name == "INBOX") {
        return Error(Errc::denied, "INBOX cannot be removed");
    }
    Result<Txn> txn = Txn::begin(*shared_->index, true);
    if (!txn) {
        return txn.error();
    }
    Result<std::optional<MailboxRecord>> record = load_mailbox(*txn, folder->name);
    shared_->debug("Mailbox {}: Mailbox is deleted", folder->name);
    Result<void> done = shared_->layout.remove(*folder);
    if (done) {
        done = forget_mailbox(*txn, folder->name);
    }
    if (done) {
        done = txn->commit();
    }
    if (done && record && *record) {
        shared_->cache->forget((*record)->id);
    }
    return done ? write_special_use(shared_->layout, folder->name, {}) : done;
}

Result<void> Account::rename(std::string_view from, std::string_view to) {
    const Result<Folder> source = shared_->layout.folder(from);
    const Result<Folder> target = shared_->layout.folder(to);
    if (!source || !target) {
        return source ? target.error() : source.error();
    }
    if (source->name == "INBOX") {
        if (Result<void> made = create(to); !made) {
            return made;
        }
        Result<std::unique_ptr<Mailbox>> inbox = select("INBOX", Access::read_write);
        if (!inbox) {
            return inbox.error();
        }
        Result<Assigned> moved = (*inbox)->move_to((*inbox)->uids(), to);
        return moved ? Result<void>() : Result<void>(moved.error());
    }
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    if (is_below(target->name, source->name, separator()) || target->name == source->name) {
        return Error(Errc::syntax, "a mailbox cannot become its own child");
    }
    Result<std::vector<std::string>> names = shared_->layout.names();
    if (!names) {
        return names.error();
    }
    std::vector<std::string> affected;
    for (const std::string& name : *names) {
        if (name == target->name) {
            return Error(Errc::exists, "mailbox " + name + " exists");
        }
        if (name == source->name || is_below(name, source->name, separator())) {
            affected.push_back(name);
        }
    }
    if (affected.empty()) {
        return Error(Errc::not_found, "mailbox " + source->name + " does not exist");
    }
    Result<Txn> txn = Txn::begin(*shared_->index, true);
    if (!txn) {
        return txn.error();
    }
    shared_->debug("Mailbox {}: Mailbox is renamed to {}", source->name, target->name);
    Result<void> done = shared_->layout.rename(*source, *target);
    for (std::size_t i = 0; done && i < affected.size(); ++i) {
        const std::string new_name = target->name + affected[i].substr(source->name.size());
        done = forget_mailbox(*txn, new_name);
        if (done) {
            done = rename_record(*txn, affected[i], new_name);
        }
    }
    done = done ? txn->commit() : done;
    return done ? rename_special_uses(shared_->layout, source->name, target->name) : done;
}

Result<void> Account::subscribe(std::string_view name, bool on) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = shared_->layout.folder(name);
    return folder ? write_subscription(shared_->layout, folder->name, on) : Result<void>(folder.error());
}

Result<Status> Account::status(std::string_view name) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = existing_folder(*shared_, name);
    if (!folder) {
        return folder.error();
    }
    Result<Refreshed> fresh = refresh(*shared_, *folder, Refresh{});
    if (!fresh) {
        return fresh.error();
    }
    const MailboxRecord& record = fresh->record;
    Status status;
    status.messages = record.messages;
    status.unseen = record.unseen;
    status.uidvalidity = record.uidvalidity;
    status.uidnext = record.uidnext;
    status.highest_modseq = record.highest_modseq;
    if (record.recent_from < record.uidnext) {
        Result<Txn> txn = Txn::begin(*shared_->index, false);
        Result<void> counted = !txn ? Result<void>(txn.error()) : for_each_block(*txn, record.id, [&](const EntriesView& block) {
            for (std::size_t i = block.size(); i > 0 && block.at(i - 1).uid >= record.recent_from; --i) {
                ++status.recent;
            }
            return Result<void>();
        });
        if (!counted) {
            return counted.error();
        }
    }
    return status;
}

Result<std::uint64_t> Account::total_size(std::string_view name) {
    Result<std::unique_ptr<Mailbox>> mailbox = select(name, Access::read_only);
    if (!mailbox) {
        return mailbox.error();
    }
    std::uint64_t total = 0;
    const std::unique_ptr<Reader> reader = (*mailbox)->reader();
    for (std::uint32_t seq = 1; seq <= (*mailbox)->exists(); ++seq) {
        const Result<Summary> summary = reader->summary((*mailbox)->uid_of(seq), Need::size_and_date);
        if (!summary && summary.error().code != Errc::not_found) {
            return summary.error();
        }
        total += summary ? summary->size : 0;
    }
    return total;
}

Result<std::unique_ptr<Appender>> Account::append(std::string_view mailbox) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = existing_folder(*shared_, mailbox);
    if (!folder) {
        return folder.error();
    }
    return shared_->backend->append(*folder);
}

namespace {

/// Commits; the directory is synced meanwhile.  An index that the file names can bring back need not wait for its last page.
Result<void> make_durable(Change& change, Env& index, const Appended& appended, bool names_are_enough) {
    const int directory = appended.unsynced.get();
    auto sync_directory = [directory] { return directory < 0 || fsync(directory) == 0 ? 0 : errno; };
    std::future<int> synced;
    try {
        synced = std::async(std::launch::async, sync_directory);
    } catch (const std::system_error&) {
        synced = std::async(std::launch::deferred, sync_directory);     // no thread to be had: one after the other
    }
    Result<void> done = change.commit_index();
    if (done && !names_are_enough) {
        done = index.sync();
    }
    const int error = synced.get();
    if (done && error != 0) {
        done = errno_error("sync directory of messages", error);
    }
    if (done) {
        change.save_soft();   // not before: files that are taken back must be looked for
    }
    return done;
}

}  // namespace

Result<Assigned> Account::commit_appends(std::string_view mailbox, std::span<const std::unique_ptr<Appender>> messages) {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    Result<Folder> folder = existing_folder(*shared_, mailbox);
    if (!folder) {
        return folder.error();
    }
    Result<std::unique_ptr<Change>> change = Change::begin(*shared_, *folder, Durable::all_but_the_last);
    if (!change) {
        return change.error();
    }
    const Placed& place = (*change)->place();
    if (Result<void> looked = (*change)->look_first(place); !looked) {
        return looked.error();
    }
    const bool alone = !place.editor->changed();
    std::vector<std::pair<std::string, std::string>> parsed;
    Result<Appended> appended = shared_->backend->commit(place, messages, parsed);
    if (!appended) {
        return appended.error();
    }
    Assigned assigned;
    assigned.uidvalidity = place.editor->record().uidvalidity;
    if (Result<void> done = make_durable(**change, *shared_->index, *appended, alone && appended->named); !done) {
        shared_->cache->save_directory(place.editor->record().id, DirState());   // the files go: look for what is there
        return done.error();
    }
    for (const std::unique_ptr<Appender>& message : messages) {
        message->keep();
    }
    std::vector<CacheEntry> cached;
    for (std::size_t i = 0; i < appended->uids.size() && i < parsed.size(); ++i) {
        cached.push_back(CacheEntry{appended->uids[i], std::move(parsed[i].first), std::move(parsed[i].second)});
    }
    shared_->cache->store(place.editor->record().id, cached);
    assigned.uids = std::move(appended->uids);
    shared_->debug("Mailbox {}: {} messages saved, the last with UID {}", folder->name, assigned.uids.size(),
                   assigned.uids.empty() ? 0 : assigned.uids.back());
    return assigned;
}

}  // namespace postern::store
