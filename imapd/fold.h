/// Text made ready for comparison without case.
#pragma once

#include <string>
#include <string_view>

namespace postern::imapd {

/// UTF-8 in lower case, one character at a time (Unicode simple case mapping, as far as the C library's C.UTF-8
/// locale knows it).  Bytes that are no UTF-8 stay.
std::string fold_case(std::string_view utf8);

/// Whether `needle`, which fold_case() made, is in `haystack`.
bool contains_folded(std::string_view haystack, const std::string& needle);

}  // namespace postern::imapd
