/// Streams over sockets, in the clear and under TLS.
///
/// Bytes are received into one buffer of the thread and copied to the stream, so that an idle connection
/// holds no buffer; OpenSSL is told to do likewise (SSL_MODE_RELEASE_BUFFERS).
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "lib/stream/local_address.h"
#include "lib/stream/receive_limit.h"
#include "lib/stream/stream.h"
#include "lib/stream/tls.h"
#include "lib/stream/tls_client.h"
#include "lib/stream/tls_summary.h"

namespace postern {

namespace {

constexpr std::size_t kReceive = 64 * 1024;

char* receive_buffer() {
    static thread_local std::unique_ptr<std::array<char, kReceive>> buffer;
    if (!buffer) {
        buffer = std::make_unique_for_overwrite<std::array<char, kReceive>>();   // untouched pages cost nothing
    }
    return buffer->data();
}

struct SslFree {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
};

Error wake_error(Wake wake) {
    return wake == Wake::timed_out ? Error(Errc::timeout, "timeout") : Error(Errc::closed, "lost connection");
}

std::string common_name(X509_NAME* name) {
    std::array<char, 256> text{};
    X509_NAME_get_text_by_NID(name, NID_commonName, text.data(), text.size());
    return text.data();
}

/// What an i2d_ function of OpenSSL makes of `object`.
template <class T>
std::string der_of(int (*encode)(const T*, unsigned char**), const T* object) {
    unsigned char* bytes = nullptr;
    const int size = encode(object, &bytes);
    std::string out(reinterpret_cast<const char*>(bytes), size > 0 ? static_cast<std::size_t>(size) : 0);
    OPENSSL_free(bytes);
    return out;
}

class SocketStream : public Stream {
public:
    explicit SocketStream(UniqueFd socket) : socket_(std::move(socket)) {
        ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
        const int on = 1;
        ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);   // fails on Unix sockets: fine
        events_.open(socket_.get());
    }

    ~SocketStream() override { close(); }

    void interrupt() override { events_.interrupt(); }

    void close() override {
        if (!socket_) {
            return;
        }
        if (ssl_) {
            SSL_shutdown(ssl_.get());   // sends close_notify; does not wait for the peer's
            ERR_clear_error();
        }
        events_.close();
        ssl_.reset();
        socket_.reset();
    }

    UniqueFd release() {
        events_.close();
        return std::move(socket_);
    }

    bool in_the_clear() const { return !ssl_; }

    /// See receive_limit.h.
    void limit_receive(std::size_t bytes) { receive_limit_ = bytes == 0 ? kReceive : std::min(bytes, kReceive); }

    /// See local_address.h.
    std::string local_ip() const {
        sockaddr_storage own{};
        socklen_t size = sizeof own;
        char text[INET6_ADDRSTRLEN] = "";
        if (::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &size) == 0) {
            if (own.ss_family == AF_INET) {
                ::inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(&own)->sin_addr, text, sizeof text);
            } else if (own.ss_family == AF_INET6) {
                ::inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(&own)->sin6_addr, text, sizeof text);
            }
        }
        return text;
    }

    const TlsInfo* tls() const override { return tls_ ? tls_.get() : nullptr; }

    /// See start_tls_client() in tls.h.
    Task<Result<TlsPeer>> connect_tls(TlsContext& context, TlsDemand demand, Millis timeout) {
        drop_input();
        tls_key_ = std::make_unique<TlsSessionKey>(TlsSessionKey{&context, demand.session_key});
        ssl_.reset(SSL_new(context.get()));
        if (!ssl_ || SSL_set_fd(ssl_.get(), socket_.get()) != 1) {
            co_return Error(Errc::io, openssl_error());
        }
        const Result<void> prepared = prepare_client(ssl_.get(), *tls_key_, demand);
        if (!prepared) {
            ssl_.reset();
            co_return prepared.error();
        }
        ticket_offered_ = true;   // that is the server's business
        for (;;) {
            ERR_clear_error();
            errno = 0;
            const int status = SSL_connect(ssl_.get());
            if (status == 1) {
                break;
            }
            const Result<bool> again = co_await wait_for_tls(status, timeout);
            if (!again) {
                context.forget(demand.session_key);
                co_return again.error();
            }
        }
        remember_session();
        co_return examine_peer(ssl_.get(), demand);
    }

    Task<Result<void>> start_tls(TlsContext& context, Millis timeout) override {
        drop_input();
        ssl_.reset(SSL_new(context.get()));
        if (!ssl_ || SSL_set_fd(ssl_.get(), socket_.get()) != 1) {
            co_return Error(Errc::io, openssl_error());
        }
        for (;;) {
            ERR_clear_error();
            errno = 0;
            const int status = SSL_accept(ssl_.get());
            if (status == 1) {
                remember_session();
                co_return Result<void>();
            }
            Result<bool> again = co_await wait_for_tls(status, timeout);
            if (!again) {
                co_return again.error();
            }
        }
    }

