/// The right-hand side of an alias, and the lines of .forward and :include: files (aliases(5)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace postern::local {

struct AddressItem {
    enum class Kind : unsigned char {
        address,    ///< internal form, perhaps without a domain; "\user" keeps its backslash
        command,    ///< what follows "|"
        file,       ///< an absolute path, or one that begins with ~/
        include,    ///< what follows ":include:"
        invalid,    ///< cannot be understood
    };
    Kind kind = Kind::address;
    std::string text;
};

/// Items separated by commas and line ends, and addresses by white space; comments and the names of groups are left out; lines that begin with # are left out.  Quotes may be around a whole
/// item ("|cmd a, b") or follow its first character (|"cmd a, b").
std::vector<AddressItem> parse_address_items(std::string_view text);

}  // namespace postern::local
