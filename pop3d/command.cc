#include "pop3d/command.h"

#include <limits>

#include "lib/base/strings.h"

namespace postern::pop3d {

namespace {

bool all_digits(std::string_view word) {
    for (const char c : word) {
        if (c < '0' || c > '9') {
            return false;
        }
    }
    return !word.empty();
}

}  // namespace

Command split_command(std::string_view line) {
    Command command;
    const std::size_t space = line.find(' ');
    command.verb = to_upper(line.substr(0, space));
    command.argument = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
    return command;
}

std::vector<std::string_view> words(std::string_view argument) {
    std::vector<std::string_view> found;
    while (found.size() < 3) {
        const std::size_t begin = argument.find_first_not_of(" \t");
        if (begin == std::string_view::npos) {
            break;
        }
        argument.remove_prefix(begin);
        const std::size_t end = argument.find_first_of(" \t");
        found.push_back(argument.substr(0, end));
        argument.remove_prefix(end == std::string_view::npos ? argument.size() : end);
    }
    return found;
}

Result<std::uint32_t> parse_message_number(std::string_view word, std::uint32_t count) {
    if (!all_digits(word)) {
        return {Errc::syntax, "Invalid message number: " + printable(word, 40)};
    }
    const std::optional<std::uint64_t> number = parse_number(word);
    if (!number || *number == 0 || *number > count) {
        return {Errc::not_found, "There's no message " + printable(word, 40) + "."};
    }
    return static_cast<std::uint32_t>(*number);
}

std::optional<std::uint64_t> parse_line_count(std::string_view word) {
    if (!all_digits(word)) {
        return std::nullopt;
    }
    return parse_number(word).value_or(std::numeric_limits<std::uint64_t>::max());
}

}  // namespace postern::pop3d
