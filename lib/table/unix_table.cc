/// unix:passwd.byname and unix:group.byname: the system's account databases, through the C library.
#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <utility>

#include "lib/table/types.h"

namespace postern::table_type {
namespace {

constexpr std::size_t kMaxRecord = std::size_t{1} << 20;

std::string passwd_line(const passwd& entry) {
    return std::string(entry.pw_name) + ":" + entry.pw_passwd + ":" + std::to_string(entry.pw_uid) + ":" +
           std::to_string(entry.pw_gid) + ":" + entry.pw_gecos + ":" + entry.pw_dir + ":" + entry.pw_shell;
}

std::string group_line(const group& entry) {
    std::string line = std::string(entry.gr_name) + ":" + entry.gr_passwd + ":" + std::to_string(entry.gr_gid) + ":";
    for (char** member = entry.gr_mem; *member; ++member) {
        line += member == entry.gr_mem ? "" : ",";
        line += *member;
    }
    return line;
}

/// The name services say "not there" in several ways (getpwnam_r(3)).
bool means_absent(int error) {
    return error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
}

/// Calls one of the get*_r functions with a buffer that grows until the record fits.
template <class Record, class Call, class Format>
Lookup ask(const std::string& table, std::string_view key, Call call, Format format) {
    if (key.find('\0') != std::string_view::npos || key.find(':') != std::string_view::npos) {
        return std::optional<std::string>();
    }
    const std::string name(key);
    for (std::string buffer(1024, '\0'); buffer.size() <= kMaxRecord; buffer.resize(buffer.size() * 4)) {
        Record record{};
        Record* found = nullptr;
        const int error = call(name.c_str(), &record, buffer.data(), buffer.size(), &found);
        if (error == ERANGE) {
            continue;
        }
        if (found) {
            return std::optional(format(*found));
        }
        if (means_absent(error)) {
            return std::optional<std::string>();
        }
        return Error(Errc::temporary, errno_error("lookup " + name + " in " + table, error).what);
    }
    return Error(Errc::temporary, "lookup " + name + " in " + table + ": record too large");
}

class PasswdTable final : public Table {
public:
    PasswdTable(std::string name, bool fold) : Table(std::move(name), false, fold) {}

protected:
    Lookup find(std::string_view key) override { return ask<passwd>(name(), key, getpwnam_r, passwd_line); }
};

class GroupTable final : public Table {
public:
    GroupTable(std::string name, bool fold) : Table(std::move(name), false, fold) {}

protected:
    Lookup find(std::string_view key) override { return ask<group>(name(), key, getgrnam_r, group_line); }
};

}  // namespace

Result<TablePtr> open_unix(std::string_view name, const TableContext& context) {
    const std::string title = full_name("unix", name);
    if (!context.allow_unix) {
        return Error(Errc::unsupported, title + ": account databases cannot be read here");
    }
    if (name == "passwd.byname") {
        return TablePtr(std::make_unique<PasswdTable>(title, context.fold_case));
    }
    if (name == "group.byname") {
        return TablePtr(std::make_unique<GroupTable>(title, context.fold_case));
    }
    return Error(Errc::config, title + ": unknown table name; there are passwd.byname and group.byname");
}

}  // namespace postern::table_type
