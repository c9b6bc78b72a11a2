/// Addresses in the log (info_log_address_format).
#pragma once

#include <string>
#include <string_view>

#include "lib/config/config.h"
#include "lib/mail/address.h"

namespace postern {

/// An address in internal form as log lines have it: with quotes where RFC 5321 wants them ("external"), or as it is.
inline std::string logged_address(const Config& config, std::string_view internal) {
    return config.info_log_address_format() == "internal" ? std::string(internal) : external_form(internal);
}

}  // namespace postern
