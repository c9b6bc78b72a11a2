/// What this server says it can do (RFC 3501 section 7.2.1).
#pragma once

#include <string>
#include <string_view>

namespace postern {
class Config;
}

namespace postern::imapd {

/// Extensions that hold before and after login.
inline constexpr std::string_view kBaseCapabilities = "IMAP4rev1 LITERAL+ ENABLE ID IDLE SASL-IR";

/// What is said after login; nothing here is announced that does not work.
inline constexpr std::string_view kSessionCapabilities =
    "NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE CONDSTORE ESEARCH SEARCHRES WITHIN LIST-EXTENDED LIST-STATUS "
    "SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE MULTIAPPEND BINARY SORT SORT=DISPLAY THREAD=ORDEREDSUBJECT "
    "THREAD=REFERENCES";

/// All that a logged-in client sees.  imap_capability (Dovecot's): "+X Y" adds, another text takes the place of all.
std::string session_capabilities(const Config& config);

}  // namespace postern::imapd
