// Servers known by TLSA records: lib/stream/tls_dane.h and tls_client.h, against published vectors.
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "lib/base/strings.h"
#include "lib/stream/tls_client.h"
#include "lib/stream/tls_dane.h"

using namespace postern;

namespace {

std::string from_hex(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        out += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
    }
    return out;
}

TlsaRecord record(std::uint8_t usage, std::uint8_t selector, std::uint8_t matching, const std::string& hex) {
    return {usage, selector, matching, from_hex(hex)};
}

std::vector<DaneDigest> standard() {
    return *parse_dane_digests("sha512 sha256");
}

/// One block of OpenSSL's danetest.in.
struct Vector {
    std::vector<TlsaRecord> records;
    std::vector<std::string> certificates;   ///< PEM
    bool no_name_checks = false;
    int verdict = 0;
    int depth = 0;
};

std::vector<Vector> read_vectors(std::istream& file) {
    std::vector<Vector> out;
    std::string line;
    const auto next = [&] {
        while (std::getline(file, line)) {
            if (!line.empty() && line[0] != '#') {
                return true;
            }
        }
        return false;
    };
    while (next()) {
        Vector one;
        std::size_t records = 0, certificates = 0;
        int no_name_checks = 0;
        std::istringstream(line) >> records >> certificates >> no_name_checks >> one.verdict >> one.depth;
        one.no_name_checks = no_name_checks != 0;
        for (std::size_t i = 0; i < records && next(); ++i) {
            int usage = 0, selector = 0, matching = 0;
            std::string hex;
            std::istringstream(line) >> usage >> selector >> matching >> hex;
            one.records.push_back(record(static_cast<std::uint8_t>(usage), static_cast<std::uint8_t>(selector),
                                         static_cast<std::uint8_t>(matching), hex));
        }
        for (std::size_t ended = 0; ended < certificates && next();) {   // lines between certificates are comments
            if (line == "-----BEGIN CERTIFICATE-----") {
                one.certificates.emplace_back();
            }
            if (one.certificates.size() > ended) {
                one.certificates.back() += line + "\n";
                ended += line == "-----END CERTIFICATE-----" ? 1 : 0;
            }
        }
        out.push_back(std::move(one));
    }
    return out;
}

struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
    void operator()(STACK_OF(X509) * chain) const { sk_X509_pop_free(chain, X509_free); }
    void operator()(BIO* bio) const { BIO_free(bio); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

struct Verdict {
    bool prepared = false;
    int error = 0;
    int depth = -1;   ///< of the certificate that a record matches
};

/// As the handshake does it: what prepare_client() made of the connection judges `certificates`.
Verdict judge(TlsContext& context, const TlsDemand& demand, const std::vector<std::string>& certificates) {
    Verdict out;
    const Owned<SSL> ssl(SSL_new(context.get()));
    TlsSessionKey key{&context, ""};
    out.prepared = static_cast<bool>(prepare_client(ssl.get(), key, demand));
    const Owned<STACK_OF(X509)> chain(sk_X509_new_null());
    for (const std::string& pem : certificates) {
        const Owned<BIO> text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
        X509* certificate = PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr);
        REQUIRE(certificate != nullptr);
        sk_X509_push(chain.get(), certificate);
    }
    const Owned<X509_STORE_CTX> check(X509_STORE_CTX_new());
    X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context.get()), sk_X509_value(chain.get(), 0), chain.get());
    X509_STORE_CTX_set_ex_data(check.get(), SSL_get_ex_data_X509_STORE_CTX_idx(), ssl.get());
    X509_STORE_CTX_set_default(check.get(), "ssl_server");
    X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(check.get()), SSL_get0_param(ssl.get()));
    X509_STORE_CTX_set0_dane(check.get(), SSL_get0_dane(ssl.get()));
    X509_STORE_CTX_set_verify_cb(check.get(), SSL_get_verify_callback(ssl.get()));
    X509_verify_cert(check.get());
    out.error = X509_STORE_CTX_get_error(check.get());
    SSL_set_verify_result(ssl.get(), X509_V_OK);   // otherwise what matched before a failure is kept secret
    out.depth = SSL_get0_dane_authority(ssl.get(), nullptr, nullptr);
    return out;
}

