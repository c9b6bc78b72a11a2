#include "lib/dns/ascii_name.h"

#include <idn2.h>

#include <algorithm>
#include <memory>

namespace postern {
namespace {

constexpr std::size_t kMaxName = 1024;   ///< bytes given; a name that the DNS can have is shorter

}  // namespace

std::optional<std::string> ascii_name(std::string_view domain, IdnaRules rules) {
    if (std::all_of(domain.begin(), domain.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
        return std::string(domain);
    }
    if (domain.size() > kMaxName || domain.find('\0') != std::string_view::npos) {
        return std::nullopt;
    }
    char* ascii = nullptr;
    const int flags = IDN2_NFC_INPUT | (rules == IdnaRules::transitional ? IDN2_TRANSITIONAL : IDN2_NONTRANSITIONAL);
    if (::idn2_to_ascii_8z(std::string(domain).c_str(), &ascii, flags) != IDN2_OK) {
        return std::nullopt;
    }
    const std::unique_ptr<char, decltype(&::idn2_free)> owner(ascii, &::idn2_free);
    return std::string(ascii);
}

}  // namespace postern
