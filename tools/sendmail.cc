/// sendmail - the command that local programs submit mail with; also mailq(1) and newaliases(1) by name.
///
/// Works whether the mail system runs or not and needs no rights of its own: a message goes to maildrop/, by way of
/// the set-gid postdrop(1) where the caller may not write there.
///
/// Exit status: sysexits.h, see sendmail(1).
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <cstdlib>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "tools/sendmail_submit.h"

namespace {

using namespace postern;
using sendmail::Mode;
using sendmail::Options;

/// Becomes another program; returns only when that fails.
int become(const std::string& path, const std::vector<std::string>& arguments) {
    std::vector<char*> words;
    for (const std::string& word : arguments) {
        words.push_back(const_cast<char*>(word.c_str()));
    }
    words.push_back(nullptr);
    ::execv(path.c_str(), words.data());
    sendmail::report_fatal(errno_error("execute " + path).what);
    return EX_OSERR;
}

int run(const Config& config, Options options) {
    const std::string& directory = config.config_directory();
    const std::string postqueue = config.command_directory() + "/postqueue";
    switch (options.mode) {
    case Mode::submit:
        return sendmail::submit(config, std::move(options), STDIN_FILENO);
    case Mode::daemon:
        return become(config.command_directory() + "/postern", {"postern", "-c", directory, "start"});
    case Mode::smtp:
        return become(config.daemon_directory() + "/smtpd", {"smtpd", "-n", "smtp", "-t", "inet", "-S"});
    case Mode::list_queue:
        return become(postqueue, {"postqueue", "-c", directory, "-p"});
    case Mode::flush:
        return become(postqueue, {"postqueue", "-c", directory, "-f"});
    case Mode::flush_id:
        return become(postqueue, {"postqueue", "-c", directory, "-i", options.argument});
    case Mode::flush_site:
        return become(postqueue, {"postqueue", "-c", directory, "-s", options.argument});
    case Mode::make_aliases: {
        std::vector<std::string> words{"postalias", "-c", directory};
        const std::string& databases = options.alias_database.empty() ? config.alias_database() : options.alias_database;
        for (const std::string& database : split_list(databases)) {
            words.push_back(database);
        }
        return words.size() == 3 ? EX_OK : become(config.command_directory() + "/postalias", words);
    }
    case Mode::nothing:
        break;
    }
    return EX_OK;
}

}  // namespace

int main(int argc, char** argv) {
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
    sendmail::open_log(nullptr);
    const std::string name = argc > 0 ? argv[0] : "sendmail";
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    Result<Options> options = sendmail::parse_options(name.substr(name.rfind('/') + 1), arguments);
    if (!options) {
        sendmail::report_fatal(options.error().what);
        return EX_USAGE;
    }
    const std::string directory =
        options->config_directory.empty() ? Config::default_directory() : options->config_directory;
    const Result<Config> config = Config::load(directory);
    if (!config) {
        sendmail::report_fatal(config.error().what);
        return EX_CONFIG;
    }
    sendmail::open_log(&*config);
    ::setenv("MAIL_CONFIG", directory.c_str(), 1);   // what we become reads the same files
    return run(*config, std::move(*options));
}
