/// The part of Databases that is about names: what becomes of a login name, and master users.
#include <fmt/format.h>

#include "auth/databases.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern {

namespace {

constexpr std::size_t kMaxUser = 1024;

}  // namespace

Result<std::string> Databases::canonical(std::string_view user, const AuthPeer& peer) const {
    if (user.empty() || user.size() > kMaxUser) {
        return {Errc::denied, "Empty or too long username"};
    }
    std::string name(user);
    const std::string& translation = config_.auth_username_translation();
    for (char& c : name) {
        for (std::size_t i = 0; i + 1 < translation.size(); i += 2) {
            if (c == translation[i]) {
                c = translation[i + 1];
                break;
            }
        }
    }
    const std::string& allowed = config_.auth_username_chars();
    for (const char c : name) {
        if (c == '\0' || (!allowed.empty() && allowed.find(c) == std::string::npos)) {
            return {Errc::denied, fmt::format("Username character disallowed by auth_username_chars: 0x{:02x} (username: {})",
                                              static_cast<unsigned char>(c), printable(user, 100))};
        }
    }
    if (!config_.auth_default_realm().empty() && name.find('@') == std::string::npos) {
        name += "@" + config_.auth_default_realm();
    }
    const std::string& format = config_.auth_username_format();
    return format.empty() ? name : expand_variables(format, variables_of(name, peer));
}

/// As in Dovecot: the first separator counts, a name that the client asks to act for counts more, and who asks to act for himself
/// asks for nothing.
Result<LoginNames> Databases::names_of(std::string_view user, std::string_view for_user, const AuthPeer& peer) const {
    const std::string& separator = config_.auth_master_user_separator();
    const std::size_t cut = separator.empty() ? std::string_view::npos : user.find(separator.front());
    const bool named = cut != std::string_view::npos || !for_user.empty();
    Result<std::string> who = canonical(cut == std::string_view::npos ? user : user.substr(cut + 1), peer);
    if (!who || !named) {
        return who ? Result<LoginNames>(LoginNames{std::move(*who)}) : who.error();
    }
    const std::string_view wanted = for_user.empty() ? user.substr(0, cut) : for_user;
    if (wanted.empty()) {
        return {Errc::denied, fmt::format("Master user login attempted to use empty login username (master: {})", *who)};
    }
    Result<std::string> login = canonical(wanted, peer);
    if (!login) {
        return login.error();
    }
    return *login == *who ? LoginNames{std::move(*who)} : LoginNames{std::move(*login), std::move(*who)};
}

/// The password, or the proof, was right.  A master user goes on as somebody else; this is always logged.
Verdict Databases::finish_login(const Backend& backend, Verdict verdict, const LoginNames& names, const AuthPeer& peer) {
    if (names.master.empty()) {
        return verdict;
    }
    if (backend.pass) {
        Verdict own{Verdict::Kind::mismatch, names.user};
        for (const Backend& other : passdbs_) {
            if (own.kind != Verdict::Kind::mismatch || other.kind == Backend::Kind::pam) {
                continue;   // PAM does not tell without a password
            }
            const Result<std::optional<PasswdEntry>> entry = find_entry(other, names.user, peer);
            if (!entry) {
                own.kind = Verdict::Kind::temporary;
            } else if (*entry) {
                own = judge(**entry, names.user, peer);
            }
        }
        if (own.kind != Verdict::Kind::accepted) {
            log_about(backend, names, peer, fmt::format("Master user may not log in as {}", names.user));
            return own;
        }
        verdict.user = std::move(own.user);
    } else {
        verdict.user = names.user;
    }
    verdict.master = names.master;
    log_about(backend, names, peer, fmt::format("Master user logging in as {}", verdict.user));
    return verdict;
}

}  // namespace postern
