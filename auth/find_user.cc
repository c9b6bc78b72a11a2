/// The user databases' half of Databases: who a user is, where mail goes, and with which ids.
#include <fmt/format.h>
#include <grp.h>
#include <unistd.h>

#include <utility>

#include "auth/databases.h"
#include "lib/async/offload.h"

namespace postern {

namespace {

/// "~/" at the places of a mail_location where a path begins.
std::string expand_tilde(std::string_view text, std::string_view home) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool path_begins = i == 0 || text[i - 1] == ':' || text[i - 1] == '=';
        const bool ends = i + 1 == text.size() || text[i + 1] == '/' || text[i + 1] == ':';
        if (text[i] == '~' && path_begins && ends) {
            out += home;
        } else {
            out += text[i];
        }
    }
    return out;
}

std::vector<std::uint32_t> groups_of(const std::string& user, std::uint32_t gid) {
    std::vector<gid_t> groups(64);
    int count = static_cast<int>(groups.size());
    while (::getgrouplist(user.c_str(), gid, groups.data(), &count) < 0 && count < 65536) {
        groups.resize(static_cast<std::size_t>(count));
    }
    groups.resize(static_cast<std::size_t>(count));
    return {groups.begin(), groups.end()};
}

}  // namespace

Result<std::optional<PasswdEntry>> Databases::find_userdb_entry(const Backend& backend, const Variables& variables) {
    if (backend.kind == Backend::Kind::passwd_file) {
        return files_.find(backend, variables);
    }
    if (backend.kind == Backend::Kind::passwd) {
        return system_entry(std::string(variables.user));
    }
    Result<PasswdEntry> entry = static_entry(backend, variables);
    if (!entry) {
        return entry.error();
    }
    return std::optional(std::move(*entry));
}

Result<AuthUser> Databases::find_user_now(const std::string& user, const std::string& service) {
    AuthPeer peer;
    peer.service = service;
    const Variables variables = variables_of(user, peer);
    for (const Backend& backend : userdbs_) {
        Result<std::optional<PasswdEntry>> entry = find_userdb_entry(backend, variables);
        if (!entry) {
            return entry.error();
        }
        if (*entry) {
            Result<AuthUser> found = complete(std::move(**entry), user, service);
            if (found && backend.kind == Backend::Kind::passwd) {
                // Only here: a virtual user's name may be a system user's name by accident.
                found->groups = groups_of(user, found->gid);
            }
            return found;
        }
    }
    return {Errc::not_found, "unknown user"};
}

/// uid and gid by name, from mail_uid and mail_gid, or, in an unprivileged suite, the suite's own.
Result<void> Databases::fill_ids(PasswdEntry& entry, const std::string& user) const {
    if (!entry.uid_name.empty()) {
        const Result<std::uint32_t> uid = resolve_uid(entry.uid_name);
        if (!uid) {
            return {uid.error().code, fmt::format("user {}: {}", user, uid.error().what)};
        }
        entry.uid = *uid;
    }
    if (!entry.gid_name.empty()) {
        const Result<std::uint32_t> gid = resolve_gid(entry.gid_name);
        if (!gid) {
            return {gid.error().code, fmt::format("user {}: {}", user, gid.error().what)};
        }
        entry.gid = *gid;
    }
    if (!entry.uid && !config_.mail_uid().empty()) {
        const Result<std::uint32_t> uid = resolve_uid(config_.mail_uid());
        if (!uid) {
            return {Errc::config, "parameter mail_uid: " + uid.error().what};
        }
        entry.uid = *uid;
    }
    if (!entry.gid && !config_.mail_gid().empty()) {
        const Result<std::uint32_t> gid = resolve_gid(config_.mail_gid());
        if (!gid) {
            return {Errc::config, "parameter mail_gid: " + gid.error().what};
        }
        entry.gid = *gid;
    }
    if (unprivileged_ && !entry.uid && !entry.gid) {
        entry.uid = ::geteuid();
        entry.gid = ::getegid();
    }
    if (!entry.uid || !entry.gid) {
        return {Errc::config, fmt::format("user {} has no uid or gid, and mail_uid or mail_gid is not set", user)};
    }
    return {};
}

/// mail_index_path, unless the location itself says where indexes are.
Result<void> Databases::place_index(std::string& mail_location, const std::string& home, const Variables& variables) const {
    if (config_.mail_index_path().empty() || mail_location.find(":INDEX=") != std::string::npos) {
        return {};
    }
    const Result<std::string> path = expand_path(config_.mail_index_path(), variables);
    if (!path) {
        return {path.error().code, "parameter mail_index_path: " + path.error().what};
    }
    mail_location += ":INDEX=" + expand_tilde(*path, home);
    return {};
}

/// Fills what the entry leaves open from mail_home, mail_location, mail_uid and mail_gid.
Result<AuthUser> Databases::complete(PasswdEntry entry, const std::string& user, const std::string& service) {
    AuthUser result;
    result.user = user;
    Variables variables;
    variables.user = user;
    variables.service = service;
    if (entry.home.empty() && !config_.mail_home().empty()) {
        const Result<std::string> home = expand_path(config_.mail_home(), variables);
        if (!home) {
            return home.error();
        }
        entry.home = *home;
    }
    variables.home = entry.home;
    const Result<std::string> mail = expand_path(entry.mail.empty() ? config_.mail_location() : entry.mail, variables);
    if (!mail) {
        return mail.error();
    }
    if (entry.home.empty() && mail->find('~') != std::string::npos) {
        return {Errc::config, fmt::format("user {} has no home directory for mail_location", user)};
    }
    if (const Result<void> filled = fill_ids(entry, user); !filled) {
        return filled.error();
    }
    result.uid = *entry.uid;
    result.gid = *entry.gid;
    result.home = entry.home;
    result.mail_location = expand_tilde(*mail, entry.home);
    if (const Result<void> placed = place_index(result.mail_location, entry.home, variables); !placed) {
        return placed.error();
    }
    result.groups = {*entry.gid};
    for (auto& [name, value] : entry.extra) {
        if (name.compare(0, 7, "userdb_") == 0) {
            result.extra.push_back(name.substr(7) + "=" + value);
        }
    }
    return result;
}

Task<Result<AuthUser>> Databases::find_user(std::string user, std::string service) {
    bool asks_system = false;
    for (const Backend& backend : userdbs_) {
        asks_system = asks_system || backend.kind == Backend::Kind::passwd;
    }
    if (!asks_system) {
        co_return find_user_now(user, service);
    }
    auto work = [this, &user, &service] { return find_user_now(user, service); };
    co_return co_await offload(std::move(work));
}

}  // namespace postern
