#include "lib/queue/submit_access.h"

#include <pwd.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "lib/base/strings.h"

namespace postern::queue {
namespace {

constexpr int kMaxDepth = 5;
constexpr std::size_t kMaxFile = 1024 * 1024;

/// 1: may, 0: may not, -1: nothing matched.
Result<int> match(std::string_view list, const std::string& user, int depth) {
    for (const std::string& element : split_list(list)) {
        const bool negated = element.starts_with('!');
        const std::string pattern = element.substr(negated ? 1 : 0);
        bool hit = pattern == user || pattern.starts_with("static:");
        if (pattern.starts_with('/') && depth < kMaxDepth) {
            std::ifstream file(pattern, std::ios::binary);
            if (!file) {
                return Error(Errc::config, "authorized_submit_users: cannot read " + pattern);
            }
            std::string text(std::istreambuf_iterator<char>(file), {});
            text.resize(std::min(text.size(), kMaxFile));
            const Result<int> inner = match(text, user, depth + 1);
            if (!inner) {
                return inner;
            }
            if (*inner >= 0) {   // the file's elements stand here, "!user" among them
                return negated ? 1 - *inner : *inner;
            }
        } else if (!hit && pattern.find(':') != std::string::npos) {
            return Error(Errc::config, "authorized_submit_users: only user names, static: and /file are possible: " + pattern);
        }
        if (hit) {
            return negated ? 0 : 1;
        }
    }
    return -1;
}

}  // namespace

Result<bool> may_submit(std::string_view list, const std::string& user) {
    const Result<int> result = match(list, user, 0);
    if (!result) {
        return result.error();
    }
    return *result == 1;
}

std::string login_name() {
    const struct passwd* entry = ::getpwuid(::getuid());
    return entry != nullptr ? entry->pw_name : "unknown";
}

}  // namespace postern::queue
