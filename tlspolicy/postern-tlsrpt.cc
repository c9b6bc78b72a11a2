/// postern-tlsrpt - shows what tlsrpt has counted, and sends reports at once.
///
///     postern tlsrpt [--day YYYY-MM-DD] [--domain DOMAIN] [--json | --send]
///
/// Runs as the caller, who must be able to connect to private/tlsrpt.
#include <getopt.h>
#include <unistd.h>

#include <cstdlib>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/tlsrpt/messages.h"
#include "tlspolicy/tlsrpt_report.h"

namespace {

using namespace postern;

constexpr Millis kPatience = std::chrono::minutes(10);

struct Options {
    std::string day, domain;
    bool json = false, send = false;
};

int usage() {
    fmt::print(stderr, "usage: postern tlsrpt [--day YYYY-MM-DD] [--domain domain] [--json | --send]\n");
    return 64;
}

Task<Result<std::string>> ask(Options options) {
    Result<UniqueFd> socket = co_await connect_unix(kTlsrptSocket, std::chrono::seconds(5));
    if (!socket) {
        co_return socket.error();
    }
    Channel<ToTlsrpt, FromTlsrpt> channel(std::move(*socket), kMaxTlsrptText);
    if (options.send) {
        TlsrptSend request;
        request.day = options.day;
        request.domain = options.domain;
        channel.post(std::move(request));
    } else {
        TlsrptShow request;
        request.day = options.day;
        request.domain = options.domain;
        request.json = options.json;
        channel.post(std::move(request));
    }
    Result<FromTlsrpt> answer = co_await channel.receive(kPatience);
    if (!answer) {
        co_return answer.error();
    }
    co_return std::move(std::get<TlsrptText>(*answer).text);
}

}  // namespace

int main(int argc, char** argv) {
    const option known[] = {{"day", required_argument, nullptr, 'd'}, {"domain", required_argument, nullptr, 'o'},
                            {"json", no_argument, nullptr, 'j'},      {"send", no_argument, nullptr, 's'},
                            {nullptr, 0, nullptr, 0}};
    Options options;
    for (int letter; (letter = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        switch (letter) {
        case 'd': options.day = optarg; break;
        case 'o': options.domain = to_lower(optarg); break;
        case 'j': options.json = true; break;
        case 's': options.send = true; break;
        default: return usage();
        }
    }
    const bool day_is_one = options.day.empty() || tlspolicy::day_begin(options.day) != 0;
    if (optind != argc || !day_is_one || (options.json && options.send)) {
        return usage();
    }
    const Result<Config> config = Config::load(Config::default_directory());
    if (!config) {
        fmt::print(stderr, "postern tlsrpt: fatal: {}\n", config.error().what);
        return 1;
    }
    if (::chdir(config->queue_directory().c_str()) != 0) {
        fmt::print(stderr, "postern tlsrpt: fatal: {}\n", errno_error(config->queue_directory()).what);
        return 1;
    }
    const Result<std::string> text = Loop::current().run_until(ask(std::move(options)));
    if (!text) {
        fmt::print(stderr, "postern tlsrpt: fatal: {}\n", text.error().what);
        return 1;
    }
    fmt::print("{}", *text);
    return 0;
}
