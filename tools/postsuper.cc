/// postsuper - maintenance of the queue by the superuser.
///
/// Works while the mail system runs: files are moved or removed first, then qmgr is told.  Runs as the owner of
/// the queue, so that nothing planted in it leads elsewhere.
///
/// Exit status: 0; 1 when it could not start.
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"
#include "lib/listing/listing.h"
#include "lib/log/log.h"
#include "lib/queue/queue_id.h"
#include "lib/sandbox/identity.h"
#include "tools/queue_command.h"
#include "tools/queue_surgery.h"
#include "tools/transit_exit.h"

namespace postern::tools {
namespace {

constexpr const char* kUsage =
    "usage: postsuper [-c config_dir] [-d queue_id (delete)] [-e queue_id (expire)] [-f queue_id (expire and/or un-hold)] "
    "[-h queue_id (hold)] [-H queue_id (un-hold)] [-p (purge temporary files)] [-r queue_id (requeue)] [-s (structure fix)] "
    "[-S (redundant structure fix)][-v (verbose)] [queue...]";

struct Kind {
    char option;
    Surgery surgery;
    std::uint8_t change;          ///< what qmgr is told; 0: nothing
    const char* each;             ///< "QID: removed"
    const char* total;            ///< "Deleted: 3 messages"
};
constexpr Kind kKinds[] = {
    {'d', Surgery::remove, queue::kAlteredDeleted, "removed", "Deleted"},
    {'e', Surgery::expire, 0, "expired", "Force-expired"},
    {'f', Surgery::expire_now, queue::kAlteredExpired, "expired", "Force-expired"},
    {'h', Surgery::hold, queue::kAlteredHeld, "placed on hold", "Placed on hold"},
    {'H', Surgery::release, queue::kAlteredReleased, "released from hold", "Released from hold"},
    {'r', Surgery::requeue, queue::kAlteredRequeued, "requeued", "Requeued"},
};

struct Work {
    const Kind* kind;
    std::string argument;         ///< a queue id, "-" or "ALL"
};

struct Options {
    std::vector<Work> work;
    bool structure = false, purge = false;
    std::vector<std::string> queues;
    std::string directory = Config::default_directory();
};

Options parse(int argc, char** argv) {
    Options options;
    for (int option = 0; (option = ::getopt(argc, argv, "c:d:e:f:h:H:pr:sSv")) != -1;) {
        const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.option == option; });
        if (kind != std::end(kKinds)) {
            options.work.push_back({&*kind, optarg});
        } else if (option == 'c') {
            options.directory = optarg;
        } else if (option == 'p') {
            options.purge = true;
        } else if (option == 's' || option == 'S') {
            options.structure = true;
        } else if (option != 'v') {
            die(1, kUsage);
        }
    }
    options.queues.assign(argv + optind, argv + argc);
    if (options.work.empty() && !options.structure && !options.purge) {
        options.structure = options.purge = true;
    }
    return options;
}

/// Root becomes the owner of the queue; others must be that.
void enter_queue(const Config& config) {
    const std::string& queue = config.queue_directory();
    struct stat info {};
    if (::chdir(queue.c_str()) != 0 || ::stat("deferred", &info) != 0) {
        die(1, errno_error("chdir " + queue).what);
    }
    if (::geteuid() == info.st_uid && info.st_uid != 0) {
        return;
    }
    if (::geteuid() != 0) {
        die(1, "use of this command is reserved for the superuser");
    }
    const Result<UserIdentity> owner = find_user(config.mail_owner());
    if (info.st_uid == 0 || !owner) {
        return;   // a suite that runs as root in a directory of root's
    }
    if (::setgroups(owner->groups.size(), owner->groups.data()) != 0 || ::setgid(owner->gid) != 0 || ::setuid(owner->uid) != 0) {
        die(1, errno_error("change to " + config.mail_owner()).what);
    }
}

/// Tells qmgr in pieces.  A qmgr that does not run needs no telling.
class Teller {
public:
    Teller(const Config& config, std::uint8_t change) : config_(config), change_(change) {}
    ~Teller() { flush(); }
    Teller(const Teller&) = delete;
    Teller& operator=(const Teller&) = delete;
    void changed(const std::string& id) {
        ids_.push_back(id);
        if (ids_.size() >= 1000) {
            flush();
        }
    }
    void flush() {
        if (change_ != 0 && !ids_.empty() && running_) {
            const Result<void> told = ask_qmgr(config_, queue::Altered{change_, std::move(ids_)});
            running_ = told || (told.error().code != Errc::closed && told.error().code != Errc::not_found);
            if (!told && running_) {
                log_warning("qmgr: {}", told.error().what);
            }
        }
        ids_.clear();
    }

private:
    const Config& config_;
    std::uint8_t change_;
    bool running_ = true;
    std::vector<std::string> ids_;
};

std::vector<std::string> ids_from_stdin() {
    std::vector<std::string> ids;
    std::string line;
    for (int c = 0; (c = std::getchar()) != EOF;) {
        if (c == '\n') {
            ids.emplace_back(trim(line));
            line.clear();
        } else if (line.size() < 1000) {
            line += static_cast<char>(c);
        }
    }
    if (!line.empty()) {
        ids.emplace_back(trim(line));
    }
    return ids;
}

