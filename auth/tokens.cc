#include "auth/tokens.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "lib/base/strings.h"
#include "lib/ipc/codec.h"
#include "lib/sasl/password_scheme.h"
#include "lib/sasl/scram_keys.h"

namespace postern {

namespace {

constexpr std::size_t kKeySize = 32;
constexpr std::size_t kCheckSize = 8;    ///< of the key in its file: a file cut short by a crash is no key
constexpr std::size_t kMacSize = 32;
constexpr std::size_t kNonceSize = 16;

/// What a token says, behind its authenticator.
struct Claim {
    std::string nonce;
    std::uint64_t expires_ms = 0;        ///< on TokenStore::Clock
    std::string user;
    AuthPeer peer;
};
template <class A>
void fields(A& a, Claim& m) { a(m.nonce, m.expires_ms, m.user, m.peer); }

std::string mac_of(std::string_view key, std::string_view message) {
    return scram_hmac(ScramHash::sha256, key, message);
}

std::string check_of(std::string_view key) {
    return mac_of(key, "auth_token_key").substr(0, kCheckSize);
}

std::uint64_t milliseconds(TokenStore::Clock::time_point time) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count());
}

/// The key in the file; empty when there is none yet, or a piece of one.
std::string key_in(int fd) {
    std::array<char, kKeySize + kCheckSize + 1> bytes{};
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), 0);
    if (got != static_cast<ssize_t>(kKeySize + kCheckSize)) {
        return {};
    }
    std::string key(bytes.data(), kKeySize);
    return check_of(key) == std::string_view(bytes.data() + kKeySize, kCheckSize) ? key : std::string();
}

/// Tokens count time from the kernel's start: those of an earlier one must not come to life again.
Result<std::string> boot_id() {
    constexpr const char* kPath = "/proc/sys/kernel/random/boot_id";
    const UniqueFd file(::open(kPath, O_RDONLY | O_CLOEXEC));
    std::array<char, 64> text{};
    const ssize_t got = file ? ::read(file.get(), text.data(), text.size()) : -1;
    if (got <= 0) {
        return errno_error(std::string("read ") + kPath);
    }
    return std::string(text.data(), static_cast<std::size_t>(got));
}

}  // namespace

Result<std::string> load_token_key(const std::string& data_directory) {
    const std::string path = data_directory + "/auth_token_key";
    const Result<std::string> boot = boot_id();
    if (!boot) {
        return boot.error();
    }
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
    struct stat status {};
    if (!file || ::flock(file.get(), LOCK_EX) != 0 || ::fstat(file.get(), &status) != 0) {
        return errno_error("open " + path);
    }
    if (!S_ISREG(status.st_mode) || status.st_uid != ::geteuid() || status.st_nlink != 1 || (status.st_mode & 077) != 0) {
        return {Errc::config, path + ": must be a plain file that only the user who starts auth may read; remove it, and a "
                                     "new one is made"};
    }
    std::string key = key_in(file.get());
    if (key.empty()) {
        key = random_bytes(kKeySize);
        const std::string content = key + check_of(key);
        if (::ftruncate(file.get(), 0) != 0 ||
            ::pwrite(file.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
            return errno_error("write " + path);
        }
    }
    return mac_of(key, "token " + *boot);
}

std::string TokenStore::issue(Login login, Clock::time_point now) const {
    Claim claim;
    claim.nonce = random_bytes(kNonceSize);
    claim.expires_ms = milliseconds(now + lifetime_);
    claim.user = std::move(login.user);
    claim.peer = std::move(login.peer);
    std::string bytes;
    std::vector<UniqueFd> none;
    Encoder encoder(bytes, none);
    fields(encoder, claim);
    if (kMacSize + bytes.size() > kMaxTokenBytes) {
        return {};
    }
    return mac_of(key_, bytes) + bytes;
}

std::optional<TokenStore::Login> TokenStore::redeem(std::string_view token, std::string_view service,
                                                    Clock::time_point now) {
    if (token.size() < kMacSize || token.size() > kMaxTokenBytes) {
        return std::nullopt;
    }
    const std::string_view bytes = token.substr(kMacSize);
    if (!equal_in_constant_time(token.substr(0, kMacSize), mac_of(key_, bytes))) {
        return std::nullopt;
    }
    Claim claim;
    std::deque<UniqueFd> none;
    Decoder decoder(bytes, none, 0);
    fields(decoder, claim);
    if (!decoder.finished() || claim.expires_ms <= milliseconds(now)) {
        return std::nullopt;
    }
    if (used_.size() >= kMaxUsed) {
        expire(now);
        if (used_.size() >= kMaxUsed) {
            return std::nullopt;
        }
    }
    const Clock::time_point expires{std::chrono::milliseconds(claim.expires_ms)};
    const bool first = used_.try_emplace(claim.nonce, expires + std::chrono::milliseconds(1)).second;
    if (!first || claim.peer.service != service) {
        return std::nullopt;
    }
    return Login{std::move(claim.user), std::move(claim.peer)};
}

void TokenStore::expire(Clock::time_point now) {
    std::erase_if(used_, [now](const auto& entry) { return entry.second <= now; });
}

}  // namespace postern
