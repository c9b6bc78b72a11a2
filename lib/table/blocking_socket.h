/// A small blocking client socket with deadlines, for lookups that must be answered before anything else can go
/// on: proxymap, socketmap, tcp tables.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

class BlockingSocket {
public:
    /// "/path", "path", for Unix sockets; "host:port" for TCP.
    Result<void> connect_unix(const std::string& path, int timeout_seconds);
    Result<void> connect_tcp(const std::string& host, const std::string& port, int timeout_seconds);

    bool is_open() const { return static_cast<bool>(fd_); }
    void close() { fd_.reset(); }

    /// Errors: closed, timeout, io; the socket is then closed.
    Result<void> write_all(std::string_view bytes);
    /// Exactly `size` bytes.
    Result<std::string> read_exactly(std::size_t size);
    /// Up to and without LF; at most `limit` bytes.  Reads byte-wise ahead into a buffer of its own.
    Result<std::string> read_line(std::size_t limit);

private:
    Result<void> fill();
    Error fail(Errc code, const char* what);

    UniqueFd fd_;
    std::string buffer_;
};

}  // namespace postern
