/// newaliases - makes the alias databases that alias_database names, as `sendmail -I` does.
#include <unistd.h>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "tools/table_source.h"

namespace {

std::string config_directory(int argc, char** argv) {
    std::string directory = postern::Config::default_directory();
    int option = 0;
    while ((option = getopt(argc, argv, "c:v")) > 0) {
        if (option == 'c') {
            directory = optarg;
        } else if (option != 'v') {
            postern::fatal("usage: newaliases [-v] [-c config_dir]");
        }
    }
    return directory;
}

}  // namespace

int main(int argc, char** argv) {
    using namespace postern;
    log_open("newaliases", LogDestination{});
    const Result<Config> config = Config::load(config_directory(argc, argv));
    if (!config) {
        fatal("{}", config.error().what);
    }
    tools::MakeOptions options;
    options.format = tools::SourceFormat::alias;
    for (const std::string& spec : split_list(config->alias_database())) {
        const Result<tools::IndexName> name = tools::parse_index_name(spec, config->default_database_type());
        if (!name) {
            fatal("alias_database: {}", name.error().what);
        }
        if (const Result<void> made = tools::make_index(*name, options); !made) {
            fatal("{}", made.error().what);
        }
    }
    return 0;
}
