#include "lib/config/config.h"
#include "lib/table/table.h"

namespace postern {

TableContext table_context(const Config& config) {
    TableContext context;
    context.default_type = config.default_database_type();
    // Relative: services run in queue_directory, which may be their root.
    context.proxymap_socket = "private/" + config.proxymap_service_name();
    context.open_error_is_fatal = config.daemon_table_open_error_is_fatal();
    context.socketmap_max_query = static_cast<std::size_t>(config.socketmap_max_query_size());
    context.socketmap_max_reply = static_cast<std::size_t>(config.socketmap_max_reply_size());
    return context;
}

TableContext command_table_context(const Config& config) {
    TableContext context = table_context(config);
    context.open_error_is_fatal = true;
    return context;
}

}  // namespace postern
