/// Adding messages to a Maildir: written to tmp/, synced, then renamed to cur/.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "lib/store/crlf_to_lf.h"
#include "lib/store/maildir.h"
#include "lib/store/maildir_name.h"

namespace postern::store {
namespace {

constexpr std::size_t kBuffer = 64 * 1024;

class MaildirAppender : public Appender {
public:
    MaildirAppender(UniqueFd file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}
    ~MaildirAppender() override {
        if (!path_.empty()) {
            unlink(path_.c_str());
        }
    }
    Result<void> write(std::string_view bytes) override {
        filter_.feed(bytes, buffer_);
        return buffer_.size() >= kBuffer ? flush() : Result<void>();
    }
    Result<void> finish() override;

    const std::string& path() const { return path_; }
    const std::string& base() const { return base_; }
    bool finished() const { return !base_.empty(); }
    void placed_at(std::string path) { path_ = std::move(path); }
    void keep() override { path_.clear(); }
    std::pair<std::string, std::string> take_summary() { return std::move(summary_); }

private:
    Result<void> flush();
    Result<void> parse(std::int64_t date);

    UniqueFd file_;
    std::string path_;              ///< in tmp/, then in cur/; empty once it is to stay
    std::string base_;
    std::string buffer_;
    CrlfToLf filter_;
    std::uint64_t size_ = 0;
    std::pair<std::string, std::string> summary_;
};

Result<void> MaildirAppender::flush() {
    std::string_view rest = buffer_;
    while (!rest.empty()) {
        const ssize_t n = ::write(file_.get(), rest.data(), rest.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno_error("write " + path_);
        }
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
    size_ += buffer_.size();
    buffer_.clear();
    return {};
}

Result<void> MaildirAppender::parse(std::int64_t date) {
    if (size_ == 0) {
        summary_ = summarise({}, date);
        return {};
    }
    // The file is ours alone and nobody shortens it, so the mapping is safe.
    void* const map = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file_.get(), 0);
    if (map == MAP_FAILED) {
        return errno_error("map " + path_);
    }
    summary_ = summarise(std::string_view(static_cast<const char*>(map), size_), date);
    munmap(map, size_);
    return {};
}

Result<void> MaildirAppender::finish() {
    filter_.finish(buffer_);
    if (Result<void> flushed = flush(); !flushed) {
        return flushed;
    }
    const std::int64_t date = internal_date.value_or(time(nullptr));
    const timespec times[2] = {{static_cast<time_t>(date), 0}, {static_cast<time_t>(date), 0}};
    if (futimens(file_.get(), times) != 0 || fsync(file_.get()) != 0) {
        return errno_error("sync " + path_);
    }
    if (Result<void> parsed = parse(date); !parsed) {
        return parsed;
    }
    file_.reset();
    base_ = unique_base(size_, size_ + filter_.bare_line_feeds());
    return {};
}

}  // namespace

Result<std::unique_ptr<Appender>> MaildirBackend::append(const Folder& folder) {
    std::string path = folder.path + "/tmp/" + unique_base();
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file && errno == ENOENT && modified(folder.path + "/cur") >= 0) {
        if (mkdir((folder.path + "/tmp").c_str(), 0700) == 0) {
            file.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        }
    }
    if (!file) {
        return errno_error("create " + path);
    }
    return std::unique_ptr<Appender>(std::make_unique<MaildirAppender>(std::move(file), std::move(path)));
}

Result<Appended> MaildirBackend::commit(const Placed& mailbox, std::span<const std::unique_ptr<Appender>> messages,
                                        std::vector<std::pair<std::string, std::string>>& cached) {
    MailboxEditor& editor = *mailbox.editor;
    const std::string cur = mailbox.folder.path + "/cur";
    Appended out;
    out.unsynced.reset(::open(cur.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!out.unsynced) {
        return errno_error("open " + cur);
    }
    out.named = !editor.is_new();
    OwnChange own(mailbox.folder, *mailbox.state);
    const std::size_t keywords_before = editor.record().keywords.size();
    std::vector<std::string> placed;
    auto place = [&](Appender& appender) -> Result<void> {
        auto* const message = dynamic_cast<MaildirAppender*>(&appender);
        if (message == nullptr || !message->finished()) {
            return Error(Errc::io, "append: a message was not finished");
        }
        Entry entry;
        entry.flags = message->flags & kStorableFlags;
        for (const std::string& keyword : message->keywords) {
            Result<std::size_t> position = editor.keyword(keyword);
            if (!position) {
                return position.error();
            }
            entry.keywords |= std::uint64_t{1} << *position;
        }
        out.named = out.named && entry.keywords <= kLetterKeywords;
        const std::string base = with_uid(message->base(), {editor.record().uidvalidity, editor.record().uidnext});
        const std::string target = cur + "/" + base + suffix_for(entry.flags, entry.keywords);
        if (::rename(message->path().c_str(), target.c_str()) != 0) {
            return errno_error("rename " + message->path());
        }
        message->placed_at(target);
        placed.push_back(target);
        Result<Uid> uid = editor.append(entry, base, "");
        if (!uid) {
            return uid.error();
        }
        out.uids.push_back(*uid);
        cached.push_back(message->take_summary());
        return {};
    };
    Result<void> done;
    for (const std::unique_ptr<Appender>& message : messages) {
        if (done = place(*message); !done) {
            break;
        }
    }
    if (!done) {
        for (const std::string& path : placed) {
            unlink(path.c_str());
        }
        return done.error();
    }
    own.finish(editor.record());
    if (editor.record().keywords.size() != keywords_before) {
        write_keywords_file(mailbox.folder, editor, *mailbox.state);
        out.named = false;
    }
    return out;
}

}  // namespace postern::store
