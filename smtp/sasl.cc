#include "smtp/sasl.h"

#include <fmt/format.h>
#include <gsasl.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/table/address_lookup.h"

namespace postern::smtp {
namespace {

/// Best first.  Tokens come last: a password is no token, so they are taken when nothing else is offered, or when
/// smtp_sasl_mechanism_filter leaves nothing else.
struct Mechanism {
    std::string_view name;
    bool plaintext;       ///< who listens learns the secret
    bool dictionary;      ///< who listens can try passwords
    bool mutual;          ///< the server proves itself too
};
constexpr Mechanism kMechanisms[] = {
    {"SCRAM-SHA-256", false, true, true}, {"SCRAM-SHA-1", false, true, true}, {"CRAM-MD5", false, true, false},
    {"PLAIN", true, true, false},         {"LOGIN", true, true, false},       {"OAUTHBEARER", true, false, false},
    {"XOAUTH2", true, false, false},
};

bool allowed(const Mechanism& mechanism, std::string_view options) {
    for (const std::string& option : split(options, ", \t")) {
        if ((option == "noplaintext" && mechanism.plaintext) || (option == "nodictionary" && mechanism.dictionary) ||
            (option == "mutual_auth" && !mechanism.mutual) || option == "forward_secrecy") {
            return false;
        }
    }
    return true;
}

class GsaslExchange final : public SaslExchange {
public:
    GsaslExchange(Gsasl_session* session, bool client_first, bool mutual)
        : session_(session), client_first_(client_first), mutual_(mutual) {}
    ~GsaslExchange() override { gsasl_finish(session_); }
    bool client_first() const override { return client_first_; }
    bool complete() const override { return complete_ || !mutual_; }

