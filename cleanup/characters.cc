#include "cleanup/characters.h"

#include <algorithm>
#include <iterator>

namespace postern::cleanup {
namespace {

constexpr std::string_view kEscapes = "abfnrtv", kMeanings = "\a\b\f\n\r\t\v";

bool is_octal(char c) { return c >= '0' && c <= '7'; }

/// Takes one byte, or what stands for it, from the front of `text`, which is not empty.
unsigned char take_character(std::string_view& text) {
    const char first = text.front();
    text.remove_prefix(1);
    if (first != '\\' || text.empty()) {
        return static_cast<unsigned char>(first);
    }
    unsigned value = 0;
    std::size_t digits = 0;
    for (; digits < 3 && digits < text.size() && is_octal(text[digits]); ++digits) {
        value = value * 8 + static_cast<unsigned>(text[digits] - '0');
    }
    if (digits > 0) {
        text.remove_prefix(digits);
        return static_cast<unsigned char>(value);
    }
    const std::size_t known = kEscapes.find(text.front());
    const char meant = known == std::string_view::npos ? text.front() : kMeanings[known];
    text.remove_prefix(1);
    return static_cast<unsigned char>(meant);
}

}  // namespace

CharacterSet::CharacterSet(std::string_view text) {
    while (!text.empty()) {
        members_.set(take_character(text));
    }
    members_.reset('\n');
}

std::size_t CharacterSet::find_in(std::string_view bytes) const {
    const auto found = std::find_if(bytes.begin(), bytes.end(), [this](char c) { return has(c); });
    return found == bytes.end() ? std::string_view::npos : static_cast<std::size_t>(found - bytes.begin());
}

std::string CharacterSet::strip(std::string_view bytes) const {
    std::string left;
    left.reserve(bytes.size());
    std::remove_copy_if(bytes.begin(), bytes.end(), std::back_inserter(left), [this](char c) { return has(c); });
    return left;
}

}  // namespace postern::cleanup
