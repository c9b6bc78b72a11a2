#include "lib/listing/listing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "lib/base/json.h"
#include "lib/base/unique_fd.h"
#include "lib/mail/address.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"

namespace postern {

const std::vector<std::string> kListedDirectories = {"maildrop", "active", "incoming", "deferred", "hold"};

namespace {

/// Into kListedDirectories: from here on stand those to which messages in transit go.
constexpr std::size_t kAfterTransit = 1;

/// "Sun Nov 22 11:46:03", as asctime(3) begins.
std::string arrival_text(std::int64_t seconds) {
    const std::time_t time = seconds;
    std::tm parts{};
    ::localtime_r(&time, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%a %b %e %H:%M:%S", &parts);
    return text.data();
}

std::string_view status_mark(const ListedMessage& message) {
    const bool active = message.queue_name == "active", held = message.queue_name == "hold";
    if (message.forced_expire) {
        return active ? "*#" : held ? "!#" : "#";
    }
    return active ? "*" : held ? "!" : "";
}

/// Control characters from a message must not reach a terminal.
std::string visible(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (static_cast<unsigned char>(c) < 32 || c == 127) {
            c = '?';
        }
    }
    return out;
}

/// What the file itself says.  False when it is unfinished or damaged.
bool read_message(int file, ListedMessage& out) {
    std::vector<queue::JournalRecord> records;
    const Result<queue::QueueFile> content = queue::QueueFile::read(file, records);
    if (!content) {
        return false;
    }
    const queue::Envelope& envelope = content->envelope();
    out.arrival_seconds = envelope.arrival_usec / 1'000'000;
    out.size_bytes = content->size_bytes();
    out.sender = external_form(envelope.sender);
    const queue::JournalState state = queue::replay(records, envelope.recipients);
    out.forced_expire = state.expire;
    // As in Postfix, recipients with a reason come first.
    std::vector<ListedRecipient> untried;
    for (std::size_t i = 0; i < envelope.recipients.size(); ++i) {
        const queue::RecipientState& recipient = state.recipients[i];
        if (recipient.finished()) {
            continue;
        }
        ListedRecipient listed{external_form(envelope.recipients[i].address), recipient.last.text};
        (listed.reason.empty() ? untried : out.recipients).push_back(std::move(listed));
    }
    std::move(untried.begin(), untried.end(), std::back_inserter(out.recipients));
    return true;
}

}  // namespace

std::vector<std::string> queue_ids_in(const std::string& directory) {
    std::vector<std::string> ids;
    Result<queue::DirectoryReader> reader = queue::DirectoryReader::open(directory);
    if (!reader) {
        return ids;
    }
    for (auto names = reader->next(ListingWalk::kSorted); !names.empty(); names = reader->next(ListingWalk::kSorted)) {
        for (queue::DirectoryReader::Name& entry : names) {
            if (queue::is_queue_id(entry.name)) {
                ids.push_back(std::move(entry.name));
            }
        }
    }
    std::sort(ids.begin(), ids.end());
    return ids;
}

/// True when names_ are those in transit: once, and not when there are none.
bool ListingWalk::next_in_transit() {
    in_transit_ = names_.empty() && directory_ == kAfterTransit && transit_ != nullptr && !transit_walked_;
    if (in_transit_) {
        transit_walked_ = true;
        for (std::string& id : transit_->all_ids()) {
            names_.push_back({0, std::move(id)});
        }
    }
    return !names_.empty();
}

/// False when all directories are read.
bool ListingWalk::next_names() {
    at_ = 0;
    names_.clear();
    while (!next_in_transit() && names_.empty() && directory_ < kListedDirectories.size()) {
        const bool first = !reader_;
        if (first) {
            Result<queue::DirectoryReader> opened =
                queue::DirectoryReader::open(queue_directory_ + "/" + kListedDirectories[directory_]);
            if (!opened) {
                ++directory_;
                continue;
            }
            reader_ = std::move(*opened);
        }
        names_ = reader_->next(kSorted);
        if (first && names_.size() < kSorted) {
            std::sort(names_.begin(), names_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
        }
        if (names_.empty()) {
            reader_.reset();
            ++directory_;
        }
    }
    return !names_.empty();
}

std::vector<ListedMessage> ListingWalk::next(std::size_t limit) {
    std::vector<ListedMessage> messages;
    messages.reserve(limit);
    while (messages.size() < limit && (at_ < names_.size() || next_names())) {
        const std::string& id = names_[at_++].name;
        ListedMessage message;
        if (queue::is_queue_id(id) && read(id, message)) {
            messages.push_back(std::move(message));
        }
    }
    return messages;
}

bool ListingWalk::read(const std::string& id, ListedMessage& out) {
    if (!in_transit_) {
        return !listed_.contains(id) && read_listed(queue_directory_, kListedDirectories[directory_], id, out);
    }
    const UniqueFd file = transit_->open_any(id);
    out.queue_name = "incoming";
    out.queue_id = id;
    return file && read_message(file.get(), out) && listed_.insert(id).second;
}

bool read_listed(const std::string& queue_directory, const std::string& name, const std::string& id, ListedMessage& out) {
    const std::string path = queue_directory + "/" + queue::queue_path(name, id);
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
        return false;
    }
    out = ListedMessage();
    out.queue_name = name;
    out.queue_id = id;
    out.next_try_seconds = name == "deferred" ? info.st_mtime : 0;
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file && name == "maildrop") {
        out.arrival_seconds = info.st_mtime;
        out.size_bytes = static_cast<std::uint64_t>(info.st_size);
        out.sender = fmt::format("(maildrop queue, sender UID {})", info.st_uid);
        return true;
    }
    return file && read_message(file.get(), out);
}

