#include "tools/table_command.h"

#include <getopt.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cstdio>

#include "lib/base/json.h"
#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/table/table.h"
#include "lib/table/text_file.h"
#include "tools/message_keys.h"

namespace postern::tools {
namespace {

struct CommandLine {
    MakeOptions make;
    MessageKeys keys;
    std::string config_directory = Config::default_directory();
    std::optional<std::string> query;
    std::optional<std::string> remove;
    bool list = false;            ///< -s
    bool json = false;
    std::vector<std::string> tables;
};

[[noreturn]] void usage(std::string_view program, SourceFormat format) {
    const std::string_view flags = format == SourceFormat::map ? "-NbfFhijmnoprsuUvw" : "-NfFijnoprsuUvw";
    fmt::print(stderr, "usage: {} [{}] [-c config_dir] [-d key] [-q key] [map_type:]file...\n", program, flags);
    exit(1);
}

/// Options that only set something.
bool take_flag(CommandLine& line, int option, SourceFormat format) {
    const bool map = format == SourceFormat::map;
    switch (option) {
        case 'N': line.make.with_nul = true; return true;
        case 'n': line.make.with_nul = false; return true;
        case 'f': line.make.fold_case = false; return true;
        case 'F': line.make.values_are_files = true; return true;
        case 'i': line.make.incremental = true; return true;
        case 'j': line.json = true; return true;
        case 'o': line.make.become_owner = false; return true;
        case 'p': line.make.inherit_mode = false; return true;
        case 'r': line.make.duplicates = Duplicates::replace; return true;
        case 'w': line.make.duplicates = Duplicates::ignore; return true;
        case 's': line.list = true; return true;
        case 'u': line.make.require_utf8 = false; return true;
        case 'U': line.make.require_utf8 = true; return true;
        case 'v': return true;
        case 'b': line.keys.body = map; return map;
        case 'h': line.keys.headers = map; return map;
        case 'm': line.keys.mime = map; return map;
        default: return false;
    }
}

CommandLine parse(std::string_view program, SourceFormat format, int argc, char** argv) {
    CommandLine line;
    line.make.format = format;
    int option = 0;
    while ((option = getopt(argc, argv, "NbfFhijmnoprsuUvwc:d:q:")) > 0) {
        switch (option) {
            case 'c': line.config_directory = optarg; break;
            case 'd': line.remove = optarg; break;
            case 'q': line.query = optarg; break;
            default:
                if (!take_flag(line, option, format)) {
                    usage(program, format);
                }
        }
    }
    line.tables.assign(argv + optind, argv + argc);
    if (line.tables.empty() || (line.query ? 1 : 0) + (line.remove ? 1 : 0) + (line.list ? 1 : 0) > 1) {
        usage(program, format);
    }
    if ((line.keys.body || line.keys.headers || line.keys.mime) && line.query != std::optional<std::string>("-")) {
        fatal("specify -b, -h or -m only with \"-q -\"");
    }
    return line;
}

void print_entry(const CommandLine& line, std::string_view key, std::string_view value) {
    if (line.json) {
        fmt::print("{{{}: {}}}\n", json_quoted(key), json_quoted(value));
    } else {
        fmt::print("{}\t{}\n", key, value);
    }
}

/// A stored value as it is shown: with -F what its base64 stands for.
std::string shown_value(const CommandLine& line, std::string value) {
    if (!line.make.values_are_files) {
        return value;
    }
    std::optional<std::string> decoded = base64_decode(value);
    if (!decoded) {
        fatal("malformed base64 value: {}", printable(value, 100));
    }
    return std::move(*decoded);
}

std::vector<TablePtr> open_tables(const CommandLine& line, const TableContext& context) {
    std::vector<TablePtr> tables;
    for (const std::string& spec : line.tables) {
        Result<TablePtr> table = open_table(spec, context);
        if (!table) {
            fatal("{}", table.error().what);
        }
        tables.push_back(std::move(*table));
    }
    return tables;
}

std::optional<std::string> first_hit(const std::vector<TablePtr>& tables, std::string_view key) {
    for (const TablePtr& table : tables) {
        Lookup answer = table->lookup(key);
        if (!answer) {
            fatal("{}", answer.error().what);
        }
        if (*answer) {
            if ((*answer)->empty()) {
                log_warning("table {}: key {}: empty string result is not allowed", table->name(), key);
                log_warning("table {} should return NO RESULT in case of NOT FOUND", table->name());
            }
            return std::move(**answer);
        }
    }
    return std::nullopt;
}

std::string standard_input() {
    Result<std::string> text = read_text_fd(STDIN_FILENO, "standard input");
    if (!text) {
        fatal("{}", text.error().what);
    }
    return std::move(*text);
}

int query(const CommandLine& line, const TableContext& context) {
    const std::vector<TablePtr> tables = open_tables(line, context);
    if (*line.query != "-") {
        std::optional<std::string> value = first_hit(tables, *line.query);
        if (value && line.json) {
            print_entry(line, *line.query, shown_value(line, std::move(*value)));
        } else if (value) {
            fmt::print("{}\n", shown_value(line, std::move(*value)));
        }
        return value ? 0 : 1;
    }
    bool found = false;
    const auto ask = [&](std::string_view key) {
        if (std::optional<std::string> value = first_hit(tables, key)) {
            print_entry(line, key, shown_value(line, std::move(*value)));
            found = true;
        }
    };
    const std::string input = standard_input();
    if (line.keys.headers || line.keys.body || line.keys.mime) {
        for_each_message_key(input, line.keys, ask);
    } else {
        for (const std::string& key : split(input, "\n")) {
            ask(key);
        }
    }
    return found ? 0 : 1;
}

IndexName index_name(const std::string& spec, const TableContext& context) {
    Result<IndexName> name = parse_index_name(spec, context.default_type);
    if (!name) {
        fatal("{}", name.error().what);
    }
    return std::move(*name);
}

int remove_keys(const CommandLine& line, const TableContext& context) {
    const std::vector<std::string> keys =
        *line.remove == "-" ? split(standard_input(), "\n") : std::vector<std::string>{*line.remove};
    bool removed = false;
    for (const std::string& spec : line.tables) {
        const IndexName name = index_name(spec, context);
        for (const std::string& key : keys) {
            const Result<bool> done =
                remove_from_index(name.file, name.type, line.make.fold_case ? to_lower(key) : key);
            if (!done) {
                fatal("{}", done.error().what);
            }
            removed = removed || *done;
        }
    }
    return removed ? 0 : 1;
}

/// All entries of one table, from its index file where it has one.
Result<void> for_each_entry(const std::string& spec, const TableContext& context, const Table::Visit& visit) {
    if (const Result<IndexName> name = parse_index_name(spec, context.default_type)) {
        return for_each_in_index(name->file, name->type, visit);
    }
    const Result<TablePtr> table = open_table(spec, context);
    return table ? (*table)->for_each(visit) : table.error();
}

int list_entries(const CommandLine& line, const TableContext& context) {
    for (const std::string& spec : line.tables) {
        const auto print = [&](std::string_view key, std::string_view value) {
            const std::string shown = shown_value(line, std::string(value));
            if (line.make.format == SourceFormat::alias && !line.json) {
                fmt::print("{}:\t{}\n", key, shown);
            } else {
                print_entry(line, key, shown);
            }
        };
        if (const Result<void> done = for_each_entry(spec, context, print); !done) {
            fatal("{}", done.error().what);
        }
    }
    return 0;
}

}  // namespace

int table_command(std::string_view program, SourceFormat format, int argc, char** argv) {
    log_open(std::string(program), LogDestination{});
    const CommandLine line = parse(program, format, argc, argv);
    const Result<Config> config = Config::load(line.config_directory);
    if (!config) {
        fatal("{}", config.error().what);
    }
    TableContext context = command_table_context(*config);
    context.proxymap_socket.clear();   // a command opens tables with its caller's rights
    context.fold_case = line.make.fold_case;
    if (line.query) {
        return query(line, context);
    }
    if (line.remove) {
        return remove_keys(line, context);
    }
    if (line.list) {
        return list_entries(line, context);
    }
    for (const std::string& spec : line.tables) {
        const IndexName name = index_name(spec, context);
        if (const Result<void> made = make_index(name, line.make); !made) {
            fatal("{}", made.error().what);
        }
    }
    return 0;
}

}  // namespace postern::tools
