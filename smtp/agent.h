/// The program itself: the conversation with qmgr, and the start.
#pragma once

#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/sandbox/sandbox.h"
#include "smtp/client.h"

namespace postern::smtp {

/// What both programs may do.
inline constexpr Rights kRights{
    .user = "network_owner",
    .capabilities = "",
    .chroot = "queue_directory",
    .readable = "",
    .writable = "",
    .syscalls = Syscalls::network_only,
};

/// One connection from qmgr: request after request (lib/queue/deliver.h).  `client` outlives it.
Task<> serve(UniqueFd socket, Client& client);

/// The whole of main(): `program` is "smtp" or "lmtp".
int run_agent(const char* program, Protocol protocol, int argc, char** argv);

}  // namespace postern::smtp
