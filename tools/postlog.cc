/// postlog - writes lines to the mail log, as the programs of the suite do.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/destination.h"
#include "lib/log/log.h"

namespace {

using namespace postern;

constexpr std::size_t kMaxLine = 8192;

std::optional<LogLevel> parse_priority(std::string_view name) {
    const std::pair<std::string_view, LogLevel> names[] = {
        {"debug", LogLevel::debug}, {"info", LogLevel::info},   {"warn", LogLevel::warning}, {"warning", LogLevel::warning},
        {"error", LogLevel::error}, {"fatal", LogLevel::fatal}, {"panic", LogLevel::panic}};
    for (const auto& [text, level] : names) {
        if (equals_ignoring_case(text, name)) {
            return level;
        }
    }
    return std::nullopt;
}

void log_text(LogLevel level, const std::string& text) { log_line(level, "{}", fmt::make_format_args(text)); }

void log_standard_input(LogLevel level) {
    std::string line;
    for (int c = 0; (c = std::getchar()) != EOF;) {
        if (c == '\n' || line.size() >= kMaxLine) {
            log_text(level, line);
            line.clear();
        }
        if (c != '\n') {
            line += static_cast<char>(c);
        }
    }
    if (!line.empty()) {
        log_text(level, line);
    }
}

}  // namespace

int main(int argc, char** argv) {
    log_open("postlog", LogDestination{});
    std::string directory = Config::default_directory();
    const char* environment_tag = ::getenv("MAIL_LOGTAG");
    std::string tag = environment_tag != nullptr ? environment_tag : "";
    LogLevel level = LogLevel::info;
    for (int option = 0; (option = ::getopt(argc, argv, "+c:ip:t:v")) != -1;) {
        if (option == 'c') {
            directory = optarg;
        } else if (option == 't') {
            tag = optarg;
        } else if (option == 'p') {
            const std::optional<LogLevel> priority = parse_priority(optarg);
            if (!priority) {
                fatal("unknown priority \"{}\": specify debug, info, warn, error, fatal or panic", printable(optarg, 100));
            }
            level = *priority;
        } else if (option == '?') {
            fatal("usage: postlog [-iv] [-c config_dir] [-p priority] [-t tag] [text...]");
        }
    }
    const Result<Config> config = Config::load(directory);
    if (!config) {
        fatal("{}", config.error().what);
    }
    LogDestination destination = log_destination(*config);
    destination.verbosity = level == LogLevel::debug ? 1 : 0;
    if (!log_open(tag.empty() ? config->syslog_name() + "/postlog" : tag, destination)) {
        log_warning("{}", errno_error("open " + destination.path).what);
    }
    if (optind >= argc) {
        log_standard_input(level);
        return 0;
    }
    std::string text = argv[optind];
    for (int i = optind + 1; i < argc; ++i) {
        text += std::string(" ") + argv[i];
    }
    log_text(level, text);
    return 0;
}
