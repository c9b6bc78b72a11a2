/// Who may speak to the programs that own the queue.
#pragma once

#include <sys/types.h>

#include <vector>

#include "lib/config/config.h"

namespace postern::queue {

/// Root, ourselves, mail_owner and network_owner.  The sockets in public/ can be reached by every local user; only
/// the suite's own programs may make claims about clients, or move messages about.
class TrustedPeers {
public:
    /// Looks the users up; before chroot.  A user that does not exist is left out.
    explicit TrustedPeers(const Config& config);
    bool contains(uid_t uid) const;

private:
    std::vector<uid_t> uids_;
};

}  // namespace postern::queue
