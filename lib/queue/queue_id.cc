#include "lib/queue/queue_id.h"

#include <algorithm>

namespace postern::queue {
namespace {

constexpr std::string_view kDigits = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
constexpr std::string_view kHex = "0123456789ABCDEF";
constexpr std::size_t kSecondsDigits = 6;
constexpr std::size_t kMicrosecondsDigits = 4;
constexpr std::size_t kShortMicrosecondsDigits = 5;

/// `value` in `digits.substr(0, base)`, with leading zeros up to `width`.
std::string in_base(std::uint64_t value, unsigned base, std::string_view digits, std::size_t width) {
    std::string text;
    do {
        text.push_back(digits[value % base]);
        value /= base;
    } while (value != 0);
    while (text.size() < width) {
        text.push_back(digits[0]);
    }
    std::reverse(text.begin(), text.end());
    return text;
}

}  // namespace

std::string make_queue_id(std::int64_t time_usec, std::uint64_t inode, bool long_form) {
    const auto seconds = static_cast<std::uint64_t>(time_usec / 1000000);
    const auto microseconds = static_cast<std::uint64_t>(time_usec % 1000000);
    if (!long_form) {
        return in_base(microseconds, 16, kHex, kShortMicrosecondsDigits) + in_base(inode, 16, kHex, 1);
    }
    return in_base(seconds, 52, kDigits, kSecondsDigits) + in_base(microseconds, 52, kDigits, kMicrosecondsDigits) +
           "z" + in_base(inode, 51, kDigits, 1);
}

bool is_queue_id(std::string_view text) {
    if (text.size() <= kShortMicrosecondsDigits || text.size() > kMaxQueueId) {
        return false;
    }
    if (text.find_first_not_of(kHex) == std::string_view::npos) {
        return text.size() <= kShortMicrosecondsDigits + 16;
    }
    const std::size_t mark = kSecondsDigits + kMicrosecondsDigits;
    const std::size_t separator = text.rfind('z');
    return text.find_first_not_of(kDigits) == std::string_view::npos && separator != std::string_view::npos &&
           separator >= mark && separator + 1 < text.size();
}

bool has_random_number(std::string_view queue_id) {
    const bool is_short = queue_id.find_first_not_of(kHex) == std::string_view::npos;
    const std::size_t begin = is_short ? kShortMicrosecondsDigits : queue_id.rfind('z') + 1;
    const std::string_view digits = is_short ? kHex : kDigits;
    const std::uint64_t base = is_short ? 16 : 51;
    std::uint64_t number = 0;
    for (const char digit : queue_id.substr(std::min(begin, queue_id.size()))) {
        number = number * base + digits.find(digit);
    }
    return number >= kFirstRandomNumber && number < 2 * kFirstRandomNumber;
}

std::string queue_path(std::string_view directory, std::string_view queue_id) {
    std::string path(directory);
    path += '/';
    path += queue_id;
    return path;
}

}  // namespace postern::queue
