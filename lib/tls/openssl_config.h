/// tls_config_file and tls_config_name: which settings OpenSSL begins with, before those of main.cf.
#pragma once

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern {

/// To be called before anything else has made OpenSSL read its configuration, which it does once: "default" is the system's file, in
/// which mistakes and a missing section do not matter; "none" is none; an absolute path must have the section that tls_config_name
/// names ("openssl_conf" when that is empty).  Errors: config.
Result<void> load_openssl_config(const Config& config);

}  // namespace postern
