#include "lib/stream/stream.h"

#include <algorithm>

namespace postern {

namespace {

/// What is left of a deadline that began with `timeout` at construction.
class Deadline {
public:
    explicit Deadline(Millis timeout) : timeout_(timeout), start_(std::chrono::steady_clock::now()) {}
    Millis left() const {
        if (timeout_ == kForever) {
            return kForever;
        }
        const auto spent = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - start_);
        return std::max(timeout_ - spent, Millis(0));
    }

private:
    Millis timeout_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace

void Stream::receive(std::string_view bytes) {
    bytes_in_ += bytes.size();
    if (in_at_ == in_.size()) {
        in_.clear();
        in_at_ = 0;
    } else if (in_at_ > in_.size() / 2) {
        in_.erase(0, in_at_);
        in_at_ = 0;
    }
    in_.append(bytes);
}

void Stream::consume(std::size_t size) {
    in_at_ += std::min(size, in_.size() - in_at_);
    if (in_at_ == in_.size()) {
        in_at_ = 0;
        if (in_.capacity() > 16 * 1024) {
            std::string().swap(in_);
        } else {
            in_.clear();
        }
    }
}

std::string Stream::take_buffered() {
    std::string out(buffered());
    drop_input();
    return out;
}

void Stream::unread(std::string_view bytes) {
    std::string joined(bytes);
    joined += buffered();
    in_ = std::move(joined);
    in_at_ = 0;
}

Task<Result<std::string>> Stream::read_line(std::size_t max, Millis timeout) {
    const Deadline deadline(timeout);
    std::size_t searched = 0;
    for (;;) {
        const std::string_view have = buffered();
        const std::size_t end = have.find('\n', searched);
        if (end != std::string_view::npos && skipping_line_) {
            skipping_line_ = false;
            consume(end + 1);
            searched = 0;
            continue;
        }
        if (end != std::string_view::npos) {
            line_had_crlf_ = end > 0 && have[end - 1] == '\r';
            const std::size_t length = line_had_crlf_ ? end - 1 : end;
            if (length > max) {
                consume(end + 1);
                co_return Error(Errc::too_big, "line too long");
            }
            std::string line(have.substr(0, length));
            consume(end + 1);
            co_return line;
        }
        if (skipping_line_) {
            consume(have.size());
        } else if (have.size() > max + 1) {
            skipping_line_ = true;
            consume(have.size());
            co_return Error(Errc::too_big, "line too long");
        }
        searched = buffered().size();
        Result<void> more = co_await fill_more(deadline.left());
        if (!more) {
            co_return more.error();
        }
    }
}

Task<Result<std::string>> Stream::read_exact(std::size_t size, Millis timeout) {
    const Deadline deadline(timeout);
    while (buffered().size() < size) {
        Result<void> more = co_await fill_more(deadline.left());
        if (!more) {
            co_return more.error();
        }
    }
    std::string out(buffered().substr(0, size));
    consume(size);
    co_return out;
}

Task<Result<void>> Stream::fill(Millis timeout) {
    if (!buffered().empty()) {
        co_return Result<void>();
    }
    co_return co_await fill_more(timeout);
}

Task<Result<void>> Stream::fill_only(Millis timeout) {
    if (!buffered().empty()) {
        co_return Result<void>();
    }
    std::string().swap(in_);   // an idle connection holds no buffer
    in_at_ = 0;
    co_return co_await read_some(timeout);
}

Task<Result<void>> Stream::fill_more(Millis timeout) {
    if (!out_.empty()) {
        Result<void> sent = co_await flush(timeout);
        if (!sent) {
            co_return sent;
        }
    }
    if (in_.empty()) {
        std::string().swap(in_);   // an idle connection holds no buffer
    }
    co_return co_await read_some(timeout);
}

Task<Wake> Stream::wait_input(Millis timeout) {
    if (!buffered().empty()) {
        co_return Wake::ready;
    }
    if (!out_.empty()) {
        Result<void> sent = co_await flush(timeout);
        if (!sent) {
            co_return sent.error().code == Errc::timeout ? Wake::timed_out : Wake::closed;
        }
    }
    co_return co_await wait_readable(timeout);
}

Task<Result<void>> Stream::flush(Millis timeout) {
    std::size_t sent = 0;
    while (sent < out_.size()) {
        const std::string_view rest = std::string_view(out_).substr(sent);
        Result<std::size_t> more = co_await write_some(rest, timeout);
        if (!more) {
            std::string().swap(out_);
            co_return more.error();
        }
        sent += *more;
        bytes_out_ += *more;
    }
    if (out_.capacity() > 16 * 1024) {
        std::string().swap(out_);
    } else {
        out_.clear();
    }
    co_return Result<void>();
}

// --- MemoryStream -------------------------------------------------------------------------------------------

MemoryStream::~MemoryStream() = default;

void MemoryStream::feed(std::string_view bytes) {
    incoming_ += bytes;
    news_.notify_all();
    Loop::current().run_ready();
}

void MemoryStream::hang_up() {
    closed_ = true;
    news_.notify_all();
    Loop::current().run_ready();
}

void MemoryStream::expire() {
    expired_ = true;
    news_.notify_all();
    Loop::current().run_ready();
}

void MemoryStream::interrupt() {
    interrupted_ = true;
    news_.notify_all();
}

void MemoryStream::close() {
    closed_ = true;
    incoming_.clear();
    news_.notify_all();
}

Task<Result<void>> MemoryStream::start_tls(TlsContext&, Millis) {
    drop_input();
    incoming_.clear();
    tls_ = true;
    co_return Result<void>();
}

Task<Wake> MemoryStream::wait_readable(Millis) {
    while (incoming_.empty()) {
        if (interrupted_) {
            interrupted_ = false;
            co_return Wake::interrupted;
        }
        if (expired_) {
            expired_ = false;
            co_return Wake::timed_out;
        }
        if (closed_) {
            co_return Wake::closed;
        }
        const Wake wake = co_await news_.wait(kForever);
        if (wake == Wake::closed) {
            co_return Wake::closed;
        }
    }
    receive(incoming_);
    incoming_.clear();
    co_return Wake::ready;
}

Task<Result<void>> MemoryStream::read_some(Millis timeout) {
    const bool was_interrupted = std::exchange(interrupted_, false);
    Wake wake = Wake::interrupted;
    bool interrupted_meanwhile = false;
    while (wake == Wake::interrupted) {
        wake = co_await wait_readable(timeout);
        interrupted_meanwhile = interrupted_meanwhile || wake == Wake::interrupted;
    }
    interrupted_ = was_interrupted || interrupted_meanwhile;   // kept for the next wait_input()
    if (wake == Wake::closed) {
        co_return Error(Errc::closed, "lost connection");
    }
    if (wake == Wake::timed_out) {
        co_return Error(Errc::timeout, "timeout");
    }
    co_return Result<void>();
}

Task<Result<std::size_t>> MemoryStream::write_some(std::string_view bytes, Millis) {
    sent_ += bytes;
    co_return bytes.size();
}

}  // namespace postern
