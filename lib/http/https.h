/// HTTPS requests on the event loop, by libcurl: for policies and reports that the web carries, not for browsing.
///
/// The certificate is verified for the URL's host, TLS is 1.2 or newer, redirects are not followed, nothing is cached, no proxy
/// is asked, and names are looked up by lib/dns, so that nothing is read from files once the process has started.
/// Built without libcurl (HAVE_CURL), every request fails and says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/dns/dns.h"

namespace postern {

/// "https://host[:port]/path".
struct HttpsUrl {
    std::string host;
    std::uint16_t port = 443;
};
/// Errors: syntax, for anything but an https URL with a host name (no user, no address).
Result<HttpsUrl> parse_https_url(std::string_view url);

struct HttpsRequest {
    std::string url;
    bool post = false;
    std::string body{};                 ///< of a POST
    std::string content_type{};         ///< of `body`
    std::size_t max_bytes = 64 * 1024;  ///< an answer that is longer is an error
    Millis time_limit = std::chrono::seconds(60);   ///< for everything, from the first lookup to the last byte
};

struct HttpsAnswer {
    long status = 0;
    std::string content_type;           ///< as the server wrote it, parameters and all
    std::string body;
};

class Https {
public:
    struct Options {
        std::string ca_files{};         ///< blank separated files of authorities; empty: the system's
        bool system_ca = false;         ///< the system's too
        bool ipv4 = true, ipv6 = true;
        std::string user_agent = "Postern";
    };
    /// Before rights are given up: reads the authorities.  `dns` outlives this.
    /// Errors: config (a file cannot be read).
    static Result<std::unique_ptr<Https>> create(Dns& dns, const Options& options);
    virtual ~Https() = default;

    /// Errors: syntax (the URL), not_found (no such host), timeout, denied (the server's certificate does not hold), too_big, io,
    /// unsupported (built without libcurl).
    virtual Task<Result<HttpsAnswer>> perform(HttpsRequest request) = 0;
};

}  // namespace postern
