/// Lines of bounded length for people.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postern {

/// Text broken at blanks so that lines have at most `width` bytes, as far as words allow; all but the first are indented by
/// four, within the width.  `margin` stands before each line and does not count.
std::string wrap_text(std::string_view text, std::size_t width, std::string_view margin = {});

}  // namespace postern
