#include "lib/tls/server_keys.h"

#include <memory>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/table/table.h"

namespace postern {
namespace {

Result<std::optional<std::string>> find(TableList& tables, const std::string& name) {
    const std::string whole = to_lower(name);
    for (std::size_t from = 0; from != whole.npos; from = whole.find('.', from + 1)) {
        const std::string key = whole.substr(from);
        const Lookup found = tables.lookup(key);
        if (!found) {
            return found.error();
        }
        if (!*found) {
            continue;
        }
        std::optional<std::string> pem = base64_decode(**found);
        if (!pem) {
            return Error(Errc::config, "tls_server_sni_maps: the entry of \"" + printable(key, 255) +
                                           "\" is not base64: make the table with postmap -F");
        }
        return pem;
    }
    return std::optional<std::string>();
}

}  // namespace

Result<ServerKeys> open_server_keys(const Config& config) {
    Result<TableList> opened = TableList::open("tls_server_sni_maps", config.tls_server_sni_maps(), table_context(config));
    if (!opened) {
        return opened.error();
    }
    if (opened->empty()) {
        return ServerKeys();
    }
    const auto tables = std::make_shared<TableList>(std::move(*opened));
    return ServerKeys([tables](const std::string& name) {
        Result<std::optional<std::string>> keys = find(*tables, name);
        if (!keys) {
            log_warning("{}", keys.error().what);
        }
        return keys;
    });
}

}  // namespace postern
