#include "tlspolicy/database.h"

#include <cstdio>
#include <utility>

#include "lib/log/log.h"

namespace postern::tlspolicy {

Result<std::shared_ptr<store::Env>> open_database(const std::string& path, std::vector<const char*> names, std::size_t map_size) {
    store::Env::Options options;
    options.path = path;
    options.databases = std::move(names);
    options.map_size = map_size;
    options.may_be_replaced = false;
    Result<std::shared_ptr<store::Env>> env = store::Env::open(options);
    if (env || env.error().code != Errc::corrupt) {
        return env;
    }
    const std::string aside = path + ".corrupt";
    log_warning("{}; it is kept as {} and begun anew", env.error().what, aside);
    if (std::rename(path.c_str(), aside.c_str()) != 0) {
        return errno_error("rename " + path);
    }
    std::remove((path + "-lock").c_str());
    return store::Env::open(options);
}

}  // namespace postern::tlspolicy
