/// What every command begins with, and a check of a whole command of any kind for tests and the fuzzer.
#pragma once

#include <string>
#include <string_view>

#include "imapd/parser.h"

namespace postern::imapd {

/// "tag SP [UID SP] name [SP]"; the name is upper case.
struct CommandHead {
    std::string tag;
    std::string name;
    bool uid = false;
};

/// On false, `out.tag` is set if the tag was good, so that BAD can carry it.
bool parse_head(Parser& parser, CommandHead& out);

/// Whether `text`, a command with its literals and without its last CRLF, follows its grammar.
bool parse_any(std::string_view text);

}  // namespace postern::imapd
