/// Dovecot's `subscriptions` file (both versions of its format); Courier's `courierimapsubscribed` is read when
/// the former is not there yet.
#pragma once

#include <set>
#include <string>

#include "lib/base/result.h"
#include "lib/store/layout.h"

namespace postern::store {

/// Names as in the API.  Nothing there: an empty set.
Result<std::set<std::string>> read_subscriptions(const Layout& layout);
/// Durable when it returns.  The format on disk stays what it was.
Result<void> write_subscription(const Layout& layout, const std::string& name, bool on);

}  // namespace postern::store
