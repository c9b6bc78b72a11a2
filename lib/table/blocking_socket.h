/// A small client socket for lookups, whose caller is no coroutine and needs the answer before anything else can go on:
/// proxymap, socketmap, tcp tables.  Where it can (lib/async/wait_here.h) it lets other coroutines go on meanwhile; elsewhere,
/// as in commands, it blocks.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/base/unique_fd.h"

namespace postern {

class BlockingSocket {
public:
    /// All that follows has to be done within `seconds` from now.
    void set_deadline(int seconds);

    /// "/path", "path", for Unix sockets; "host:port" for TCP.  Where others cannot go on meanwhile, the search for the host's addresses
    /// is bounded only by what resolv.conf(5) says.
    Result<void> connect_unix(const std::string& path);
    Result<void> connect_tcp(const std::string& host, const std::string& port);

    bool is_open() const { return static_cast<bool>(fd_); }
    void close();

    /// Errors: closed, timeout, io; the socket is then closed.
    Result<void> write_all(std::string_view bytes);
    /// Exactly `size` bytes.
    Result<std::string> read_exactly(std::size_t size);
    /// Up to and without LF; at most `limit` bytes.  Reads byte-wise ahead into a buffer of its own.
    Result<std::string> read_line(std::size_t limit);

private:
    Result<void> connect_to(UniqueFd fd, const void* address, unsigned size);
    Result<void> fill();
    Result<void> wait(bool for_read);
    Error fail(Errc code, const char* what);

    UniqueFd fd_;
    std::string buffer_;
    std::chrono::steady_clock::time_point deadline_;
};

}  // namespace postern
