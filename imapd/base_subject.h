/// The base subject that SORT and THREAD compare (RFC 5256 section 2.1).
#pragma once

#include <string>
#include <string_view>

namespace postern::imapd {

struct BaseSubject {
    std::string text;              ///< UTF-8, case as it was
    bool reply = false;            ///< something like "Re:" or "(fwd)" was taken off
};

/// `subject` is UTF-8 with encoded words decoded.
BaseSubject base_subject(std::string_view subject);

}  // namespace postern::imapd
