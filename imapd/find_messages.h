/// The search behind SEARCH, SORT and THREAD.
#pragma once

#include <string>
#include <vector>

#include "imapd/session.h"

namespace postern::imapd {

struct Found {
    store::Uid uid = 0;
    store::Modseq modseq = 0;
};

/// The messages of the selected mailbox that match, by ascending UID.  Errors: unsupported (charset).
Task<Result<std::vector<Found>>> find_messages(Session& session, const SearchArguments& asked);

/// The tagged reply for its error.
std::string search_failure(const Error& error);

}  // namespace postern::imapd
