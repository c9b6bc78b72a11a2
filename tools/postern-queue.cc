/// postern queue - shows how much mail waits for whom, how old it is, when it is tried next, and what qmgr(8) makes of its
/// destinations; the work of Postfix's qshape(1), without reading a queue file itself.
///
///     postern queue [-psrlh] [-b buckets] [-t minutes] [-m subdomains] [-n rows] [--json] [queue ...]
///
/// Speaks to: showq(8) for the messages, qmgr(8) for the destinations.  Reads the queue itself only when the mail system is
/// down, and only as somebody who may.
#include <fmt/format.h>
#include <getopt.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/log/log.h"
#include "tools/queue_command.h"
#include "tools/queue_listing.h"
#include "tools/queue_report.h"

namespace postern::tools {
namespace {

constexpr const char* kUsage =
    "usage: postern queue [option ...] [queue ...]\n"
    "\n"
    "Shows how many recipients each domain has in the queue, by the age of the messages in\n"
    "minutes, and how the queue manager's destinations stand.  The queues are incoming, active\n"
    "and deferred unless named; also maildrop and hold.\n"
    "\n"
    "    -s, --senders        count messages by the sender's domain\n"
    "    -p, --parents        count parent domains too (.example.com)\n"
    "    -m, --min COUNT      show parents with so many subdomains (default 5)\n"
    "    -r, --reasons        say why mail waits\n"
    "    -n, --rows COUNT     show the largest (default 50, 0: all)\n"
    "    -b, --buckets COUNT  so many columns of age (default 10)\n"
    "    -t, --time MINUTES   what the first column covers (default 5)\n"
    "    -l, --linear         each column covers the same time, not twice that of the one before\n"
    "        --json           one JSON object\n"
    "    -c DIRECTORY         where main.cf is\n";

struct Options {
    ShapeOptions shape;
    ReportOptions report;
    bool json = false;
    std::string directory = Config::default_directory();
};

[[noreturn]] void usage(bool asked_for) {
    std::fputs(kUsage, asked_for ? stdout : stderr);
    std::fflush(stdout);
    std::_Exit(asked_for ? 0 : EX_USAGE);
}

std::size_t number(const char* text, std::size_t low, std::size_t high) {
    const auto value = parse_number(text);
    if (!value || *value < low || *value > high) {
        fmt::print(stderr, "postern queue: {}: a number from {} to {} is wanted\n", printable(text, 40), low, high);
        std::_Exit(EX_USAGE);
    }
    return static_cast<std::size_t>(*value);
}

Options parse(int argc, char** argv) {
    static const option kLong[] = {{"senders", 0, nullptr, 's'}, {"parents", 0, nullptr, 'p'}, {"min", 1, nullptr, 'm'},
                                   {"reasons", 0, nullptr, 'r'}, {"rows", 1, nullptr, 'n'},    {"buckets", 1, nullptr, 'b'},
                                   {"time", 1, nullptr, 't'},    {"linear", 0, nullptr, 'l'},  {"json", 0, nullptr, 'j'},
                                   {"help", 0, nullptr, 'h'},    {nullptr, 0, nullptr, 0}};
    Options options;
    options.report.rows = 50;
    if (const char* const directory = std::getenv("MAIL_CONFIG")) {
        options.directory = directory;
    }
    for (int c = 0; (c = ::getopt_long(argc, argv, "spm:rn:b:t:lc:h", kLong, nullptr)) != -1;) {
        switch (c) {
        case 's': options.shape.senders = true; break;
        case 'p': options.shape.parents = true; break;
        case 'm': options.shape.minimum_subdomains = static_cast<std::uint32_t>(number(optarg, 1, 1'000'000)); break;
        case 'r': options.report.reasons = true; break;
        case 'n': options.report.rows = number(optarg, 0, 100'000'000); break;
        case 'b': options.shape.buckets = number(optarg, 1, 30); break;
        case 't': options.shape.first_minutes = static_cast<std::int64_t>(number(optarg, 1, 100'000)); break;
        case 'l': options.shape.linear = true; break;
        case 'j': options.json = true; break;
        case 'c': options.directory = optarg; break;
        case 'h': usage(true);
        default: usage(false);
        }
    }
    for (int i = optind; i < argc; ++i) {
        if (std::find(kListedDirectories.begin(), kListedDirectories.end(), argv[i]) == kListedDirectories.end()) {
            fmt::print(stderr, "postern queue: {}: not one of {}\n", printable(argv[i], 100), fmt::join(kListedDirectories, ", "));
            std::_Exit(EX_USAGE);
        }
        options.report.queues.emplace_back(argv[i]);
    }
    if (options.report.queues.empty()) {
        options.report.queues = {"incoming", "active", "deferred"};
    }
    return options;
}

void read_queue(const Config& config, QueueShape& shape, const std::vector<std::string>& queues) {
    const auto take = [&](const ListedMessage& message) {
        if (std::find(queues.begin(), queues.end(), message.queue_name) != queues.end()) {
            shape.add(message);
        }
    };
    const std::string& queue_directory = config.queue_directory();
    Result<UniqueFd> socket = connect_unix_blocking(queue_directory + "/public/" + config.showq_service_name());
    if (socket) {
        const Result<void> read = list_by_showq(std::move(*socket), take);
        if (!read) {
            die(EX_UNAVAILABLE, "queue report: " + read.error().what);
        }
        return;
    }
    if (::eaccess((queue_directory + "/deferred").c_str(), R_OK | X_OK) != 0) {
        die(EX_UNAVAILABLE, "Queue report unavailable: " + socket.error().what);
    }
    list_by_files(queue_directory, take);
}

/// Dead ones first, then those with most waiting.
void put_in_order(std::vector<queue::DestinationStatus>& destinations) {
    std::stable_sort(destinations.begin(), destinations.end(), [](const auto& a, const auto& b) {
        const bool a_dead = a.dead_until_usec != 0, b_dead = b.dead_until_usec != 0;
        return a_dead != b_dead ? a_dead : a.waiting + a.running > b.waiting + b.running;
    });
}

ManagerReport ask_manager(const Config& config) {
    ManagerReport report;
    Result<std::vector<queue::QueueStatus>> pages = ask_qmgr_status(config);
    if (!pages) {
        report.error = pages.error().what;
        return report;
    }
    report.status = pages->back();
    report.status.destinations.clear();
    for (queue::QueueStatus& page : *pages) {
        for (queue::DestinationStatus& destination : page.destinations) {
            if (worth_telling(destination)) {
                report.status.destinations.push_back(std::move(destination));
            }
        }
    }
    put_in_order(report.status.destinations);
    return report;
}

}  // namespace
}  // namespace postern::tools

int main(int argc, char** argv) {
    using namespace postern;
    using namespace postern::tools;
    ::signal(SIGPIPE, SIG_DFL);
    Options options = parse(argc, argv);
    const Config config = load_command_config("postern-queue", options.directory, EX_UNAVAILABLE);
    options.report.now_seconds = std::time(nullptr);
    options.report.colour = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
    QueueShape shape(options.shape, options.report.now_seconds);
    read_queue(config, shape, options.report.queues);
    const ManagerReport manager = ask_manager(config);
    const std::string text = options.json ? json_report(shape, manager, options.report) : text_report(shape, manager, options.report);
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
        die(EX_UNAVAILABLE, errno_error("write").what);
    }
    return 0;
}
