/// The end of a front's work: the client goes to its session process, whole or through a relay.
#include <fcntl.h>
#include <sys/socket.h>

#include <array>

#include <fmt/format.h>

#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/login/front.h"
#include "lib/login/launchers.h"

namespace postern {

namespace {

constexpr Millis kConnectPatience = std::chrono::seconds(10);
constexpr Millis kAnswerPatience = std::chrono::seconds(30);
constexpr Millis kRelayPatience = std::chrono::minutes(5);
constexpr std::size_t kMaxIdle = 16;
/// One for the launcher that just ended, one for a connection that its listener still took, one that counts; and that again for
/// reloads that follow each other closely.
constexpr int kAttempts = 10;

/// Bytes from one side to the other until either is gone.
Task<> pump(Stream& from, Stream& to) {
    for (;;) {
        const Result<void> got = co_await from.fill_only(kForever);
        if (!got) {
            break;
        }
        const std::size_t size = from.buffered().size();
        to.write(from.buffered());
        from.consume(size);
        const Result<void> sent = co_await to.flush(kRelayPatience);
        if (!sent) {
            break;
        }
    }
    from.close();
    to.close();
}

/// What the two directions of a relay share; lives in relay()'s frame.
struct OtherDirection {
    bool ended = false;
    Notice news;
};

Task<> pump_and_tell(Stream& from, Stream& to, OtherDirection& direction) {
    co_await pump(from, to);
    direction.ended = true;
    direction.news.notify_all();
}

}  // namespace

Task<Result<FromLauncher>> LoginFront::Launchers::try_once(Connection connection, HandOver request, bool& in_doubt) {
    const Result<void> sent = co_await connection.send(std::move(request), kAnswerPatience);
    if (!sent) {
        co_return sent.error();
    }
    Result<FromLauncher> answer = co_await connection.receive(kAnswerPatience);
    in_doubt = in_doubt || !answer;
    if (answer && idle_.size() < kMaxIdle) {
        idle_.push_back(std::move(connection));
    }
    co_return answer;
}

Task<Result<FromLauncher>> LoginFront::Launchers::hand_over(HandOver request) {
    bool in_doubt = false;
    for (int attempt = 1;; ++attempt) {
        Connection connection;
        if (!idle_.empty()) {
            connection = std::move(idle_.back());
            idle_.pop_back();
        } else {
            Result<UniqueFd> socket = co_await connect_unix(path_, kConnectPatience);
            if (!socket) {
                co_return in_doubt ? Error(Errc::timeout, socket.error().what) : socket.error();
            }
            connection = Connection(std::move(*socket), kMaxHandOver);
        }
        HandOver copy;
        copy.token = request.token;
        copy.info = request.info;
        copy.client.reset(::fcntl(request.client.get(), F_DUPFD_CLOEXEC, 3));
        Result<FromLauncher> answer = co_await try_once(std::move(connection), std::move(copy), in_doubt);
        // Only a lost connection may be tried again: a launcher that is merely slow might still have the client.  One that
        // had taken it has used the token up.
        if (answer || answer.error().code != Errc::closed || attempt == kAttempts) {
            const bool taken = answer && std::holds_alternative<HandedOver>(*answer);
            if (in_doubt && !taken) {
                co_return Error(Errc::timeout, answer ? "the session launcher ended" : answer.error().what);
            }
            co_return answer;
        }
        idle_.clear();
    }
}

HandOver LoginConnection::make_request(std::string prelude) {
    HandOver request;
    request.token = std::move(token_);
    request.info.session_id = session_id_;
    request.info.remote_ip = addresses_.remote_ip;
    request.info.local_ip = addresses_.local_ip;
    request.info.remote_port = addresses_.remote_port;
    request.info.local_port = addresses_.local_port;
    request.info.method = method_;
    request.info.prelude = std::move(prelude);
    if (const TlsInfo* tls = stream_->tls()) {
        request.info.tls = true;
        request.info.tls_protocol = tls->protocol;
        request.info.tls_cipher = tls->cipher;
    }
    request.info.input = stream_->take_buffered();
    return request;
}

/// The session process's pid, or an error after it was logged: timeout when a session process may have the client
/// nevertheless.
Task<Result<std::uint32_t>> LoginConnection::give_to_launcher(HandOver request) {
    const Result<FromLauncher> answer = co_await front_.launchers_->hand_over(std::move(request));
    if (!answer) {
        log_error("{}-login: no session process: {}", front_.service(), answer.error().what);
        co_return answer.error();
    }
    if (const auto* done = std::get_if<HandedOver>(&*answer)) {
        co_return done->pid;
    }
    const auto& refusal = std::get<NotHandedOver>(*answer);
    if (refusal.reason == static_cast<std::uint8_t>(HandOverRefusal::too_many)) {
        log_line(fmt::format("Maximum number of connections from user+IP exceeded (mail_max_userip_connections={})",
                             front_.config().mail_max_userip_connections()),
                 0);
    } else {
        log_line(fmt::format("Internal login failure: {}", refusal.text), 0);
    }
    co_return Error(Errc::denied, refusal.text);
}

/// In the clear: the client's own socket.  Ours is closed when the session process has it.
Task<bool> LoginConnection::give_socket(HandOver request) {
    std::string input = request.info.input;
    UniqueFd ours = release_socket(*stream_);
    request.client.reset(::fcntl(ours.get(), F_DUPFD_CLOEXEC, 3));
    const Result<std::uint32_t> pid = co_await give_to_launcher(std::move(request));
    if (pid) {
        log_login(*pid);
        co_return true;
    }
    if (pid.error().code == Errc::timeout) {
        ::shutdown(ours.get(), SHUT_RDWR);   // two must not talk to one client
        log_disconnect("Disconnected");
        co_return true;
    }
    stream_ = make_socket_stream(std::move(ours));
    stream_->unread(input);
    co_return false;
}

/// With TLS: one end of a pair; the keys stay here.
Task<bool> LoginConnection::give_relayed(HandOver request) {
    std::array<int, 2> pair{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()) != 0) {
        log_error("{}-login: {}", front_.service(), errno_error("socketpair").what);
        co_return false;
    }
    UniqueFd ours(pair[0]);
    request.client.reset(pair[1]);
    std::string input = request.info.input;
    const Result<std::uint32_t> pid = co_await give_to_launcher(std::move(request));
    if (!pid) {
        stream_->unread(input);
        co_return false;
    }
    log_login(*pid);
    std::unique_ptr<Stream> session = make_socket_stream(std::move(ours));
    co_await relay(std::move(session));
    co_return true;
}

Task<> LoginConnection::relay(std::unique_ptr<Stream> session) {
    OtherDirection to_session;
    spawn(pump_and_tell(*stream_, *session, to_session));
    co_await pump(*session, *stream_);
    while (!to_session.ended) {
        co_await to_session.news.wait(kForever);
    }
}

Task<bool> LoginConnection::hand_over(std::string prelude) {
    const Result<void> sent = co_await stream_->flush(kAnswerPatience);
    if (!sent) {
        log_disconnect("Disconnected");
        co_return true;
    }
    if (stream_->buffered().size() > kMaxHandedInput) {
        log_disconnect("Disconnected: Too much pipelined input");
        co_return false;
    }
    HandOver request = make_request(std::move(prelude));
    if (stream_->tls() != nullptr) {
        co_return co_await give_relayed(std::move(request));
    }
    co_return co_await give_socket(std::move(request));
}

}  // namespace postern
