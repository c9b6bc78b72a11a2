/// Domain names beyond ASCII (RFC 5890), in the form in which the DNS has them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// "bücher.example" is "xn--bcher-kva.example": every label with other than ASCII characters as Punycode (RFC 3492).  Such labels
/// are made lower case, as far as the C library's C.UTF-8 locale knows how, and are else taken as they are: SMTPUTF8 wants
/// U-labels (RFC 6531 section 3.3), which are normalized already.  The full stops of East Asian scripts separate labels too.
/// The locale is loaded when it is first needed; Dns::create() sees to it that this is before rights are given up.
/// ASCII labels stay.  Nothing for what is no UTF-8, or would be longer than a label may be.
std::optional<std::string> ascii_name(std::string_view domain);

}  // namespace postern
