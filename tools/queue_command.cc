#include "tools/queue_command.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"

namespace postern::tools {
namespace {

constexpr Millis kPatience = std::chrono::seconds(60);

template <class Request>
Task<Result<void>> converse(UniqueFd socket, Request request) {
    Channel<queue::ToQmgr, queue::FromQmgr> channel(std::move(socket));
    channel.post(std::move(request));
    const Result<queue::FromQmgr> answer = co_await channel.receive(kPatience);
    if (!answer) {
        co_return answer.error();
    }
    const auto* reply = std::get_if<queue::QmgrAnswer>(&*answer);
    if (reply == nullptr || !reply->ok) {
        co_return Error(Errc::io, reply == nullptr ? "unexpected answer" : reply->text);
    }
    co_return Result<void>();
}

std::string qmgr_socket(const Config& config) { return config.queue_directory() + "/public/" + config.queue_service_name(); }

template <class Request>
Result<void> ask(const Config& config, Request request) {
    Result<UniqueFd> socket = connect_unix_blocking(qmgr_socket(config));
    if (!socket) {
        return socket.error();
    }
    return Loop::current().run_until(converse(std::move(*socket), std::move(request)));
}

using StatusPages = std::vector<queue::QueueStatus>;
constexpr std::size_t kMaxPages = 10000;   // a qmgr that never comes to an end is not believed

Task<Result<StatusPages>> read_status(UniqueFd socket) {
    Channel<queue::ToQmgr, queue::FromQmgr> channel(std::move(socket));
    StatusPages pages;
    std::string after;
    do {
        queue::AskQueueStatus request;
        request.after = after;
        request.limit = queue::kMaxStatusPage;
        channel.post(std::move(request));
        Result<queue::FromQmgr> answer = co_await channel.receive(kPatience);
        if (!answer) {
            co_return answer.error();
        }
        auto* const page = std::get_if<queue::QueueStatus>(&*answer);
        if (page == nullptr) {
            co_return Error(Errc::io, "unexpected answer");
        }
        after = page->last;
        pages.push_back(std::move(*page));
    } while (!after.empty() && pages.size() < kMaxPages);
    co_return pages;
}

}  // namespace

void die(int status, const std::string& text) {
    std::fflush(stdout);
    log_line(LogLevel::fatal, "{}", fmt::make_format_args(text));
    std::_Exit(status);
}

Config load_command_config(const std::string& program, const std::string& directory, int status) {
    log_open("postfix/" + program, LogDestination());
    constexpr const char* kStandard = "/etc/postern";
    const bool set_id = ::getegid() != ::getgid() || ::geteuid() != ::getuid();
    if (set_id && ::getuid() != 0 && directory != kStandard) {
        const Result<Config> standard = Config::load(kStandard);
        const std::vector<std::string> allowed =
            standard ? split_list(standard->alternate_config_directories()) : std::vector<std::string>();
        if (std::find(allowed.begin(), allowed.end(), directory) == allowed.end()) {
            die(status, "unauthorized configuration directory name: " + printable(directory));
        }
    }
    Result<Config> config = Config::load(directory);
    if (!config) {
        die(status, config.error().what);
    }
    config->set_process(program, program);
    LogDestination destination = log_destination(*config);
    destination.echo_stderr = true;
    if (!log_open(config->syslog_name() + "/" + program, std::move(destination))) {
        log_open(config->syslog_name() + "/" + program, LogDestination());   // a user may not write the mail log: no matter
    }
    return std::move(*config);
}

Result<void> ask_qmgr(const Config& config, queue::FlushAll request) { return ask(config, request); }
Result<void> ask_qmgr(const Config& config, queue::FlushOne request) {
    return ask(config, std::move(request));
}
Result<void> ask_qmgr(const Config& config, queue::FlushSite request) {
    return ask(config, std::move(request));
}
Result<void> ask_qmgr(const Config& config, queue::Altered request) {
    return ask(config, std::move(request));
}

Result<std::vector<queue::QueueStatus>> ask_qmgr_status(const Config& config) {
    Result<UniqueFd> socket = connect_unix_blocking(qmgr_socket(config));
    if (!socket) {
        return socket.error();
    }
    return Loop::current().run_until(read_status(std::move(*socket)));
}

}  // namespace postern::tools
