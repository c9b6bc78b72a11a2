/// What header_checks and body_checks would be asked for a message: for postmap -h, -b and -m.
#pragma once

#include <functional>
#include <string_view>

namespace postern::tools {

struct MessageKeys {
    bool headers = false;   ///< -h: header fields, with their folding
    bool body = false;      ///< -b: body lines
    bool mime = false;      ///< -m: know MIME: fields of parts and of attached messages are headers, not body
};

/// Calls `visit` with each key, in order.  `message` has LF line ends.
void for_each_message_key(std::string_view message, const MessageKeys& wanted,
                          const std::function<void(std::string_view key)>& visit);

}  // namespace postern::tools
