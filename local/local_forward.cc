#include <fmt/format.h>

#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "local/local_delivery.h"

namespace postern::local {
namespace {

constexpr std::size_t kPiece = 128 * 1024;

}  // namespace

queue::Recipient LocalDelivery::shown(const Branch& branch) const {
    queue::Recipient recipient = recipient_;
    recipient.address = branch.address;
    if (branch.of_list) {
        recipient.original.clear();
    } else if (recipient.original.empty() && branch.address != recipient_.address) {
        recipient.original = recipient_.address;
    }
    return recipient;
}

void LocalDelivery::finish(const Branch& branch, Outcome outcome) {
    if (serving_member_) {
        held_.emplace_back(branch, std::move(outcome));
        return;
    }
    if (!outcome.logged) {
        agent_.log(*message_, shown(branch), outcome);
    }
    outcomes_.push_back(std::move(outcome));
}

/// As finish(); a failure is told to the list's owner, if whom the branch is about is a list with one.  Only for what is not forwarded:
/// a new message has that sender itself.
void LocalDelivery::finish_for_owner(const Branch& branch, Outcome outcome) {
    if (outcome.kind == queue::kBounced) {
        const std::string owner = list_owner(branch.local);
        outcome.notice_sender = owner.empty() ? list_owner(branch.user) : owner;
    }
    finish(branch, std::move(outcome));
}

/// Delivery to a member stands when it went well, or when there is no other (`alone`) and it will be tried again.  Else the
/// member gets a message of its own: it is tried again without the others, or the notice names it.
void LocalDelivery::settle_member(const Branch& member, bool alone) {
    const std::vector<std::pair<Branch, Outcome>> none;
    std::vector<std::pair<Branch, Outcome>> held = std::exchange(held_, none);
    const auto any = [&held](std::uint8_t kind) {
        return std::any_of(held.begin(), held.end(), [kind](const auto& one) { return one.second.kind == kind; });
    };
    const bool waits = alone && !any(queue::kBounced);
    const bool own_alias = equals_ignoring_case(member.user, member.expanded_from);   // it would be expanded again
    if (!held.empty() && !any(queue::kDelivered) && !waits && !own_alias && !message_->request().verify_only) {
        forward(member, member.address);
        return;
    }
    for (auto& [branch, outcome] : held) {
        if (outcome.kind == queue::kDelivered) {
            outcome.action = "expanded";   // RFC 3461 section 5.2.7.2
        }
        finish(branch, std::move(outcome));
    }
}

bool LocalDelivery::anything_deferred() const {
    for (const Outcome& outcome : outcomes_) {
        if (outcome.kind == queue::kDeferred) {
            return true;
        }
    }
    return false;
}

/// What qmgr is told: a deferral, else a failure that is the sender's business, else one that is a list owner's, else success.
Outcome LocalDelivery::combined() const {
    const Outcome* chosen = nullptr;
    const auto rank = [](const Outcome& outcome) {
        const bool failure = outcome.kind == queue::kBounced;
        return outcome.kind == queue::kDeferred ? 3 : failure && outcome.notice_sender.empty() ? 2 : failure ? 1 : 0;
    };
    for (const Outcome& outcome : outcomes_) {
        if (!chosen || rank(outcome) > rank(*chosen)) {
            chosen = &outcome;
        }
    }
    Outcome result = chosen ? *chosen : failed("5.4.6", "no destination is left after the expansion of aliases");
    result.logged = true;
    return result;
}

/// Notes an address for the new message that is sent when all else has gone well.
void LocalDelivery::forward(const Branch& branch, std::string address) {
    if (message_->was_delivered_to(address)) {
        finish(branch, failed("5.4.6", "mail forwarding loop for " + address));
        return;
    }
    if (!seen_before("forward " + branch.sender + " " + to_lower(address))) {
        forwards_[Forward{branch.sender, branch.delivered, branch.of_list}].push_back(std::move(address));
    }
}

queue::Begin LocalDelivery::forward_request(const Forward& how, const std::vector<std::string>& addresses) const {
    const queue::Deliver& request = message_->request();
    queue::Begin begin;
    begin.complete_headers = false;
    begin.add_bcc = false;
    begin.check_headers_and_body = false;
    queue::Envelope& envelope = begin.envelope;
    envelope.sender = how.sender;
    envelope.origin = queue::kOriginForward;
    envelope.encoding = request.encoding;
    envelope.smtputf8 = request.smtputf8;
    envelope.requiretls = request.requiretls;
    if (!how.of_list) {
        envelope.dsn_envid = request.dsn_envid;
        envelope.dsn_ret = request.dsn_ret;
    }
    envelope.rewrite_local = request.rewrite_local;
    envelope.client = request.client;
    for (const std::string& address : addresses) {
        queue::Recipient to;
        to.address = address;
        if (how.of_list) {   // RFC 3461 section 5.2.7.3: the owner's message asks for nothing
            envelope.recipients.push_back(std::move(to));
            continue;
        }
        to.original = recipient_.original.empty() ? recipient_.address : recipient_.original;
        to.dsn_orcpt = recipient_.dsn_orcpt;
        // RFC 3461 section 5.2.7.1: success is reported here, as "expanded"; failures are the new message's business.
        to.notify = static_cast<std::uint8_t>(recipient_.notify & ~queue::kNotifySuccess);
        if (recipient_.notify != 0 && to.notify == 0) {
            to.notify = queue::kNotifyNever;
        }
        envelope.recipients.push_back(std::move(to));
    }
    if (shared_.prepends_delivered("forward")) {
        begin.content = "Delivered-To: " + quoted(how.delivered) + "\n";
    }
    begin.content += message_->headers();
    return begin;
}

Task<Outcome> LocalDelivery::submit_one(Forward how, std::vector<std::string> addresses) {
    queue::Begin begin = forward_request(how, addresses);
    std::unique_ptr<queue::CleanupClient> cleanup = shared_.cleanup.take();
    Result<queue::FromCleanup> answer = Error(Errc::closed, "no answer");
    if (message_->has_body()) {
        begin.content += message_->body();
        begin.last = true;
        answer = co_await cleanup->submit(std::move(begin));
    } else {
        Result<void> going = co_await cleanup->begin(std::move(begin));
        std::string buffer(kPiece, '\0');
        for (std::uint64_t at = 0; going && at < message_->body_length() && !cleanup->answered_early();) {
            const Result<std::size_t> got = message_->read_body(at, buffer.data(), buffer.size());
            if (!got) {
                cleanup->cancel();
                co_return failed("4.3.0", got.error().what);
            }
            going = co_await cleanup->content(std::string_view(buffer.data(), *got));
            at += *got;
        }
        if (going) {
            answer = co_await cleanup->end();
        } else {
            answer = going.error();
        }
    }
    if (!answer) {
        co_return failed("4.3.0", "cannot forward message: " + answer.error().what);
    }
    shared_.cleanup.give_back(std::move(cleanup));
    if (const auto* refused = std::get_if<queue::Refused>(&*answer)) {
        const std::string dsn = refused->dsn.empty() ? "4.3.0" : refused->dsn;
        co_return failed(dsn, "cannot forward message: " + refused->text);
    }
    Outcome outcome = sent("forwarded as " + std::get<queue::Queued>(*answer).queue_id);
    outcome.action = how.of_list ? "delivered" : "expanded";
    co_return outcome;
}

/// One new message for each sender (a list's owner takes the place of the sender for its list).
Task<> LocalDelivery::submit_forwards() {
    Branch top;
    top.address = recipient_.address;
    const auto forwards = std::move(forwards_);
    forwards_.clear();
    for (const auto& [how, addresses] : forwards) {
        top.of_list = how.of_list;
        if (message_->request().verify_only) {
            finish(top, sent("forwards to " + addresses.front()));
            continue;
        }
        Outcome outcome = co_await submit_one(how, addresses);
        finish(top, std::move(outcome));
    }
}

}  // namespace postern::local
