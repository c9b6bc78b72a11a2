#include "lib/config/master_cf.h"

#include <optional>
#include <unordered_map>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/config/lines.h"
#include "lib/config/main_cf.h"

namespace postern {
namespace {

constexpr std::string_view kTypes[] = {"inet", "unix", "unix-dgram", "fifo", "pass"};
constexpr std::size_t kFoldedLine = 80;   // a folded line is shorter, unless one word is that long
constexpr std::string_view kColumnNames[] = {"name", "type", "private", "unpriv", "chroot", "wakeup", "maxproc"};

bool is_space(char c) { return std::string_view(" \t\r\n\v\f").find(c) != std::string_view::npos; }

/// The next word; white space inside braces does not end it.  Errors: syntax, when a brace does not close.
Result<bool> next_word(std::string_view& rest, std::string& word) {
    rest = trim(rest);
    if (rest.empty()) {
        return false;
    }
    int depth = 0;
    std::size_t end = 0;
    for (; end < rest.size() && (depth > 0 || !is_space(rest[end])); ++end) {
        if (rest[end] == '{') {
            ++depth;
        } else if (rest[end] == '}' && depth > 0) {
            --depth;
        }
    }
    if (depth > 0) {
        return Error(Errc::syntax, fmt::format("missing '}}' in \"{}\"", printable(rest, 100)));
    }
    word = std::string(rest.substr(0, end));
    rest.remove_prefix(end);
    return true;
}

/// Takes the braces off "{ text }".  Errors: syntax, for text behind the closing brace.
Result<std::string> without_braces(const std::string& word) {
    if (word.empty() || word.front() != '{') {
        return word;
    }
    int depth = 0;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] == '{') {
            ++depth;
        } else if (word[i] == '}' && --depth == 0) {
            if (i + 1 != word.size()) {
                return Error(Errc::syntax, fmt::format("text after '}}' in \"{}\"", printable(word, 100)));
            }
            return std::string(trim(std::string_view(word).substr(1, i - 1)));
        }
    }
    return Error(Errc::syntax, fmt::format("missing '}}' in \"{}\"", printable(word, 100)));
}

Error bad_field(std::string_view column, std::string_view value, std::string_view accepted) {
    return {Errc::syntax, fmt::format("invalid {} field \"{}\"; accepted: {}", column, printable(value, 100), accepted)};
}

Result<bool> yes_no_field(const MasterEntry& entry, std::size_t column, bool otherwise) {
    const std::string& text = entry.columns[column];
    if (text == "-") {
        return otherwise;
    }
    if (text != "y" && text != "n") {
        return bad_field(kColumnNames[column], text, "y, n, or - for the default");
    }
    return text == "y";
}

Result<void> parse_yes_no_fields(MasterEntry& entry) {
    bool* const targets[] = {&entry.is_private, &entry.unprivileged, &entry.chroot};
    for (std::size_t i = 0; i < 3; ++i) {
        const Result<bool> value = yes_no_field(entry, i + 2, *targets[i]);
        if (!value) {
            return value.error();
        }
        *targets[i] = *value;
    }
    return {};
}

Result<void> parse_number_fields(MasterEntry& entry) {
    std::string_view wakeup = entry.columns[5];
    if (wakeup != "-") {
        if (!wakeup.empty() && wakeup.back() == '?') {
            entry.wakeup_if_used = true;
            wakeup.remove_suffix(1);
        }
        const std::optional<std::uint64_t> seconds = parse_number(wakeup);
        if (!seconds || *seconds > 100'000'000) {
            return bad_field("wakeup", entry.columns[5], "seconds, with ? behind them when only a used service is woken");
        }
        entry.wakeup_seconds = static_cast<long>(*seconds);
    }
    if (entry.columns[6] != "-") {
        const std::optional<std::uint64_t> limit = parse_number(entry.columns[6]);
        if (!limit || *limit > 1'000'000) {
            return bad_field("maxproc", entry.columns[6], "a number of processes, 0 for no limit, - for default_process_limit");
        }
        entry.process_limit = static_cast<long>(*limit);
    }
    return {};
}

