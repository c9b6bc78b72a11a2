/// Takes files from maildrop/ and submits them to cleanup(8).
#pragma once

#include <sys/types.h>

#include <set>
#include <string>
#include <vector>

#include "cleanup/drop_file.h"
#include "lib/async/loop.h"
#include "lib/config/config.h"
#include "lib/queue/cleanup_client.h"

namespace postern::pickup {

class Picker {
public:
    /// `config` outlives the picker, which outlives its scans.
    Picker(const Config& config, std::string queue_directory, std::string cleanup_path);

    /// Looks through maildrop/ until it finds nothing more to do.  Only one scan runs; a call during a scan makes
    /// that one look once more.
    Task<> scan();

private:
    enum class Outcome { done, later };
    Task<> scan_once();
    Task<> worker();
    Task<Outcome> take(std::string name);
    Task<Outcome> submit(DropFile drop, queue::CleanupClient& cleanup);
    Task<Result<queue::FromCleanup>> send(const DropFile& drop, queue::Begin begin, queue::CleanupClient& cleanup);
    Task<Outcome> refused(const DropFile& drop, const queue::Envelope& envelope, queue::Refused why);
    void set_aside(const std::string& name, const std::string& why);
    void remove_stale(const std::string& name) const;
    void find_submitted();
    void note_source(const std::string& queue_file);
    std::string path(const std::string& name) const { return directory_ + "/maildrop/" + name; }

    const Config& config_;
    std::string directory_, cleanup_path_;
    uid_t queue_owner_;
    std::vector<std::string> names_;          ///< what this scan still has to take, last first
    std::set<std::string> submitted_;         ///< maildrop names that queue files were made from
    bool check_submitted_ = true;             ///< a crash may have left such files: at start, after losing cleanup
    bool give_up_ = false;                    ///< cleanup cannot take mail now
    bool scanning_ = false, again_ = false;
    std::size_t workers_ = 0;
    Notice worker_ended_;
};

}  // namespace postern::pickup