protected:
    Task<Result<void>> read_some(Millis timeout) override {
        bool interrupted = false;
        for (;;) {
            if (!socket_) {
                co_return Error(Errc::closed, "closed");
            }
            Result<bool> got = receive_now();
            if (!got || *got) {
                if (interrupted) {
                    events_.interrupt();
                }
                if (!got) {
                    co_return got.error();
                }
                co_return Result<void>();
            }
            Wake wake = Wake::ready;
            if (wants_write_) {
                wake = co_await events_.writable(timeout);
            } else {
                wake = co_await events_.readable(timeout);
            }
            interrupted = interrupted || wake == Wake::interrupted;
            if (wake == Wake::timed_out || wake == Wake::closed) {
                co_return wake_error(wake);
            }
        }
    }

    Task<Wake> wait_readable(Millis timeout) override {
        for (;;) {
            if (!socket_) {
                co_return Wake::closed;
            }
            Result<bool> got = receive_now();
            if (!got) {
                co_return Wake::closed;
            }
            if (*got) {
                co_return Wake::ready;
            }
            const Wake wake = co_await events_.readable(timeout);
            if (wake != Wake::ready) {
                co_return wake;
            }
        }
    }

    Task<Result<std::size_t>> write_some(std::string_view bytes, Millis timeout) override {
        for (;;) {
            if (!socket_) {
                co_return Error(Errc::closed, "closed");
            }
            if (ssl_) {
                ERR_clear_error();
                offer_ticket();
                errno = 0;
                std::size_t sent = 0;
                const int status = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &sent);
                if (status == 1) {
                    co_return sent;
                }
                Result<bool> again = co_await wait_for_tls(status, timeout);
                if (!again) {
                    co_return again.error();
                }
                continue;
            }
            const int flags = MSG_NOSIGNAL | (does_end_follow() ? MSG_MORE : 0);   // TCP sends the rest with its FIN
            const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), flags);
            if (sent >= 0) {
                co_return static_cast<std::size_t>(sent);
            }
            if (errno == EINTR) {
                continue;
            }
            if (errno != EAGAIN) {
                co_return Error(Errc::closed, "lost connection");
            }
            const Wake wake = co_await events_.writable(timeout);
            if (wake != Wake::ready) {
                co_return wake_error(wake);
            }
        }
    }

