/// Domain names beyond ASCII (RFC 5890), in the form in which the DNS has them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace postern {

/// How the few letters are read on which IDNA2003 and IDNA2008 do not agree (UTS 46 section 2.3).
enum class IdnaRules : bool { current, transitional };

/// "bücher.example" is "xn--bcher-kva.example": by libidn2, as IDNA2008 says with the mapping of UTS 46 before it (lower case, NFC,
/// the full stops of East Asian scripts), without its transitional forms: "faß.de" and "fass.de" are two domains.  With
/// IdnaRules::transitional (enable_idna2003_compatibility) they are one, as they were by IDNA2003.
/// A name in ASCII stays as it is.  Nothing for what is no UTF-8, has characters that no domain may have, or would be longer
/// than a label or a name may be.
std::optional<std::string> ascii_name(std::string_view domain, IdnaRules rules = IdnaRules::current);

}  // namespace postern
