/// Takes files from maildrop/ and submits them to cleanup(8).
#pragma once

#include <sys/types.h>

#include <map>
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
    /// What others work on is looked at again after this, then ever more slowly.
    static constexpr Millis kFirstPause{200};

    /// `config` outlives the picker, which outlives its scans.  Paths of sockets are relative to the queue directory.
    Picker(const Config& config, std::string queue_directory, Millis first_pause = kFirstPause);

    /// Looks through maildrop/ until it finds nothing more to do; also until others have ended that still work on something,
    /// and a few times when cleanup died.  Only one scan runs; a call during a scan makes that one look once more.
    Task<> scan();
    /// The scan does not wait for others any more: this process's successor does.
    void drain() { draining_ = true; }

private:
    enum class Outcome { done, later };
    Task<> scan_once(bool called);
    Task<> take_all(std::vector<std::string> names, std::size_t workers);
    bool own_maildrop();
    Task<> worker();
    Task<Outcome> take(std::string name);
    Task<Outcome> submit(DropFile drop, queue::CleanupClient& cleanup);
    Task<Result<queue::FromCleanup>> send(const DropFile& drop, queue::Begin begin, queue::CleanupClient& cleanup);
    Outcome lost_cleanup(const std::string& name);
    Task<Outcome> refused(const DropFile& drop, const queue::Envelope& envelope, queue::Refused why);
    void set_aside(const std::string& name, const std::string& why);
    void remove_stale(const std::string& name) const;
    void find_submitted();
    time_t look_at_maildrop();
    void note_source(const std::string& queue_file);
    std::string path(const std::string& name) const { return directory_ + "/maildrop/" + name; }
    std::string cleanup_path() const { return directory_ + "/public/" + config_.cleanup_service_name(); }

    const Config& config_;
    std::string directory_;
    Millis first_pause_;
    uid_t queue_owner_;
    std::vector<std::string> names_;          ///< what this look still has to take, last first
    UniqueFd maildrop_;                       ///< the directory, locked: no other pickup starts a submission
    std::set<std::string> submitted_;         ///< maildrop names that queue files were made from
    std::set<std::string> in_hand_;           ///< maildrop names that an orphaned cleanup works on
    bool check_submitted_ = true;             ///< the two sets are to be made anew (maildrop.h)
    std::map<std::string, int> lost_;         ///< maildrop names whose cleanup died, so many times
    bool look_again_ = false;                 ///< something was left to its present owner, or its cleanup died
    bool give_up_ = false;                    ///< cleanup cannot take mail now
    bool called_ = false;                     ///< somebody wants a look that has not begun
    bool scanning_ = false, draining_ = false;
    std::size_t workers_ = 0;
    Notice worker_ended_;
};

}  // namespace postern::pickup
