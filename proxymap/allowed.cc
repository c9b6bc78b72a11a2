#include "proxymap/allowed.h"

#include "lib/base/strings.h"

namespace postern::proxymap {
namespace {

constexpr std::string_view kPrefix = "proxy:";
constexpr int kMaxDepth = 10;

void collect(std::string_view text, int depth, std::set<std::string, std::less<>>& tables) {
    for (const std::string& word : split_list(text)) {
        const std::string_view view = word;
        if (view.substr(0, kPrefix.size()) == kPrefix) {
            tables.emplace(view.substr(kPrefix.size()));
            continue;
        }
        // A group "{ ... }" or a table made of tables, "unionmap:{proxy:a, proxy:b}".
        const std::size_t open = view.find('{');
        if (open != std::string_view::npos && view.back() == '}' && depth < kMaxDepth) {
            collect(view.substr(open + 1, view.size() - open - 2), depth + 1, tables);
        }
    }
}

}  // namespace

std::set<std::string, std::less<>> allowed_tables(std::string_view proxy_read_maps) {
    std::set<std::string, std::less<>> tables;
    collect(proxy_read_maps, 0, tables);
    return tables;
}

}  // namespace postern::proxymap
