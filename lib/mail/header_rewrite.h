/// Changes addresses inside a header field and leaves every other byte of it alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern {

/// Where one address stands in a field value: the addr-spec, without display name, brackets, route or comments.
struct AddressSpan {
    std::size_t start = 0;
    std::size_t length = 0;
    std::string internal;   ///< the address in internal form
};

/// The addresses in the value of From, To and the like, in order.  Elements that are no address are left out.
std::vector<AddressSpan> find_addresses(std::string_view value);

/// `field` ("To: a, b\n") with every address replaced by what `rewrite(internal)` yields, where that differs.
/// Errors: what `rewrite` returned.
template <class Rewrite>
Result<std::string> rewrite_addresses(std::string_view field, Rewrite rewrite);

/// Puts `address` (internal form) into header text: quoted where RFC 5322 wants it.
std::string header_address(std::string_view internal);

template <class Rewrite>
Result<std::string> rewrite_addresses(std::string_view field, Rewrite rewrite) {
    const std::size_t colon = field.find(':');
    if (colon == std::string_view::npos) {
        return std::string(field);
    }
    const std::string_view value = field.substr(colon + 1);
    std::string out(field.substr(0, colon + 1));
    std::size_t copied = 0;
    for (const AddressSpan& span : find_addresses(value)) {
        const Result<std::string> now = rewrite(span.internal);
        if (!now) {
            return now.error();
        }
        if (*now == span.internal) {
            continue;
        }
        out += value.substr(copied, span.start - copied);
        out += header_address(*now);
        copied = span.start + span.length;
    }
    out += value.substr(copied);
    return out;
}

}  // namespace postern
