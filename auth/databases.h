/// All password and user databases together, in the order of auth_passdbs and auth_userdbs.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "auth/backend.h"
#include "auth/cache.h"
#include "auth/pam.h"
#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/sasl/auth_messages.h"
#include "lib/sasl/scram_keys.h"

namespace postern {

/// Who logs in.
struct LoginNames {
    std::string user{};          ///< whose mail it will be: after auth_username_format and so on
    std::string master{};        ///< whose password counts, if somebody else's; else empty
};

/// What the databases say about a login.
struct Verdict {
    enum class Kind : unsigned char { accepted, mismatch, unknown, disabled, temporary };
    Kind kind = Kind::temporary;
    std::string user{};          ///< after auth_username_format, and `user=` of the entry
    std::string text{};          ///< for a disabled account: what the client may be told
    bool no_delay = false;       ///< `nodelay`: answer a failure at once
    std::string master{};        ///< as LoginNames::master, when accepted
};

/// What templates may name of a user who logs in.  The result refers to the arguments.
Variables variables_of(const std::string& user, const AuthPeer& peer);

class Databases {
public:
    /// `config` outlives it.  Starts the PAM helper when auth_passdbs names pam, so call it before threads and
    /// before rights are given up.  Errors: config, naming the parameter.
    static Result<std::unique_ptr<Databases>> open(const Config& config);

    /// The name under which a login is looked up: auth_username_chars, auth_username_translation,
    /// auth_default_realm, auth_username_format.  Errors: denied for a character that may not be used.
    Result<std::string> canonical(std::string_view user, const AuthPeer& peer) const;

    /// Whose password counts, and for whom, when a client gives the name `user` and perhaps asks to act for `for_user`: that is
    /// another way to say "for_user*user", with auth_master_user_separator = *.  Errors: denied, as canonical().
    Result<LoginNames> names_of(std::string_view user, std::string_view for_user, const AuthPeer& peer) const;

    /// PLAIN and LOGIN.  Logs failures when auth_verbose is set, and what master users do in any case.
    Task<Verdict> check_password(LoginNames names, std::string password, AuthPeer peer);

    /// For the SCRAM mechanisms; may take milliseconds.  Safe to use from several threads.  Unknown users and users
    /// whose password is kept as another kind of hash get keys nobody has.
    ScramKeys scram_keys(const std::string& user, const std::string& for_user, const AuthPeer& peer, ScramHash hash);
    /// After SCRAM: what else stands in the entry (nologin, allow_nets).  `accepted_by`: in which database; null: not known.
    Verdict authorize(const LoginNames& names, const AuthPeer& peer, const Backend* accepted_by = nullptr);

    /// Errors: not_found, temporary, config.
    Task<Result<AuthUser>> find_user(std::string user, std::string service);

    /// Whether any password database can serve SCRAM.
    bool can_scram() const;
    /// Whether root is needed no more after open().
    bool uses_pam() const { return static_cast<bool>(pam_); }

private:
    explicit Databases(const Config& config);
    struct Checked {
        Verdict verdict;
        std::string log;         ///< reason, in Dovecot's words
        bool wrong_password = false;
    };
    const std::vector<Backend>& passdbs_for(const LoginNames& names) const { return names.master.empty() ? passdbs_ : masters_; }
    const Backend* remembered(const std::vector<Backend>& all, const std::string& cache_user, const std::string& password,
                              PasswordCache::Clock::time_point now);
    Verdict finish_login(const Backend& backend, Verdict verdict, const LoginNames& names, const AuthPeer& peer);
    Task<Checked> check_one(const Backend& backend, const std::string& user, const std::string& password,
                            const AuthPeer& peer);
    Task<Result<bool>> verify(const Backend& backend, const PasswdEntry& entry, const std::string& user, const std::string& password);
    Task<Checked> check_entry(const Backend& backend, PasswdEntry entry, const std::string& user,
                              const std::string& password, const AuthPeer& peer);
    Task<Checked> check_pam(const Backend& backend, const std::string& user, const std::string& password,
                            const AuthPeer& peer);
    Result<std::optional<PasswdEntry>> find_entry(const Backend& backend, const std::string& user,
                                                  const AuthPeer& peer);
    Result<std::optional<PasswdEntry>> find_userdb_entry(const Backend& backend, const Variables& variables);
    Result<AuthUser> find_user_now(const std::string& user, const std::string& service);
    Result<AuthUser> complete(PasswdEntry entry, const std::string& user, const std::string& service);
    Result<void> place_index(std::string& mail_location, const std::string& home, const Variables& variables) const;
    Result<void> fill_ids(PasswdEntry& entry, const std::string& user) const;
    Verdict judge(const PasswdEntry& entry, const std::string& user, const AuthPeer& peer) const;
    void log_about(const Backend& backend, const LoginNames& names, const AuthPeer& peer, std::string_view what) const;

    const Config& config_;
    std::vector<Backend> passdbs_, masters_, userdbs_;   ///< masters_: the password databases of master users
    PasswdFiles files_;
    std::unique_ptr<PamHelper> pam_;
    /// Of the threads (lib/async/offload.h), so that a few users' costly hashes do not keep all others out.
    static constexpr std::size_t kExpensiveAtOnce = 20, kHeavyAtOnce = 2;
    Semaphore expensive_{kExpensiveAtOnce};
    Semaphore heavy_{kHeavyAtOnce};
    PasswordCache cache_;
    std::uint64_t cache_generation_ = 0;
    std::string secret_;                       ///< makes salts of unknown users
    bool unprivileged_;                        ///< at the start: the whole suite runs as one ordinary user
    std::mutex scram_mutex_;
    std::unordered_map<std::string, ScramKeys> scram_cache_;   ///< derived from plain passwords, by what they derive from
};

}  // namespace postern
