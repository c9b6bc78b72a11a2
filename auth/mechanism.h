/// SASL mechanisms (RFC 4422), server side: PLAIN (RFC 4616), SCRAM-SHA-1 (RFC 5802) and SCRAM-SHA-256
/// (RFC 7677) by GNU SASL; LOGIN (never standardised) here, because clients match its exact prompts; ANONYMOUS (RFC 4505).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/sasl/scram_keys.h"

struct Gsasl;
struct Gsasl_session;

namespace postern {

/// Keys of a user, who may ask to act for another (empty: not so), for a SCRAM mechanism.  Must answer for unknown users too,
/// with keys nobody has and a salt that is the same each time, so that a client cannot tell who exists.
using ScramLookup = std::function<ScramKeys(const std::string& user, const std::string& for_user, ScramHash hash)>;

/// One exchange.  Steps of one exchange are not run at the same time, but may be run in different threads.
class SaslExchange {
public:
    struct Step {
        enum class Kind : unsigned char {
            challenge,        ///< `data` for the client
            check_password,   ///< user() and password() are known: the database decides
            authenticated,    ///< the mechanism itself has proof that it is user()
            anonymous,        ///< anybody: user() is what the client says of itself, for the log
            refused,          ///< wrong proof, or unknown user
            malformed,        ///< not a message of this mechanism
        };
        Kind kind = Kind::malformed;
        std::string data{};
    };

    virtual ~SaslExchange() = default;
    /// The client's message, bytes; nothing only at the first step, when it sent no initial response.
    virtual Step step(const std::optional<std::string>& input) = 0;
    /// Whether the next step may take long (it asks for SCRAM keys).
    virtual bool next_is_slow() const { return false; }

    /// As the client gave it.
    const std::string& user() const { return user_; }
    const std::string& password() const { return password_; }
    /// For whom user() wants to act (RFC 4422 section 3.4.1), when the client names somebody else; the database decides.
    const std::string& for_user() const { return for_user_; }
    /// Overwrites the password.
    void forget_password();

protected:
    std::string user_;
    std::string for_user_;
    std::string password_;
};

/// GNU SASL's library state; one per process.
class SaslMechanisms {
public:
    /// Errors: temporary (no memory).
    static Result<std::unique_ptr<SaslMechanisms>> create();
    ~SaslMechanisms();

    /// Upper-case names of what this program can do, preferred first.
    static std::vector<std::string> known();
    static bool is_scram(std::string_view mechanism);

    /// `mechanism` in upper case.  Errors: unsupported.
    Result<std::unique_ptr<SaslExchange>> start(std::string_view mechanism, ScramLookup lookup);

private:
    SaslMechanisms() = default;
    Gsasl* library_ = nullptr;
};

}  // namespace postern
