#include "auth/passwd_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <limits>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"

namespace postern {

namespace {

constexpr std::size_t kFieldsBeforeExtra = 7;
constexpr std::size_t kMaxSystemName = 255;
constexpr std::size_t kMaxProblems = 100;
constexpr auto kLookAgain = std::chrono::seconds(1);

bool is_system_name(std::string_view text) {
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
    const auto is_more = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.'; };
    return text.size() <= kMaxSystemName && is_letter(text.front()) && std::all_of(text.begin(), text.end(), is_more);
}

/// A uid or gid, or the name of one; nothing when `text` is empty.
Result<void> parse_id(std::string_view text, std::string_view what, std::optional<std::uint32_t>& id, std::string& name) {
    id.reset();
    name.clear();
    if (text.empty()) {
        return {};
    }
    if (is_system_name(text)) {
        name = text;
        return {};
    }
    const auto number = parse_number(text);
    // The last value means "no change" to setresuid(2).
    if (!number || *number >= std::numeric_limits<std::uint32_t>::max()) {
        return {Errc::syntax, fmt::format("invalid {}", what)};
    }
    id = static_cast<std::uint32_t>(*number);
    return {};
}

/// Up to seven fields between colons, then everything else as the eighth.
std::array<std::string_view, kFieldsBeforeExtra + 1> cut_fields(std::string_view line) {
    std::array<std::string_view, kFieldsBeforeExtra + 1> fields{};
    for (std::size_t i = 0; i < kFieldsBeforeExtra; ++i) {
        const std::size_t colon = line.find(':');
        fields[i] = line.substr(0, colon);
        if (colon == std::string_view::npos) {
            return fields;
        }
        line.remove_prefix(colon + 1);
    }
    fields[kFieldsBeforeExtra] = line;
    return fields;
}

Result<void> add_extra(PasswdEntry& entry, std::string_view word) {
    const std::size_t equal = word.find('=');
    const std::string_view name = word.substr(0, equal);
    const std::string_view value = equal == std::string_view::npos ? "yes" : word.substr(equal + 1);
    if (name == "userdb_uid") {
        return parse_id(value, name, entry.uid, entry.uid_name);
    }
    if (name == "userdb_gid") {
        return parse_id(value, name, entry.gid, entry.gid_name);
    }
    if (name == "userdb_home") {
        entry.home = value;
    } else if (name == "userdb_mail") {
        entry.mail = value;
    } else {
        if (entry.extra.size() >= kMaxExtraFields) {
            return {Errc::too_big, "too many extra fields"};
        }
        entry.extra.emplace_back(name, value);
    }
    return {};
}

bool has_control_character(std::string_view text) {
    for (const char c : text) {
        if (static_cast<unsigned char>(c) < 0x20 && c != '\t') {
            return true;
        }
    }
    return false;
}

void note_problem(PasswdTable& table, std::size_t line, std::string_view what) {
    if (table.problems.size() < kMaxProblems) {
        table.problems.push_back(fmt::format("line {}: {}", line, what));
    }
}

}  // namespace

const std::string* PasswdEntry::find_extra(std::string_view name) const {
    for (const auto& [key, value] : extra) {
        if (key == name) {
            return &value;
        }
    }
    return nullptr;
}

Result<std::optional<PasswdEntry>> parse_passwd_line(std::string_view line) {
    if (!line.empty() && line.back() == '\r') {
        line.remove_suffix(1);
    }
    if (trim(line).empty() || line.front() == '#') {
        return std::optional<PasswdEntry>();
    }
    if (line.size() > kMaxPasswdLine) {
        return {Errc::too_big, "line is too long"};
    }
    if (has_control_character(line)) {
        return {Errc::syntax, "control character"};
    }
    const auto fields = cut_fields(line);
    if (fields[0].empty()) {
        return {Errc::syntax, "empty user name"};
    }
    PasswdEntry entry;
    entry.user = fields[0];
    entry.password = fields[1];
    for (const Result<void>& parsed : {parse_id(fields[2], "uid", entry.uid, entry.uid_name),
                                       parse_id(fields[3], "gid", entry.gid, entry.gid_name)}) {
        if (!parsed) {
            return parsed.error();
        }
    }
    entry.home = fields[5];
    for (const std::string& word : split(fields[kFieldsBeforeExtra], " \t")) {
        const Result<void> added = add_extra(entry, word);
        if (!added) {
            return added.error();
        }
    }
    return std::optional(std::move(entry));
}

PasswdTable parse_passwd_file(std::string_view text) {
    PasswdTable table;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::size_t newline = text.find('\n');
        Result<std::optional<PasswdEntry>> entry = parse_passwd_line(text.substr(0, newline));
        text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
        if (!entry) {
            note_problem(table, number, entry.error().what);
        } else if (*entry) {
            std::string user = (*entry)->user;
            if (!table.users.try_emplace(std::move(user), std::move(**entry)).second) {
                note_problem(table, number, "user is listed twice; the first line counts");
            }
        }
    }
    return table;
}

Result<std::optional<PasswdEntry>> PasswdFile::lookup(const std::string& user) {
    std::shared_ptr<const PasswdTable> table;
    {
        const std::lock_guard lock(mutex_);
        const Result<void> fresh = refresh_locked();
        if (!fresh) {
            return fresh.error();
        }
        table = table_;
    }
    const auto found = table->users.find(user);
    if (found == table->users.end()) {
        return std::optional<PasswdEntry>();
    }
    return std::optional(found->second);
}

Result<void> PasswdFile::refresh() {
    const std::lock_guard lock(mutex_);
    return refresh_locked();
}

std::vector<std::string> PasswdFile::take_problems() {
    const std::lock_guard lock(mutex_);
    return std::exchange(problems_, {});
}

Result<void> PasswdFile::refresh_locked() {
    const auto now = std::chrono::steady_clock::now();
    if (generation_.load(std::memory_order_relaxed) != 0 && now - looked_ < kLookAgain) {
        return error_ ? Result<void>(*error_) : Result<void>();
    }
    looked_ = now;
    const auto fail = [this](Error error) {
        table_.reset();
        stamp_ = Stamp();
        generation_.fetch_add(1, std::memory_order_release);
        error_ = std::move(error);
        return Result<void>(*error_);
    };
    const UniqueFd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0) {
        return fail(errno_error(fmt::format("open({})", path_)));
    }
    if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) > kMaxPasswdFile) {
        return fail(Error(Errc::too_big, fmt::format("{}: not a file, or too big", path_)));
    }
    const Stamp stamp{status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_size, status.st_ino, status.st_dev};
    if (table_ && stamp == stamp_) {
        return {};
    }
    const Result<void> read = read_locked(file.get(), static_cast<std::size_t>(status.st_size));
    if (!read) {
        return fail(read.error());
    }
    stamp_ = stamp;
    error_.reset();
    was_read_.store(true, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_release);
    return {};
}

Result<void> PasswdFile::read_locked(int fd, std::size_t size) {
    std::string text(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const ssize_t got = ::pread(fd, text.data() + have, size - have, static_cast<off_t>(have));
        if (got < 0 && errno != EINTR) {
            return errno_error(fmt::format("read({})", path_));
        }
        if (got == 0) {
            break;   // somebody is writing it; the next look sees the new time
        }
        have += got > 0 ? static_cast<std::size_t>(got) : 0;
    }
    text.resize(have);
    auto table = std::make_shared<PasswdTable>(parse_passwd_file(text));
    problems_ = std::move(table->problems);
    table->problems.clear();
    table_ = std::move(table);
    return {};
}

}  // namespace postern
