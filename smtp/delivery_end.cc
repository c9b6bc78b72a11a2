// The end of a delivery: what becomes of recipients whom no server has taken or refused.
#include "lib/log/log.h"
#include "lib/queue/pass.h"
#include "smtp/delivery.h"

namespace postern::smtp {

/// The administrator named this next hop: relayhost, or a fallback relay.
bool Delivery::is_configured_hop() const {
    return used_fallback_ || request_.nexthop == client_.config().relayhost();
}

/// best_mx_transport: this host is the domain's best MX, and the domain is not in mydestination.
Task<> Delivery::pass_to_best_mx() {
    const std::string& transport = client_.config().best_mx_transport();
    if (transport.empty() || left() == 0 || is_configured_hop()) {
        co_return;
    }
    if (transport.substr(0, transport.find(':')) == request_.transport) {
        log_warning("best_mx_transport = {} is the transport that found the loop", transport);
        co_return;
    }
    queue::Deliver request = queue::copy_for_agent(request_);
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < states_.size(); ++i) {
        if (states_[i] != State::answered) {
            request.recipients.push_back(request_.recipients[i]);
            places.push_back(i);
        }
    }
    std::vector<queue::PassedOn> passed = co_await queue::pass_on(std::move(request), transport);
    for (std::size_t nth = 0; nth < places.size(); ++nth) {
        queue::RecipientDone& done = passed[nth].done;
        if (passed[nth].logged) {
            states_[places[nth]] = State::answered;
            listener_.done(std::move(done));
            continue;
        }
        Fate fate;
        fate.why = {std::move(done.dsn), std::move(done.reason)};
        answer(places[nth], std::move(fate));
    }
}

/// A host or destination could not be asked.  When it may be later, what others refused on behalf of all (failed_all()) is not
/// the last word: this one might have taken the mail.
void Delivery::not_asked(Failure why) {
    for (Fate& fate : kept_) {
        if (!why.hard() && fate.why.hard()) {
            fate = Fate();
        }
    }
    why_ = std::move(why);
}

/// What is left has nowhere to go now.
void Delivery::give_up() {
    if (why_.dsn.empty()) {
        why_ = {"4.3.0", "server unavailable or unable to receive mail"};
    }
    // What may be a mistake in the configuration does not cost mail.
    if (left() > 0 && why_.hard() && is_configured_hop()) {
        log_warning("{} configuration problem", used_fallback_ ? client_.settings().prefix() + "_fallback_relay" : "relayhost");
        why_.soften();
    }
    for (std::size_t i = 0; i < states_.size(); ++i) {
        if (states_[i] == State::answered) {
            continue;
        }
        Fate fate = std::move(kept_[i]);
        if (fate.why.dsn.empty()) {
            fate.why = why_;
            fate.why.destination_dead = true;
        }
        fate.outcome = fate.why.hard() ? queue::kBounced : queue::kDeferred;
        answer(i, std::move(fate));
    }
}

}  // namespace postern::smtp
