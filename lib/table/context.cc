#include "lib/config/config.h"
#include "lib/table/table.h"

namespace postern {

TableContext table_context(const Config& config) {
    TableContext context;
    context.default_type = config.default_database_type();
    // Relative: services run in queue_directory, which may be their root.
    context.proxymap_socket = "private/" + config.proxymap_service_name();
    return context;
}

}  // namespace postern
