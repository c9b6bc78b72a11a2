/// The directory in memory for a queue's messages in transit (lib/queue/transit.h).
#pragma once

#include <sys/types.h>

#include <string>

#include "lib/config/config.h"

namespace postern::master {

/// What set_up_transit() has to say; both empty: all is as it shall be.
struct TransitReport {
    std::string warning;   ///< what an administrator has asked for is not so
    std::string notice;    ///< the default does not work here
};

/// Has QUEUE/transit lead to a directory below transit_directory that is in memory and `mail_user`'s alone, or to none: that costs
/// speed and nothing else, so nothing here is an error.  One that is there stays.  A new one gets a name that no other ever had, for
/// that tells that messages were lost with the old.  A queue that shall have none, or one elsewhere, keeps the one it has until that is
/// empty.  commit/ is there already.
TransitReport set_up_transit(const Config& config, uid_t mail_user, gid_t mail_group);

}  // namespace postern::master
