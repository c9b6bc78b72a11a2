/// bounce - tells senders what became of their mail: failures, delays, and successes when asked.
///
/// Standards: RFC 3461 (what is reported to whom), 3462 (multipart/report), 3464 (delivery-status), 6533 (UTF-8).
/// Also runs as defer and trace (delay warnings, success and verification reports); master.cf names tell them apart
/// for the log only.
/// Speaks to: qmgr(8), which sends the outcome and a read-only descriptor of the message; cleanup(8), which
/// queues the notice.
/// If taken over: can read messages that are being returned, and queue mail in the name of this system.
#include "lib/log/log.h"
#include "qmgr/bounce_session.h"

constexpr postern::Rights kRights{
    .user = "mail_owner",
    .capabilities = "",                              // none
    .chroot = "queue_directory",
    .readable = "/etc/localtime /usr/share/zoneinfo",
    .writable = "",
    .syscalls = postern::Syscalls::network_only,
};

namespace postern::qmgr {
namespace {

Task<> serve(const Config& config, const NoticeTemplates& templates, Connection client) {
    BounceSession session(config, std::move(client), templates);
    co_await session.run();
}

}  // namespace
}  // namespace postern::qmgr

int main(int argc, char** argv) {
    using namespace postern;
    Service service("bounce", argc, argv);
    const Config& config = service.config();
    const Result<NoticeTemplates> templates = NoticeTemplates::open(config);
    if (!templates) {
        fatal("{}", templates.error().what);
    }
    if (const Result<std::string> expanded = preview_templates(config, *templates); !expanded) {
        fatal("parameter bounce_template_file: {}", expanded.error().what);
    }
    for (const std::string& warning : doubtful_times(config, *templates, config.bounce_template_file())) {
        log_warning("{}", warning);
    }
    service.confine(kRights);
    return service.serve([&](Connection client) { return qmgr::serve(config, *templates, std::move(client)); });
}
