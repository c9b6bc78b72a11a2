#include "smtp/tls_policy.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/stream/tls_options.h"
#include "lib/tls/ciphers.h"

namespace postern::smtp {
namespace {

constexpr std::pair<std::string_view, TlsLevel> kLevels[] = {
    {"none", TlsLevel::none},           {"may", TlsLevel::may},
    {"encrypt", TlsLevel::encrypt},     {"dane", TlsLevel::dane},
    {"dane-only", TlsLevel::dane_only}, {"fingerprint", TlsLevel::fingerprint},
    {"verify", TlsLevel::verify},       {"secure", TlsLevel::secure},
};

}  // namespace

std::optional<TlsLevel> tls_level_named(std::string_view name) {
    for (const auto& [word, level] : kLevels) {
        if (equals_ignoring_case(name, word)) {
            return level;
        }
    }
    return std::nullopt;
}

std::string_view tls_level_name(TlsLevel level) {
    for (const auto& [word, named] : kLevels) {
        if (named == level) {
            return word;
        }
    }
    return "half-dane";
}

std::string TlsPolicy::signature() const {
    std::string out = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", tls_level_name(level), protocols, grade, exclude, server_name, reuse);
    out += sts ? "\n" + sts->domain : "";
    for (const std::string& name : match) {
        out += "\n" + name;
    }
    for (const TlsaRecord& record : tlsa) {
        out += "\n" + record.text();
    }
    return out;
}

Result<std::unique_ptr<TlsPolicies>> TlsPolicies::create(const Settings& settings, const TableContext& tables) {
    std::unique_ptr<TlsPolicies> policies(new TlsPolicies(settings));
    if (Result<void> done = policies->open(tables); !done) {
        return done.error();
    }
    return policies;
}

/// What holds where no table says otherwise.
Result<TlsPolicy> TlsPolicies::general() const {
    TlsPolicy policy;
    const std::string& level = settings_.tls_security_level();
    if (!level.empty()) {
        const auto named = tls_level_named(level);
        if (!named) {
            return Error(Errc::config, fmt::format("parameter {}_tls_security_level: \"{}\" is none of none, may, encrypt, dane, "
                                                   "dane-only, fingerprint, verify, secure", settings_.prefix(), level));
        }
        policy.level = *named;
    } else if (settings_.enforce_tls()) {
        policy.level = settings_.tls_enforce_peername() ? TlsLevel::verify : TlsLevel::encrypt;
    } else if (settings_.use_tls()) {
        policy.level = TlsLevel::may;
    }
    policy.reuse = settings_.tls_connection_reuse();
    policy.server_name = settings_.tls_servername();
    return policy;
}

/// Fills in what the level implies and nobody has said.
TlsPolicy TlsPolicies::completed(TlsPolicy policy) const {
    const bool mandatory = policy.required();
    if (policy.protocols.empty()) {
        policy.protocols = mandatory ? settings_.tls_mandatory_protocols() : settings_.tls_protocols();
    }
    if (policy.grade.empty()) {
        policy.grade = mandatory ? settings_.tls_mandatory_ciphers() : settings_.tls_ciphers();
    }
    if (policy.exclude.empty()) {
        policy.exclude = settings_.tls_exclude_ciphers() + (mandatory ? " " + settings_.tls_mandatory_exclude_ciphers() : "");
    }
    if (policy.match.empty() && policy.authenticates() && !policy.is_dane()) {
        const std::string& names = policy.level == TlsLevel::verify   ? settings_.tls_verify_cert_match()
                                   : policy.level == TlsLevel::secure ? settings_.tls_secure_cert_match()
                                                                      : settings_.tls_fingerprint_cert_match();
        policy.match = policy.level == TlsLevel::fingerprint ? split(names, ", \t|") : split(names, ", \t:");
    }
    if (policy.tlsa.empty() && policy.level >= TlsLevel::verify) {
        for (const std::string& file : split(settings_.tls_trust_anchor_file(), ", \t")) {
            const std::vector<TlsaRecord>& anchors = trust_anchors_.at(file);   // open() has read them
            policy.tlsa.insert(policy.tlsa.end(), anchors.begin(), anchors.end());
        }
    }
    return policy;
}

TlsPolicy TlsPolicies::opportunistic(TlsPolicy policy) const {
    if (policy.level <= TlsLevel::may) {
        return policy;
    }
    TlsPolicy out;
    out.level = settings_.tls_wrappermode() ? TlsLevel::encrypt : TlsLevel::may;
    out.server_name = policy.server_name;
    out.reuse = policy.reuse;
    out.from_table = policy.from_table;
    return completed(std::move(out));
}

/// Words that are looked up for each connection: a wrong one is noticed now.
Result<void> TlsPolicies::check_words() const {
    for (const auto& [name, grade] : {std::pair{"_tls_ciphers", &settings_.tls_ciphers()},
                                      std::pair{"_tls_mandatory_ciphers", &settings_.tls_mandatory_ciphers()}}) {
        if (const Result<std::string> known = tls_cipher_list(settings_.config(), *grade, ""); !known) {
            return Error(Errc::config, "parameter " + settings_.prefix() + name + ": " + known.error().what);
        }
    }
    if (const Result<std::string> known = fingerprint("", settings_.tls_fingerprint_digest()); !known) {
        return Error(Errc::config, "parameter " + settings_.prefix() + "_tls_fingerprint_digest: " + known.error().what);
    }
    return {};
}

/// Of the parameter, and those that policy tables may name: later no file is in reach.
Result<void> TlsPolicies::read_trust_anchors() {
    std::vector<std::string> files = split(settings_.tls_trust_anchor_file(), ", \t");
    const std::vector<std::string> more = split(settings_.config().tls_policy_trust_anchor_files(), ", \t");
    files.insert(files.end(), more.begin(), more.end());
    for (const std::string& file : files) {
        Result<std::vector<TlsaRecord>> anchors = read_trust_anchor_certificates(file);
        if (!anchors) {
            return Error(Errc::config, "trust anchors: " + anchors.error().what);
        }
        trust_anchors_[file] = std::move(*anchors);
    }
    return {};
}

Result<std::vector<TlsaRecord>> TlsPolicies::trust_anchors(const std::string& file) const {
    const auto known = trust_anchors_.find(file);
    if (known != trust_anchors_.end()) {
        return known->second;
    }
    return Error(Errc::config, fmt::format("tafile={} was not read at start: tls_policy_trust_anchor_files does not list it", file));
}

Result<void> TlsPolicies::open(const TableContext& tables) {
    Result<TlsPolicy> policy = general();
    if (!policy) {
        return policy.error();
    }
    general_ = std::move(*policy);
    if (settings_.tls_wrappermode() && !general_.required() && settings_.tls_policy_maps().empty()) {
        return Error(Errc::config, fmt::format("{0}_tls_wrappermode requires \"{0}_tls_security_level = encrypt\" (or stronger)",
                                               settings_.prefix()));
    }
    Result<TableList> maps = TableList::open(settings_.prefix() + "_tls_policy_maps", settings_.tls_policy_maps(), tables);
    if (!maps) {
        return maps.error();
    }
    maps_ = std::move(*maps);
    Result<TlsLogLevel> log_level =
        TlsLogLevel::open(settings_.prefix() + "_tls_loglevel", settings_.tls_loglevel(), settings_.tls_loglevel_maps(), tables);
    if (!log_level) {
        return log_level.error();
    }
    log_level_ = std::move(*log_level);
    if (general_.level == TlsLevel::none && maps_.empty()) {
        return {};   // no TLS at all: the library is not even woken
    }
    if (Result<void> read = check_words(); !read) {
        return read;
    }
    if (Result<void> read = read_trust_anchors(); !read) {
        return read;
    }
    Result<std::vector<DaneDigest>> digests = parse_dane_digests(settings_.config().tls_dane_digests());
    if (!digests) {
        return Error(Errc::config, "parameter tls_dane_digests: " + digests.error().what);
    }
    dane_digests_ = std::move(*digests);
    return open_contexts();
}

Result<void> TlsPolicies::open_contexts() {
    const auto file = [](const std::string& name) { return name == "none" ? std::string() : name; };
    TlsSettings tls;
    tls.cert_file = file(settings_.tls_cert_file());
    tls.key_file = file(settings_.tls_key_file());
    if (tls.cert_file.empty() && !settings_.tls_eccert_file().empty()) {
        tls.cert_file = settings_.tls_eccert_file();
        tls.key_file = settings_.tls_eckey_file();
    }
    tls.chain_files = split(settings_.tls_chain_files(), ", \t");
    tls.ca_file = settings_.tls_CAfile();
    tls.ca_path = settings_.tls_CApath();
    tls.default_ca = settings_.config().tls_append_default_CA();
    tls.verify_depth = static_cast<int>(settings_.tls_scert_verifydepth());
    tls.protocols.clear();
    tls.groups = settings_.config().tls_eecdh_auto_curves();
    tls.dane_digests = dane_digests_;
    const Result<std::uint64_t> on = parse_tls_options(settings_.config().tls_ssl_options());
    const Result<std::uint64_t> off = parse_tls_options(settings_.config().tls_disable_workarounds());
    if (!on || !off) {
        return Error(Errc::config, !on ? "tls_ssl_options: " + on.error().what : "tls_disable_workarounds: " + off.error().what);
    }
    tls.options_on = *on;
    tls.options_off = *off;
    Result<std::unique_ptr<TlsContext>> context =
        TlsContext::client(tls, static_cast<long>(settings_.tls_session_cache_timeout().count()));
    if (!context) {
        return context.error();
    }
    context_ = std::move(*context);
    if (sts_enabled() && tls.ca_file.empty() && tls.ca_path.empty() && !tls.default_ca) {
        // RFC 8461 section 4.2 speaks of authorities that everybody trusts; without any, every such destination would fail.
        tls.default_ca = true;
        Result<std::unique_ptr<TlsContext>> sts_context =
            TlsContext::client(tls, static_cast<long>(settings_.tls_session_cache_timeout().count()));
        if (!sts_context) {
            return sts_context.error();
        }
        sts_context_ = std::move(*sts_context);
    }
    return {};
}

/// The next hop as written; then, for a domain, its parents as ".parent".
Result<std::optional<std::string>> TlsPolicies::look_up(const NextHop& hop) {
    const Lookup whole = maps_.lookup(hop.text);
    if (!whole || *whole || hop.literal_host || !valid_hostname(hop.text)) {
        return whole;
    }
    std::string_view rest = hop.text;
    for (std::size_t dot = rest.find('.'); dot != rest.npos; dot = rest.find('.', 1)) {
        rest.remove_prefix(dot);
        const Lookup parent = maps_.lookup(rest, true);
        if (!parent || *parent) {
            return parent;
        }
    }
    return std::optional<std::string>();
}

Result<void> TlsPolicies::apply_attribute(TlsPolicy& policy, const std::string& name, const std::string& value) const {
    const auto append = [](auto& list, const auto& more) { list.insert(list.end(), more.begin(), more.end()); };
    if (value.empty()) {
        return Error(Errc::config, "attribute \"" + name + "\" has empty value");
    }
    if (name == "protocols") {
        policy.protocols = value;
    } else if (name == "ciphers") {
        if (const Result<std::string> known = tls_cipher_list(settings_.config(), value, ""); !known) {
            return known.error();
        }
        policy.grade = value;
    } else if (name == "exclude") {
        policy.exclude = value;
    } else if (name == "match" && policy.authenticates() && !policy.is_dane()) {
        append(policy.match, split(value, policy.level == TlsLevel::fingerprint ? "|" : ":"));
    } else if (name == "tafile" && policy.level >= TlsLevel::verify) {
        Result<std::vector<TlsaRecord>> anchors = trust_anchors(value);
        if (!anchors) {
            return anchors.error();
        }
        append(policy.tlsa, *anchors);
    } else if (name == "servername") {
        policy.server_name = value;
    } else if (name == "connection_reuse") {
        policy.reuse = equals_ignoring_case(value, "yes");
    } else {
        return Error(Errc::config, fmt::format("attribute \"{}\" is not known, or not for level {}", name, tls_level_name(policy.level)));
    }
    return {};
}

Result<TlsPolicy> TlsPolicies::apply_entry(TlsPolicy policy, std::string_view entry) const {
    const std::vector<std::string> words = split_list(entry);
    const auto level = words.empty() ? std::nullopt : tls_level_named(words[0]);
    if (!level) {
        return Error(Errc::config, "invalid security level \"" + (words.empty() ? std::string() : words[0]) + "\"");
    }
    policy.level = *level;
    StsRule sts;
    for (std::size_t i = 1; i < words.size(); ++i) {
        std::string_view word = words[i];
        if (word.size() > 1 && word.front() == '{' && word.back() == '}') {
            word = trim(word.substr(1, word.size() - 2));   // "{ name = a value with blanks }"
        }
        const std::size_t equals = word.find('=');
        const std::string name = to_lower(trim(word.substr(0, equals)));
        const std::string value(equals == std::string_view::npos ? "" : trim(word.substr(equals + 1)));
        if (!value.empty() && take_sts_attribute(sts, name, value)) {
            continue;
        }
        if (Result<void> applied = apply_attribute(policy, name, value); !applied) {
            return applied.error();
        }
    }
    adopt_sts_attributes(policy, std::move(sts));
    return policy;
}

Result<TlsPolicy> TlsPolicies::find(const NextHop& hop) {
    if (!hop.socket_path.empty()) {
        return TlsPolicy();   // whoever reads a Unix socket is this host
    }
    TlsPolicy policy = general_;
    if (!maps_.empty()) {
        const Lookup found = look_up(hop);
        if (!found) {
            return found.error();
        }
        if (*found) {
            Result<TlsPolicy> entry = apply_entry(std::move(policy), **found);
            if (!entry) {
                return Error(entry.error().code, fmt::format("{}, \"{}\": {}", maps_.title(), **found, entry.error().what));
            }
            policy = std::move(*entry);
            policy.from_table = true;
        }
    }
    if (settings_.tls_wrappermode() && !policy.required()) {
        return Error(Errc::config, settings_.prefix() + "_tls_wrappermode requires level encrypt or stronger");
    }
    // What DANE comes to is found host by host (smtp/dane.h), and completed then.
    return policy.is_dane() ? std::move(policy) : completed(std::move(policy));
}

TlsDemand TlsPolicies::demand(const TlsPolicy& policy, const NextHop& hop, const HostAddress& host) const {
    TlsDemand out;
    out.protocols = policy.protocols;
    const Config& config = settings_.config();
    if (Result<std::string> ciphers = tls_cipher_list(config, policy.grade, policy.exclude)) {   // the grade was checked where it was read
        out.ciphers = std::move(*ciphers);
    }
    out.lenient = !policy.authenticates();
    out.wildcards_match_many = config.tls_wildcard_matches_multiple_labels();
    out.fingerprint_digest = settings_.tls_fingerprint_digest();
    const std::string& sni = policy.server_name;
    const std::string& own_name = policy.sts ? host.given_name() : host.host;   // RFC 8461 section 4.1: as in the MX record
    out.server_name = sni == "hostname" ? own_name : sni == "nexthop" ? hop.domain : sni;
    if (valid_ip_address(out.server_name)) {
        out.server_name.clear();   // RFC 6066 section 3
    }
    out.tlsa = policy.tlsa;
    for (const std::string& name : policy.match) {
        if (policy.is_dane()) {
            out.names.push_back(name);
        } else if (policy.level == TlsLevel::fingerprint) {
            out.fingerprints.push_back(name);
        } else if (policy.level > TlsLevel::fingerprint) {
            out.names.push_back(name == "hostname" ? own_name : name == "nexthop" ? hop.domain
                                : name == "dot-nexthop" ? "." + hop.domain : name);
        }
    }
    if (policy.sts && policy.sts->found && out.names.empty()) {
        out.names.push_back(own_name);   // mode testing: looked at for the reports alone
    }
    // What is part of a session's meaning is part of its key: a name checked for one destination says nothing about another.
    // Its certificate has been judged once, leniently or not.
    out.session_key = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", host.with_port(), out.server_name, policy.protocols, policy.grade,
                                  policy.exclude, out.lenient);
    if (!out.tlsa.empty()) {   // OpenSSL keeps the verdict with the session: it holds for these records and names alone
        const Result<std::string> digest = fingerprint(policy.signature() + "\n" + hop.domain, "sha256");
        out.session_key += "\n" + (digest ? *digest : policy.signature());
    }
    return out;
}

}  // namespace postern::smtp
