#include "lib/tls/openssl_config.h"

#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <memory>

#include "lib/base/strings.h"
#include "lib/stream/tls.h"

namespace postern {
namespace {

constexpr unsigned long kLenient = CONF_MFLAGS_IGNORE_ERRORS | CONF_MFLAGS_IGNORE_MISSING_FILE | CONF_MFLAGS_DEFAULT_SECTION | CONF_MFLAGS_SILENT;

/// OpenSSL itself does not mind when a file has nothing for the name.
Result<void> check_section(const std::string& file, const std::string& section) {
    const std::unique_ptr<CONF, decltype(&NCONF_free)> conf(NCONF_new(nullptr), &NCONF_free);
    long line = 0;
    if (!conf || NCONF_load(conf.get(), file.c_str(), &line) != 1) {
        const std::string where = line > 0 ? ", line " + std::to_string(line) : "";
        return Error(Errc::config, "tls_config_file " + file + where + ": " + openssl_error());
    }
    if (NCONF_get_string(conf.get(), nullptr, section.c_str()) == nullptr) {
        openssl_error();   // forgotten
        return Error(Errc::config, "tls_config_file " + file + " has no settings for \"" + printable(section, 80) + "\" (tls_config_name)");
    }
    return {};
}

bool load(const char* file, const std::string& section, unsigned long flags) {
    const std::unique_ptr<OPENSSL_INIT_SETTINGS, decltype(&OPENSSL_INIT_free)> how(OPENSSL_INIT_new(), &OPENSSL_INIT_free);
    return how && (file == nullptr || OPENSSL_INIT_set_config_filename(how.get(), file) == 1) &&
           OPENSSL_INIT_set_config_appname(how.get(), section.c_str()) == 1 &&
           (OPENSSL_INIT_set_config_file_flags(how.get(), flags), OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG, how.get()) == 1);
}

}  // namespace

Result<void> load_openssl_config(const Config& config) {
    const std::string& file = config.tls_config_file();
    const std::string section = config.tls_config_name().empty() ? "openssl_conf" : config.tls_config_name();
    if (file == "none") {
        return OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) == 1 ? Result<void>() : Error(Errc::temporary, openssl_error());
    }
    if (file == "default" && config.tls_config_name().empty()) {
        return {};   // as OpenSSL does by itself
    }
    if (file == "default") {
        load(nullptr, section, kLenient);
        ERR_clear_error();
        return {};
    }
    if (file.empty() || file[0] != '/') {
        return Error(Errc::config, "parameter tls_config_file: \"" + printable(file, 200) + "\" is not default, none or an absolute path");
    }
    if (Result<void> checked = check_section(file, section); !checked) {
        return checked;
    }
    return load(file.c_str(), section, 0) ? Result<void>() : Error(Errc::config, "tls_config_file " + file + ": " + openssl_error());
}

}  // namespace postern
