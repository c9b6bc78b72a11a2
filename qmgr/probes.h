/// What qmgr does for verify(8) beside delivering its probes.
#pragma once

#include <memory>

#include "lib/async/loop.h"
#include "lib/config/config.h"
#include "lib/route/router.h"
#include "qmgr/partners.h"

namespace postern::qmgr {

/// True when one of the address_verify_* parameters of routing differs from what mail is routed by.
bool probes_have_own_routes(const Config& config);

/// Tells verify(8) what became of its probes.
class VerifyReporter final : public ProbeListener {
public:
    explicit VerifyReporter(const Config& config) : config_(config) {}
    void probed(verify::VerifyUpdate result) override;

private:
    Task<> tell(verify::VerifyUpdate result);
    const Config& config_;
    Semaphore places_{20};
};

}  // namespace postern::qmgr
