/// One request of the queue manager: a message for one destination, until the fate of each recipient is known.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/async/task.h"
#include "lib/queue/deliver.h"
#include "smtp/client.h"
#include "smtp/content.h"
#include "smtp/failure.h"
#include "smtp/hosts.h"
#include "smtp/reply.h"
#include "smtp/session.h"

namespace postern::smtp {

/// Where fates go: the queue manager, or a test.
class Listener {
public:
    virtual ~Listener() = default;
    virtual void done(queue::RecipientDone answer) = 0;
    /// Sends what done() collected.
    virtual Task<> flush() = 0;
    /// Somebody still wants to know.
    virtual bool is_open() = 0;
    /// The final dot for these recipients (DeliverTo::index) is about to leave.  `each`: each gets an answer (LMTP).
    virtual void sending(const std::vector<std::uint32_t>& /*indices*/, bool /*each*/) {}
    /// The server has taken the message: for all of them, or for the `nth` of them.  Comes before all else that the reply causes.
    virtual void taken(std::size_t /*nth*/, const Reply& /*reply*/) {}
};

class Delivery {
public:
    /// `client` and `listener` outlive the delivery.
    Delivery(Client& client, Listener& listener, queue::Deliver request);
    Delivery(const Delivery&) = delete;
    Delivery& operator=(const Delivery&) = delete;

    /// Every recipient is answered when it returns.
    Task<> run();

    // --- for a transfer (transfer.h)
    const queue::Deliver& request() const { return request_; }
    const queue::Recipient& recipient(std::size_t i) const { return request_.recipients[i].recipient; }
    /// The addresses as the server shall see them (smtp_generic_maps).
    const std::string& wire_sender() const { return wire_sender_; }
    const std::string& wire_recipient(std::size_t i) const { return wire_recipients_.empty() ? recipient(i).address : wire_recipients_[i]; }
    /// Recipients, by place in the request, that wait for this transfer.
    std::vector<std::size_t> open_recipients() const;
    /// The final dot for these recipients is about to leave; the server's 2xx was read (Listener).
    void sending(const std::vector<std::size_t>& recipients);
    void taken(std::size_t nth, const Reply& reply) { listener_.taken(nth, reply); }
    /// The server took the message for one recipient (or would take it, for a probe).
    void sent(std::size_t i, const Session& session, const Reply& reply);
    /// One recipient, or all that are open, cannot be served now: they are answered, or kept for another server when
    /// there is one and the failure is not for good.
    void failed(std::size_t i, const Session* session, Failure why);
    void failed_all(const Session* session, const Failure& why);
    /// Tells the queue manager what is known so far.
    Task<> tell() { return listener_.flush(); }
    /// False when the queue manager is gone: it will order this delivery again, so that a message which nobody has got
    /// yet had better not be sent now.
    bool is_wanted() { return listener_.is_open(); }
    Content& content() { return content_; }
    /// What REQUIRETLS (RFC 8689) comes to for the destination that is being tried; disable when the sender did not ask for it.
    RequireTlsLevel requiretls() const { return requiretls_; }

private:
    enum class State : unsigned char { open, kept, answered };
    /// A recipient's fate as it will be told.
    struct Fate {
        std::uint8_t outcome = queue::kDeferred;
        Failure why;              ///< for success: code and reply
        std::string relay = "none";
        std::string action{};
        std::string tls{};        ///< smtp_log_tls_feature_status
    };
    Task<> try_destination(std::string destination, bool last);
    bool find_tls_policies(const NextHop& hop);
    Task<> ask_sts(const NextHop& hop);
    void count_session(const NextHop& hop, const TlsPolicy& policy, const Session& session);
    Task<> try_hosts(const NextHop& hop, const HostList& hosts, const std::string& key, std::string skip, bool last);
    Task<std::optional<TlsPolicy>> policy_for(const HostAddress& host, const NextHop& hop);
    Task<std::unique_ptr<Session>> open_session(const HostAddress& host, const NextHop& hop, TlsPolicy policy, bool best);
    Task<std::optional<Failure>> prepare(Session& session, const NextHop& hop, const TlsPolicy& policy, bool best);
    bool tls_is_not_required() const;
    bool insist_on_tls(TlsPolicy& policy, const HostAddress& host);
    bool plaintext_fallback(const Session& session, const TlsPolicy& policy) const;
    std::string cache_key(const NextHop& hop) const;
    std::string cache_key(const std::string& destination_key, const HostAddress& host, const TlsPolicy& policy) const;
    Task<std::string> try_kept_session(const std::string& key);
    Task<bool> transfer(std::unique_ptr<Session> session, const std::string& key);
    Task<> tell_postmaster(std::optional<queue::Begin> notice);
    std::vector<std::string> destinations();
    Result<void> apply_generic_maps();
    void filter_content();
    bool is_configured_hop() const;
    Task<> pass_to_best_mx();
    void not_asked(Failure why);
    void give_up();
    void reopen();
    std::size_t left() const;
    void answer(std::size_t i, Fate fate);
    std::string relay_of(const Session* session) const;
    std::string tls_status(const Session* session) const;

    Client& client_;
    Listener& listener_;
    queue::Deliver request_;
    Content content_;
    std::string wire_sender_;
    std::vector<std::string> wire_recipients_;   ///< empty: as they are
    std::vector<State> states_;
    std::vector<Fate> kept_;         ///< why a recipient is kept for another server
    TlsPolicy policy_;               ///< of the destination that is being tried
    RequireTlsLevel requiretls_ = RequireTlsLevel::disable;
    Failure why_;                    ///< why no server was found, for those that none has refused
    bool final_server_ = false;      ///< no server comes after this one
    bool loops_ = false;
    bool used_fallback_ = false;
    std::int64_t connected_usec_ = 0;
};

}  // namespace postern::smtp
