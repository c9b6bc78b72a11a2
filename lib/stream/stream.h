/// A conversation with one peer: buffered bytes both ways, over a socket, TLS, or memory.
///
/// Reading says how it ended; writing does not fail where you stand: the stream remembers, and the next read
/// or flush tells.  Output is sent when the reader has to wait for input (so the replies to a pipelined group
/// leave in one write), when flush() is awaited, and never in between; a sender of much data looks at
/// congested() and then awaits flush().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lib/async/loop.h"
#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

class TlsContext;

/// What the log and the Received header say about a TLS session.
struct TlsInfo {
    std::string protocol;        ///< "TLSv1.3"
    std::string cipher;          ///< "TLS_AES_256_GCM_SHA384"
    int used_bits = 0;
    int algorithm_bits = 0;
    bool resumed = false;
    std::string cipher_text;     ///< tls_cipher_text() and tls_exchange_text() of tls_summary.h
    std::string exchange_text;
    std::string peer_subject;    ///< empty without a client certificate
    std::string peer_issuer;     ///< its issuer's common name
    std::string peer_certificate;   ///< DER; see fingerprint() in tls.h
    std::string peer_public_key;    ///< DER, SubjectPublicKeyInfo (RFC 5280 section 4.1)
    bool peer_verified = false;
    std::string server_name;     ///< SNI that the client sent, or empty
};

/// Reading side results: Errc::closed (end of stream or lost connection), Errc::timeout, Errc::too_big (line).
class Stream {
public:
    virtual ~Stream() = default;
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    /// One line without its line end (LF or CRLF; see line_had_crlf()).  A line longer than `max` bytes gives
    /// too_big once; the rest of that line is dropped, and the next call reads the next line.
    /// `timeout` counts from now until the whole line is there.
    Task<Result<std::string>> read_line(std::size_t max, Millis timeout);
    bool line_had_crlf() const { return line_had_crlf_; }

    /// Exactly `size` bytes (at most what the caller is ready to hold in memory).
    Task<Result<std::string>> read_exact(std::size_t size, Millis timeout);

    /// Waits until buffered() is not empty.
    Task<Result<void>> fill(Millis timeout);
    /// The same, but leaves output alone: for a relay, in which another coroutine writes to this stream.
    Task<Result<void>> fill_only(Millis timeout);
    /// Waits until buffered() has grown.  Used to look for something that is not there yet.
    Task<Result<void>> fill_more(Millis timeout);
    std::string_view buffered() const { return std::string_view(in_).substr(in_at_); }
    void consume(std::size_t size);
    /// Takes the whole input buffer (to hand a connection over to another process).
    std::string take_buffered();
    /// Puts bytes in front of what will be read next (the other end of a hand-over).
    void unread(std::string_view bytes);

    /// Waits for input, interrupt() or the deadline, whichever is first; flushes output before.  Wake::closed
    /// when the peer is gone and nothing is buffered.
    Task<Wake> wait_input(Millis timeout);
    /// Wakes wait_input() with Wake::interrupted (or the next one, when none is waiting).
    virtual void interrupt() = 0;

    void write(std::string_view bytes) { out_.append(bytes); }
    /// Appends to the output in place, for writers that format.
    std::string& output() { return out_; }
    bool congested() const { return out_.size() >= kCongestion; }
    std::size_t pending_output() const { return out_.size(); }
    /// Sends everything written so far.
    Task<Result<void>> flush(Millis timeout);

    /// Turns the conversation into TLS as the server.  All input buffered in the clear is dropped
    /// (RFC 3207 section 4.2).  Errors: io with OpenSSL's reason, timeout, closed.
    virtual Task<Result<void>> start_tls(TlsContext& context, Millis timeout) = 0;
    virtual const TlsInfo* tls() const { return nullptr; }

    /// Says that the next flush() sends the last words and close() follows at once, so that both may leave in one packet.
    void end_follows() { end_follows_ = true; }

    /// Ends the conversation at once in both directions; a waiting reader wakes with Errc::closed.
    virtual void close() = 0;

    /// Bytes received and sent since the start (for log lines).
    std::uint64_t bytes_in() const { return bytes_in_; }
    std::uint64_t bytes_out() const { return bytes_out_; }

    static constexpr std::size_t kCongestion = 64 * 1024;

protected:
    Stream() = default;
    /// Appends at least one byte to the input buffer with receive(), waiting if need be.
    virtual Task<Result<void>> read_some(Millis timeout) = 0;
    /// Sends the first part of `bytes`; yields how many went out (at least one).
    virtual Task<Result<std::size_t>> write_some(std::string_view bytes, Millis timeout) = 0;
    virtual Task<Wake> wait_readable(Millis timeout) = 0;
    void receive(std::string_view bytes);
    void drop_input() { in_.clear(); in_at_ = 0; }
    bool does_end_follow() const { return end_follows_; }

private:
    std::string in_;
    std::size_t in_at_ = 0;
    std::string out_;
    bool line_had_crlf_ = false;
    bool skipping_line_ = false;
    bool end_follows_ = false;
    std::uint64_t bytes_in_ = 0;
    std::uint64_t bytes_out_ = 0;
};

/// A stream over a connected socket (TCP or Unix), in the clear until start_tls().
/// Takes the descriptor, makes it non-blocking, and sets TCP_NODELAY.
std::unique_ptr<Stream> make_socket_stream(UniqueFd socket);

/// Takes the socket out of a stream in the clear whose output has been flushed, for handing it to another
/// process.  The stream is then closed.  Null for other kinds of stream.
UniqueFd release_socket(Stream& stream);

/// The other kind: a conversation held in memory, for tests.
class MemoryStream : public Stream {
public:
    MemoryStream() = default;
    ~MemoryStream() override;
    /// The peer says something: coroutines that wait for it run before this returns.
    void feed(std::string_view bytes);
    /// The peer hangs up after what it has said.
    void hang_up();
    /// The deadline of whoever waits passes now.
    void expire();
    /// Everything sent so far.
    const std::string& sent() const { return sent_; }
    void forget_sent() { sent_.clear(); }
    bool closed() const { return closed_; }
    bool tls_started() const { return tls_; }

    void interrupt() override;
    Task<Result<void>> start_tls(TlsContext& context, Millis timeout) override;
    void close() override;

protected:
    Task<Result<void>> read_some(Millis timeout) override;
    Task<Result<std::size_t>> write_some(std::string_view bytes, Millis timeout) override;
    Task<Wake> wait_readable(Millis timeout) override;

private:
    std::string incoming_;
    std::string sent_;
    bool closed_ = false;
    bool tls_ = false;
    bool interrupted_ = false;
    bool expired_ = false;
    Notice news_;
};

}  // namespace postern
