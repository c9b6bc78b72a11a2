/// What postqueue(1) and postsuper(1) share: their configuration, their end, and a word with qmgr(8).
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/queue/messages.h"

namespace postern::tools {

/// "program: fatal: text" on standard error and in the log, then the end with `status`.
[[noreturn]] void die(int status, const std::string& text);

/// main.cf of `directory`; the log is opened as "$syslog_name/program".  A set-gid program obeys a caller's directory only
/// when the default main.cf names it in alternate_config_directories.  Ends the process with `status` otherwise.
Config load_command_config(const std::string& program, const std::string& directory, int status);

/// Sends `request` to qmgr, which listens at queue_service_name, and waits for the answer.
/// Errors: not_found, closed (the mail system is down), denied, and qmgr's own with its text.
Result<void> ask_qmgr(const Config& config, queue::FlushAll request);
Result<void> ask_qmgr(const Config& config, queue::FlushOne request);
Result<void> ask_qmgr(const Config& config, queue::FlushSite request);
Result<void> ask_qmgr(const Config& config, queue::Altered request);

/// All pages of qmgr's account of its destinations; at least one.  Errors: as ask_qmgr().
Result<std::vector<queue::QueueStatus>> ask_qmgr_status(const Config& config);

}  // namespace postern::tools
