#include "lib/http/https.h"

#include "lib/base/strings.h"
#include "lib/mail/address.h"

#ifdef HAVE_CURL
#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <fstream>
#include <iterator>
#include <map>
#endif

namespace postern {

Result<HttpsUrl> parse_https_url(std::string_view url) {
    constexpr std::string_view kScheme = "https://";
    if (!starts_with_ignoring_case(url, kScheme) || url.size() > 2000) {
        return Error(Errc::syntax, "no https URL");
    }
    for (const char c : url) {
        if (c <= ' ' || c >= 127) {
            return Error(Errc::syntax, "a character that no URL has");
        }
    }
    std::string_view rest = url.substr(kScheme.size());
    rest = rest.substr(0, rest.find_first_of("/?#"));
    HttpsUrl out;
    const std::size_t colon = rest.find(':');
    if (colon != std::string_view::npos) {
        const auto port = parse_number(rest.substr(colon + 1));
        if (!port || *port == 0 || *port > 65535) {
            return Error(Errc::syntax, "bad port");
        }
        out.port = static_cast<std::uint16_t>(*port);
        rest = rest.substr(0, colon);
    }
    if (!valid_hostname(rest)) {   // neither "user@" nor "[::1]" pass
        return Error(Errc::syntax, "no host name");
    }
    out.host = to_lower(rest);
    return out;
}

#ifdef HAVE_CURL

namespace {

/// One request on its way.
struct Transfer {
    CURL* easy = nullptr;
    curl_slist* resolve = nullptr;
    curl_slist* headers = nullptr;
    HttpsRequest request{};
    std::string body{};
    bool too_big = false;
    bool done = false;
    CURLcode outcome = CURLE_OK;
    char reason[CURL_ERROR_SIZE] = "";
    Notice news{};

    ~Transfer() {
        curl_easy_cleanup(easy);
        curl_slist_free_all(resolve);
        curl_slist_free_all(headers);
    }
};

std::size_t take_body(char* bytes, std::size_t, std::size_t count, void* to) {
    auto* transfer = static_cast<Transfer*>(to);
    if (transfer->body.size() + count > transfer->request.max_bytes) {
        transfer->too_big = true;
        return 0;   // ends the transfer
    }
    transfer->body.append(bytes, count);
    return count;
}

struct StoreFree {
    void operator()(X509_STORE* store) const { X509_STORE_free(store); }
};
using Authorities = std::unique_ptr<X509_STORE, StoreFree>;

/// Adds all certificates of a PEM file.  Errors: as opening, config when there is none in it.
Result<void> read_authorities(const std::string& name, X509_STORE* store) {
    std::ifstream file(name, std::ios::binary);
    if (!file.is_open()) {
        return errno_error("open " + name);
    }
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const std::unique_ptr<BIO, decltype(&BIO_free)> bytes(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
    int count = 0;
    while (X509* certificate = PEM_read_bio_X509(bytes.get(), nullptr, nullptr, nullptr)) {
        X509_STORE_add_cert(store, certificate);
        X509_free(certificate);
        ++count;
    }
    ERR_clear_error();   // the end of the file is an error to the reader
    return count > 0 ? Result<void>() : Error(Errc::config, name + ": no certificates");
}

/// libcurl's own settings for authorities are file names, or too new for RHEL 9.
CURLcode use_authorities(CURL*, void* context, void* store) {
    SSL_CTX_set1_cert_store(static_cast<SSL_CTX*>(context), static_cast<X509_STORE*>(store));
    return CURLE_OK;
}

Error error_of(const Transfer& transfer) {
    const std::string why = *transfer.reason != '\0' ? transfer.reason : curl_easy_strerror(transfer.outcome);
    switch (transfer.outcome) {
    case CURLE_OPERATION_TIMEDOUT: return Error(Errc::timeout, printable(why));
    case CURLE_PEER_FAILED_VERIFICATION: return Error(Errc::denied, printable(why));
    default: return transfer.too_big ? Error(Errc::too_big, "the answer is too long") : Error(Errc::io, printable(why));
    }
}

class CurlHttps final : public Https {
public:
    CurlHttps(Dns& dns, Options options) : dns_(dns), options_(std::move(options)) {}
    ~CurlHttps() override {
        for (auto& [fd, watched] : sockets_) {
            event_del(&watched->event_);
        }
        curl_multi_cleanup(multi_);
    }

    Result<void> open() {
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || (multi_ = curl_multi_init()) == nullptr) {
            return Error(Errc::config, "cannot start libcurl");
        }
        const curl_version_info_data* info = curl_version_info(CURLVERSION_NOW);
        if (info->ssl_version == nullptr || std::string_view(info->ssl_version).substr(0, 7) != "OpenSSL") {
            return Error(Errc::config, "this libcurl does not use OpenSSL");
        }
        std::vector<std::string> files = split(options_.ca_files, " ,\t");
        const bool system = files.empty() || options_.system_ca;
        if (system && info->cainfo != nullptr) {
            files.emplace_back(info->cainfo);
        }
        for (const std::string& name : files) {
            const Result<void> read = read_authorities(name, authorities_.get());
            const bool optional = system && &name == &files.back();   // without any, no certificate will do, and that is said then
            if (!read && !optional) {
                return read.error();
            }
        }
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &CurlHttps::watch);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &CurlHttps::set_timer);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
        return {};
    }

