// The text formats behind tables: postmap and aliases sources, regexp, pcre and cidr files, inline tables, networks.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "lib/log/log.h"
#include "lib/table/match_list.h"
#include "lib/table/table.h"
#include "lib/table/text_file.h"

namespace {

void silence(void*, postern::LogLevel, std::string_view) {}

/// The bytes as a file that tables can open.
class MemoryFile {
public:
    explicit MemoryFile(std::string_view bytes) : fd_(memfd_create("table", MFD_CLOEXEC)) {
        if (fd_ < 0 || write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
            abort();
        }
    }
    ~MemoryFile() { close(fd_); }
    std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
    int fd_;
};

void ask(const std::string& spec) {
    postern::Result<postern::TablePtr> table = postern::open_table(spec, {});
    if (!table) {
        return;
    }
    for (const char* key : {"", "a", "user@example.com", "192.0.2.1", "2001:db8::1"}) {
        (void)(*table)->lookup(key).ok();
    }
}

void ask_file(const std::string& type, std::string_view text) {
    const MemoryFile file(text);
    ask(type + file.path());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern;
    if (size < 1 || size > 4096) {
        return 0;
    }
    log_set_sink(silence, nullptr);
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 6) {
        case 0: {
            MapLines lines(text);
            std::string line;
            while (lines.next(line)) {
                (void)parse_map_line(line).ok();
                (void)parse_alias_line(line).ok();
            }
            break;
        }
        case 1: ask_file("texthash:", text); break;
        case 2: ask_file("regexp:", text); break;
        case 3: ask_file("pcre:", text); break;
        case 4: {
            const MemoryFile file(text);
            ask("cidr:" + file.path());
            (void)MatchList::open("fuzz", file.path(), MatchKind::name_and_address, true, {}).ok();
            break;
        }
        default:
            if (text.find(':') == std::string_view::npos) {
                ask("inline:" + std::string(text));
                ask("randmap:" + std::string(text));
                (void)parse_network(text).ok();
            }
    }
    return 0;
}
