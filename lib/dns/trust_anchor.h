/// DNSSEC trust anchors (RFC 4033 section 2): the keys from which on answers are believed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern {

/// The DS and DNSKEY records of a file as unbound-anchor(8), dns-root-data and key generators write it: one record a line,
/// ";" begins a comment.  Keys that unbound's tracking (RFC 5011) notes as not yet or no longer valid are left out.
/// Errors: config, naming the line.
Result<std::vector<std::string>> parse_trust_anchors(std::string_view text);

/// The anchors of the first of `paths` that exists.  Errors: config, when none does or that one cannot be used.
Result<std::vector<std::string>> read_trust_anchors(const std::vector<std::string>& paths);

}  // namespace postern
