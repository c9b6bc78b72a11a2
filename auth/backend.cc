#include "auth/backend.h"

#include <fmt/format.h>
#include <pwd.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/sandbox/identity.h"

namespace postern {

namespace {

Error bad_element(std::string_view element, std::string_view why) {
    return Error(Errc::config, fmt::format("\"{}\": {}", printable(element, 200), why));
}

Result<void> add_word(Backend& backend, const std::string& word, bool for_userdb) {
    const std::size_t equal = word.find('=');
    const std::string name = word.substr(0, equal);
    const std::string value = equal == std::string::npos ? "yes" : word.substr(equal + 1);
    if (!for_userdb && (name == "master" || name == "pass")) {
        if (value != "yes" && value != "no") {
            return {Errc::config, fmt::format("{}= is neither yes nor no", name)};
        }
        (name == "master" ? backend.master : backend.pass) = value == "yes";
        return {};
    }
    switch (backend.kind) {
    case Backend::Kind::passwd_file:
        if (name == "scheme" && equal != std::string::npos) {
            backend.scheme = value;
        } else if (name == "username_format" && equal != std::string::npos) {
            backend.username_format = value;
        } else if (backend.path.empty() && word.front() == '/') {
            backend.path = word;
        } else if (equal == std::string::npos) {
            return {Errc::config, "no absolute file name"};
        } else {
            return {Errc::config, fmt::format("unknown argument {}", printable(word, 80))};
        }
        return {};
    case Backend::Kind::pam:
        if (word.front() != '-' && equal == std::string::npos && word != "*") {
            backend.service = word;
        }
        return {};   // Dovecot's session=yes, setcred=yes and so on change nothing for a password check
    case Backend::Kind::passwd:
        return {Errc::config, "passwd takes no arguments"};
    case Backend::Kind::static_users:
        backend.fields[name] = value;
        return {};
    }
    return {};
}

Result<Backend> parse_backend(std::string_view element, bool for_userdb, const Config& config) {
    std::string_view text = trim(element);
    if (text.size() >= 2 && text.front() == '{' && text.back() == '}') {
        text = trim(text.substr(1, text.size() - 2));
    }
    const std::size_t end = text.find_first_of(": \t");
    const std::string_view name = text.substr(0, end);
    Backend backend;
    backend.scheme = config.auth_default_password_scheme();
    backend.service = config.auth_pam_service();
    if (name == "passwd-file") {
        backend.kind = Backend::Kind::passwd_file;
    } else if (name == "pam" && !for_userdb) {
        backend.kind = Backend::Kind::pam;
    } else if (name == "passwd" && for_userdb) {
        backend.kind = Backend::Kind::passwd;
    } else if (name == "static") {
        backend.kind = Backend::Kind::static_users;
    } else {
        return bad_element(element, for_userdb ? "known user databases are passwd-file, passwd and static"
                                               : "known password databases are passwd-file, pam and static");
    }
    const std::string_view arguments = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    for (const std::string& word : split(arguments, " \t\n")) {
        const Result<void> added = add_word(backend, word, for_userdb);
        if (!added) {
            return bad_element(element, added.error().what);
        }
    }
    if (backend.kind == Backend::Kind::passwd_file && backend.path.empty()) {
        return bad_element(element, "no absolute file name");
    }
    if (backend.kind == Backend::Kind::static_users && !for_userdb && backend.fields.count("password") == 0 &&
        backend.fields.count("nopassword") == 0) {
        return bad_element(element, "needs password= or nopassword=y");
    }
    return backend;
}

Result<std::optional<std::uint32_t>> optional_id(const Backend& backend, const char* name,
                                                 Result<std::uint32_t> (*resolve)(const std::string&)) {
    const auto found = backend.fields.find(name);
    if (found == backend.fields.end()) {
        return std::optional<std::uint32_t>();
    }
    const Result<std::uint32_t> id = resolve(found->second);
    if (!id) {
        return id.error();
    }
    return std::optional(*id);
}

}  // namespace

std::string_view Backend::name() const {
    switch (kind) {
    case Kind::passwd_file: return "passwd-file";
    case Kind::pam: return "pam";
    case Kind::passwd: return "passwd";
    case Kind::static_users: return "static";
    }
    return "?";
}

Result<std::vector<Backend>> parse_backends(std::string_view list, bool for_userdb, const Config& config) {
    std::vector<Backend> backends;
    for (const std::string& element : split_list(list)) {
        Result<Backend> backend = parse_backend(element, for_userdb, config);
        if (!backend) {
            return backend.error();
        }
        backends.push_back(std::move(*backend));
    }
    return backends;
}

std::shared_ptr<PasswdFile> PasswdFiles::open(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (const auto found = files_.find(path); found != files_.end()) {
        return found->second;
    }
    if (files_.size() >= kMaxOpen) {   // %d in the path, and somebody tries domains
        forgotten_ += files_.begin()->second->generation() + 1;
        files_.erase(files_.begin());
    }
    auto file = std::make_shared<PasswdFile>(path);
    files_[path] = file;
    return file;
}

Result<std::optional<PasswdEntry>> PasswdFiles::find(const Backend& backend, const Variables& variables) {
    const Result<std::string> path = expand_path(backend.path, variables);
    const Result<std::string> user = expand_variables(backend.username_format, variables);
    if (!path || !user) {
        return path ? user.error() : path.error();
    }
    const std::shared_ptr<PasswdFile> file = open(*path);
    const bool was_read = file->was_read();
    Result<std::optional<PasswdEntry>> entry = file->lookup(*user);
    for (const std::string& problem : file->take_problems()) {
        log_warning("{} {}", *path, problem);
    }
    if (entry) {
        return entry;
    }
    if (entry.error().code == Errc::not_found && !was_read) {
        return std::optional<PasswdEntry>();
    }
    return {Errc::temporary, entry.error().what};
}

std::uint64_t PasswdFiles::generation() {
    const std::lock_guard lock(mutex_);
    std::uint64_t sum = forgotten_;
    for (auto& [path, file] : files_) {
        (void)file->refresh();
        sum += file->generation();
    }
    return sum;
}

Result<PasswdEntry> static_entry(const Backend& backend, const Variables& variables) {
    PasswdEntry entry;
    entry.user = variables.user;
    const auto uid = optional_id(backend, "uid", resolve_uid);
    const auto gid = optional_id(backend, "gid", resolve_gid);
    if (!uid || !gid) {
        return uid ? gid.error() : uid.error();
    }
    entry.uid = *uid;
    entry.gid = *gid;
    for (const auto& [name, value] : backend.fields) {
        const bool is_place = name == "home" || name == "mail";
        const Result<std::string> expanded =
            is_place ? expand_path(value, variables) : expand_variables(value, variables);
        if (!expanded) {
            return expanded.error();
        }
        if (name == "password") {
            entry.password = value;
        } else if (name == "home") {
            entry.home = *expanded;
        } else if (name == "mail") {
            entry.mail = *expanded;
        } else if (name != "uid" && name != "gid") {
            entry.extra.emplace_back(name, *expanded);
        }
    }
    return entry;
}

Result<std::optional<PasswdEntry>> system_entry(const std::string& user) {
    std::vector<char> buffer(16384);
    passwd record{};
    passwd* found = nullptr;
    const int status = ::getpwnam_r(user.c_str(), &record, buffer.data(), buffer.size(), &found);
    if (found == nullptr) {
        if (status == 0 || status == ENOENT || status == ESRCH) {
            return std::optional<PasswdEntry>();
        }
        return {Errc::temporary, errno_error(fmt::format("getpwnam({})", printable(user, 100)), status).what};
    }
    PasswdEntry entry;
    entry.user = record.pw_name;   // the database's spelling
    entry.uid = record.pw_uid;
    entry.gid = record.pw_gid;
    entry.home = record.pw_dir;
    return std::optional(std::move(entry));
}

Result<std::uint32_t> resolve_uid(const std::string& text) {
    if (const auto number = parse_number(text); number && *number < 0xffffffffU) {
        return static_cast<std::uint32_t>(*number);
    }
    const Result<UserIdentity> user = find_user(text);
    if (!user) {
        return {Errc::config, fmt::format("no user {}", printable(text, 80))};
    }
    return static_cast<std::uint32_t>(user->uid);
}

Result<std::uint32_t> resolve_gid(const std::string& text) {
    if (const auto number = parse_number(text); number && *number < 0xffffffffU) {
        return static_cast<std::uint32_t>(*number);
    }
    const Result<gid_t> group = find_group(text);
    if (!group) {
        return {Errc::config, fmt::format("no group {}", printable(text, 80))};
    }
    return static_cast<std::uint32_t>(*group);
}

}  // namespace postern
