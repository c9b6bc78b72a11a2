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

    /// Looks through maildrop/ until it finds nothing more to do, for a while also at what others still work on.  Only
    /// one scan runs; a call during a scan makes that one look once more.
    Task<> scan();

private:
    enum class Outcome { done, later };
    Task<> scan_once();
    bool own_maildrop();
    Task<> worker();
    Task<Outcome> take(std::string name);
    Task<Outcome> submit(DropFile drop, queue::CleanupClient& cleanup);
    Task<Result<queue::FromCleanup>> send(const DropFile& drop, queue::Begin begin, queue::CleanupClient& cleanup);
    Task<Outcome> refused(const DropFile& drop, const queue::Envelope& envelope, queue::Refused why);
    void set_aside(const std::string& name, const std::string& why);
    void remove_stale(const std::string& name) const;
    void find_submitted();
    time_t look_at_maildrop();
    void note_source(const std::string& queue_file);
    std::string path(const std::string& name) const { return directory_ + "/maildrop/" + name; }

    const Config& config_;
    std::string directory_, cleanup_path_;
    uid_t queue_owner_;
    std::vector<std::string> names_;          ///< what this scan still has to take, last first
    UniqueFd maildrop_;                       ///< the directory, locked: no other pickup starts a submission
    std::set<std::string> submitted_;         ///< maildrop names that queue files were made from
    std::set<std::string> in_hand_;           ///< maildrop names that an orphaned cleanup works on
    bool check_submitted_ = true;             ///< the two sets are to be made anew (maildrop.h)
    bool busy_ = false;                       ///< something was left to its present owner
    bool give_up_ = false;                    ///< cleanup cannot take mail now
    bool scanning_ = false, again_ = false;
    std::size_t workers_ = 0;
    Notice worker_ended_;
};

}  // namespace postern::pickup
