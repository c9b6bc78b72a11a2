#include "auth/databases.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>

#include "lib/async/offload.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/login/networks.h"
#include "lib/sasl/password_scheme.h"

namespace postern {

namespace {

constexpr std::size_t kScramCacheLimit = 10'000;
constexpr std::size_t kScramSalt = 16;

bool says_yes(const std::string* value) {
    return value != nullptr && (value->empty() || upper(value->front()) == 'Y' || *value == "1");
}

}  // namespace

Variables variables_of(const std::string& user, const AuthPeer& peer) {
    Variables variables;
    variables.user = user;
    variables.service = peer.service;
    variables.remote_ip = peer.remote_ip;
    variables.local_ip = peer.local_ip;
    return variables;
}

Databases::Databases(const Config& config)
    : config_(config),
      cache_(static_cast<std::size_t>(config.auth_cache_size()), config.auth_cache_ttl(),
             config.auth_cache_negative_ttl()),
      secret_(random_bytes(32)),
      unprivileged_(::geteuid() != 0) {}

Result<std::unique_ptr<Databases>> Databases::open(const Config& config) {
    std::unique_ptr<Databases> databases(new Databases(config));
    Result<std::vector<Backend>> passdbs = parse_backends(config.auth_passdbs(), false, config);
    if (!passdbs) {
        return {Errc::config, "parameter auth_passdbs: " + passdbs.error().what};
    }
    Result<std::vector<Backend>> userdbs = parse_backends(config.auth_userdbs(), true, config);
    if (!userdbs) {
        return {Errc::config, "parameter auth_userdbs: " + userdbs.error().what};
    }
    for (Backend& backend : *passdbs) {
        (backend.master ? databases->masters_ : databases->passdbs_).push_back(std::move(backend));
    }
    if (config.auth_master_user_separator().size() > 1) {
        return {Errc::config, fmt::format("parameter auth_master_user_separator: \"{}\" is more than one character",
                                          printable(config.auth_master_user_separator(), 80))};
    }
    databases->userdbs_ = std::move(*userdbs);
    Variables sample;
    sample.user = "user@example.org";
    const Result<std::string> format = expand_variables(config.auth_username_format(), sample);
    if (!format) {
        return {Errc::config, "parameter auth_username_format: " + format.error().what};
    }
    const auto is_pam = [](const Backend& backend) { return backend.kind == Backend::Kind::pam; };
    if (std::any_of(databases->passdbs_.begin(), databases->passdbs_.end(), is_pam) ||
        std::any_of(databases->masters_.begin(), databases->masters_.end(), is_pam)) {
        auto helper = PamHelper::start(static_cast<std::size_t>(config.auth_worker_max_count()));
        if (!helper) {
            return helper.error();
        }
        databases->pam_ = std::move(*helper);
    }
    return databases;
}

bool Databases::can_scram() const {
    for (const Backend& backend : passdbs_) {
        if (backend.kind != Backend::Kind::pam) {
            return true;
        }
    }
    return false;
}

namespace {

/// auth_verbose_passwords: what a line about a wrong password says of it, in Dovecot's words.  `setting` is "no", "plain" or
/// "sha1", the latter two with ":N" for the first N bytes alone.
std::string given_password(std::string_view setting, const std::string& password) {
    if (equals_ignoring_case(setting, "no")) {
        return {};
    }
    const std::size_t colon = setting.find(':');
    const std::size_t most = colon == std::string_view::npos ? std::string_view::npos
                                                             : static_cast<std::size_t>(parse_number(setting.substr(colon + 1)).value_or(0));
    if (equals_ignoring_case(setting.substr(0, colon), "plain")) {
        return fmt::format(" (given password: {})", password.substr(0, most));
    }
    unsigned char digest[SHA_DIGEST_LENGTH];
    if (EVP_Digest(password.data(), password.size(), digest, nullptr, EVP_sha1(), nullptr) != 1) {
        return {};
    }
    return fmt::format(" (SHA1 of given password: {})",
                       hex_encode({reinterpret_cast<const char*>(digest), sizeof digest}).substr(0, most));
}

std::string_view verdict_word(Verdict::Kind kind) {
    switch (kind) {
    case Verdict::Kind::accepted: return "accepted";
    case Verdict::Kind::mismatch: return "refused";
    case Verdict::Kind::unknown: return "unknown user";
    case Verdict::Kind::disabled: return "disabled";
    case Verdict::Kind::temporary: break;
    }
    return "cannot answer";
}

}  // namespace

void Databases::log_about(const Backend& backend, const LoginNames& names, const AuthPeer& peer, std::string_view what) const {
    const bool master = !names.master.empty();
    log_info("auth: {}({},{},{}<{}>): {}", backend.name(), master ? names.master : names.user, peer.remote_ip, master ? "master," : "",
             peer.session_id, what);
}

/// nologin and allow_nets, which count after the password.
Verdict Databases::judge(const PasswdEntry& entry, const std::string& user, const AuthPeer& peer) const {
    Verdict verdict{Verdict::Kind::accepted, user};
    if (const std::string* renamed = entry.find_extra("user")) {
        verdict.user = *renamed;
    }
    for (const std::string_view elsewhere : {"proxy", "proxy_maybe"}) {
        if (entry.find_extra(elsewhere) != nullptr) {   // an empty mailbox here would look like lost mail
            log_error("auth: user {}: the field {} names another server, which is not supported", user, elsewhere);
            verdict.kind = Verdict::Kind::temporary;
            return verdict;
        }
    }
    verdict.no_delay = entry.find_extra("nodelay") != nullptr;
    if (const std::string* networks = entry.find_extra("allow_nets");
        networks != nullptr && !in_networks(peer.remote_ip, split(*networks, ", \t"))) {
        verdict.kind = Verdict::Kind::mismatch;   // Dovecot: as if the password were wrong
        return verdict;
    }
    if (entry.find_extra("nologin") != nullptr) {   // Dovecot: whatever its value
        verdict.kind = Verdict::Kind::disabled;
        const std::string* reason = entry.find_extra("reason");
        verdict.text = reason != nullptr ? *reason : "Account disabled.";
    }
    return verdict;
}

Result<std::optional<PasswdEntry>> Databases::find_entry(const Backend& backend, const std::string& user,
                                                         const AuthPeer& peer) {
    const Variables variables = variables_of(user, peer);
    if (backend.kind == Backend::Kind::passwd_file) {
        return files_.find(backend, variables);
    }
    Result<PasswdEntry> entry = static_entry(backend, variables);
    if (!entry) {
        return entry.error();
    }
    return std::optional(std::move(*entry));
}

Task<Result<bool>> Databases::verify(const Backend& backend, const PasswdEntry& entry, const std::string& user,
                                     const std::string& password) {
    const Result<PasswordCost> cost = password_cost(entry.password, backend.scheme);
    if (!cost) {
        co_return cost.error();
    }
    if (*cost == PasswordCost::cheap) {
        co_return verify_password(entry.password, backend.scheme, password, user);
    }
    Semaphore& places = *cost == PasswordCost::heavy ? heavy_ : expensive_;
    co_await places.acquire();
    auto work = [&entry, &backend, &password, &user] { return verify_password(entry.password, backend.scheme, password, user); };
    const Result<bool> right = co_await offload(std::move(work));
    places.release();
    co_return right;
}

Task<Databases::Checked> Databases::check_entry(const Backend& backend, PasswdEntry entry, const std::string& user,
                                                const std::string& password, const AuthPeer& peer) {
    Result<bool> right = false;
    if (entry.password.empty() && says_yes(entry.find_extra("nopassword"))) {   // with a password, that counts, as in Dovecot
        right = true;
    } else if (entry.password.empty()) {
        co_return Checked{Verdict{Verdict::Kind::mismatch, user}, "No password returned (and no nopassword)"};
    } else {
        right = co_await verify(backend, entry, user, password);
    }
    if (!right) {
        log_error("auth: {}({}): {}", backend.name(), user, right.error().what);
        co_return Checked{Verdict{Verdict::Kind::temporary, user}, right.error().what};
    }
    if (!*right) {
        co_return Checked{Verdict{Verdict::Kind::mismatch, user, "", entry.find_extra("nodelay") != nullptr},
                          "Password mismatch", true};
    }
    Verdict verdict = judge(entry, user, peer);
    std::string why = verdict.kind == Verdict::Kind::mismatch ? "allow_nets check failed: IP not in allowed networks" : "";
    co_return Checked{std::move(verdict), std::move(why)};
}

Task<Databases::Checked> Databases::check_pam(const Backend& backend, const std::string& user,
                                              const std::string& password, const AuthPeer& peer) {
    PamQuestion question;
    question.pam_service = backend.service;
    question.user = user;
    question.password = password;
    question.remote_ip = peer.remote_ip;
    auto work = [&question, this] { return pam_->check(question); };
    PamAnswer answer = co_await offload(std::move(work));
    Checked checked;
    checked.verdict.user = user;
    checked.log = answer.text;
    switch (answer.verdict) {
    case PamVerdict::ok:
        checked.verdict.kind = Verdict::Kind::accepted;
        break;
    case PamVerdict::mismatch:
        checked.verdict.kind = Verdict::Kind::mismatch;
        checked.wrong_password = true;
        break;
    case PamVerdict::unknown:
        checked.verdict.kind = Verdict::Kind::unknown;
        break;
    case PamVerdict::disabled:
        checked.verdict.kind = Verdict::Kind::disabled;
        checked.verdict.text = "Account disabled.";
        break;
    default:
        checked.verdict.kind = Verdict::Kind::temporary;
        break;
    }
    co_return checked;
}

Task<Databases::Checked> Databases::check_one(const Backend& backend, const std::string& user,
                                              const std::string& password, const AuthPeer& peer) {
    if (backend.kind == Backend::Kind::pam) {
        co_return co_await check_pam(backend, user, password, peer);
    }
    Result<std::optional<PasswdEntry>> entry = find_entry(backend, user, peer);
    if (!entry) {
        const bool name_only = entry.error().code == Errc::denied;
        if (!name_only) {
            log_error("auth: {}({},{}): {}", backend.name(), user, peer.remote_ip, entry.error().what);
        }
        co_return Checked{Verdict{name_only ? Verdict::Kind::unknown : Verdict::Kind::temporary, user},
                          entry.error().what};
    }
    if (!*entry) {
        co_return Checked{Verdict{Verdict::Kind::unknown, user}, "unknown user"};
    }
    PasswdEntry found = std::move(**entry);
    co_return co_await check_entry(backend, std::move(found), user, password, peer);
}

namespace {

/// Under what the cache has the passwords that `backend`, of `all`, has accepted; `user` with something that no name has in it.
std::string cache_user_of(const std::string& user, const Backend& backend, const std::vector<Backend>& all) {
    return user + '\0' + std::to_string(&backend - all.data());
}

}  // namespace

/// Which of `all` has accepted the password lately.
const Backend* Databases::remembered(const std::vector<Backend>& all, const std::string& cache_user, const std::string& password,
                                     PasswordCache::Clock::time_point now) {
    for (const Backend& backend : all) {
        if (cache_.find(cache_user_of(cache_user, backend, all), password, now) == PasswordCache::Known::good) {
            return &backend;
        }
    }
    return nullptr;
}

/// Databases are asked in turn until one accepts or knows the user as disabled.  One that cannot answer turns a
/// refusal of the others into "try again later".
Task<Verdict> Databases::check_password(LoginNames names, std::string password, AuthPeer peer) {
    const std::string user = names.master.empty() ? names.user : names.master;
    if (passdbs_for(names).empty() && config_.auth_verbose()) {
        log_info("auth: {}({},{}<{}>): No password database with master=yes", user, peer.remote_ip, names.master.empty() ? "" : "master,",
                 peer.session_id);
    }
    const std::string cache_user = names.master.empty() ? user : '\0' + user;   // no name has that: masters' passwords are their own
    const auto now = std::chrono::steady_clock::now();
    if (cache_.enabled()) {
        if (const std::uint64_t generation = files_.generation(); generation != cache_generation_) {
            cache_.clear();
            cache_generation_ = generation;
        }
        if (const Backend* const accepted_before = remembered(passdbs_for(names), cache_user, password, now)) {
            Verdict verdict = authorize(names, peer, accepted_before);
            co_return verdict;
        }
        if (cache_.find(cache_user, password, now) == PasswordCache::Known::bad) {
            co_return Verdict{Verdict::Kind::mismatch, user};
        }
    }
    const std::uint64_t generation = cache_generation_;
    Verdict result{Verdict::Kind::unknown, user};
    const Backend* accepted_by = nullptr;
    bool is_wrong = true;   // wherever the client is
    for (const Backend& backend : passdbs_for(names)) {
        Checked checked = co_await check_one(backend, user, password, peer);
        if (checked.verdict.kind != Verdict::Kind::accepted && config_.auth_verbose()) {
            const std::string given = checked.wrong_password ? given_password(config_.auth_verbose_passwords(), password) : "";
            log_about(backend, names, peer, checked.log + given);
        }
        if (config_.auth_debug()) {
            log_info("auth: Debug: {}({},{},<{}>): {}", backend.name(), user, peer.remote_ip, peer.session_id,
                     verdict_word(checked.verdict.kind));
        }
        const Verdict::Kind kind = checked.verdict.kind;
        if (kind == Verdict::Kind::accepted || kind == Verdict::Kind::disabled) {
            accepted_by = kind == Verdict::Kind::accepted ? &backend : nullptr;
            result = std::move(checked.verdict);
            break;
        }
        is_wrong = is_wrong && (checked.wrong_password || kind == Verdict::Kind::unknown);
        if (result.kind != Verdict::Kind::temporary && kind != Verdict::Kind::unknown) {
            result = std::move(checked.verdict);
        }
    }
    if (generation == cache_generation_) {   // or the files have changed meanwhile: this may be what they said before
        if (accepted_by != nullptr && result.user == user) {
            cache_.remember(cache_user_of(cache_user, *accepted_by, passdbs_for(names)), password, PasswordCache::Known::good, now);
        } else if (is_wrong && (result.kind == Verdict::Kind::mismatch || result.kind == Verdict::Kind::unknown)) {
            cache_.remember(cache_user, password, PasswordCache::Known::bad, now);
        }
    }
    if (accepted_by != nullptr) {
        result = finish_login(*accepted_by, std::move(result), names, peer);
    }
    co_return result;
}

/// One name may be in several databases: what counts is what the one says that has accepted the password.  After SCRAM, when
/// that is not known, the first entry counts, and `pass` of any.
Verdict Databases::authorize(const LoginNames& names, const AuthPeer& peer, const Backend* accepted_by) {
    const std::string& user = names.master.empty() ? names.user : names.master;
    if (accepted_by != nullptr && accepted_by->kind == Backend::Kind::pam) {   // its answer is what the cache holds
        return finish_login(*accepted_by, Verdict{Verdict::Kind::accepted, user}, names, peer);
    }
    std::optional<Verdict> verdict;
    const Backend* found_in = nullptr;
    for (const Backend& backend : passdbs_for(names)) {
        if (backend.kind == Backend::Kind::pam || (accepted_by != nullptr && accepted_by != &backend)) {
            continue;
        }
        const Result<std::optional<PasswdEntry>> entry = find_entry(backend, user, peer);
        if (!entry) {
            return Verdict{Verdict::Kind::temporary, user};
        }
        if (*entry && !verdict) {
            verdict = judge(**entry, user, peer);
        }
        if (*entry && (found_in == nullptr || backend.pass)) {
            found_in = &backend;
        }
    }
    if (!verdict) {
        return Verdict{Verdict::Kind::mismatch, user};   // removed just now
    }
    return verdict->kind == Verdict::Kind::accepted ? finish_login(*found_in, std::move(*verdict), names, peer) : std::move(*verdict);
}

ScramKeys Databases::scram_keys(const std::string& user, const std::string& for_user, const AuthPeer& peer, ScramHash hash) {
    const Result<LoginNames> names = names_of(user, for_user, peer);
    const LoginNames who = names ? *names : LoginNames{user};
    const std::string& name = who.master.empty() ? who.user : who.master;
    const std::string salt =
        scram_hmac(ScramHash::sha256, secret_, (hash == ScramHash::sha1 ? "1" : "2") + name).substr(0, kScramSalt);
    for (const Backend& backend : passdbs_for(who)) {
        if (!names || backend.kind == Backend::Kind::pam) {
            continue;
        }
        const Result<std::optional<PasswdEntry>> entry = find_entry(backend, name, peer);
        if (!entry || !*entry) {
            continue;
        }
        const std::string& stored = (*entry)->password;
        // Two logins of one user with a plain password would derive the same keys twice.
        const std::string cache_key = scram_hmac(hash, secret_, salt + stored);
        {
            const std::lock_guard lock(scram_mutex_);
            if (const auto known = scram_cache_.find(cache_key); known != scram_cache_.end()) {
                return known->second;
            }
        }
        if (auto keys = scram_keys_of(stored, backend.scheme, hash, salt)) {
            const std::lock_guard lock(scram_mutex_);
            if (scram_cache_.size() >= kScramCacheLimit) {
                scram_cache_.clear();
            }
            scram_cache_[cache_key] = *keys;
            return *keys;
        }
    }
    ScramKeys nobody;
    nobody.salt = salt;
    nobody.stored_key = random_bytes(scram_digest_size(hash));
    nobody.server_key = random_bytes(scram_digest_size(hash));
    return nobody;
}

}  // namespace postern
