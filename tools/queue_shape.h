/// The shape of the queue, as qshape(1) of Postfix shows it: how much mail for each domain (or from each) is how old.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/listing/listing.h"

namespace postern::tools {

struct ShapeOptions {
    bool senders = false;           ///< count by the sender's domain: messages, not recipients
    bool parents = false;           ///< count parent domains too, but no top level domain
    std::uint32_t minimum_subdomains = 5;   ///< a parent with fewer is not shown
    std::size_t buckets = 10;
    std::int64_t first_minutes = 5; ///< the first bucket's end; each one after is twice as long, or as long when `linear`
    bool linear = false;
};

/// One line of the table.
struct ShapeRow {
    std::string domain;             ///< lower case; "MAILER-DAEMON" for the null sender, ".example.com" for a parent
    std::uint64_t total = 0;
    std::vector<std::uint64_t> ages;       ///< one for each bucket
    std::int64_t next_try_seconds = 0;     ///< the earliest of a deferred message; 0: none waits
    std::string reason;                    ///< why a recipient waits: the last one seen
};

class QueueShape {
public:
    QueueShape(const ShapeOptions& options, std::int64_t now_seconds) : options_(options), now_(now_seconds) {
        total_.domain = "TOTAL";
        total_.ages.resize(options.buckets);
    }

    void add(const ListedMessage& message);

    std::uint64_t messages() const { return messages_; }
    /// The sum of all.
    const ShapeRow& total() const { return total_; }
    /// Largest first, then shorter names; parents with too few subdomains are left out.
    std::vector<const ShapeRow*> rows() const;
    /// "5", "10" ... "1280", "1280+": minutes.
    std::vector<std::string> heads() const;

private:
    struct Counted {
        ShapeRow row;
        std::uint32_t subdomains = 0;
    };
    std::size_t bucket_of(std::int64_t arrival_seconds) const;
    bool count(ShapeRow& row, std::size_t bucket, const ListedMessage& message, const std::string& reason);
    void add_address(std::string_view address, std::size_t bucket, const ListedMessage& message, const std::string& reason);

    ShapeOptions options_;
    std::int64_t now_;
    std::uint64_t messages_ = 0;
    ShapeRow total_;
    std::unordered_map<std::string, Counted> domains_;
};

/// The domain of an address as the table shows it.
std::string shape_domain(std::string_view address);
/// ".b.example.com" and ".example.com" come after "a.b.example.com"; empty: no parent but a top level domain.
std::string shape_parent(std::string_view domain);

}  // namespace postern::tools
