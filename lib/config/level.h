/// Compatibility levels: versions such as 3, 3.6 or 3.10.1, ordered part by part.
#pragma once

#include <string_view>

#include "lib/base/result.h"

namespace postern {

/// A number that orders as the level does.  Up to three parts, each below 1024.
inline Result<long> parse_level(std::string_view text) {
    long parts[3] = {0, 0, 0};
    int count = 0;
    bool digits = false;
    for (const char c : text) {
        if (c >= '0' && c <= '9' && parts[count] < 1000) {
            parts[count] = parts[count] * 10 + (c - '0');
            digits = true;
        } else if (c == '.' && digits && count < 2) {
            ++count;
            digits = false;
        } else {
            digits = false;
            break;
        }
    }
    if (!digits || parts[0] > 1023 || parts[1] > 1023 || parts[2] > 1023) {
        return Error(Errc::syntax, "malformed level \"" + std::string(text.substr(0, 50)) + "\", expected one such as 3.6");
    }
    return (parts[0] << 20) + (parts[1] << 10) + parts[2];
}

}  // namespace postern
