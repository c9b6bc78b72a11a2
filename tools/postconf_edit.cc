#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/config/main_cf.h"
#include "tools/postconf.h"

namespace postern::postconf {
namespace {

/// An entry of a file with the lines it is made of.
struct Block {
    std::string key;                      ///< empty for comments and blank lines
    std::vector<std::string_view> lines;  ///< with their line ends
};

bool is_comment(std::string_view line) {
    const std::string_view visible = trim(line);
    return visible.empty() || visible.front() == '#';
}

std::string key_of(std::string_view line, bool is_master) {
    if (is_master) {
        const std::vector<std::string> words = split(line, " \t\r\n");
        return words.size() < 2 ? std::string() : words[0] + "/" + words[1];
    }
    return std::string(trim(line.substr(0, line.find('='))));
}

/// Cuts the file so that each entry has its continuation lines; comments after its last line are not its own.
std::vector<Block> blocks_of(std::string_view text, bool is_master) {
    std::vector<Block> blocks;
    std::size_t entry = 0;   // the block that a continuation belongs to, +1
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end == std::string_view::npos ? text.size() : end + 1);
        text.remove_prefix(line.size());
        const bool continues = (line.front() == ' ' || line.front() == '\t') && !is_comment(line);
        if (continues && entry > 0) {
            // Comments between an entry's lines stay before the rest of it.
            for (std::size_t i = entry; i < blocks.size(); ++i) {
                blocks[entry - 1].lines.insert(blocks[entry - 1].lines.end(), blocks[i].lines.begin(), blocks[i].lines.end());
            }
            blocks.resize(entry);
            blocks[entry - 1].lines.push_back(line);
            continue;
        }
        blocks.push_back({is_comment(line) ? std::string() : key_of(line, is_master), {line}});
        if (!is_comment(line)) {
            entry = blocks.size();
        }
    }
    return blocks;
}

void append_line(std::string& out, std::string_view line) {
    out += line;
    if (!line.empty() && line.back() != '\n') {
        out += '\n';
    }
}

/// Comments that stood between the lines of an entry which goes or is rewritten.
void append_comments(std::string& out, const Block& block) {
    for (const std::string_view line : block.lines) {
        if (is_comment(line)) {
            append_line(out, line);
        }
    }
}

void append_commented_out(std::string& out, const Block& block) {
    for (const std::string_view line : block.lines) {
        append_line(out, is_comment(line) ? std::string(line) : "#" + std::string(line));
    }
}

}  // namespace

Result<std::string> edited(std::string_view text, bool is_master, Request::Action action, const std::vector<Change>& changes) {
    std::string out;
    std::vector<bool> found(changes.size(), false);
    for (const Block& block : blocks_of(text, is_master)) {
        std::size_t which = changes.size();
        for (std::size_t i = 0; i < changes.size(); ++i) {
            which = !block.key.empty() && changes[i].key == block.key ? i : which;
        }
        if (which == changes.size()) {
            for (const std::string_view line : block.lines) {
                append_line(out, line);
            }
            continue;
        }
        if (action == Request::Action::comment_out) {
            append_commented_out(out, block);
        } else {
            append_comments(out, block);
            if (action == Request::Action::set && !found[which]) {
                append_line(out, changes[which].text);
            }
        }
        found[which] = true;
    }
    for (std::size_t i = 0; i < changes.size(); ++i) {
        if (!found[i] && action == Request::Action::set) {
            append_line(out, changes[i].text);
            for (std::size_t j = i + 1; j < changes.size(); ++j) {
                found[j] = found[j] || changes[j].key == changes[i].key;
            }
        } else if (!found[i] && is_master) {
            return Error(Errc::not_found, fmt::format("no service \"{}\"", changes[i].key));
        }
    }
    return out;
}

