#include "lib/store/subscriptions.h"

#include <optional>
#include <string_view>
#include <vector>

#include "lib/base/strings.h"
#include "lib/store/control_file.h"

namespace postern::store {
namespace {

constexpr std::string_view kVersion2 = "V\t2";

struct Stored {
    bool version2 = false;
    std::set<std::string> names;
};

Result<Stored> load(const Layout& layout) {
    Stored stored;
    const std::string& directory = layout.location().control;
    Result<std::optional<std::string>> text = read_control_file(directory + "/subscriptions");
    if (!text) {
        return text.error();
    }
    if (*text) {
        const std::vector<std::string> lines = split(**text, "\r\n");
        stored.version2 = !lines.empty() && lines[0] == kVersion2;
        for (std::size_t i = stored.version2 ? 1 : 0; i < lines.size(); ++i) {
            std::string name = layout.from_disk(lines[i], stored.version2 ? '\t' : layout.disk_separator());
            if (!name.empty()) {
                stored.names.insert(canonical_name(name));
            }
        }
        return stored;
    }
    text = read_control_file(directory + "/courierimapsubscribed");
    if (!text) {
        return text.error();
    }
    for (const std::string& line : split(text->value_or(std::string()), "\r\n")) {
        const bool below_inbox = starts_with_ignoring_case(line, "INBOX.");
        std::string name = layout.from_disk(below_inbox ? std::string_view(line).substr(6) : line, '.');
        if (!name.empty()) {
            stored.names.insert(canonical_name(name));
        }
    }
    return stored;
}

}  // namespace

Result<std::set<std::string>> read_subscriptions(const Layout& layout) {
    Result<Stored> stored = load(layout);
    if (!stored) {
        return stored.error();
    }
    return std::move(stored->names);
}

Result<void> write_subscription(const Layout& layout, const std::string& name, bool on) {
    const std::string& directory = layout.location().control;
    const Result<UniqueFd> lock = lock_control_file(directory + "/subscriptions");
    if (!lock) {
        return lock.error();
    }
    Result<Stored> stored = load(layout);
    if (!stored) {
        return stored.error();
    }
    const bool changed = on ? stored->names.insert(name).second : stored->names.erase(name) != 0;
    if (!changed) {
        return {};
    }
    std::string text = stored->version2 ? std::string(kVersion2) + "\n\n" : std::string();
    for (const std::string& each : stored->names) {
        const char separator = stored->version2 ? '\t' : layout.disk_separator();
        const std::string disk = each == "INBOX" ? each : layout.to_disk(each, separator);
        if (!disk.empty()) {
            text += disk + "\n";
        }
    }
    return replace_control_file(directory + "/subscriptions", text);
}

}  // namespace postern::store
