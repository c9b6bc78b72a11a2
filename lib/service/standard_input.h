/// A client on standard input and output (smtpd -bs, inetd).
#pragma once

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

/// A socket that speaks for standard input and output.  When standard input is a socket, that is it.  Otherwise (a
/// pipe, a file, a terminal) a child process carries the bytes between those descriptors and a socket pair, because
/// the event loop cannot wait for files.  The child ends with either side.  Call it before rights are given up.
/// Errors: those of socketpair(2) and fork(2).
Result<UniqueFd> standard_input_socket();

}  // namespace postern