    Task<Result<HttpsAnswer>> perform(HttpsRequest request) override {
        const auto begin = std::chrono::steady_clock::now();
        Result<HttpsUrl> url = parse_https_url(request.url);
        if (!url) {
            co_return url.error();
        }
        Result<std::string> addresses = co_await resolve(url->host, request.time_limit);
        if (!addresses) {
            co_return addresses.error();
        }
        const auto spent = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begin);
        if (spent >= request.time_limit) {
            co_return Error(Errc::timeout, "name service of " + url->host);
        }
        request.time_limit -= spent;
        Transfer transfer;
        transfer.request = std::move(request);
        if (Result<void> made = prepare(transfer, *url, *addresses); !made) {
            co_return made.error();
        }
        curl_multi_add_handle(multi_, transfer.easy);
        while (!transfer.done) {
            co_await transfer.news.wait(kForever);   // libcurl keeps the time limit
        }
        curl_multi_remove_handle(multi_, transfer.easy);
        if (transfer.outcome != CURLE_OK) {
            co_return error_of(transfer);
        }
        HttpsAnswer answer;
        const char* type = nullptr;
        curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &answer.status);
        curl_easy_getinfo(transfer.easy, CURLINFO_CONTENT_TYPE, &type);
        answer.content_type = type != nullptr ? type : "";
        answer.body = std::move(transfer.body);
        co_return answer;
    }