    Result<std::string> step(std::string_view challenge) override {
        char* output = nullptr;
        std::size_t size = 0;
        const int status = gsasl_step(session_, challenge.data(), challenge.size(), &output, &size);
        std::string answer = output != nullptr ? std::string(output, size) : std::string();
        gsasl_free(output);
        if (status != GSASL_OK && status != GSASL_NEEDS_MORE) {
            return Error(Errc::denied, gsasl_strerror(status));
        }
        complete_ = status == GSASL_OK;
        return answer;
    }

private:
    Gsasl_session* session_;
    bool client_first_;
    bool mutual_;
    bool complete_ = false;
};

/// XOAUTH2 (Google's, Microsoft's) and OAUTHBEARER (RFC 7628): one message, and an empty answer to an error report.
class TokenExchange final : public SaslExchange {
public:
    explicit TokenExchange(std::string message, std::string apology) : message_(std::move(message)), apology_(std::move(apology)) {}
    bool client_first() const override { return true; }
    bool complete() const override { return said_; }
    Result<std::string> step(std::string_view) override {
        if (said_) {
            return apology_;   // the server reports an error and waits for a sign that we have seen it
        }
        said_ = true;
        return message_;
    }

private:
    std::string message_, apology_;
    bool said_ = false;
};

/// RFC 5801 section 4: in a GS2 header "," and "=" are escaped.
std::string gs2_name(std::string_view name) {
    std::string out;
    for (const char c : name) {
        out += c == ',' ? "=2C" : c == '=' ? "=3D" : std::string(1, c);
    }
    return out;
}

}  // namespace

SaslClient::~SaslClient() {
    if (library_ != nullptr) {
        gsasl_done(library_);
    }
}

Result<std::unique_ptr<SaslClient>> SaslClient::create(const Settings& settings, const TableContext& tables) {
    std::unique_ptr<SaslClient> client(new SaslClient(settings));
    if (Result<void> done = client->open(tables); !done) {
        return done.error();
    }
    return client;
}

Result<void> SaslClient::open(const TableContext& tables) {
    enabled_ = settings_.sasl_auth_enable();
    if (!enabled_) {
        return {};
    }
    const std::string prefix = settings_.prefix();
    if (settings_.sasl_password_maps().empty()) {
        return Error(Errc::config, fmt::format("specify a password table via the `{}_sasl_password_maps' configuration parameter", prefix));
    }
    Result<TableList> passwords = TableList::open(prefix + "_sasl_password_maps", settings_.sasl_password_maps(), tables);
    if (!passwords) {
        return passwords.error();
    }
    passwords_ = std::move(*passwords);
    const std::string title = prefix + "_sasl_mechanism_filter";
    Result<MatchList> filter = MatchList::open(title, settings_.sasl_mechanism_filter(), MatchKind::string, false, tables);
    if (!filter) {
        return filter.error();
    }
    filter_ = std::move(*filter);
    Result<SaslCache> cache =
        SaslCache::open(prefix + "_sasl_auth_cache_name", settings_.sasl_auth_cache_name(), settings_.sasl_auth_cache_time());
    if (!cache) {
        return cache.error();
    }
    cache_ = std::move(*cache);
    if (gsasl_init(&library_) != GSASL_OK) {
        return Error(Errc::config, "cannot start the SASL library");
    }
    return {};
}

Result<std::optional<Credentials>> SaslClient::credentials(const std::string& sender, const std::string& host,
                                                           const std::string& nexthop) {
    std::optional<std::string> value;
    if (settings_.sender_dependent_authentication() && !sender.empty()) {
        AddressQuery query;
        query.address = sender;
        query.delimiters = settings_.config().recipient_delimiter();
        query.keys = kKeyFull | kKeyNoExtension | kKeyAtDomain;
        Result<std::optional<AddressHit>> hit = lookup_address(passwords_, query);
        if (!hit) {
            return hit.error();
        }
        if (*hit) {
            value = (*hit)->value;
        }
    }
    for (const std::string* key : {&host, &nexthop}) {
        if (!value) {
            Lookup found = passwords_.lookup(*key);
            if (!found) {
                return found.error();
            }
            value = std::move(*found);
        }
    }
    if (!value) {
        return std::optional<Credentials>();
    }
    const std::size_t end = value->find(settings_.sasl_password_result_delimiter());
    if (end == std::string::npos) {
        return std::optional<Credentials>(Credentials{*value, ""});
    }
    const std::size_t rest = end + settings_.sasl_password_result_delimiter().size();
    return std::optional<Credentials>(Credentials{value->substr(0, end), value->substr(rest)});
}

std::string SaslClient::choose(std::string_view offered, Channel channel) {
    const std::string& options = channel == Channel::clear ? settings_.sasl_security_options()
                                 : channel == Channel::tls ? settings_.sasl_tls_security_options()
                                                           : settings_.sasl_tls_verified_security_options();
    const std::vector<std::string> names = split(to_upper(offered), " \t");
    for (const Mechanism& mechanism : kMechanisms) {
        if (std::find(names.begin(), names.end(), mechanism.name) == names.end() || !allowed(mechanism, options)) {
            continue;
        }
        if (!filter_.empty()) {
            const Result<bool> wanted = filter_.matches(to_lower(mechanism.name));
            if (!wanted || !*wanted) {
                continue;
            }
        }
        return std::string(mechanism.name);
    }
    return std::string();
}

Result<std::unique_ptr<SaslExchange>> SaslClient::start(const std::string& mechanism, const Credentials& who,
                                                        const std::string& host, std::uint16_t port) {
    if (mechanism == "XOAUTH2") {
        return std::unique_ptr<SaslExchange>(
            std::make_unique<TokenExchange>("user=" + who.user + "\1auth=Bearer " + who.password + "\1\1", ""));
    }
    if (mechanism == "OAUTHBEARER") {
        std::string message = fmt::format("n,a={},\1host={}\1port={}\1auth=Bearer {}\1\1", gs2_name(who.user), host, port, who.password);
        return std::unique_ptr<SaslExchange>(std::make_unique<TokenExchange>(std::move(message), "\1"));
    }
    Gsasl_session* session = nullptr;
    if (gsasl_client_start(library_, mechanism.c_str(), &session) != GSASL_OK) {
        return Error(Errc::unsupported, "no such mechanism: " + mechanism);
    }
    const bool server_first = mechanism == "LOGIN" || mechanism == "CRAM-MD5";
    auto exchange = std::make_unique<GsaslExchange>(session, !server_first, mechanism.substr(0, 5) == "SCRAM");
    if (gsasl_property_set(session, GSASL_AUTHID, who.user.c_str()) != GSASL_OK ||
        gsasl_property_set(session, GSASL_PASSWORD, who.password.c_str()) != GSASL_OK) {
        return Error(Errc::unsupported, "out of memory in the SASL library");
    }
    return std::unique_ptr<SaslExchange>(std::move(exchange));
}

}  // namespace postern::smtp
