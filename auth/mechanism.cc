#include "auth/mechanism.h"

#include <fmt/format.h>
#include <gsasl.h>
#include <openssl/crypto.h>

#include <algorithm>

#include "lib/base/strings.h"

namespace postern {

namespace {

using Step = SaslExchange::Step;

/// LOGIN: two prompts.  An initial response is the user name.
class LoginExchange : public SaslExchange {
public:
    Step step(const std::optional<std::string>& input) override {
        if (!input && !asked_user_) {
            asked_user_ = true;
            return {Step::Kind::challenge, "Username:"};
        }
        if (!input || input->find('\0') != std::string::npos) {
            return {Step::Kind::malformed};
        }
        if (!have_user_) {
            if (input->empty()) {
                return {Step::Kind::malformed};
            }
            have_user_ = true;
            user_ = *input;
            return {Step::Kind::challenge, "Password:"};
        }
        password_ = *input;
        return {Step::Kind::check_password};
    }

private:
    bool asked_user_ = false;
    bool have_user_ = false;
};

/// ANONYMOUS: one message, trace information, which may be empty.
class AnonymousExchange : public SaslExchange {
public:
    Step step(const std::optional<std::string>& input) override {
        if (!input) {
            return asked_ ? Step{Step::Kind::malformed} : ask();
        }
        // RFC 4505 section 2: at most 255 characters of up to four bytes each.
        if (input->size() > kMaxTrace || input->find('\0') != std::string::npos) {
            return {Step::Kind::malformed};
        }
        user_ = *input;
        return {Step::Kind::anonymous};
    }

private:
    static constexpr std::size_t kMaxTrace = 255 * 4;
    Step ask() {
        asked_ = true;
        return {Step::Kind::challenge, ""};
    }
    bool asked_ = false;
};

/// PLAIN and SCRAM.
class GsaslExchange : public SaslExchange {
public:
    explicit GsaslExchange(ScramLookup lookup) : lookup_(std::move(lookup)) {}
    ~GsaslExchange() override {
        if (session_ != nullptr) {
            gsasl_finish(session_);
        }
    }
    bool open(Gsasl* library, const std::string& mechanism) {
        scram_ = SaslMechanisms::is_scram(mechanism);
        hash_ = mechanism == "SCRAM-SHA-1" ? ScramHash::sha1 : ScramHash::sha256;
        if (gsasl_server_start(library, mechanism.c_str(), &session_) != GSASL_OK) {
            return false;
        }
        gsasl_session_hook_set(session_, this);
        return true;
    }

    bool next_is_slow() const override { return scram_ && !proven_ && !looked_up_; }

    Step step(const std::optional<std::string>& input) override {
        if (proven_) {   // the client has to answer the server's own proof with nothing
            return {input && input->empty() ? Step::Kind::authenticated : Step::Kind::malformed};
        }
        if (!input && !started_) {
            return ask();
        }
        if (!input || (input->empty() && !scram_)) {   // "=": an empty response is an answer (RFC 4954 section 4), and a bad one
            return {Step::Kind::malformed};
        }
        if (scram_ && input->find('\0') != std::string::npos) {
            return {Step::Kind::malformed};
        }
        started_ = true;
        char* output = nullptr;
        std::size_t size = 0;
        const int code = gsasl_step(session_, input->data(), input->size(), &output, &size);
        std::string data = output != nullptr ? std::string(output, size) : std::string();
        gsasl_free(output);
        return conclude(code, std::move(data));
    }

    int callback(Gsasl_property property) {
        switch (property) {
        case GSASL_SCRAM_ITER:
        case GSASL_SCRAM_SALT:
        case GSASL_SCRAM_STOREDKEY:
        case GSASL_SCRAM_SERVERKEY:
            return give_scram_keys();
        case GSASL_VALIDATE_SIMPLE:
            // PLAIN.  The database is asked later, where it may wait.
            return take_identity() ? GSASL_OK : GSASL_AUTHENTICATION_ERROR;
        default:
            return GSASL_NO_CALLBACK;
        }
    }

private:
    Step ask() {
        started_ = true;
        return {Step::Kind::challenge, ""};
    }

    std::string property(Gsasl_property which) const {
        const char* const value = gsasl_property_fast(session_, which);
        return value != nullptr ? value : "";
    }

