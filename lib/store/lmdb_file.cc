#include "lib/store/lmdb_file.h"

#include <cstdio>

#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern::store {

Result<std::string> lmdb_file_of(const std::string& title, std::string_view name) {
    constexpr std::string_view kProxy = "proxy:";
    std::string_view rest = trim(name);
    if (rest.starts_with(kProxy)) {
        rest.remove_prefix(kProxy.size());
    }
    for (const std::string_view type : {"lmdb:", "btree:", "hash:"}) {
        if (rest.starts_with(type) && rest.size() > type.size()) {
            return std::string(rest.substr(type.size())) + ".lmdb";
        }
    }
    return Error(Errc::config, "parameter " + title + ": \"" + printable(name, 200) + "\": want lmdb:/path/name, or nothing");
}

Result<std::shared_ptr<Env>> open_or_begin_anew(const Env::Options& options) {
    Result<std::shared_ptr<Env>> env = Env::open(options);
    if (env || env.error().code != Errc::corrupt) {
        return env;
    }
    const std::string aside = options.path + ".corrupt";
    log_warning("{}; it is kept as {} and begun anew", env.error().what, aside);
    if (std::rename(options.path.c_str(), aside.c_str()) != 0) {
        return errno_error("rename " + options.path);
    }
    std::remove((options.path + "-lock").c_str());
    return Env::open(options);
}

}  // namespace postern::store
