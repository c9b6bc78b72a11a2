// Which transport gets which recipient.
#include <algorithm>
#include <map>

#include "lib/async/wait_here.h"
#include "lib/base/strings.h"
#include "lib/log/delivery.h"
#include "lib/log/log.h"
#include "lib/mail/address.h"
#include "lib/mail/logged_address.h"
#include "lib/verify/client.h"
#include "qmgr/manager.h"

namespace postern::qmgr {

struct Manager::Target {
    std::string transport;
    std::string nexthop;
    std::string address;      ///< what the transport is to deliver to
};

/// Decides a recipient without an agent, and writes the line that the agent would have written.
void Manager::settle(Message& message, std::uint32_t index, std::uint8_t outcome, std::string dsn, std::string reason) {
    queue::RecipientDone done;
    done.index = index;
    done.outcome = outcome;
    done.dsn = std::move(dsn);
    done.reason = std::move(reason);
    done.relay = "none";
    const queue::Recipient& recipient = message.envelope().recipients[index];
    const std::string to = logged_address(config_, recipient.address), original = logged_address(config_, recipient.original);
    const std::int64_t now = clock_();
    DeliveryLine line;
    line.queue_id = message.id;
    line.to = to;
    line.orig_to = recipient.original.empty() ? std::string_view() : std::string_view(original);
    line.times = {.arrival = message.envelope().arrival_usec, .active = message.active_usec, .handed = now, .connected = 0, .done = now};
    line.dsn = done.dsn;
    const bool verify = message.envelope().verify_only;
    line.status = outcome == queue::kDelivered ? (verify ? "deliverable" : "sent")
                  : verify                     ? "undeliverable"
                  : outcome == queue::kBounced ? "bounced"
                                               : "deferred";
    line.text = done.reason;
    line.resolution = static_cast<int>(config_.delay_logging_resolution_limit());
    if (message.fates[index] == Fate::pending) {
        log_delivery(line);
    }
    message.record(std::move(done));
}

/// FILTER and content_filter come before all other routing; no next hop means the recipient's domain, or
/// default_filter_nexthop.
bool Manager::choose_filter(const Message& message, Target& target) const {
    const std::string& filter = message.envelope().content_filter;
    if (filter.empty() || message.envelope().verify_only) {
        return false;
    }
    const std::size_t colon = filter.find(':');
    target.transport = filter.substr(0, colon);
    target.nexthop = colon == filter.npos ? "" : filter.substr(colon + 1);
    if (target.nexthop.empty()) {
        target.nexthop = config_.default_filter_nexthop();
    }
    if (target.nexthop.empty()) {
        const std::size_t at = target.address.rfind('@');
        target.nexthop = at == target.address.npos ? config_.myhostname() : target.address.substr(at + 1);
    }
    return true;
}

/// False when the recipient was settled here.
bool Manager::choose(Message& message, std::uint32_t index, Target& target) {
    target.address = message.envelope().recipients[index].address;
    if (!message.envelope().redirect.empty()) {
        target.address = router_.rewrite_address(message.envelope().redirect, RewriteContext::local);
    } else if (choose_filter(message, target)) {
        return true;
    }
    const bool probe = message.is_probe();
    if (probe && active_probes_ > static_cast<std::size_t>(config_.address_verify_pending_request_limit())) {
        settle(message, index, queue::kDeferred, "4.3.2", "Too many address verification requests");
        return false;
    }
    Router& router = probe && probe_router_ != nullptr ? *probe_router_ : router_;
    const Result<Route> route = router.resolve(message.envelope().sender, target.address);
    if (!route) {
        log_warning("{}: {}", message.id, route.error().what);
        settle(message, index, queue::kDeferred, "4.3.0", "address resolver failure");
        return false;
    }
    target.transport = route->transport;
    target.nexthop = route->nexthop;
    target.address = route->recipient.empty() ? target.address : route->recipient;
    if (std::find(defer_transports_.begin(), defer_transports_.end(), target.transport) != defer_transports_.end()) {
        settle(message, index, queue::kDeferred, "4.3.2", "deferred transport");
        return false;
    }
    const std::string local = to_lower(split_internal(target.address).local);
    const bool own_notice = route->address_class == AddressClass::local && local == to_lower(config_.double_bounce_sender());
    if (own_notice || verify::is_probe_sender(config_, target.address, clock_() / kSecond)) {
        settle(message, index, queue::kDelivered, "2.0.0", "undeliverable postmaster notification discarded");
        return false;
    }
    return true;
}

/// For transports that take one recipient at a time, the mailbox counts, not the host: without its extension,
/// so that mail to one user does not run in parallel more often than the limit says.
std::string Manager::destination_key(const Target& target) const {
    std::string local = to_lower(split_internal(target.address).local);
    const std::size_t extension = local.find_first_of(config_.recipient_delimiter(), 1);
    if (extension != local.npos) {
        local.resize(extension);
    }
    return local;
}

/// Looks up where they go and gives them to the scheduler, then looks whether the message is finished.  A table that is a
/// server may take its time: the caller, and the mail of others, goes on meanwhile.
void Manager::route(Message& message, std::vector<std::uint32_t> indices) {
    ++message.routing;
    ++routing_;
    call_aside([this, &message, mine = std::move(indices)] {
        find_routes(message, mine);
        --message.routing;
        --routing_;
        if (can_wait_here()) {
            changed_.notify_all();   // nobody may be left who would pump()
        }
        look_finished(message);
    });
}

void Manager::find_routes(Message& message, const std::vector<std::uint32_t>& indices) {
    std::map<std::pair<std::string, std::string>, std::vector<std::uint32_t>> groups;
    bool redirected = false;
    for (const std::uint32_t index : indices) {
        if (redirected) {   // REDIRECT is one delivery for all
            message.fates[index] = Fate::delivered;
            message.unjournaled.push_back(index);
            --message.pending;
            continue;
        }
        redirected = !message.envelope().redirect.empty();
        Target target;
        if (!choose(message, index, target)) {
            continue;
        }
        queue::Recipient& recipient = message.content.envelope().recipients[index];
        if (recipient.address != target.address) {
            recipient.original = recipient.original.empty() ? recipient.address : recipient.original;
            recipient.address = target.address;
        }
        if (scheduler_.one_recipient_each(target.transport)) {
            scheduler_.add(message.key, target.transport, target.nexthop, destination_key(target), {index}, clock_());
        } else if (message.is_verp()) {
            scheduler_.add(message.key, target.transport, target.nexthop, "", {index}, clock_());
        } else {
            groups[{std::move(target.transport), std::move(target.nexthop)}].push_back(index);
        }
    }
    for (auto& [where, members] : groups) {
        scheduler_.add(message.key, where.first, where.second, "", std::move(members), clock_());
    }
}

}  // namespace postern::qmgr
