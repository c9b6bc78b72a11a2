#include "lib/sasl/auth_client.h"

#include <unordered_map>

#include "lib/base/strings.h"
#include "lib/ipc/channel.h"

namespace postern {

namespace {

constexpr Millis kConnectPatience = std::chrono::seconds(10);
/// One for the auth(8) that just ended, one for a connection that its listener still took, one that counts.
constexpr int kAttempts = 3;

std::uint32_t id_of(const FromAuth& message) {
    return std::visit([](const auto& answer) { return answer.id; }, message);
}

}  // namespace

struct AuthClient::Connection {
    /// A coroutine in ask(); lives in its frame.
    struct Waiter {
        std::optional<FromAuth> answer;
        Notice news;
    };
    Channel<ToAuth, FromAuth> channel;
    std::unordered_map<std::uint32_t, Waiter*> waiting;
    bool lost = false;
};

AuthClient::AuthClient(std::string path, Millis timeout) : path_(std::move(path)), timeout_(timeout) {}

AuthClient::~AuthClient() {
    if (connection_) {
        connection_->channel.close();   // its reader ends and lets go of it
    }
}

Task<Result<AuthClient::Shared>> AuthClient::connected() {
    if (connection_ && !connection_->lost) {
        co_return connection_;
    }
    Result<UniqueFd> socket = co_await connect_unix(path_, kConnectPatience);
    if (!socket) {
        co_return Error(Errc::temporary, socket.error().what);
    }
    if (!connection_ || connection_->lost) {   // else somebody was faster
        connection_ = std::make_shared<Connection>();
        connection_->channel = Channel<ToAuth, FromAuth>(std::move(*socket), kMaxAuthMessage);
        mechanisms_.clear();
        spawn(read_answers(connection_));
    }
    co_return connection_;
}

Task<> AuthClient::read_answers(Shared connection) {
    for (;;) {
        Result<FromAuth> message = co_await connection->channel.receive(kForever);
        if (!message) {
            break;
        }
        const auto found = connection->waiting.find(id_of(*message));
        if (found == connection->waiting.end()) {
            continue;   // cancelled, or given up
        }
        Connection::Waiter* waiter = found->second;
        connection->waiting.erase(found);
        waiter->answer = std::move(*message);
        waiter->news.notify_all();
    }
    connection->lost = true;
    connection->channel.close();
    const auto waiting = std::move(connection->waiting);
    connection->waiting.clear();
    for (const auto& [id, waiter] : waiting) {
        waiter->news.notify_all();
    }
}

Task<Result<FromAuth>> AuthClient::ask(Shared connection, ToAuth request, std::uint32_t id) {
    Connection::Waiter waiter;
    if (connection->lost) {
        co_return Error(Errc::temporary, "lost connection to " + path_);
    }
    connection->waiting[id] = &waiter;
    std::visit([&](auto& message) { connection->channel.post(std::move(message)); }, request);
    const Result<void> sent = co_await connection->channel.flush(timeout_);
    if (!sent && sent.error().code == Errc::closed) {
        connection->lost = true;   // the reader has yet to find out
    }
    if (sent && !waiter.answer && !connection->lost) {
        co_await waiter.news.wait(timeout_);
    }
    connection->waiting.erase(id);
    if (!waiter.answer) {
        co_return Error(Errc::temporary, connection->lost || !sent ? "lost connection to " + path_
                                                                   : path_ + ": no answer in time");
    }
    co_return std::move(*waiter.answer);
}

Task<Result<FromAuth>> AuthClient::ask_first(ToAuth request, std::uint32_t id, Shared& used) {
    for (int attempt = 1;; ++attempt) {
        Result<Shared> connection = co_await connected();
        if (!connection) {
            co_return connection.error();
        }
        used = *connection;
        ToAuth copy(request);
        Result<FromAuth> answer = co_await ask(used, std::move(copy), id);
        if (answer || !used->lost || attempt == kAttempts) {
            co_return answer;
        }
    }
}

Task<> AuthClient::send_cancel(Shared connection, std::uint32_t id) {
    AuthCancel cancel;
    cancel.id = id;
    (void)co_await connection->channel.send(std::move(cancel), kConnectPatience);
}

Task<Result<std::vector<std::string>>> AuthClient::mechanisms() {
    Result<Shared> connection = co_await connected();
    if (!connection) {
        co_return connection.error();
    }
    if (mechanisms_.empty()) {
        AuthListMechanisms request;
        request.id = new_id();
        const std::uint32_t id = request.id;
        ToAuth message(std::move(request));
        Shared used;
        Result<FromAuth> answer = co_await ask_first(std::move(message), id, used);
        if (!answer) {
            co_return answer.error();
        }
        if (auto* names = std::get_if<AuthMechanisms>(&*answer)) {
            mechanisms_ = std::move(names->names);
        }
    }
    co_return mechanisms_;
}

Task<Result<AuthUser>> AuthClient::lookup(std::string user, std::string service) {
    AuthLookup request;
    request.id = new_id();
    request.service = std::move(service);
    request.user = std::move(user);
    const std::uint32_t id = request.id;
    ToAuth message(std::move(request));
    Shared used;
    Result<FromAuth> answer = co_await ask_first(std::move(message), id, used);
    if (!answer) {
        co_return answer.error();
    }
    if (auto* found = std::get_if<AuthUserFound>(&*answer)) {
        co_return std::move(found->user);
    }
    const auto* failure = std::get_if<AuthFailure>(&*answer);
    if (failure != nullptr && failure->reason == static_cast<std::uint8_t>(AuthFailureReason::no_user)) {
        co_return Error(Errc::not_found, "unknown user");
    }
    co_return Error(Errc::temporary, "auth cannot look up users now");
}

SaslServerSession::~SaslServerSession() {
    if (open_ && connection_ && !connection_->lost) {
        spawn(AuthClient::send_cancel(connection_, id_));
    }
}

Task<SaslStep> SaslServerSession::start(std::string mechanism, std::optional<std::string> initial_response,
                                        AuthPeer peer) {
    id_ = auth_->new_id();
    AuthStart request;
    request.id = id_;
    request.mechanism = to_upper(mechanism);
    request.has_initial_response = initial_response.has_value();
    if (initial_response) {
        request.initial_response = std::move(*initial_response);
    }
    request.peer = std::move(peer);
    ToAuth message(std::move(request));
    open_ = true;
    Result<FromAuth> answer = co_await auth_->ask_first(std::move(message), id_, connection_);
    co_return take(std::move(answer));
}

Task<SaslStep> SaslServerSession::next(std::string response) {
    AuthContinue request;
    request.id = id_;
    request.response = std::move(response);
    ToAuth message(std::move(request));
    Result<FromAuth> answer = co_await auth_->ask(connection_, std::move(message), id_);
    co_return take(std::move(answer));
}

SaslStep SaslServerSession::take(Result<FromAuth> answer) {
    SaslStep step;
    if (!answer) {
        step.text = answer.error().what;
        return step;   // temporary
    }
    if (auto* challenge = std::get_if<AuthChallenge>(&*answer)) {
        step.kind = SaslStep::Kind::challenge;
        step.data = std::move(challenge->challenge);
        return step;
    }
    open_ = false;
    if (auto* success = std::get_if<AuthSuccess>(&*answer)) {
        step.kind = SaslStep::Kind::success;
        step.user = std::move(success->user);
        step.token = std::move(success->token);
        step.master = std::move(success->master);
    } else if (auto* failure = std::get_if<AuthFailure>(&*answer)) {
        step.reason = static_cast<AuthFailureReason>(failure->reason);
        step.user = std::move(failure->user);
        step.text = std::move(failure->text);
    }
    return step;
}

std::string plain_response(std::string_view user, std::string_view password) {
    std::string response(1, '\0');
    response += user;
    response += '\0';
    response += password;
    return response;
}

}  // namespace postern
