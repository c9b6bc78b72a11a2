#include "lib/store/special_use.h"

#include <unistd.h>

#include <string_view>
#include <utility>

#include "lib/base/strings.h"
#include "lib/store/control_file.h"

namespace postern::store {
namespace {

using Uses = std::map<std::string, std::string>;

std::string path_of(const Layout& layout) { return layout.location().control + "/postern-special-use"; }

/// Most accounts never have the file.
bool is_there(const Layout& layout) { return ::access(path_of(layout).c_str(), F_OK) == 0; }

Result<void> write_all(const Layout& layout, const Uses& uses) {
    std::string text;
    for (const auto& [name, attributes] : uses) {
        const std::string disk = layout.to_disk(name, layout.disk_separator());
        if (!disk.empty()) {
            text += attributes + "\t" + disk + "\n";
        }
    }
    return replace_control_file(path_of(layout), text);
}

}  // namespace

Result<Uses> read_special_uses(const Layout& layout) {
    const Result<std::optional<std::string>> text = read_control_file(path_of(layout));
    if (!text) {
        return text.error();
    }
    Uses uses;
    for (const std::string& line : split(text->value_or(std::string()), "\r\n")) {
        const std::size_t tab = line.find('\t');
        std::string name =
            tab == std::string::npos ? std::string() : layout.from_disk(std::string_view(line).substr(tab + 1), layout.disk_separator());
        if (tab != 0 && !name.empty() && line[0] == '\\') {
            uses[std::move(name)] = line.substr(0, tab);
        }
    }
    return uses;
}

Result<void> write_special_use(const Layout& layout, const std::string& name, const std::string& uses) {
    if (uses.empty() && !is_there(layout)) {
        return {};
    }
    const Result<UniqueFd> lock = lock_control_file(path_of(layout));
    if (!lock) {
        return lock.error();
    }
    Result<Uses> stored = read_special_uses(layout);
    if (!stored) {
        return stored.error();
    }
    const auto found = stored->find(name);
    const std::string before = found == stored->end() ? std::string() : found->second;
    if (before == uses) {
        return {};
    }
    if (uses.empty()) {
        stored->erase(found);
    } else {
        (*stored)[name] = uses;
    }
    return write_all(layout, *stored);
}

Result<void> rename_special_uses(const Layout& layout, const std::string& from, const std::string& to) {
    if (!is_there(layout)) {
        return {};
    }
    const Result<UniqueFd> lock = lock_control_file(path_of(layout));
    if (!lock) {
        return lock.error();
    }
    const Result<Uses> stored = read_special_uses(layout);
    if (!stored) {
        return stored.error();
    }
    const std::string below = from + layout.separator();
    Uses renamed;
    bool changed = false;
    for (const auto& [name, attributes] : *stored) {
        const bool affected = name == from || name.compare(0, below.size(), below) == 0;
        changed = changed || affected;
        renamed[affected ? to + name.substr(from.size()) : name] = attributes;
    }
    return changed ? write_all(layout, renamed) : Result<void>();
}

}  // namespace postern::store
