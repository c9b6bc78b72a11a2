#include "lib/tls/log_level.h"

#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern {
namespace {

std::optional<int> level_named(std::string_view text) {
    const auto number = parse_number(text);
    return number && *number <= 4 ? std::optional<int>(static_cast<int>(*number)) : std::nullopt;
}

}  // namespace

Result<TlsLogLevel> TlsLogLevel::open(const std::string& parameter, const std::string& usual, const std::string& maps,
                                      const TableContext& tables) {
    TlsLogLevel out;
    const std::optional<int> level = level_named(usual);
    if (!level) {
        return Error(Errc::config, "parameter " + parameter + ": \"" + printable(usual, 80) + "\" is not one of 0, 1, 2, 3, 4");
    }
    out.usual_ = *level;
    Result<TableList> opened = TableList::open(parameter + "_maps", maps, tables);
    if (!opened) {
        return opened.error();
    }
    out.maps_ = std::move(*opened);
    return out;
}

int TlsLogLevel::of(std::initializer_list<std::string> names) {
    for (const std::string& name : names) {
        const Lookup found = maps_.empty() ? Lookup(std::optional<std::string>()) : maps_.lookup(name);
        if (!found) {
            log_warning("{}", found.error().what);
            return usual_;
        }
        if (*found) {
            const std::optional<int> level = level_named(**found);
            if (!level) {
                log_warning("{}: \"{}\" for {} is not one of 0, 1, 2, 3, 4", maps_.title(), printable(**found, 80), name);
            }
            return level.value_or(usual_);
        }
    }
    return usual_;
}

}  // namespace postern
