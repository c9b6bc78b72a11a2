/// What stands in the queue, as postqueue(1) shows it: read from the files, written in Postfix's two formats.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/queue/directory.h"
#include "lib/queue/transit.h"

namespace postern {

struct ListedRecipient {
    std::string address;       ///< external form
    std::string reason;        ///< why it is deferred; empty: not tried yet
};
template <class A>
void fields(A& a, ListedRecipient& m) { a(m.address, m.reason); }

struct ListedMessage {
    std::string queue_name;
    std::string queue_id;
    std::int64_t arrival_seconds = 0;
    std::uint64_t size_bytes = 0;
    bool forced_expire = false;
    std::string sender;        ///< external form; "MAILER-DAEMON" stands for the null sender in text listings
    std::vector<ListedRecipient> recipients;   ///< those that are not finished
    std::int64_t next_try_seconds = 0;         ///< of a deferred message; otherwise 0
};
template <class A>
void fields(A& a, ListedMessage& m) {
    a(m.queue_name, m.queue_id, m.arrival_seconds, m.size_bytes, m.forced_expire, m.sender, m.recipients,
      m.next_try_seconds);
}

/// The answer of showq(8) is any number of ListedMessage, then ListingEnd.
struct ListingEnd {
    std::string error;         ///< empty: the listing is complete
};
template <class A>
void fields(A& a, ListingEnd& m) { a(m.error); }

/// The directories of the queue, in the order in which they are listed.
extern const std::vector<std::string> kListedDirectories;

/// The ids in a directory of the queue (a path).  Empty when it cannot be read.
std::vector<std::string> queue_ids_in(const std::string& directory);

/// Walks over the files of a queue without ever having the names of all in memory.  A directory of less than
/// kSorted files comes in the order of the ids; a longer one as the disk reads it fastest.
///
/// Messages in transit are listed as in incoming/, after maildrop/, which they come from, and before where they go.
class ListingWalk {
public:
    static constexpr std::size_t kSorted = 16384;
    /// `transit`: null when the queue has none; lives as long as this.
    ListingWalk(std::string queue_directory, const queue::Transit* transit)
        : queue_directory_(std::move(queue_directory)), transit_(transit) {}
    /// Reads up to `limit` more messages; none at the end.  Blocks.
    std::vector<ListedMessage> next(std::size_t limit);

private:
    bool next_names();
    bool next_in_transit();
    bool read(const std::string& id, ListedMessage& out);
    std::string queue_directory_;
    const queue::Transit* transit_;
    bool in_transit_ = false;              ///< that is where names_ are
    bool transit_walked_ = false;
    std::set<std::string> listed_;         ///< ids in transit: not to be listed again
    std::size_t directory_ = 0;            ///< into kListedDirectories
    std::optional<queue::DirectoryReader> reader_;
    std::vector<queue::DirectoryReader::Name> names_;
    std::size_t at_ = 0;                   ///< into names_
};

/// Reads one queue file.  A file that is gone, unfinished or damaged gives false.  A file in maildrop that we may not
/// read is listed by its size, time and owner.
bool read_listed(const std::string& queue_directory, const std::string& name, const std::string& id, ListedMessage& out);

/// Text in the format of `postqueue -p`: header, messages, totals.
class TextListing {
public:
    explicit TextListing(bool long_queue_ids) : long_(long_queue_ids) {}
    std::string message(const ListedMessage& message);
    /// "Mail queue is empty", or the totals.
    std::string end() const;

private:
    bool long_;
    std::uint64_t count_ = 0;
    std::uint64_t bytes_ = 0;
};

/// One line of `postqueue -j`, with its LF.
std::string json_listing(const ListedMessage& message);

}  // namespace postern