Result<void> parse_name_and_type(MasterEntry& entry) {
    std::optional<ServiceType> type;
    for (std::size_t i = 0; i < std::size(kTypes); ++i) {
        if (entry.columns[1] == kTypes[i]) {
            type = static_cast<ServiceType>(i);
        }
    }
    if (!type) {
        return bad_field("type", entry.columns[1], "inet, unix, unix-dgram, fifo or pass");
    }
    entry.type = *type;
    entry.name = entry.columns[0];
    if (*type == ServiceType::inet) {
        const Result<InetName> name = parse_inet_name(entry.name);
        return name ? Result<void>() : Result<void>(name.error());
    }
    if (entry.name.find('/') != std::string::npos || entry.name == "." || entry.name == "..") {
        return bad_field("name", entry.name, "a socket's name without '/'");
    }
    return {};
}

Result<void> parse_arguments(MasterEntry& entry, std::string_view rest) {
    std::string word;
    bool options = true;
    for (;;) {
        const Result<bool> more = next_word(rest, word);
        if (!more || !*more) {
            return more ? Result<void>() : Result<void>(more.error());
        }
        Result<std::string> plain = without_braces(word);   // first, as in Postfix: {-o x=y} is an option too
        if (!plain) {
            return plain.error();
        }
        options = options && !plain->empty() && plain->front() == '-' && *plain != "--";
        if (!options || plain->compare(0, 2, "-o") != 0) {
            entry.arguments.push_back(*std::move(plain));
            continue;
        }
        word = plain->substr(2);
        if (word.empty()) {
            const Result<bool> value = next_word(rest, word);
            if (!value || !*value) {
                return value ? Error(Errc::syntax, "-o needs name=value") : value.error();
            }
        }
        const Result<std::string> assignment = without_braces(word);
        if (!assignment) {
            return assignment.error();
        }
        const Result<Setting> setting = parse_assignment(*assignment);
        if (!setting) {
            return Error(Errc::syntax, "-o: " + setting.error().what);
        }
        entry.arguments.emplace_back("-o");
        entry.arguments.push_back(setting->name + "=" + setting->value);
    }
}

/// True when each brace has its partner, so that braces around `word` belong together.
bool is_balanced(std::string_view word) {
    int depth = 0;
    for (const char c : word) {
        depth += c == '{' ? 1 : (c == '}' ? -1 : 0);
        if (depth < 0) {
            return false;
        }
    }
    return depth == 0;
}

/// How an argument is written so that it is read back as it is.  White space in a word that has lone braces is within
/// other braces already ("a}b{c d}").
std::string quoted(const std::string& word) {
    const bool needs_braces = word.empty() || word.front() == '{' || word.find_first_of(" \t\r\n\v\f") != std::string::npos;
    return needs_braces && is_balanced(word) ? "{" + word + "}" : word;
}

/// Calls visit(argument, value) for each leading option, value being that of -o; returns where other words begin.
template <class Visit>
std::size_t for_each_option(const std::vector<std::string>& arguments, Visit visit) {
    std::size_t i = 0;
    while (i < arguments.size() && !arguments[i].empty() && arguments[i].front() == '-' && arguments[i] != "--") {
        if (arguments[i] == "-o" && i + 1 < arguments.size()) {
            visit(arguments[i], arguments[i + 1]);
            i += 2;
        } else {
            visit(arguments[i], std::string());
            ++i;
        }
    }
    return i;
}

bool is_verbose_option(const std::string& option) {
    return option.size() > 1 && option.find_first_not_of('v', 1) == std::string::npos;
}

}  // namespace

std::string_view service_type_name(ServiceType type) { return kTypes[static_cast<std::size_t>(type)]; }

Result<InetName> parse_inet_name(std::string_view name) {
    InetName result;
    const std::size_t colon = name.rfind(':');
    const bool bracket = !name.empty() && name.front() == '[';
    if (bracket) {
        const std::size_t end = name.find(']');
        if (end == std::string_view::npos || end + 1 >= name.size() || name[end + 1] != ':') {
            return bad_field("name", name, "port, host:port or [address]:port");
        }
        result.host = std::string(name.substr(1, end - 1));
        result.port = std::string(name.substr(end + 2));
    } else {
        result.host = colon == std::string_view::npos ? std::string() : std::string(name.substr(0, colon));
        result.port = std::string(colon == std::string_view::npos ? name : name.substr(colon + 1));
    }
    const std::optional<std::uint64_t> number = parse_number(result.port);
    const bool digits = !result.port.empty() && result.port.find_first_not_of("0123456789") == std::string::npos;
    if (result.port.empty() || (digits && (!number || *number == 0 || *number > 65535)) ||
        (!bracket && result.host.find(':') != std::string::npos) || result.port.find('/') != std::string::npos) {
        return bad_field("name", name, "port, host:port or [address]:port");
    }
    return result;
}

