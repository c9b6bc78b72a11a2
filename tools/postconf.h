/// The parts of postconf(1).
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"
#include "lib/config/master_cf.h"

namespace postern::postconf {

/// What the command line asked for.
struct Request {
    enum class Target : unsigned char { main_cf, master_entries, master_fields, master_parameters };
    enum class Action : unsigned char { show, set, comment_out, remove };
    Target target = Target::main_cf;
    Action action = Action::show;
    std::string directory;
    bool defaults = false;       ///< -d
    bool only_set = false;       ///< -n
    bool expand = false;         ///< -x
    bool fold = false;           ///< -f
    bool hide_names = false;     ///< -h
    bool hide_values = false;    ///< -H
    bool quiet = false;          ///< -q
    bool directory_given = false;
    std::set<std::string> classes{"builtin", "service", "user"};   ///< -C
    Config::Overrides overrides; ///< -o
    std::vector<std::string> words;
};

/// Exit statuses; messages are on standard error already.
int show_main_cf(const Request& request);
int show_master_cf(const Request& request);
int edit(const Request& request);

/// "name = value" as postconf prints it: white space becomes single spaces; with `fold`, lines end before column 80
/// where they can.
std::string assignment_text(const Request& request, std::string_view name, std::string_view value);
/// Words with one space between, folded like that.
std::string folded(std::string_view text, bool fold);

/// "service/type/rest" of -M, -F and -P; missing parts match everything, as "*" does.
struct ServicePattern {
    std::string name = "*", type = "*", rest = "*";
    bool matches(const MasterEntry& entry) const;
};
ServicePattern parse_pattern(std::string_view text);

/// The columns by the names that -F uses, "command" last.
inline constexpr std::string_view kFieldNames[] = {"service", "type",   "private",       "unprivileged",
                                                   "chroot",  "wakeup", "process_limit", "command"};
std::string field_value(const MasterEntry& entry, std::size_t field);

/// One change of main.cf or master.cf: `text` (a logical line) takes the place of the first entry with `key`, further
/// ones go; an entry that is not there is added at the end.
struct Change {
    std::string key;    ///< parameter name, or "service/type"
    std::string text;   ///< for Action::set
};
/// The file's text after `changes`; comments and layout of all else stay.  `is_master`: keys are service/type.
/// Errors: not_found, for an entry to be commented out or removed in master.cf; syntax.
Result<std::string> edited(std::string_view text, bool is_master, Request::Action action, const std::vector<Change>& changes);

/// Reads `path`, applies `changes` and puts the new file in the old one's place in one step, with its owner and mode.
Result<void> edit_file(const std::string& path, bool is_master, Request::Action action, const std::vector<Change>& changes);

}  // namespace postern::postconf
