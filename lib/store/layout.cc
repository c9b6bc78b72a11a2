#include "lib/store/layout.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/mail/utf7.h"
#include "lib/store/index_format.h"
#include "lib/store/maildir_name.h"

namespace postern::store {
namespace {

constexpr std::size_t kMaxComponent = 200;        ///< bytes of one directory name
constexpr int kMaxDepth = 20;

struct CloseDir {
    void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDir>;

bool is_directory(const std::string& path) {
    struct stat status {};
    return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

void remove_tree_at(int at, const char* name, int depth) {
    if (unlinkat(at, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) {
        return;
    }
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (const Directory directory{fdopendir(fd)}; directory && depth < kMaxDepth) {
        while (const dirent* entry = readdir(directory.get())) {
            const std::string_view child = entry->d_name;
            if (child != "." && child != "..") {
                remove_tree_at(dirfd(directory.get()), entry->d_name, depth + 1);
            }
        }
    }
    unlinkat(at, name, AT_REMOVEDIR);
}

Error bad_name(std::string_view name) { return Error(Errc::syntax, "mailbox name not allowed: " + printable(name)); }

/// One level of a name that may become a directory or file name.
bool level_allowed(std::string_view level, const Location& location) {
    if (level.empty() || level.size() > kMaxComponent || level == "." || level == "..") {
        return false;
    }
    if (!location.fs_layout) {
        return level.find('.') == std::string_view::npos && level.find('/') == std::string_view::npos;
    }
    // Hidden names are the store's own; cur, new and tmp belong to the parent's Maildir.
    return level[0] != '.' && level.find('/') == std::string_view::npos && level != "cur" && level != "new" &&
           level != "tmp" && level.substr(0, 8) != "dovecot-" &&
           level.substr(0, 19) != "postern-special-use" && level != "subscriptions" && level != "maildirfolder";
}

}  // namespace

std::string canonical_name(std::string_view name) {
    return equals_ignoring_case(name, "INBOX") ? "INBOX" : std::string(name);
}

void remove_tree(const std::string& path) { remove_tree_at(AT_FDCWD, path.c_str(), 0); }

Layout::Layout(Location location, char separator)
    : location_(std::move(location)), separator_(separator != 0 ? separator : location_.fs_layout ? '/' : '.') {}

std::string Layout::to_disk(std::string_view name, char disk_separator) const {
    std::string out;
    for (const std::string& level : split_exact(name, separator_)) {
        const std::optional<std::string> encoded = utf8_to_imap_utf7(level);
        if (!encoded || !level_allowed(*encoded, location_)) {
            return {};
        }
        if (!out.empty()) {
            out += disk_separator;
        }
        out += *encoded;
    }
    return out;
}

std::string Layout::from_disk(std::string_view disk, char disk_separator) const {
    std::string out;
    for (const std::string& level : split_exact(disk, disk_separator)) {
        const std::optional<std::string> decoded = imap_utf7_to_utf8(level);
        if (!decoded || decoded->empty() || decoded->find(separator_) != std::string::npos) {
            return {};
        }
        if (!out.empty()) {
            out += separator_;
        }
        out += *decoded;
    }
    return out;
}

Result<Folder> Layout::folder(std::string_view name) const {
    Folder out;
    out.name = canonical_name(name);
    const bool mbox = location_.driver == Driver::mbox;
    if (out.name == "INBOX") {
        out.path = !location_.inbox.empty() ? location_.inbox : mbox ? location_.root + "/inbox" : location_.root;
        out.control = location_.control;
        out.spool = mbox && out.path.compare(0, location_.root.size(), location_.root) != 0;   // as Dovecot compares
        return out;
    }
    for (const char c : name) {
        if (static_cast<unsigned char>(c) < 32 || c == 127) {
            return bad_name(name);
        }
    }
    const std::string disk = to_disk(name, disk_separator());
    if (disk.empty() || name.size() > kMaxMailboxName || disk.size() > (location_.fs_layout ? 1000u : 250u)) {
        return bad_name(name);
    }
    const std::string relative = location_.fs_layout ? "/" + disk : "/." + disk;
    out.path = location_.root + relative;
    out.control = mbox ? location_.control : location_.control + relative;
    return out;
}

bool Layout::is_mailbox(const std::string& path) const {
    struct stat status {};
    if (location_.driver == Driver::mbox) {
        return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
    }
    return is_directory(path + "/cur");
}

bool Layout::exists(const Folder& folder) const { return is_mailbox(folder.path); }

Result<std::vector<std::string>> Layout::maildirpp_names() const {
    const Directory directory{opendir(location_.root.c_str())};
    if (!directory) {
        return errno_error("list " + location_.root);
    }
    std::vector<std::string> out;
    while (const dirent* entry = readdir(directory.get())) {
        const std::string_view file = entry->d_name;
        if (file.size() < 2 || file[0] != '.' || file == ".." || entry->d_type == DT_REG) {
            continue;
        }
        std::string name = from_disk(file.substr(1), '.');
        if (!name.empty() && !equals_ignoring_case(name, "INBOX") && is_mailbox(location_.root + "/" + entry->d_name)) {
            out.push_back(std::move(name));
        }
    }
    return out;
}

Result<void> Layout::names_below(const std::string& path, const std::string& prefix, int depth,
                                 std::vector<std::string>& out) const {
    const Directory directory{opendir(path.c_str())};
    if (!directory) {
        return depth == 0 ? errno_error("list " + path) : Result<void>();
    }
    while (const dirent* entry = readdir(directory.get())) {
        const std::optional<std::string> level = imap_utf7_to_utf8(entry->d_name);
        if (!level || !level_allowed(entry->d_name, location_) || level->find(separator_) != std::string::npos) {
            continue;
        }
        const std::string child = path + "/" + entry->d_name;
        const std::string name = prefix.empty() ? *level : prefix + separator_ + *level;
        if (child != location_.inbox && !equals_ignoring_case(name, "INBOX") && is_mailbox(child)) {
            out.push_back(name);
        }
        if (depth < kMaxDepth && entry->d_type != DT_REG && is_directory(child)) {
            if (Result<void> below = names_below(child, name, depth + 1, out); !below) {
                return below;
            }
        }
    }
    return {};
}

Result<std::vector<std::string>> Layout::names() const {
    std::vector<std::string> out;
    if (location_.fs_layout) {
        if (Result<void> listed = names_below(location_.root, "", 0, out); !listed) {
            return listed.error();
        }
    } else {
        Result<std::vector<std::string>> listed = maildirpp_names();
        if (!listed) {
            return listed;
        }
        out = std::move(*listed);
    }
    if (const Result<Folder> inbox = folder("INBOX"); inbox && exists(*inbox)) {
        out.emplace_back("INBOX");
    }
    return out;
}

Result<void> Layout::create(const Folder& folder) const {
    if (exists(folder)) {
        return Error(Errc::exists, "mailbox " + folder.name + " exists");
    }
    if (location_.driver == Driver::mbox) {
        if (Result<void> parent = make_directories(folder.path.substr(0, folder.path.rfind('/'))); !parent) {
            return parent;
        }
        // Exclusively: with the saved group, a dangling link must not make a file where the user may not.
        const UniqueFd file(open(folder.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        return file ? Result<void>() : Result<void>(errno_error("create " + folder.path));
    }
    if (folder.control != folder.path) {
        if (Result<void> made = make_directories(folder.control); !made) {
            return made;
        }
    }
    // cur/ last: it is what makes the directory a mailbox.
    for (const char* const part : {"/tmp", "/new", "/cur"}) {
        if (Result<void> made = make_directories(folder.path + part); !made) {
            return made;
        }
    }
    if (!location_.fs_layout && folder.name != "INBOX") {
        const UniqueFd mark(open((folder.path + "/maildirfolder").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    }
    return {};
}

Result<void> Layout::remove(const Folder& folder) const {
    if (location_.driver == Driver::mbox) {
        return unlink(folder.path.c_str()) == 0 ? Result<void>() : Result<void>(errno_error("remove " + folder.path));
    }
    // Out of sight in one step, then file by file.  The name cannot be one of a mailbox in either layout.
    const std::string grave = location_.root + (location_.fs_layout ? "/." : "/") + "postern.deleted." + unique_base();
    if (!location_.fs_layout) {
        if (::rename(folder.path.c_str(), grave.c_str()) != 0) {
            return errno_error("remove " + folder.path);
        }
    } else {
        if (mkdir(grave.c_str(), 0700) != 0 || ::rename((folder.path + "/cur").c_str(), (grave + "/cur").c_str()) != 0) {
            return errno_error("remove " + folder.path);
        }
        for (const char* const part : {"/new", "/tmp", "/dovecot-uidlist", "/dovecot-keywords"}) {
            ::rename((folder.path + part).c_str(), (grave + part).c_str());
        }
        rmdir(folder.path.c_str());               // stays when it has children
    }
    remove_tree(grave);
    if (folder.control != folder.path) {
        for (const char* const part : {"/dovecot-uidlist", "/dovecot-keywords"}) {
            unlink((folder.control + part).c_str());
        }
        rmdir(folder.control.c_str());
    }
    return {};
}

Result<void> Layout::rename(const Folder& from, const Folder& to) const {
    if (location_.fs_layout) {
        for (const auto& [old_path, new_path] : {std::pair(from.path, to.path), std::pair(from.control, to.control)}) {
            if (Result<void> parent = make_directories(new_path.substr(0, new_path.rfind('/'))); !parent) {
                return parent;
            }
            if (::rename(old_path.c_str(), new_path.c_str()) != 0 && (errno != ENOENT || old_path == from.path)) {
                return errno_error("rename " + old_path);
            }
            if (from.control == from.path || from.control == to.control) {
                break;
            }
        }
        return {};
    }
    Result<std::vector<std::string>> all = names();
    if (!all) {
        return all.error();
    }
    for (const std::string& name : *all) {
        const bool child = name.size() > from.name.size() && name.compare(0, from.name.size(), from.name) == 0 &&
                           name[from.name.size()] == separator_;
        if (name != from.name && !child) {
            continue;
        }
        const Result<Folder> old_place = folder(name);
        const Result<Folder> new_place = folder(to.name + name.substr(from.name.size()));
        if (!old_place || !new_place) {
            return bad_name(to.name);
        }
        if (::rename(old_place->path.c_str(), new_place->path.c_str()) != 0) {
            return errno_error("rename " + old_place->path);
        }
        if (old_place->control != old_place->path) {
            ::rename(old_place->control.c_str(), new_place->control.c_str());
        }
    }
    return {};
}

}  // namespace postern::store