private:
    /// True when bytes came, false when one has to wait (wants_write_ says for what).
    Result<bool> receive_now() {
        wants_write_ = false;
        char* buffer = receive_buffer();
        if (ssl_) {
            return receive_tls(buffer);
        }
        for (;;) {
            const ssize_t got = ::recv(socket_.get(), buffer, receive_limit_, 0);
            if (got > 0) {
                receive({buffer, static_cast<std::size_t>(got)});
                return true;
            }
            if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                return Error(Errc::closed, "lost connection");
            }
            if (errno == EAGAIN) {
                return false;
            }
        }
    }

    Result<bool> receive_tls(char* buffer) {
        ERR_clear_error();
        errno = 0;
        std::size_t got = 0;
        bool any = false;
        // A TLS record holds 16 KiB at most: take what has arrived, up to the buffer's size.
        std::size_t total = 0;
        while (total + 16384 <= kReceive && SSL_read_ex(ssl_.get(), buffer, 16384, &got) == 1) {
            receive({buffer, got});
            total += got;
            any = true;
            if (SSL_pending(ssl_.get()) == 0) {
                return true;
            }
        }
        if (any) {
            ERR_clear_error();
            return true;
        }
        switch (SSL_get_error(ssl_.get(), 0)) {
        case SSL_ERROR_WANT_READ:
            return false;
        case SSL_ERROR_WANT_WRITE:
            wants_write_ = true;
            return false;
        default:
            ERR_clear_error();
            return Error(Errc::closed, "lost connection");
        }
    }

    Task<Result<bool>> wait_for_tls(int status, Millis timeout) {
        const int saved_errno = errno;
        const int why = SSL_get_error(ssl_.get(), status);
        Wake wake = Wake::closed;
        if (why == SSL_ERROR_WANT_READ) {
            wake = co_await events_.readable(timeout);
        } else if (why == SSL_ERROR_WANT_WRITE) {
            wake = co_await events_.writable(timeout);
        } else if (why == SSL_ERROR_SSL) {
            co_return Error(Errc::io, openssl_error());
        } else {
            co_return Error(Errc::closed, saved_errno != 0 ? errno_error("TLS", saved_errno).what : "lost connection");
        }
        if (wake == Wake::timed_out || wake == Wake::closed) {
            co_return wake_error(wake);
        }
        co_return true;
    }

    /// A TLS 1.3 session ticket goes out just before our first words.  By then the client waits for them;
    /// sent at the end of the handshake it crosses the client's first command, and clients that read and
    /// write in different threads (imaplib2, so OfflineIMAP) take harm from that.
    void offer_ticket() {
        if (!ticket_offered_) {
            ticket_offered_ = true;
            SSL_new_session_ticket(ssl_.get());   // refuses where it does not apply: TLS 1.2, clients
            ERR_clear_error();
        }
    }

    void remember_session() {
        tls_ = std::make_unique<TlsInfo>();
        tls_->protocol = SSL_get_version(ssl_.get());
        tls_->cipher = SSL_get_cipher_name(ssl_.get());
        tls_->used_bits = SSL_get_cipher_bits(ssl_.get(), &tls_->algorithm_bits);
        tls_->cipher_text = tls_cipher_text(ssl_.get());
        tls_->exchange_text = tls_exchange_text(ssl_.get());
        tls_->resumed = SSL_session_reused(ssl_.get()) == 1;
        if (const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name)) {
            tls_->server_name = name;
        }
        if (X509* peer = SSL_get0_peer_certificate(ssl_.get())) {
            tls_->peer_subject = common_name(X509_get_subject_name(peer));
            tls_->peer_issuer = common_name(X509_get_issuer_name(peer));
            tls_->peer_certificate = der_of(i2d_X509, peer);
            tls_->peer_public_key = der_of(i2d_X509_PUBKEY, X509_get_X509_PUBKEY(peer));
            tls_->peer_verified = SSL_get_verify_result(ssl_.get()) == X509_V_OK;
        }
    }

    UniqueFd socket_;
    FdEvents events_;
    std::unique_ptr<SSL, SslFree> ssl_;
    std::unique_ptr<TlsInfo> tls_;
    std::unique_ptr<TlsSessionKey> tls_key_;   ///< clients: where new sessions are remembered
    std::size_t receive_limit_ = kReceive;
    bool wants_write_ = false;
    bool ticket_offered_ = false;
};

}  // namespace

std::unique_ptr<Stream> make_socket_stream(UniqueFd socket) {
    return std::make_unique<SocketStream>(std::move(socket));
}

Task<Result<TlsPeer>> start_tls_client(Stream& stream, TlsContext& context, TlsDemand demand, Millis timeout) {
    auto* socket = dynamic_cast<SocketStream*>(&stream);
    if (socket == nullptr) {
        co_return Error(Errc::unsupported, "no socket");
    }
    co_return co_await socket->connect_tls(context, std::move(demand), timeout);
}

std::string local_ip_address(const Stream& stream) {
    const auto* socket = dynamic_cast<const SocketStream*>(&stream);
    return socket != nullptr ? socket->local_ip() : std::string();
}

void limit_receive(Stream& stream, std::size_t bytes) {
    if (auto* socket = dynamic_cast<SocketStream*>(&stream)) {
        socket->limit_receive(bytes);
    }
}

UniqueFd release_socket(Stream& stream) {
    auto* socket = dynamic_cast<SocketStream*>(&stream);
    if (socket == nullptr || !socket->in_the_clear()) {
        return UniqueFd();
    }
    return socket->release();
}

}  // namespace postern