std::unique_ptr<TlsContext> context(const std::string& ca_file, const std::vector<DaneDigest>& digests = standard()) {
    TlsSettings settings;
    settings.ca_file = ca_file;
    settings.protocols.clear();
    settings.dane_digests = digests;
    Result<std::unique_ptr<TlsContext>> made = TlsContext::client(settings, 0);
    REQUIRE(made);
    return std::move(*made);
}

}  // namespace

TEST_CASE("OpenSSL's vectors of DANE-TA and DANE-EE come to the verdicts that they name", "[dane]") {
    const char* corpus = std::getenv("POSTERN_CORPUS");
    const std::string folder = std::string(corpus != nullptr ? corpus : "../shared/corpus") + "/auth/dane/openssl/";
    std::ifstream file(folder + "danetest.in");
    if (!file) {
        std::cout << "no " << folder << ": the DANE vectors are skipped\n";
        return;
    }
    const std::unique_ptr<TlsContext> tls = context(folder + "danetest.pem");
    const std::vector<Vector> vectors = read_vectors(file);
    REQUIRE(vectors.size() == 54);
    std::size_t checked = 0, refused = 0;
    for (std::size_t i = 0; i < vectors.size(); ++i) {
        const Vector& vector = vectors[i];
        CAPTURE(i + 1);
        bool for_smtp = true, names_matter = false;
        for (const TlsaRecord& one : vector.records) {
            for_smtp = for_smtp && one.usage >= 2;
            names_matter = names_matter || (one.usage == 3 && !vector.no_name_checks && vector.verdict == X509_V_ERR_HOSTNAME_MISMATCH);
            if (one.usage < 2) {
                CHECK_FALSE(tlsa_usable(one, standard()));   // RFC 7672 section 3.1.3
                ++refused;
            }
        }
        if (!for_smtp || names_matter || vector.records.empty()) {
            continue;
        }
        TlsDemand demand;
        demand.server_name = "example.com";
        demand.names = {"example.com"};
        for (const TlsaRecord& one : vector.records) {
            if (tlsa_usable(one, standard())) {
                demand.tlsa.push_back(one);
            }
        }
        const Verdict verdict = judge(*tls, demand, vector.certificates);
        if (demand.tlsa.empty()) {
            continue;   // never comes to a handshake with DANE
        }
        REQUIRE(verdict.prepared);
        CHECK(verdict.error == vector.verdict);
        CHECK(verdict.depth == vector.depth);
        ++checked;
    }
    INFO(checked << " checked, " << refused << " records refused");
    CHECK(checked >= 25);
    CHECK(refused >= 10);
}

TEST_CASE("a TLSA record is usable when its fields and its data fit", "[dane]") {
    const std::string sum256(64, 'a'), sum512(128, 'b');
    CHECK(tlsa_usable(record(3, 1, 1, sum256), standard()));
    CHECK(tlsa_usable(record(2, 0, 2, sum512), standard()));
    CHECK_FALSE(tlsa_usable(record(3, 1, 1, sum512), standard()));
    CHECK_FALSE(tlsa_usable(record(3, 1, 2, sum256), standard()));
    CHECK_FALSE(tlsa_usable(record(0, 1, 1, sum256), standard()));
    CHECK_FALSE(tlsa_usable(record(1, 1, 1, sum256), standard()));
    CHECK_FALSE(tlsa_usable(record(4, 1, 1, sum256), standard()));
    CHECK_FALSE(tlsa_usable(record(3, 2, 1, sum256), standard()));
    CHECK_FALSE(tlsa_usable(record(3, 1, 3, sum256), standard()));
    CHECK_FALSE(tlsa_usable(record(3, 1, 0, sum256), standard()));   // no public key
    CHECK_FALSE(tlsa_usable(record(2, 0, 0, "3003020100"), standard()));
    CHECK_FALSE(tlsa_usable(record(3, 1, 1, sum256), *parse_dane_digests("sha512")));
    CHECK(tlsa_usable(record(3, 1, 9, std::string(96, 'c')), *parse_dane_digests("sha384=9 sha256")));
}

TEST_CASE("tls_dane_digests names digests that exist and have a number", "[dane]") {
    const Result<std::vector<DaneDigest>> both = parse_dane_digests("sha512=2, sha256");
    REQUIRE(both);
    REQUIRE(both->size() == 2);
    CHECK((*both)[0].matching == 2);
    CHECK((*both)[1].matching == 1);
    CHECK(parse_dane_digests("")->empty());
    CHECK_FALSE(parse_dane_digests("sha384"));
    CHECK_FALSE(parse_dane_digests("nosuch=7"));
    CHECK_FALSE(parse_dane_digests("sha256 sha512=1"));
    CHECK_FALSE(parse_dane_digests("sha384=256"));
    CHECK_FALSE(parse_dane_digests("sha384=0"));
}