Result<MasterEntry> parse_master_entry(std::string_view line) {
    MasterEntry entry;
    std::string_view rest = line;
    std::size_t count = 0;
    for (; count < 8; ++count) {
        std::string& word = count < 7 ? entry.columns[count] : entry.command;
        const Result<bool> more = next_word(rest, word);
        if (!more) {
            return more.error();
        }
        if (!*more) {
            return Error(Errc::syntax, fmt::format("bad field count: {} of 8 columns in \"{}\"", count, printable(line, 100)));
        }
    }
    if (entry.command.front() == '-' || entry.command.find("..") != std::string::npos) {
        return bad_field("command", entry.command, "the name of a program in daemon_directory");
    }
    for (auto* step : {&parse_name_and_type, &parse_yes_no_fields, &parse_number_fields}) {
        if (Result<void> done = (*step)(entry); !done) {
            return done.error();
        }
    }
    if (Result<void> done = parse_arguments(entry, rest); !done) {
        return done.error();
    }
    return entry;
}

Result<MasterCf> parse_master_cf(std::string_view text, std::string_view file) {
    MasterCf result;
    std::unordered_map<std::string, std::string> seen;
    const Result<void> parsed = parse_lines(text, file, parse_master_entry, [&](MasterEntry entry) {
        const auto [before, is_new] = seen.try_emplace(entry.label(), entry.where);
        if (!is_new) {
            result.notices.push_back(fmt::format("{}: overriding earlier entry: {} ({})", entry.where, entry.label(),
                                                 before->second));
            before->second = entry.where;
        }
        result.entries.push_back(std::move(entry));
    });
    if (!parsed) {
        return parsed.error();
    }
    return result;
}

std::vector<std::pair<std::string, std::string>> MasterEntry::overrides() const {
    std::vector<std::pair<std::string, std::string>> result;
    for_each_option(arguments, [&result](const std::string& option, const std::string& value) {
        if (option == "-o") {
            const std::size_t equals = value.find('=');
            result.emplace_back(value.substr(0, equals), value.substr(equals + 1));
        }
    });
    return result;
}

int MasterEntry::verbosity() const {
    int count = 0;
    for_each_option(arguments, [&count](const std::string& option, const std::string&) {
        count += is_verbose_option(option) ? static_cast<int>(option.size()) - 1 : 0;
    });
    return count;
}

std::vector<std::string> MasterEntry::other_arguments() const {
    std::vector<std::string> result;
    std::size_t at = for_each_option(arguments, [&result](const std::string& option, const std::string&) {
        if (option != "-o" && !is_verbose_option(option)) {
            result.push_back(option);
        }
    });
    result.insert(result.end(), arguments.begin() + static_cast<std::ptrdiff_t>(at), arguments.end());
    return result;
}

std::string MasterEntry::label() const { return fmt::format("{}/{}", name, service_type_name(type)); }

std::string to_text(const MasterEntry& entry, bool fold) {
    // Each column begins where Postfix's postconf lets it begin; after a long one, the next ones catch up.
    constexpr std::size_t kColumns[] = {0, 11, 17, 25, 33, 41, 49, 57};
    std::string text;
    for (std::size_t i = 0; i < std::size(kColumns); ++i) {
        if (i > 0) {
            text.append(text.size() < kColumns[i] ? kColumns[i] - text.size() : 1, ' ');
        }
        text += i < entry.columns.size() ? entry.columns[i] : entry.command;
    }
    std::size_t line = 0;          // where the last line of `text` begins
    bool options = true;           // before the first argument that is none: -o has a line of its own there
    bool new_line = false;
    for (std::size_t i = 0; i < entry.arguments.size(); ++i) {
        std::string word = quoted(entry.arguments[i]);
        options = options && !word.empty() && word[0] == '-';
        const bool is_override = options && word == "-o" && i + 1 < entry.arguments.size();
        if (is_override) {
            word += " " + quoted(entry.arguments[++i]);
        }
        if (fold && (is_override || new_line || text.size() - line + 1 + word.size() >= kFoldedLine)) {
            text += "\n    ";
            line = text.size() - 4;
        } else {
            text += ' ';
        }
        text += word;
        new_line = is_override;
    }
    return text;
}

}  // namespace postern
