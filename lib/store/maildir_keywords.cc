/// dovecot-keywords: which letter of a Maildir name is which keyword.  Lines are `index name`.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "lib/base/strings.h"
#include "lib/store/maildir.h"

namespace postern::store {
namespace {

constexpr std::size_t kLetters = 26;
constexpr std::size_t kMaxFile = 64 * 1024;

}  // namespace

void read_keywords_file(const Folder& folder, MailboxEditor& editor, DirState& state) {
    const std::string path = folder.control + "/dovecot-keywords";
    const std::int64_t mtime = modified(path);
    if (mtime < 0 || (mtime == state.keywords_mtime && !editor.is_new())) {
        return;
    }
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text(kMaxFile, '\0');
    const ssize_t n = fd ? read(fd.get(), text.data(), text.size()) : -1;
    if (n < 0) {
        return;
    }
    text.resize(static_cast<std::size_t>(n));
    state.keywords_mtime = mtime;
    std::vector<std::string>& keywords = editor.record().keywords;
    for (const std::string& line : split(text, "\r\n")) {
        const std::size_t space = line.find(' ');
        const std::optional<std::uint64_t> index = parse_number(std::string_view(line).substr(0, space));
        if (!index || *index >= kMaxKeywords || space == std::string::npos || !is_keyword(std::string_view(line).substr(space + 1))) {
            continue;
        }
        while (keywords.size() < *index) {
            keywords.push_back("unknown-" + std::to_string(keywords.size()));
            editor.touch_record();
        }
        if (keywords.size() == *index) {
            keywords.push_back(line.substr(space + 1));
            editor.touch_record();
        } else if (starts_with_ignoring_case(keywords[*index], "unknown-")) {
            keywords[*index] = line.substr(space + 1);
            editor.touch_record();
        }
    }
}

void write_keywords_file(const Folder& folder, MailboxEditor& editor, DirState& state) {
    const std::string path = folder.control + "/dovecot-keywords";
    const std::string temporary = path + ".tmp";
    std::string text;
    const std::vector<std::string>& keywords = editor.record().keywords;
    for (std::size_t i = 0; i < keywords.size() && i < kLetters; ++i) {
        text += std::to_string(i) + " " + keywords[i] + "\n";
    }
    const UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    const bool written = fd && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (!written || rename(temporary.c_str(), path.c_str()) != 0) {
        unlink(temporary.c_str());                // the index has the names; only other programs miss them
        return;
    }
    state.keywords_mtime = modified(path);
}

}  // namespace postern::store