TEST_CASE("records that cannot be used do not make a connection that trusts everybody", "[dane]") {
    const std::unique_ptr<TlsContext> tls = context("");
    TlsDemand demand;
    demand.tlsa = {record(3, 1, 1, "00")};
    const Owned<SSL> ssl(SSL_new(tls->get()));
    TlsSessionKey key{tls.get(), ""};
    CHECK_FALSE(prepare_client(ssl.get(), key, demand));
}

TEST_CASE("a file of trust anchors may have certificates and public keys, and nothing else", "[dane]") {
    const auto read = [](const std::string& text) {
        char name[] = "/tmp/postern-anchors-XXXXXX";
        const int fd = ::mkstemp(name);
        REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        ::close(fd);
        Result<std::vector<TlsaRecord>> anchors = read_trust_anchor_certificates(name);
        ::unlink(name);
        return anchors;
    };
    const std::string key = "-----BEGIN PUBLIC KEY-----\n"
                            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0dpX+tGP+4ZFa2DZG1ZWvdaNTdvSUOM3VxEnx14FYPQdCvkb+viAX4DCjAJqFNT+\n"
                            "jDCpZzueyQAgXKqEqBDRNB\n-----END PUBLIC KEY-----\n";
    CHECK_FALSE(read(""));
    CHECK_FALSE(read("nothing here\n"));
    CHECK_FALSE(read("-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"));
    CHECK_FALSE(read("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"));
    CHECK_FALSE(read(key));   // a byte is missing
    CHECK_FALSE(read_trust_anchor_certificates("/does/not/exist"));
    EVP_PKEY* pair = EVP_EC_gen("P-256");
    const Owned<BIO> text(BIO_new(BIO_s_mem()));
    PEM_write_bio_PUBKEY(text.get(), pair);
    EVP_PKEY_free(pair);
    char* data = nullptr;
    const auto size = static_cast<std::size_t>(BIO_get_mem_data(text.get(), &data));
    const Result<std::vector<TlsaRecord>> anchors = read("a comment\n" + std::string(data, size) + std::string(data, size));
    REQUIRE(anchors);
    CHECK(anchors->size() == 2);
    CHECK((*anchors)[0].text().substr(0, 6) == "2 1 0 ");
}

namespace {

struct KeyFree {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

/// What a client finds out about a server whose certificate has this common name, and no other.
TlsPeer peer_named(const std::string& common_name, const TlsDemand& demand) {
    const std::unique_ptr<EVP_PKEY, KeyFree> key(EVP_EC_gen("P-256"));
    const std::unique_ptr<X509, KeyFree> certificate(X509_new());
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(common_name.data()), static_cast<int>(common_name.size()), -1, 0);
    REQUIRE(X509_sign(certificate.get(), key.get(), EVP_sha256()) != 0);
    const std::unique_ptr<SSL_CTX, KeyFree> serving(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_use_certificate(serving.get(), certificate.get());
    SSL_CTX_use_PrivateKey(serving.get(), key.get());
    const std::unique_ptr<TlsContext> tls = context("");
    const Owned<SSL> server(SSL_new(serving.get())), client(SSL_new(tls->get()));
    TlsSessionKey session{tls.get(), ""};
    REQUIRE(prepare_client(client.get(), session, demand));
    BIO *one = nullptr, *other = nullptr;
    BIO_new_bio_pair(&one, 0, &other, 0);
    SSL_set_bio(server.get(), one, one);
    SSL_set_bio(client.get(), other, other);
    SSL_set_accept_state(server.get());
    SSL_set_connect_state(client.get());
    for (int round = 0; round < 10; ++round) {
        SSL_do_handshake(client.get());
        SSL_do_handshake(server.get());
    }
    REQUIRE(SSL_is_init_finished(client.get()));
    return examine_peer(client.get(), demand);
}

}  // namespace

TEST_CASE("a common name that ends in the middle is no name", "[tls]") {
    TlsDemand demand;
    demand.names = {"good.example"};
    CHECK(peer_named("good.example", demand).matched);
    CHECK_FALSE(peer_named("other.example", demand).matched);
    CHECK_FALSE(peer_named(std::string("good.example\0.evil.example", 26), demand).matched);
}
