#include "tools/table_source.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/base/utf8.h"
#include "lib/log/log.h"
#include "lib/table/text_file.h"

namespace postern::tools {
namespace {

/// Acts with the rights of `uid` and `gid` while it lives, when the process is root.
class ActAs {
public:
    ActAs(uid_t uid, gid_t gid) {
        if (geteuid() != 0 || uid == 0) {
            return;
        }
        if (setgroups(1, &gid) != 0 || setegid(gid) != 0 || seteuid(uid) != 0) {
            fatal("cannot take on uid {} gid {}", uid, gid);
        }
        active_ = true;
    }
    ~ActAs() {
        if (active_ && (seteuid(0) != 0 || setegid(0) != 0)) {
            fatal("cannot return to root's rights");
        }
    }
    ActAs(const ActAs&) = delete;
    ActAs& operator=(const ActAs&) = delete;

private:
    bool active_ = false;
};

mode_t current_umask() {
    const mode_t mask = umask(022);
    umask(mask);
    return mask;
}

/// The content of all files that `names` lists, one after another, in base64.
Result<std::string> encoded_files(std::string_view names) {
    std::string content;
    for (const std::string& file : split_list(names)) {
        const Result<std::string> text = read_text_file(file);
        if (!text) {
            return text.error();
        }
        content += *text;
    }
    if (content.empty()) {
        return Error(Errc::syntax, "empty value");
    }
    return base64_encode(content);
}

/// One text file on its way into the index.
class Loader {
public:
    Loader(std::string_view shown_source, std::string_view shown_index, const MakeOptions& options, IndexWriter& writer)
        : source_(shown_source), index_(shown_index), options_(options), writer_(writer) {}

    Result<void> load(std::string_view text) {
        MapLines lines(text);
        std::string line;
        while (lines.next(line)) {
            if (const Result<void> added = add(line, lines.first_line(), lines.last_line()); !added) {
                return added;
            }
        }
        return {};
    }

private:
    template <class... Args>
    void complain(int line, fmt::format_string<Args...> format, Args&&... args) {
        log_warning("{}, line {}: {}", source_, line, fmt::format(format, std::forward<Args>(args)...));
    }

    Result<void> add(std::string_view line, int first, int last) {
        if (line.front() == ' ' || line.front() == '\t') {
            complain(first, "logical line must not start with whitespace: \"{}\"", printable(line, 30));
            return {};
        }
        if (options_.require_utf8 && !valid_utf8(line)) {
            complain(last, "non-UTF-8 input \"{}\" -- ignoring this line", printable(line, 100));
            return {};
        }
        Result<MapEntry> entry = options_.format == SourceFormat::map ? parse_map_line(line) : parse_alias_line(line);
        if (!entry) {
            complain(last, "{}", entry.error().what);
            return {};
        }
        if (options_.format == SourceFormat::map && entry->key.back() == ':') {
            complain(last, "record is in \"key: value\" format; is this an alias file?");
        }
        if (options_.values_are_files) {
            Result<std::string> encoded = encoded_files(entry->value);
            if (!encoded) {
                complain(last, "{}", encoded.error().what);
                return {};
            }
            entry->value = std::move(*encoded);
        }
        return store(*entry, last);
    }

    Result<void> store(const MapEntry& entry, int line) {
        const std::string key = options_.fold_case ? to_lower(entry.key) : entry.key;
        const Result<void> stored = writer_.put(key, entry.value);
        if (!stored && stored.error().code == Errc::exists) {
            log_warning("{}: duplicate entry: \"{}\"", index_, printable(key, 200));
            return {};
        }
        if (!stored && stored.error().code == Errc::too_big) {
            complain(line, "key too long for this type of table: \"{}\"", printable(key, 40));
            return {};
        }
        return stored;
    }

    std::string source_;
    std::string index_;
    const MakeOptions& options_;
    IndexWriter& writer_;
};

}  // namespace

Result<IndexName> parse_index_name(std::string_view spec, std::string_view default_type) {
    const std::size_t colon = spec.find(':');
    const std::string_view type = colon == std::string_view::npos ? default_type : spec.substr(0, colon);
    IndexName name;
    name.source = colon == std::string_view::npos ? spec : spec.substr(colon + 1);
    if (type == "cdb") {
        name.type = IndexType::cdb;
    } else if (type != "lmdb" && type != "hash" && type != "btree") {
        return Error(Errc::config, "the type " + std::string(type) + " has no index file that could be made; lmdb and cdb have");
    }
    if (name.source.empty()) {
        return Error(Errc::config, "table \"" + std::string(spec) + "\": need type:name");
    }
    name.file = name.source + std::string(index_suffix(name.type));
    return name;
}

Result<void> make_index(const IndexName& name, const MakeOptions& options) {
    UniqueFd source;
    if (!options.incremental) {
        source.reset(open(name.source.c_str(), O_RDONLY | O_CLOEXEC));
        if (!source) {
            return errno_error("open " + name.source);
        }
    }
    // A directory is an error of read_text_fd(); Postfix's postmap makes an empty index of it, and the old one is gone.
    const int fd = options.incremental ? STDIN_FILENO : source.get();
    struct stat info {};
    if (fstat(fd, &info) != 0) {
        return errno_error("open " + name.source);
    }
    const std::string shown = options.incremental ? "stdin" : name.source;
    const Result<std::string> text = read_text_fd(fd, shown);
    if (!text) {
        return text.error();
    }
    const bool regular = S_ISREG(info.st_mode) && !options.incremental;
    IndexOptions index;
    index.type = name.type;
    index.incremental = options.incremental;
    index.duplicates = options.duplicates;
    index.with_nul = options.with_nul;
    index.expected_bytes = text->size();
    const mode_t mask = current_umask() | 022;
    index.mode = (options.inherit_mode && regular ? info.st_mode : 0644) & 0666 & ~mask;
    const ActAs owner(options.become_owner && regular ? info.st_uid : 0, info.st_gid);
    umask(0);   // `mode` is final already
    Result<std::unique_ptr<IndexWriter>> writer = open_index_writer(name.file, index);
    umask(mask & 0777);
    if (!writer) {
        return writer.error();
    }
    Loader loader(shown, name.file, options, **writer);
    if (const Result<void> loaded = loader.load(*text); !loaded) {
        return loaded;
    }
    return (*writer)->commit();
}

}  // namespace postern::tools