private:
    struct Watched {
        event event_{};
    };

    /// "address,[address]" for CURLOPT_RESOLVE.
    Task<Result<std::string>> resolve(std::string host, Millis time_limit) {
        struct Kind {
            bool use;
            DnsType type;
        };
        const Kind kinds[] = {{options_.ipv6, DnsType::aaaa}, {options_.ipv4, DnsType::a}};
        std::string out;
        std::string failure;
        for (const Kind& kind : kinds) {
            if (!kind.use) {
                continue;
            }
            const Result<DnsAnswer> answer = co_await dns_.query(host, kind.type, time_limit);
            if (!answer) {
                failure = answer.error().what;
                continue;
            }
            for (std::size_t i = 0; i < answer->records.size() && i < 10; ++i) {
                const std::string& address = answer->records[i].text;
                out += out.empty() ? "" : ",";
                out += kind.type == DnsType::aaaa ? "[" + address + "]" : address;
            }
        }
        if (out.empty()) {
            co_return Error(Errc::not_found, "no address of " + host + (failure.empty() ? "" : ": " + failure));
        }
        co_return out;
    }

    Result<void> prepare(Transfer& transfer, const HttpsUrl& url, const std::string& addresses) {
        const HttpsRequest& request = transfer.request;
        CURL* const easy = transfer.easy = curl_easy_init();
        const std::string known = "+" + url.host + ":" + std::to_string(url.port) + ":" + addresses;   // "+": not kept for ever
        transfer.resolve = curl_slist_append(nullptr, known.c_str());
        if (easy == nullptr || transfer.resolve == nullptr) {
            return Error(Errc::io, "cannot make a request");
        }
        curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.reason);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
        allow_https_only(easy);
        curl_easy_setopt(easy, CURLOPT_RESOLVE, transfer.resolve);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
        curl_easy_setopt(easy, CURLOPT_CAINFO, nullptr);
        curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
        curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, &use_authorities);
        curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, authorities_.get());
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, options_.user_agent.c_str());
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.time_limit.count()));
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &take_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
        transfer.headers = curl_slist_append(nullptr, "Expect:");   // no "100-continue": one exchange, one answer
        if (request.post) {
            transfer.headers = curl_slist_append(transfer.headers, ("Content-Type: " + request.content_type).c_str());
            curl_easy_setopt(easy, CURLOPT_POST, 1L);
            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
            curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
        }
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers);
        return {};
    }

    static void allow_https_only(CURL* easy) {
#if LIBCURL_VERSION_NUM >= 0x075500
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
#else
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTPS));
#endif
    }

    /// libcurl says what it waits for on a socket.
    static int watch(CURL*, curl_socket_t fd, int what, void* self, void*) {
        auto* https = static_cast<CurlHttps*>(self);
        std::unique_ptr<Watched>& watched = https->sockets_[fd];
        if (watched) {
            event_del(&watched->event_);
        }
        if (what == CURL_POLL_REMOVE) {
            https->sockets_.erase(fd);
            return 0;
        }
        if (!watched) {
            watched = std::make_unique<Watched>();
        }
        const int wanted = ((what & CURL_POLL_IN) != 0 ? EV_READ : 0) | ((what & CURL_POLL_OUT) != 0 ? EV_WRITE : 0);
        event_assign(&watched->event_, Loop::current().base(), fd, static_cast<short>(wanted | EV_PERSIST), &CurlHttps::ready, https);
        event_add(&watched->event_, nullptr);
        return 0;
    }

    static void ready(evutil_socket_t fd, short what, void* self) {
        const int flags = ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) | ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
        static_cast<CurlHttps*>(self)->go_on(fd, flags);
    }

    static int set_timer(CURLM*, long milliseconds, void* self) {
        auto* https = static_cast<CurlHttps*>(self);
        https->timer_.cancel();
        if (milliseconds >= 0) {
            https->timer_.start(Millis(milliseconds), [](void* of) { static_cast<CurlHttps*>(of)->go_on(CURL_SOCKET_TIMEOUT, 0); }, https);
        }
        return 0;
    }

    void go_on(curl_socket_t fd, int flags) {
        int running = 0;
        curl_multi_socket_action(multi_, fd, flags, &running);
        int left = 0;
        while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
            if (message->msg != CURLMSG_DONE) {
                continue;
            }
            char* of = nullptr;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &of);
            auto* transfer = reinterpret_cast<Transfer*>(of);
            transfer->outcome = message->data.result;
            transfer->done = true;
            transfer->news.notify_all();   // resumed later, from the ready queue or at the end of this
        }
        Loop::current().run_ready();
    }

    Dns& dns_;
    Options options_;
    Authorities authorities_{X509_STORE_new()};
    CURLM* multi_ = nullptr;
    std::map<curl_socket_t, std::unique_ptr<Watched>> sockets_;
    Timer timer_;
};

}  // namespace

Result<std::unique_ptr<Https>> Https::create(Dns& dns, const Options& options) {
    auto https = std::make_unique<CurlHttps>(dns, options);
    if (Result<void> opened = https->open(); !opened) {
        return opened.error();
    }
    return std::unique_ptr<Https>(std::move(https));
}

#else

namespace {

class NoHttps final : public Https {
public:
    Task<Result<HttpsAnswer>> perform(HttpsRequest) override {
        co_return Error(Errc::unsupported, "this Postern was built without libcurl");
    }
};

}  // namespace

Result<std::unique_ptr<Https>> Https::create(Dns&, const Options&) {
    return std::unique_ptr<Https>(std::make_unique<NoHttps>());
}

#endif

}  // namespace postern
