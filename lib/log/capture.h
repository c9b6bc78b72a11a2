/// Keeps log lines in memory, for tests.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "lib/log/log.h"

namespace postern {

/// While it lives, every line of the process comes here and nowhere else.  One at a time.
class LogCapture {
public:
    LogCapture() { log_set_sink(&LogCapture::take, this); }
    ~LogCapture() { log_set_sink(nullptr, nullptr); }
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;

    std::vector<std::string> lines() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return lines_;
    }
    /// The newest line, or "".
    std::string last() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return lines_.empty() ? std::string() : lines_.back();
    }
    /// How many lines contain `text`.
    std::size_t count(std::string_view text) const {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::size_t found = 0;
        for (const std::string& line : lines_) {
            found += line.find(text) != std::string::npos ? 1 : 0;
        }
        return found;
    }
    void clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        lines_.clear();
    }

private:
    static void take(void* context, LogLevel, std::string_view text) {
        auto* self = static_cast<LogCapture*>(context);
        const std::lock_guard<std::mutex> lock(self->mutex_);
        self->lines_.emplace_back(text);
    }

    mutable std::mutex mutex_;
    std::vector<std::string> lines_;
};

}  // namespace postern
