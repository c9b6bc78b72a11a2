/// message_reject_characters and message_strip_characters.
#pragma once

#include <bitset>
#include <string>
#include <string_view>

namespace postern::cleanup {

/// A set of bytes, as main.cf writes it: the bytes themselves, and the escapes \a \b \f \n \r \t \v \\ and \ddd (up to
/// three octal digits).  LF ends lines and is never part of one, so it has no effect in the set.
class CharacterSet {
public:
    explicit CharacterSet(std::string_view text);
    bool empty() const { return members_.none(); }
    /// Where the first member is; npos when there is none.
    std::size_t find_in(std::string_view bytes) const;
    /// `bytes` without the members.
    std::string strip(std::string_view bytes) const;

private:
    bool has(char c) const { return members_[static_cast<unsigned char>(c)]; }
    std::bitset<256> members_;
};

}  // namespace postern::cleanup