std::string TextListing::message(const ListedMessage& message) {
    constexpr std::string_view kShortHead = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n";
    constexpr std::string_view kLongHead = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n";
    std::string text(count_ == 0 ? (long_ ? kLongHead : kShortHead) : std::string_view("\n"));
    ++count_;
    bytes_ += message.size_bytes;
    const std::string id = visible(message.queue_id) + std::string(status_mark(message));
    const std::string sender = visible(message.sender.empty() ? "MAILER-DAEMON" : message.sender);
    const std::string arrival = arrival_text(message.arrival_seconds);
    text += long_ ? fmt::format("{:<17} {:>8} {:.19} {}\n", id, message.size_bytes, arrival, sender)
                  : fmt::format("{:<11} {:>7} {:<20} {}\n", id, message.size_bytes, arrival, sender);
    const std::size_t indent = long_ ? 47 : 41;
    const std::string* reason = nullptr;
    for (const ListedRecipient& recipient : message.recipients) {
        if (!recipient.reason.empty() && (reason == nullptr || *reason != recipient.reason)) {
            const std::size_t length = recipient.reason.size();
            text += fmt::format("{:{}}({})\n", "", length < 76 ? 76 - length : 0, visible(recipient.reason));
            reason = &recipient.reason;
        }
        text += fmt::format("{:{}}{}\n", "", indent, visible(recipient.address));
    }
    return text;
}

std::string TextListing::end() const {
    if (count_ == 0) {
        return "Mail queue is empty\n";
    }
    return fmt::format("\n-- {} Kbytes in {} Request{}.\n", bytes_ / 1024, count_, count_ == 1 ? "" : "s");
}

std::string json_listing(const ListedMessage& message) {
    std::string out = R"({"queue_name": )";
    out += json_quoted(message.queue_name);
    out += R"(, "queue_id": )";
    out += json_quoted(message.queue_id);
    out += fmt::format(R"(, "arrival_time": {}, "message_size": {}, "forced_expire": {}, "sender": )",
                       message.arrival_seconds, message.size_bytes, message.forced_expire);
    out += json_quoted(message.sender.empty() ? "MAILER-DAEMON" : message.sender);
    out += R"(, "recipients": [)";
    bool first = true;
    for (const ListedRecipient& recipient : message.recipients) {
        out += first ? R"({"address": )" : R"(, {"address": )";
        out += json_quoted(recipient.address);
        if (!recipient.reason.empty()) {
            out += R"(, "delay_reason": )";
            out += json_quoted(recipient.reason);
        }
        out += '}';
        first = false;
    }
    return out + "]}\n";
}

}  // namespace postern
