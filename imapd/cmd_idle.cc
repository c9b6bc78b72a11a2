#include <algorithm>

#include "imapd/commands.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern::imapd {

namespace {

constexpr Millis kBetweenNotices{200};       ///< changes that come in a burst are told together

using Clock = std::chrono::steady_clock;

/// Wakes the session when the mailbox's directory changes.  Shared by cmd_idle and the coroutine that
/// waits on the descriptor, which ends after the first has closed it.
struct Alarm {
    std::unique_ptr<store::Watch> watch;
    FdEvents events;
    Stream* client = nullptr;
};

Task<> watch_for_changes(std::shared_ptr<Alarm> alarm) {
    for (;;) {
        const Wake wake = co_await alarm->events.readable(kForever);
        if (wake == Wake::closed) {
            co_return;
        }
        alarm->watch->drain();
        alarm->client->interrupt();
    }
}

std::shared_ptr<Alarm> start_alarm(Session& session) {
    if (session.mailbox() == nullptr) {
        return nullptr;
    }
    Result<std::unique_ptr<store::Watch>> watch = session.mailbox()->watch();
    if (!watch) {
        log_warning("watching for changes: {}; looking every {} seconds", watch.error().what,
                    session.config().mailbox_idle_check_interval().count());
        return nullptr;
    }
    auto alarm = std::make_shared<Alarm>();
    alarm->watch = std::move(*watch);
    alarm->client = &session.client();
    alarm->events.open(alarm->watch->fd());
    spawn(watch_for_changes(alarm));
    return alarm;
}

/// When the next look at something is due.
struct Schedule {
    Clock::time_point logout, keepalive, look;
    Millis until_next() const {
        const auto next = std::min({logout, keepalive, look});
        return std::max(Millis(1), std::chrono::duration_cast<Millis>(next - Clock::now()) + Millis(1));
    }
};

constexpr auto kFar = Clock::time_point::max();

/// Waits until the client says something: true; or the session is over: false.
Task<bool> wait_for_client(Session& session, bool watched) {
    const auto interval = session.config().imap_idle_notify_interval();
    Schedule schedule{Clock::now() + session.patience(), Clock::now() + interval, kFar};
    const bool poll = session.mailbox() != nullptr && !watched;
    const auto between_looks = session.config().mailbox_idle_check_interval();
    schedule.look = poll ? Clock::now() + between_looks : kFar;
    auto last_look = Clock::now() - kBetweenNotices;     // the first news is told at once
    for (;;) {
        const Wake wake = co_await session.client().wait_input(schedule.until_next());
        if (wake == Wake::ready) {
            co_return true;
        }
        if (wake == Wake::closed) {
            session.bye("BYE Connection closed.");
            co_return false;
        }
        if (session.stopping()) {
            session.bye("BYE Server shutting down.");
            co_return false;
        }
        const auto now = Clock::now();
        if (wake == Wake::interrupted) {
            schedule.look = std::min(schedule.look, last_look + kBetweenNotices);
        }
        if (now >= schedule.logout) {
            session.bye("BYE Disconnected for inactivity.");
            co_return false;
        }
        if (now >= schedule.look && session.mailbox() != nullptr) {
            last_look = now;
            schedule.look = poll ? now + between_looks : kFar;
            if (!session.send_changes(store::Expunges::show, false)) {
                co_return false;
            }
        }
        if (now >= schedule.keepalive) {
            session.out() += "* OK Still here\r\n";
            schedule.keepalive = now + interval;
        }
    }
}

}  // namespace

/// IDLE (RFC 2177): tells the client about changes as they happen.
///
///     idle = "IDLE" CRLF "DONE"
///
/// Ends with tagged OK after DONE, tagged BAD after anything else, and BYE when the client is silent for
/// imap_timeout.  "* OK Still here" every imap_idle_notify_interval keeps address translators awake.
Task<std::string> cmd_idle(Session& session, Command& command) {
    if (!command.parser.end()) {
        co_return command.bad();
    }
    const std::shared_ptr<Alarm> alarm = start_alarm(session);
    session.out() += "+ idling\r\n";
    // What came between the last command and the watch would otherwise stay unseen.
    bool alive = session.mailbox() == nullptr || session.send_changes(store::Expunges::show, false);
    if (alive) {
        alive = co_await wait_for_client(session, alarm != nullptr);
    }
    if (alarm != nullptr) {
        alarm->events.close();
    }
    if (!alive) {
        co_return std::string();
    }
    const Result<std::string> line = co_await session.client().read_line(1024, session.patience());
    if (!line && line.error().code != Errc::too_big) {
        session.bye("BYE Connection closed.");
        co_return std::string();
    }
    if (!line || !equals_ignoring_case(*line, "DONE")) {
        co_return "BAD Expected DONE.";
    }
    co_return "OK Idle completed.";
}

}  // namespace postern::imapd
