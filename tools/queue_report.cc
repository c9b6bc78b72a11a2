#include "tools/queue_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "lib/base/json.h"
#include "lib/base/strings.h"

namespace postern::tools {
namespace {

constexpr std::string_view kBold = "\x1b[1m", kRed = "\x1b[31m", kPlain = "\x1b[0m";
constexpr std::size_t kMinimumName = 16;

/// What strangers wrote must not reach a terminal as it is.
std::string visible(std::string_view text) { return printable(text, 300); }

/// "now", "40s", "12m", "3h", "2d".
std::string until(std::int64_t seconds) {
    if (seconds <= 0) {
        return "now";
    }
    if (seconds < 60) {
        return fmt::format("{}s", seconds);
    }
    if (seconds < 3600) {
        return fmt::format("{}m", seconds / 60);
    }
    return seconds < 172800 ? fmt::format("{}h", seconds / 3600) : fmt::format("{}d", seconds / 86400);
}

std::string clock_text(std::int64_t usec) {
    const std::time_t time = usec / 1'000'000;
    std::tm parts{};
    ::localtime_r(&time, &parts);
    std::array<char, 16> text{};
    std::strftime(text.data(), text.size(), "%H:%M:%S", &parts);
    return text.data();
}

/// Columns as wide as their widest cell; the first to the left, numbers to the right, the last as it is.
class Table {
public:
    explicit Table(std::vector<std::string> heads) : left_last_(false) { rows_.push_back(std::move(heads)); }
    void text_at_the_end() { left_last_ = true; }
    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    /// A line of its own below the last row.
    void note(std::string text) { notes_.emplace_back(rows_.size(), std::move(text)); }

