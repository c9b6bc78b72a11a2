/// How many deliveries to one destination may run at the same time (Postfix SCHEDULER_README): grows with
/// success, shrinks with failure, and closes when a whole cohort of deliveries failed.
#pragma once

#include <string>

#include "lib/config/feedback.h"

namespace postern::qmgr {

struct WindowLimits {
    double initial = 5;          ///< initial_destination_concurrency
    double maximum = 20;         ///< ..._destination_concurrency_limit; 0: none
    double failed_cohorts = 1;   ///< ..._destination_concurrency_failed_cohort_limit; 0: never closes
    Feedback positive, negative;
    bool debug = false;          ///< destination_concurrency_feedback_debug: changes are logged
};

class Window {
public:
    explicit Window(const WindowLimits& limits) { reset(limits); }

    /// Deliveries that may run now; 0 when closed.
    int size() const { return closed_ ? 0 : static_cast<int>(window_); }
    bool closed() const { return closed_; }
    void reset(const WindowLimits& limits);
    /// A delivery reached the destination while `busy` (itself included) were running.
    void succeeded(const WindowLimits& limits, int busy);
    /// The destination could not be reached.
    void failed(const WindowLimits& limits);
    /// Closed at once, whatever the cohorts say.
    void close() { closed_ = true; }
    /// For destination_concurrency_feedback_debug: "limit 20 window 5 success 0.2 failure 0 fail_cohorts 0".
    std::string text(const WindowLimits& limits) const;

private:
    double window_ = 1;
    double success_ = 0;
    double failure_ = 0;
    double failed_cohorts_ = 0;
    bool closed_ = false;
};

}  // namespace postern::qmgr
