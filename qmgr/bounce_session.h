/// One client (qmgr) of bounce(8).
#pragma once

#include "lib/async/task.h"
#include "lib/config/config.h"
#include "lib/queue/cleanup_client.h"
#include "lib/service/service.h"
#include "qmgr/notice_text.h"
#include "qmgr/report.h"

namespace postern::qmgr {

/// One notice to send: whether a report leads to one, and to whom, is decided by notices_for().
struct NoticePlan {
    Audience audience = Audience::sender;
    std::string to;
    std::string sender;      ///< empty: the null sender
};

/// The notices that `report` leads to (RFC 5321 section 6.1, RFC 3464): to the sender; to the postmaster when
/// notify_classes says so; nobody when the report is about a double bounce.
std::vector<NoticePlan> notices_for(const Config& config, const Report& report);

/// Takes the recipients out of `report` that this notice is not to name (NOTIFY, RFC 3461 section 4.1); returns those.
std::vector<ReportRecipient> hide_unwanted(Report& report, const NoticePlan& plan);

class BounceSession {
public:
    /// Everything named outlives the session.
    BounceSession(const Config& config, Connection client, const NoticeTemplates& templates = NoticeTemplates::builtin())
        : config_(config), templates_(templates), channel_(std::move(client.fd), kMaxReport) {}

    /// Answers one Report after another until qmgr closes the connection.
    Task<> run();

private:
    Task<Reported> handle(Report& report);
    /// The new queue id.
    Task<Result<std::string>> send(const Report& report, const NoticePlan& plan);
    Task<Result<void>> send_extent(int fd, queue::Extent extent);

    const Config& config_;
    const NoticeTemplates& templates_;
    Channel<FromBounce, ToBounce> channel_;
    queue::CleanupClient cleanup_;
};

}  // namespace postern::qmgr
