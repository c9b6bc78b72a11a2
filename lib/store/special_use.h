/// Special uses (RFC 6154) that clients gave to mailboxes with CREATE, in the file `postern-special-use` of the control
/// directory: a line for each mailbox, its attributes separated by blanks, a tab, and its name as in `subscriptions`.
#pragma once

#include <map>
#include <string>

#include "lib/base/result.h"
#include "lib/store/layout.h"

namespace postern::store {

/// Attributes ("\Sent", or "\Drafts \Junk") by mailbox name, as in the API.  Nothing there: empty.
Result<std::map<std::string, std::string>> read_special_uses(const Layout& layout);
/// Durable when it returns.  Empty `uses` forget what there was.
Result<void> write_special_use(const Layout& layout, const std::string& name, const std::string& uses);
/// A mailbox got another name, and with it those below it.
Result<void> rename_special_uses(const Layout& layout, const std::string& from, const std::string& to);

}  // namespace postern::store
