/// pop3_logout_format: what a session did, for its last log line, in Dovecot's variables.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postern::pop3d {

struct LogoutFacts {
    std::uint64_t top_count = 0, top_bytes = 0;            ///< %t %p
    std::uint64_t retr_count = 0, retr_bytes = 0;          ///< %r %b
    std::uint64_t deleted_count = 0, deleted_bytes = 0;    ///< %d, %{deleted_bytes}
    std::uint64_t message_count = 0, message_bytes = 0;    ///< %m %s, before anything was deleted
    std::uint64_t input = 0, output = 0;                   ///< %i %o
};

/// Also the long forms: %{top_count} and so on.  What is not known stays as it is.
std::string logout_text(std::string_view format, const LogoutFacts& facts);

}  // namespace postern::pop3d
