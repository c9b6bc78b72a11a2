#include "lib/config/main_cf.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <unordered_map>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/config/lines.h"

namespace postern {

Result<Setting> parse_assignment(std::string_view text) {
    const std::size_t equals = text.find('=');
    const std::string_view name = trim(text.substr(0, equals));
    if (equals == std::string_view::npos || name.find_first_of(" \t") != std::string_view::npos) {
        return Error(Errc::syntax, fmt::format("missing '=' after parameter name: \"{}\"", printable(text, 100)));
    }
    if (name.empty()) {
        return Error(Errc::syntax, fmt::format("missing parameter name: \"{}\"", printable(text, 100)));
    }
    return Setting{std::string(name), std::string(trim(text.substr(equals + 1))), {}};
}

Result<MainCf> parse_main_cf(std::string_view text, std::string_view file) {
    MainCf result;
    std::unordered_map<std::string, std::size_t> seen;
    const Result<void> parsed = parse_lines(text, file, parse_assignment, [&](Setting setting) {
        const auto [at, is_new] = seen.try_emplace(setting.name, result.settings.size());
        if (!is_new) {
            const Setting& earlier = result.settings[at->second];
            result.notices.push_back(fmt::format("{}: overriding earlier entry: {} = {} ({})", setting.where, setting.name,
                                                 printable(earlier.value, 200), earlier.where));
            at->second = result.settings.size();
        }
        result.settings.push_back(std::move(setting));
    });
    if (!parsed) {
        return parsed.error();
    }
    return result;
}

Result<std::string> read_config_file(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        return errno_error("open " + path);
    }
    struct stat info {};
    if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
        return Error(Errc::config, path + ": not a regular file");
    }
    std::string text;
    char buffer[16384];
    for (;;) {
        const ssize_t count = ::read(file.get(), buffer, sizeof(buffer));
        if (count < 0) {
            return errno_error("read " + path);
        }
        if (count == 0) {
            return text;
        }
        text.append(buffer, static_cast<std::size_t>(count));
        if (text.size() > kMaxConfigFile) {
            return Error(Errc::too_big, fmt::format("{}: longer than {} bytes", path, kMaxConfigFile));
        }
    }
}

}  // namespace postern