    std::string print(bool colour) const {
        std::vector<std::size_t> widths(rows_.front().size(), 2);
        widths[0] = kMinimumName;
        for (const auto& cells : rows_) {
            for (std::size_t i = 0; i < cells.size(); ++i) {
                widths[i] = std::max(widths[i], cells[i].size());
            }
        }
        std::string out;
        auto note = notes_.begin();
        for (std::size_t r = 0; r < rows_.size(); ++r) {
            std::string line = fmt::format("{:<{}}", rows_[r][0], widths[0]);
            for (std::size_t i = 1; i < rows_[r].size(); ++i) {
                const bool plain = left_last_ && i + 1 == rows_[r].size();
                line += plain ? "  " + rows_[r][i] : fmt::format(" {:>{}}", rows_[r][i], widths[i]);
            }
            line.erase(line.find_last_not_of(' ') + 1);
            out += colour && r == 0 ? fmt::format("{}{}{}\n", kBold, line, kPlain) : line + "\n";
            for (; note != notes_.end() && note->first == r + 1; ++note) {
                out += "    " + note->second + "\n";
            }
        }
        return out;
    }

private:
    std::vector<std::vector<std::string>> rows_;
    std::vector<std::pair<std::size_t, std::string>> notes_;
    bool left_last_;
};

std::vector<std::string> cells_of(const ShapeRow& row, std::int64_t now) {
    std::vector<std::string> cells{visible(row.domain), std::to_string(row.total)};
    for (const std::uint64_t count : row.ages) {
        cells.push_back(std::to_string(count));
    }
    cells.push_back(row.next_try_seconds == 0 ? "-" : until(row.next_try_seconds - now));
    return cells;
}

std::string shape_table(const QueueShape& shape, const ReportOptions& options) {
    std::vector<std::string> heads = shape.heads();
    heads.insert(heads.begin(), {"", "T"});
    heads.emplace_back("next");
    Table table(std::move(heads));
    table.row(cells_of(shape.total(), options.now_seconds));
    const std::vector<const ShapeRow*> rows = shape.rows();
    const std::size_t shown = options.rows == 0 ? rows.size() : std::min(options.rows, rows.size());
    for (std::size_t i = 0; i < shown; ++i) {
        table.row(cells_of(*rows[i], options.now_seconds));
        if (options.reasons && !rows[i]->reason.empty()) {
            table.note("(" + visible(rows[i]->reason) + ")");
        }
    }
    std::string out = table.print(options.colour);
    if (shown < rows.size()) {
        out += fmt::format("... and {} more (-n 0 shows all)\n", rows.size() - shown);
    }
    return out;
}

std::string state_of(const queue::DestinationStatus& destination, bool colour) {
    std::string state;
    if (destination.dead_until_usec != 0) {
        const std::string why = destination.reason.empty() ? "" : ": " + visible(destination.reason);
        state = fmt::format("not tried until {}{}", clock_text(destination.dead_until_usec), why);
        return colour ? fmt::format("{}{}{}", kRed, state, kPlain) : state;
    }
    if (destination.delayed_until_usec != 0) {
        return "rate delay until " + clock_text(destination.delayed_until_usec);
    }
    return state;
}

std::string manager_table(const ManagerReport& manager, const ReportOptions& options) {
    if (!manager.error.empty()) {
        return fmt::format("\nqmgr cannot be asked: {}\n", visible(manager.error));
    }
    const queue::QueueStatus& status = manager.status;
    std::string out = fmt::format("\nqmgr: {} active, {} deferred, {} new wait for a place, {} deliveries run{}{}\n", status.active,
                                  status.deferred, status.incoming, status.running,
                                  status.next_seconds == 0 ? "" : ", next try: " + until(status.next_seconds - options.now_seconds),
                                  status.scanning ? "; the queue is still being read" : "");
    if (status.destinations.empty()) {
        return out;
    }
    Table table({"destination", "window", "running", "waiting", "state"});
    table.text_at_the_end();
    const std::size_t count = status.destinations.size();
    const std::size_t shown = options.rows == 0 ? count : std::min(options.rows, count);
    for (std::size_t i = 0; i < shown; ++i) {
        const queue::DestinationStatus& to = status.destinations[i];
        const std::string where = to.mailbox.empty() ? to.nexthop : to.mailbox + "@" + to.nexthop;
        table.row({visible(to.transport + ":" + where), std::to_string(to.window), std::to_string(to.running),
                   std::to_string(to.waiting), state_of(to, options.colour)});
    }
    out += table.print(options.colour);
    return shown < count ? out + fmt::format("... and {} more (-n 0 shows all)\n", count - shown) : out;
}

std::string json_row(const ShapeRow& row) {
    return fmt::format(R"({{"domain": {}, "total": {}, "ages": [{}], "next_try": {}, "reason": {}}})", json_quoted(row.domain), row.total,
                       fmt::join(row.ages, ", "), row.next_try_seconds, json_quoted(row.reason));
}

std::string json_destination(const queue::DestinationStatus& to) {
    return fmt::format(R"({{"transport": {}, "nexthop": {}, "mailbox": {}, "window": {}, "running": {}, "waiting": {}, )"
                       R"("dead_until": {}, "delayed_until": {}, "dsn": {}, "reason": {}}})",
                       json_quoted(to.transport), json_quoted(to.nexthop), json_quoted(to.mailbox), to.window, to.running, to.waiting,
                       to.dead_until_usec / 1'000'000, to.delayed_until_usec / 1'000'000, json_quoted(to.dsn), json_quoted(to.reason));
}

std::string json_manager(const ManagerReport& manager) {
    if (!manager.error.empty()) {
        return fmt::format(R"({{"error": {}}})", json_quoted(manager.error));
    }
    const queue::QueueStatus& status = manager.status;
    std::string out = fmt::format(R"({{"active": {}, "incoming": {}, "deferred": {}, "running": {}, "next_try": {}, "scanning": {}, )"
                                  R"("destinations": [)",
                                  status.active, status.incoming, status.deferred, status.running, status.next_seconds, status.scanning);
    for (std::size_t i = 0; i < status.destinations.size(); ++i) {
        out += (i > 0 ? ", " : "") + json_destination(status.destinations[i]);
    }
    return out + "]}";
}

}  // namespace

bool worth_telling(const queue::DestinationStatus& destination) {
    return destination.running > 0 || destination.waiting > 0 || destination.dead_until_usec != 0 || destination.delayed_until_usec != 0;
}

std::string text_report(const QueueShape& shape, const ManagerReport& manager, const ReportOptions& options) {
    std::string out = fmt::format("{} messages in {}; age in minutes\n", shape.messages(), fmt::join(options.queues, ", "));
    return out + shape_table(shape, options) + manager_table(manager, options);
}

std::string json_report(const QueueShape& shape, const ManagerReport& manager, const ReportOptions& options) {
    std::string out = fmt::format(R"({{"time": {}, "queues": [)", options.now_seconds);
    for (std::size_t i = 0; i < options.queues.size(); ++i) {
        out += (i > 0 ? ", " : "") + json_quoted(options.queues[i]);
    }
    out += fmt::format(R"(], "messages": {}, "minutes": [)", shape.messages());
    const std::vector<std::string> heads = shape.heads();
    for (std::size_t i = 0; i < heads.size(); ++i) {
        out += (i > 0 ? ", " : "") + json_quoted(heads[i]);
    }
    out += "], \"total\": " + json_row(shape.total()) + ", \"domains\": [";
    const std::vector<const ShapeRow*> rows = shape.rows();
    const std::size_t shown = options.rows == 0 ? rows.size() : std::min(options.rows, rows.size());
    for (std::size_t i = 0; i < shown; ++i) {
        out += (i > 0 ? ", " : "") + json_row(*rows[i]);
    }
    return out + "], \"manager\": " + json_manager(manager) + "}\n";
}

}  // namespace postern::tools
