#include "qmgr/probes.h"

#include "lib/log/log.h"
#include "lib/verify/client.h"

namespace postern::qmgr {

bool probes_have_own_routes(const Config& config) {
    return config.address_verify_transport_maps() != config.transport_maps() ||
           config.address_verify_local_transport() != config.local_transport() ||
           config.address_verify_virtual_transport() != config.virtual_transport() ||
           config.address_verify_relay_transport() != config.relay_transport() ||
           config.address_verify_default_transport() != config.default_transport() ||
           config.address_verify_relayhost() != config.relayhost() ||
           config.address_verify_sender_dependent_relayhost_maps() != config.sender_dependent_relayhost_maps() ||
           config.address_verify_sender_dependent_default_transport_maps() != config.sender_dependent_default_transport_maps();
}

void VerifyReporter::probed(verify::VerifyUpdate result) { spawn(tell(std::move(result))); }

Task<> VerifyReporter::tell(verify::VerifyUpdate result) {
    co_await places_.acquire();
    const std::string path = "private/" + config_.address_verify_service_name();
    const Result<void> told = co_await verify::update(path, std::move(result));
    places_.release();
    if (!told) {
        log_warning("problem talking to service {}: {}", path, told.error().what);
    }
}

}  // namespace postern::qmgr
