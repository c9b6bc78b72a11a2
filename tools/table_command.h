/// The command line that postmap(1) and postalias(1) share.
#pragma once

#include "tools/table_source.h"

namespace postern::tools {

/// Runs the command; returns its exit status: 0, or 1 when something failed or nothing was found.
int table_command(std::string_view program, SourceFormat format, int argc, char** argv);

}  // namespace postern::tools