    /// User name and password as the library has parsed them.
    bool take_identity() {
        user_ = property(GSASL_AUTHID);
        password_ = property(GSASL_PASSWORD);
        take_for_user();
        return !user_.empty();
    }
    void take_for_user() {
        for_user_ = property(GSASL_AUTHZID);
        if (for_user_ == user_) {
            for_user_.clear();
        }
    }

    int give_scram_keys() {
        if (!looked_up_) {
            looked_up_ = true;
            user_ = property(GSASL_AUTHID);
            take_for_user();
            const ScramKeys keys = lookup_(user_, for_user_, hash_);
            gsasl_property_set(session_, GSASL_SCRAM_ITER, std::to_string(keys.iterations).c_str());
            gsasl_property_set(session_, GSASL_SCRAM_SALT, base64_encode(keys.salt).c_str());
            gsasl_property_set(session_, GSASL_SCRAM_STOREDKEY, base64_encode(keys.stored_key).c_str());
            gsasl_property_set(session_, GSASL_SCRAM_SERVERKEY, base64_encode(keys.server_key).c_str());
        }
        return GSASL_OK;
    }

    Step conclude(int code, std::string data) {
        switch (code) {
        case GSASL_NEEDS_MORE:
            return {Step::Kind::challenge, std::move(data)};
        case GSASL_OK:
            if (!scram_) {
                return {Step::Kind::check_password};
            }
            if (!take_identity()) {
                return {Step::Kind::refused};
            }
            proven_ = true;
            return {Step::Kind::challenge, std::move(data)};
        case GSASL_MECHANISM_PARSE_ERROR:
        case GSASL_BASE64_ERROR:
            return {Step::Kind::malformed};
        default:
            return {Step::Kind::refused};
        }
    }

    ScramLookup lookup_;
    Gsasl_session* session_ = nullptr;
    ScramHash hash_ = ScramHash::sha256;
    bool scram_ = false;
    bool started_ = false;
    bool looked_up_ = false;
    bool proven_ = false;
};

int on_callback(Gsasl*, Gsasl_session* session, Gsasl_property property) {
    auto* exchange = session != nullptr ? static_cast<GsaslExchange*>(gsasl_session_hook_get(session)) : nullptr;
    return exchange != nullptr ? exchange->callback(property) : GSASL_NO_CALLBACK;
}

}  // namespace

void SaslExchange::forget_password() {
    OPENSSL_cleanse(password_.data(), password_.size());
    password_.clear();
}

Result<std::unique_ptr<SaslMechanisms>> SaslMechanisms::create() {
    std::unique_ptr<SaslMechanisms> mechanisms(new SaslMechanisms);
    const int code = gsasl_init(&mechanisms->library_);
    if (code != GSASL_OK) {
        return {Errc::temporary, fmt::format("GNU SASL: {}", gsasl_strerror(code))};
    }
    gsasl_callback_set(mechanisms->library_, on_callback);
    return mechanisms;
}

SaslMechanisms::~SaslMechanisms() {
    if (library_ != nullptr) {
        gsasl_done(library_);
    }
}

std::vector<std::string> SaslMechanisms::known() {
    return {"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "ANONYMOUS"};
}

bool SaslMechanisms::is_scram(std::string_view mechanism) {
    return mechanism.substr(0, 6) == "SCRAM-";
}

Result<std::unique_ptr<SaslExchange>> SaslMechanisms::start(std::string_view mechanism, ScramLookup lookup) {
    const std::vector<std::string> names = known();
    if (std::find(names.begin(), names.end(), mechanism) == names.end()) {
        return {Errc::unsupported, "Unsupported authentication mechanism"};
    }
    if (mechanism == "LOGIN") {
        return std::unique_ptr<SaslExchange>(std::make_unique<LoginExchange>());
    }
    if (mechanism == "ANONYMOUS") {
        return std::unique_ptr<SaslExchange>(std::make_unique<AnonymousExchange>());
    }
    auto exchange = std::make_unique<GsaslExchange>(std::move(lookup));
    if (!exchange->open(library_, std::string(mechanism))) {
        return {Errc::unsupported, "Unsupported authentication mechanism"};
    }
    return std::unique_ptr<SaslExchange>(std::move(exchange));
}

}  // namespace postern
