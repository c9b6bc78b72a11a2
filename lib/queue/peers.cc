#include "lib/queue/peers.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>

namespace postern::queue {

TrustedPeers::TrustedPeers(const Config& config) : uids_{0, ::geteuid()} {
    for (const char* parameter : {"mail_owner", "network_owner"}) {
        const std::string name = config.lookup(parameter).value_or("");
        const struct passwd* entry = name.empty() ? nullptr : ::getpwnam(name.c_str());
        if (entry != nullptr) {
            uids_.push_back(entry->pw_uid);
        }
    }
}

bool TrustedPeers::contains(uid_t uid) const { return std::find(uids_.begin(), uids_.end(), uid) != uids_.end(); }

}  // namespace postern::queue
