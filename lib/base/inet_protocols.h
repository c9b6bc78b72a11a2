/// inet_protocols: which protocols are spoken, and listened to.
#pragma once

#include <string_view>

#include "lib/base/strings.h"

namespace postern {

struct InetProtocols {
    bool ipv4 = false;
    bool ipv6 = false;

    /// Words in any case, as the check of the setting has it.
    static InetProtocols parse(std::string_view setting) {
        InetProtocols result;
        for (const std::string& word : split(setting, ", \t\r\n")) {
            const bool all = equals_ignoring_case(word, "all");
            result.ipv4 = result.ipv4 || all || equals_ignoring_case(word, "ipv4");
            result.ipv6 = result.ipv6 || all || equals_ignoring_case(word, "ipv6");
        }
        return result;
    }
};

}  // namespace postern
