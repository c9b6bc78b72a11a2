/// Access to the shared test corpus, which is read in place: ../shared/corpus beside the repository, or
/// where POSTERN_CORPUS says.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace postern::test {

/// The corpus directory, or "" with a printed notice.
inline std::string corpus() {
    const char* named = std::getenv("POSTERN_CORPUS");
    const std::string path = named != nullptr ? named : "../shared/corpus";
    struct stat status {};
    if (stat((path + "/MANIFEST.tsv").c_str(), &status) != 0) {
        std::printf("corpus %s is not there: its vectors are skipped\n", path.c_str());
        return {};
    }
    return path;
}

inline std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

/// All files below `directory` whose names end in `suffix`, sorted.
inline std::vector<std::string> files_below(const std::string& directory, const std::string& suffix) {
    std::vector<std::string> found;
    DIR* stream = opendir(directory.c_str());
    if (stream == nullptr) {
        return found;
    }
    while (const dirent* entry = readdir(stream)) {
        const std::string name = entry->d_name;
        if (name == "." || name == "..") {
            continue;
        }
        const std::string path = directory + "/" + name;
        struct stat status {};
        if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
            const std::vector<std::string> below = files_below(path, suffix);
            found.insert(found.end(), below.begin(), below.end());
        } else if (name.size() >= suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0) {
            found.push_back(path);
        }
    }
    closedir(stream);
    std::sort(found.begin(), found.end());
    return found;
}

/// Counts vectors and prints the sum when it goes.
class Tally {
public:
    explicit Tally(std::string what) : what_(std::move(what)) {}
    ~Tally() { std::printf("%s: %d of %d vectors as expected, %d listed exceptions\n", what_.c_str(), good_, all_, excepted_); }
    Tally(const Tally&) = delete;
    Tally& operator=(const Tally&) = delete;
    void count(bool good) {
        ++all_;
        good_ += good ? 1 : 0;
    }
    void except() {
        ++all_;
        ++excepted_;
    }

private:
    std::string what_;
    int all_ = 0, good_ = 0, excepted_ = 0;
};

}  // namespace postern::test
