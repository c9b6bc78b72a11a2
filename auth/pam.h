/// PAM, in a helper process that keeps the rights PAM modules need, so that auth(8) itself can give up its own.
///
/// The helper is forked at the start, before auth(8) has threads, and has no network.  It forks once more for each
/// check: a module that leaks, hangs or crashes harms that check only.
#pragma once

#include <memory>
#include <string>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

enum class PamVerdict : char {
    ok = 'o',
    mismatch = 'm',
    unknown = 'u',
    disabled = 'd',     ///< expired, locked, not now, password has to be changed
    temporary = 't',
};

struct PamAnswer {
    PamVerdict verdict = PamVerdict::temporary;
    std::string text;   ///< as Dovecot logs it: "pam_authenticate() failed: Authentication failure (Password mismatch?)"
};

struct PamQuestion {
    std::string pam_service;   ///< file in /etc/pam.d
    std::string user;
    std::string password;
    std::string remote_ip;     ///< PAM_RHOST
};

/// Handle to the helper.  Safe to use from several threads.
class PamHelper {
public:
    /// `at_once` is auth_worker_max_count.  Errors: temporary.
    static Result<std::unique_ptr<PamHelper>> start(std::size_t at_once);

    /// Blocks for as long as PAM takes, at most kPatience.
    PamAnswer check(const PamQuestion& question) const;

private:
    explicit PamHelper(UniqueFd socket) : socket_(std::move(socket)) {}
    UniqueFd socket_;
};

/// One conversation with PAM in this process: authentication, then account management.
PamAnswer ask_pam(const PamQuestion& question);

}  // namespace postern