/// Messages in transit count as in incoming/ and active/: whoever wants them there has to wait for them.  Yields those that stay, which
/// are nobody else's to touch.
std::set<std::string> await_transit(const std::vector<std::string>& queues, const std::vector<std::string>* named) {
    const auto is_in_transit = [](const std::string& queue) { return queue == "incoming" || queue == "active"; };
    const std::optional<queue::Transit> transit = queue::Transit::open(".", ".");
    if (!transit || std::none_of(queues.begin(), queues.end(), is_in_transit)) {
        return {};
    }
    std::vector<std::string> ids = named != nullptr ? *named : transit->all_ids();
    std::erase_if(ids, [](const std::string& id) { return !queue::is_queue_id(id); });
    const std::vector<std::string> left = leave_transit(*transit, std::move(ids));
    for (const std::string& id : left) {
        log_warning("{}: still in transit, and left alone: it is being delivered, or cannot be moved to the queue; try again while the mail "
                    "system runs", id);
    }
    return {left.begin(), left.end()};
}

struct Count {
    std::size_t done = 0;
    std::size_t released = 0;   ///< expired at once, which takes messages off hold
};

/// Does it to one message, which is in one of the queues.  False when it is in none.
bool do_one(const Kind& kind, const std::string& id, const std::vector<std::string>& queues, Count& count) {
    const bool held = kind.surgery == Surgery::expire_now && ::access(queue::queue_path("hold", id).c_str(), F_OK) == 0;
    if (!operate(kind.surgery, id, queues)) {
        return false;
    }
    ++count.done;
    count.released += held ? 1 : 0;
    return true;
}

void do_all(const Kind& kind, const std::vector<std::string>& queues, Teller& teller, Count& count) {
    const std::set<std::string> in_transit = await_transit(queues, nullptr);
    for (const std::string& queue : queues) {
        for (const std::string& id : queue_ids_in(queue)) {
            if (!in_transit.contains(id) && do_one(kind, id, {queue}, count)) {
                teller.changed(id);
            }
        }
    }
}

void do_named(const Kind& kind, const std::vector<std::string>& ids, const std::vector<std::string>& queues, Teller& teller,
              Count& count) {
    const std::set<std::string> in_transit = await_transit(queues, &ids);
    for (const std::string& id : ids) {
        if (!queue::is_queue_id(id)) {
            const std::string_view text = id;
            if (text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != text.npos || text.empty()) {
                log_warning("invalid mail queue id: {}", id);
            }
            continue;
        }
        const std::size_t released = count.released;
        if (!in_transit.contains(id) && do_one(kind, id, queues, count)) {
            log_info("{}: {}", id, kind.each);
            teller.changed(id);
        }
        if (count.released > released) {
            log_info("{}: released from hold", id);
        }
    }
}

void log_total(const char* what, std::size_t count) { log_info("{}: {} message{}", what, count, count == 1 ? "" : "s"); }

void do_work(const Config& config, const Kind& kind, const std::vector<std::string>& arguments, const std::vector<std::string>& named) {
    const std::vector<std::string> queues = named.empty() ? default_queues(kind.surgery) : named;
    Teller teller(config, kind.change);
    Count count;
    for (const std::string& argument : arguments) {
        if (argument == "ALL") {
            do_all(kind, queues, teller, count);
        } else {
            do_named(kind, argument == "-" ? ids_from_stdin() : std::vector<std::string>{argument}, queues, teller, count);
        }
    }
    log_total(kind.total, count.done);
    if (kind.surgery == Surgery::expire_now) {
        log_total("Released from hold", count.released);
    }
    if (kind.surgery == Surgery::requeue && count.done > 0) {
        const Result<void> woken = wake_service(config.queue_directory() + "/public/" + config.pickup_service_name(), config.trigger_timeout());
        if (!woken) {
            log_debug("{}", woken.error().what);   // pickup looks when it is started
        }
    }
}

void fix_structure(const Config& config, const std::vector<std::string>& queues) {
    Teller gone(config, queue::kAlteredDeleted), fresh(config, queue::kAlteredReleased);
    const std::size_t count = fix_names(queues, [&](const std::string& from, const std::string& to) {
        log_info("{}: renamed to {} to match its inode", from, to);
        gone.changed(from);
        fresh.changed(to);
    });
    if (count > 0) {
        log_info("Renamed to match inode number: {} message{}", count, count == 1 ? "" : "s");
    }
}

}  // namespace
}  // namespace postern::tools

int main(int argc, char** argv) {
    using namespace postern;
    using namespace postern::tools;
    log_open("postfix/postsuper", LogDestination());
    const Options options = parse(argc, argv);
    const Config config = load_command_config("postsuper", options.directory, 1);
    log_echo_all();
    for (const std::string& queue : options.queues) {
        if (std::find(kListedDirectories.begin(), kListedDirectories.end(), queue) == kListedDirectories.end()) {
            die(1, "invalid directory name: " + queue);
        }
    }
    enter_queue(config);
    const std::vector<std::string> all = options.queues.empty() ? kListedDirectories : options.queues;
    if (options.purge) {
        purge_temporary(all);
    }
    if (options.structure) {
        fix_structure(config, all);
    }
    for (const Kind& kind : kKinds) {
        std::vector<std::string> arguments;
        for (const Work& work : options.work) {
            if (work.kind == &kind) {
                arguments.push_back(work.argument);
            }
        }
        if (!arguments.empty()) {
            do_work(config, kind, arguments, options.queues);
        }
    }
    return 0;
}
