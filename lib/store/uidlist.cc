#include "lib/store/uidlist.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <unordered_map>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"

namespace postern::store {
namespace {

constexpr std::string_view kDovecot = "/dovecot-uidlist";
constexpr std::string_view kCourier = "/courierimapuiddb";
constexpr std::size_t kMaxFile = std::size_t{1} << 30;
constexpr Uid kMaxUid = 0xfffffffeu;

std::string_view take_word(std::string_view& rest) {
    const std::size_t space = rest.find(' ');
    const std::string_view word = rest.substr(0, space);
    rest.remove_prefix(space == std::string_view::npos ? rest.size() : space + 1);
    return word;
}

std::string_view take_line(std::string_view& rest) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!line.empty() && line.back() == '\r') {
        line.remove_suffix(1);
    }
    return line;
}

std::optional<std::uint32_t> number32(std::string_view text) {
    const std::optional<std::uint64_t> n = parse_number(text);
    return n && *n > 0 && *n <= 0xffffffffu ? std::optional<std::uint32_t>(static_cast<std::uint32_t>(*n)) : std::nullopt;
}

/// "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1" or "1 1275660208 25022".
bool parse_header(std::string_view line, UidList& list, int& version) {
    const std::string_view first = take_word(line);
    version = first == "3" ? 3 : first == "1" ? 1 : 0;
    if (version == 1) {
        list.uidvalidity = number32(take_word(line)).value_or(0);
        list.uidnext = number32(take_word(line)).value_or(0);
    } else if (version == 3) {
        list.uidnext = 0;
        while (!line.empty()) {
            const std::string_view word = take_word(line);
            const std::string_view value = word.substr(std::min<std::size_t>(1, word.size()));
            if (word.substr(0, 1) == "V") {
                list.uidvalidity = number32(value).value_or(0);
            } else if (word.substr(0, 1) == "N") {
                list.uidnext = number32(value).value_or(0);
            } else if (word.substr(0, 1) == "G" && value.size() == 32) {
                list.guid = value;
            }
        }
    }
    return list.uidvalidity != 0 && list.uidnext != 0;
}

/// "25006 :name" or "25006 W1234 Pabc :name" (version 3), "25006 name" (version 1).
std::optional<UidListEntry> parse_entry(std::string_view line, int version) {
    const std::optional<std::uint32_t> uid = number32(take_word(line));
    if (version == 3) {
        while (!line.empty() && line[0] != ':') {
            take_word(line);
        }
        line.remove_prefix(std::min<std::size_t>(1, line.size()));
    }
    const std::string_view base = line.substr(0, line.find(':'));
    if (!uid || *uid > kMaxUid || base.empty() || base.size() > 255 || base.find('/') != std::string_view::npos ||
        base.find('\0') != std::string_view::npos) {
        return std::nullopt;
    }
    return UidListEntry{*uid, std::string(base)};
}

/// Why the list cannot be believed from this line on; empty when it can.
std::string damage_of(const std::optional<UidListEntry>& entry, Uid highest, std::string_view line, std::size_t number) {
    if (!entry) {
        return "line " + std::to_string(number) + ": Invalid data: " + printable(line, 100);
    }
    if (entry->uid <= highest) {
        return "line " + std::to_string(number) + ": UIDs not ordered (" + std::to_string(entry->uid) + " >= " + std::to_string(highest) + ")";
    }
    return {};
}

Result<void> write_all(int fd, std::string_view bytes, const std::string& name) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno_error("write " + name);
        }
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
}

std::string lines_of(const std::vector<UidListEntry>& entries) {
    std::string out;
    out.reserve(entries.size() * 80);
    for (const UidListEntry& entry : entries) {
        if (entry.base.find('\n') != std::string::npos) {
            continue;                                      // cannot be said in this format
        }
        out += std::to_string(entry.uid);
        out += " :";
        out += entry.base;
        out += '\n';
    }
    return out;
}

}  // namespace

Result<UidList> parse_uidlist(std::string_view text) {
    UidList list;
    int version = 0;
    if (!parse_header(take_line(text), list, version)) {
        return Error(Errc::syntax, "uidlist: the first line is not understood");
    }
    std::unordered_map<std::string_view, std::size_t> seen;   // bases, in `text`, and their entries
    list.entries.reserve(std::min<std::size_t>(text.size() / 40 + 1, 1u << 22));
    seen.reserve(text.size() / 60 + 1);
    Uid highest = 0;
    for (std::size_t number = 2; !text.empty(); ++number) {
        const std::string_view line = take_line(text);
        std::optional<UidListEntry> entry = parse_entry(line, version);
        if (list.damage.empty()) {
            list.damage = damage_of(entry, highest, line, number);
        }
        highest = std::max(highest, entry ? entry->uid : 0);
        if (!list.damage.empty()) {
            continue;
        }
        const std::string_view base = line.substr(line.find(entry->base), entry->base.size());
        const auto [earlier, is_new] = seen.try_emplace(base, list.entries.size());
        if (!is_new) {
            list.entries[earlier->second].uid = 0;
            earlier->second = list.entries.size();
        }
        list.entries.push_back(std::move(*entry));
    }
    list.entries.erase(std::remove_if(list.entries.begin(), list.entries.end(), [](const UidListEntry& entry) { return entry.uid == 0; }),
                       list.entries.end());
    list.uidnext = std::max(list.uidnext, highest + 1);
    return list;
}

Result<UidList> read_uidlist(const std::string& directory) {
    for (const std::string_view name : {kDovecot, kCourier}) {
        const std::string path = directory + std::string(name);
        UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
        struct stat status {};
        if (!fd || fstat(fd.get(), &status) != 0) {
            if (errno == ENOENT) {
                continue;
            }
            return errno_error("open " + path);
        }
        if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) > kMaxFile) {
            return Error(Errc::too_big, "read " + path + ": not a file of a sane size");
        }
        std::string text(static_cast<std::size_t>(status.st_size), '\0');
        std::size_t have = 0;
        while (have < text.size()) {
            const ssize_t n = read(fd.get(), text.data() + have, text.size() - have);
            if (n < 0 && errno == EINTR) {
                continue;
            }
            if (n < 0) {
                return errno_error("read " + path);
            }
            if (n == 0) {
                break;
            }
            have += static_cast<std::size_t>(n);
        }
        text.resize(have);
        return parse_uidlist(text);
    }
    return Error(Errc::not_found, "no uidlist in " + directory);
}

Result<void> write_uidlist(const std::string& directory, const UidList& list) {
    const std::string path = directory + std::string(kDovecot);
    const std::string temporary = path + ".tmp";
    UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) {
        return errno_error("create " + temporary);
    }
    std::string text = "3 V" + std::to_string(list.uidvalidity) + " N" + std::to_string(list.uidnext);
    if (!list.guid.empty()) {
        text += " G" + list.guid;
    }
    text += '\n';
    Result<void> written = write_all(fd.get(), text + lines_of(list.entries), temporary);
    if (written && rename(temporary.c_str(), path.c_str()) != 0) {
        written = errno_error("rename " + temporary);
    }
    if (!written) {
        unlink(temporary.c_str());
    }
    return written;
}

Result<void> append_uidlist(const std::string& directory, const std::vector<UidListEntry>& entries) {
    const std::string path = directory + std::string(kDovecot);
    UniqueFd fd(open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
    if (!fd) {
        return errno == ENOENT ? Result<void>() : Result<void>(errno_error("open " + path));
    }
    Result<void> written = write_all(fd.get(), lines_of(entries), path);
    if (!written) {
        unlink(path.c_str());
    }
    return written;
}

}  // namespace postern::store
