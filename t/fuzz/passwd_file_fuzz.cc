/// passwd-file lines, stored passwords and the templates that user names meet.
#include <cstdint>
#include <string_view>

#include "auth/passwd_file.h"
#include "auth/variables.h"
#include "lib/sasl/password_scheme.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const PasswdTable table = parse_passwd_file(text);
    for (const auto& [user, entry] : table.users) {
        if (user.empty() || entry.extra.size() > kMaxExtraFields) {
            __builtin_trap();
        }
        const Result<PasswordCost> cost = password_cost(entry.password, "PLAIN");
        if (cost && *cost == PasswordCost::cheap) {
            (void)verify_password(entry.password, "PLAIN", "secret", user);
        }
        Variables variables;
        variables.user = user;
        variables.home = entry.home;
        const auto path = expand_path("/var/mail/%d/%n", variables);
        if (path && (path->find("/../") != std::string::npos || path->find('\0') != std::string::npos)) {
            __builtin_trap();
        }
        (void)expand_variables(entry.home, variables);
    }
    return 0;
}
