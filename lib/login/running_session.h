/// The sessions that a session process is serving, so that all of them can be told to end.
#pragma once

#include <set>

namespace postern {

/// Stands beside a session for as long as it is served.  `Session` has a stop(), which says goodbye and ends the session, at once
/// when it is idle.  One thread.
template <class Session>
class RunningSession {
public:
    explicit RunningSession(Session& session) : session_(&session) { all().insert(session_); }
    ~RunningSession() { all().erase(session_); }
    RunningSession(const RunningSession&) = delete;
    RunningSession& operator=(const RunningSession&) = delete;

    /// The suite is being stopped.
    static void stop_all() {
        for (Session* const session : std::set(all())) {
            if (all().contains(session)) {   // it may have ended with another
                session->stop();
            }
        }
    }

private:
    static std::set<Session*>& all() {
        static std::set<Session*> sessions;
        return sessions;
    }
    Session* session_;
};

}  // namespace postern
