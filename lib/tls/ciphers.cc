#include "lib/tls/ciphers.h"

#include "lib/base/strings.h"

namespace postern {

Result<std::string> tls_cipher_list(const Config& config, std::string_view grade, std::string_view excluded) {
    std::string out;
    if (grade == "high") {
        out = config.tls_high_cipherlist();
    } else if (grade == "medium" || grade == "low" || grade == "export") {
        out = config.tls_medium_cipherlist();
    } else if (grade == "null") {
        out = config.tls_null_cipherlist();
    } else {
        return Error(Errc::config, "TLS cipher grade \"" + printable(grade, 80) + "\" is not one of high, medium, null");
    }
    for (const std::string& cipher : split(excluded, ", \t:")) {
        out += ":!" + cipher;
    }
    return out;
}

Result<std::string> tls_group_list(const Config& config, std::string_view grade) {
    if (grade == "auto") {
        const std::string& curves = config.tls_eecdh_auto_curves();
        return curves.empty() ? std::string() : curves + " " + config.tls_ffdhe_auto_groups();
    }
    if (grade == "strong") {
        return config.tls_eecdh_strong_curve();
    }
    if (grade == "ultra") {
        return config.tls_eecdh_ultra_curve();
    }
    if (grade == "none") {
        return std::string();
    }
    return Error(Errc::config, "grade of elliptic curves \"" + printable(grade, 80) + "\" is not one of auto, strong, ultra, none");
}

}  // namespace postern