namespace {

/// Writes `text` beside `path`, then puts it in its place: a crash leaves the old file or the new one.
Result<void> replace_file(const std::string& path, const std::string& text, const struct stat& old) {
    const std::string temporary = path + ".tmp";
    ::unlink(temporary.c_str());   // of an earlier call that was killed
    const UniqueFd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) {
        return errno_error("create " + temporary);
    }
    const bool written = ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                         ::fchmod(file.get(), old.st_mode & 07777) == 0 &&
                         (::geteuid() != 0 || ::fchown(file.get(), old.st_uid, old.st_gid) == 0) && ::fsync(file.get()) == 0 &&
                         ::rename(temporary.c_str(), path.c_str()) == 0;
    if (!written) {
        const Error why = errno_error("write " + temporary);
        ::unlink(temporary.c_str());
        return why;
    }
    const UniqueFd directory(::open(path.substr(0, path.rfind('/') + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return directory && ::fsync(directory.get()) == 0 ? Result<void>() : errno_error("sync the directory of " + path);
}

int fail(std::string_view why) {
    fmt::print(stderr, "postconf: fatal: {}\n", why);
    return 1;
}

bool one_line(const std::string& text) { return text.find_first_of("\r\n") == std::string::npos; }

Result<std::vector<Change>> main_cf_changes(const Request& request) {
    std::vector<Change> changes;
    for (const std::string& word : request.words) {
        if (!one_line(word)) {
            return Error(Errc::syntax, fmt::format("\"{}\" is more than one line", printable(word, 100)));
        }
        if (request.action != Request::Action::set) {
            if (word.find('=') != std::string::npos) {
                return Error(Errc::syntax, fmt::format("-# and -X take names, not \"{}\"", printable(word, 100)));
            }
            changes.push_back({word, {}});
            continue;
        }
        const Result<Setting> setting = parse_assignment(word);
        if (!setting) {
            return setting.error();
        }
        const std::optional<Parameter> row = find_parameter(setting->name);
        if (row && parameter_info(*row).kind == ParameterKind::read_only) {
            return Error(Errc::config, setting->name + " is read-only");
        }
        changes.push_back({setting->name, setting->name + " = " + setting->value});
    }
    return changes;
}

Result<void> set_field(MasterEntry& entry, const std::string& field, const std::string& value) {
    std::string line;
    bool known = false;
    for (std::size_t i = 0; i < std::size(kFieldNames); ++i) {
        const bool this_one = field == kFieldNames[i];
        known = known || this_one;
        line += (this_one ? value : field_value(entry, i)) + " ";
    }
    if (!known) {
        return Error(Errc::syntax, fmt::format("no field \"{}\"; accepted: service, type, private, unprivileged, chroot, wakeup, "
                                               "process_limit, command", printable(field, 100)));
    }
    Result<MasterEntry> changed = parse_master_entry(line);
    if (!changed) {
        return changed.error();
    }
    entry = *std::move(changed);
    return {};
}

/// Sets, or without `value` takes out, -o name=value.  Words behind the first that is no option are not looked at.
void set_parameter(MasterEntry& entry, const std::string& name, const std::string* value) {
    std::vector<std::string> words;
    bool done = false;
    bool options = true;
    for (std::size_t i = 0; i < entry.arguments.size(); ++i) {
        const std::string& word = entry.arguments[i];
        options = options && !word.empty() && word.front() == '-' && word != "--";
        if (!options || word != "-o" || i + 1 == entry.arguments.size()) {
            words.push_back(word);
            continue;
        }
        const std::string& assignment = entry.arguments[++i];
        const bool same = assignment.compare(0, name.size() + 1, name + "=") == 0;
        if (!same || (value != nullptr && !done)) {
            words.emplace_back("-o");
            words.push_back(same ? name + "=" + *value : assignment);
        }
        done = done || same;
    }
    if (value != nullptr && !done) {
        words.insert(words.begin(), {"-o", name + "=" + *value});
    }
    entry.arguments = std::move(words);
}

void add_change(std::vector<Change>& changes, Change change) {
    for (Change& known : changes) {
        if (known.key == change.key) {
            known = std::move(change);   // it has the earlier change in it
            return;
        }
    }
    changes.push_back(std::move(change));
}

/// The changes one word of the command line asks for: one for each entry that it matches.
Result<void> add_master_changes(const Request& request, MasterCf& file, const std::string& word,
                                std::vector<Change>& changes) {
    const bool setting_value = request.action == Request::Action::set;
    const std::size_t equals = word.find('=');
    if (setting_value && equals == std::string::npos) {
        return Error(Errc::syntax, fmt::format("missing '=' in \"{}\"", printable(word, 100)));
    }
    const std::string left(trim(std::string_view(word).substr(0, equals)));
    const std::string value(setting_value ? trim(std::string_view(word).substr(equals + 1)) : std::string_view());
    const ServicePattern pattern = parse_pattern(left);
    if (request.target == Request::Target::master_entries && setting_value) {
        Result<MasterEntry> entry = parse_master_entry(value);
        if (!entry) {
            return entry.error();
        }
        add_change(changes, {left, to_text(*entry, true)});
        return {};
    }
    bool any = false;
    for (MasterEntry& changed : file.entries) {
        if (!pattern.matches(changed)) {
            continue;
        }
        any = true;
        const std::string key = changed.label();
        if (request.target == Request::Target::master_fields) {
            if (Result<void> done = set_field(changed, pattern.rest, value); !done) {
                return done.error();
            }
        } else if (request.target == Request::Target::master_parameters) {
            set_parameter(changed, pattern.rest, setting_value ? &value : nullptr);
        }
        add_change(changes, {key, to_text(changed, true)});
    }
    if (!any) {   // what is not there needs no change: scripts rely on it with Postfix's postconf
        fmt::print(stderr, "postconf: warning: unmatched service_name/type: \"{}\"\n", printable(word, 100));
    }
    return {};
}

int edit_master(const Request& request) {
    const std::string path = request.directory + "/master.cf";
    const Result<std::string> text = read_config_file(path);
    Result<MasterCf> file = text ? parse_master_cf(*text, path) : Result<MasterCf>(text.error());
    if (!file) {
        return fail(file.error().what);
    }
    if (request.target == Request::Target::master_fields && request.action != Request::Action::set) {
        return fail("-F can only be shown and set");
    }
    std::vector<Change> changes;
    for (const std::string& word : request.words) {
        Result<void> added = one_line(word) ? add_master_changes(request, *file, word, changes)
                                            : Result<void>(Error(Errc::syntax, "an entry is one line"));
        if (!added) {
            return fail(added.error().what);
        }
    }
    const bool whole_entries = request.target == Request::Target::master_entries;
    const Request::Action action = whole_entries ? request.action : Request::Action::set;
    const Result<void> done = edit_file(path, true, action, changes);
    return done ? 0 : fail(done.error().what);
}

}  // namespace

Result<void> edit_file(const std::string& path, bool is_master, Request::Action action, const std::vector<Change>& changes) {
    char* const resolved = ::realpath(path.c_str(), nullptr);
    const std::string real = resolved == nullptr ? path : resolved;   // a symbolic link stays one
    std::free(resolved);
    const Result<std::string> text = read_config_file(real);
    struct stat old {};
    if (!text || ::stat(real.c_str(), &old) != 0) {
        return text ? errno_error("stat " + real) : text.error();
    }
    const Result<std::string> changed = edited(*text, is_master, action, changes);
    if (!changed) {
        return changed.error();
    }
    return replace_file(real, *changed, old);
}

int edit(const Request& request) {
    if (request.words.empty()) {
        return fail("-e, -# and -X need names");
    }
    if (request.target != Request::Target::main_cf) {
        return edit_master(request);
    }
    const Result<std::vector<Change>> changes = main_cf_changes(request);
    if (!changes) {
        return fail(changes.error().what);
    }
    const Result<void> done = edit_file(request.directory + "/main.cf", false, request.action, *changes);
    return done ? 0 : fail(done.error().what);
}

}  // namespace postern::postconf
