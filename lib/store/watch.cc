#include "lib/store/watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace postern::store {
namespace {

class InotifyWatch : public Watch {
public:
    InotifyWatch(UniqueFd fd, int index_watch, ViewState& view) : fd_(std::move(fd)), index_watch_(index_watch), view_(view) {}
    int fd() const override { return fd_.get(); }
    void drain() override {
        alignas(inotify_event) char buffer[8192];
        for (;;) {
            const ssize_t n = read(fd_.get(), buffer, sizeof buffer);
            if (n <= 0) {
                return;
            }
            for (ssize_t at = 0; at + static_cast<ssize_t>(sizeof(inotify_event)) <= n;) {
                inotify_event event;
                std::memcpy(&event, buffer + at, sizeof event);
                at += static_cast<ssize_t>(sizeof event + event.len);
                view_.look_closely = view_.look_closely || event.wd != index_watch_;
            }
        }
    }

private:
    UniqueFd fd_;
    int index_watch_;
    ViewState& view_;
};

}  // namespace

Result<std::unique_ptr<Watch>> make_watch(const std::vector<std::string>& directories, const std::string& index_file,
                                          ViewState& view) {
    UniqueFd fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (!fd) {
        return Error(Errc::temporary, errno_error("inotify").what);
    }
    for (const std::string& directory : directories) {
        constexpr unsigned kChanges = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE_SELF;
        if (inotify_add_watch(fd.get(), directory.c_str(), kChanges) < 0) {
            return Error(errno == ENOSPC ? Errc::temporary : Errc::io, errno_error("watch " + directory).what);
        }
    }
    const int index_watch = inotify_add_watch(fd.get(), index_file.c_str(), IN_MODIFY);
    if (index_watch < 0) {
        return Error(Errc::temporary, errno_error("watch " + index_file).what);
    }
    return std::unique_ptr<Watch>(std::make_unique<InotifyWatch>(std::move(fd), index_watch, view));
}

}  // namespace postern::store
