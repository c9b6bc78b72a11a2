/// Values that may have failed, and the few ways a process may end itself.
///
/// Expected failures are values: a function that can fail returns Result<T>, and its caller picks the
/// protocol's answer.  Exceptions are left for bugs and exhausted resources and cross neither a
/// coroutine nor a process.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

namespace postern {

/// Why something failed, in the words a caller can act on.
enum class Errc : unsigned char {
    syntax,      ///< input does not follow its grammar
    too_big,     ///< a limit was passed (552 5.3.4, BAD, line too long)
    no_space,    ///< disk or quota full (452 4.3.1)
    io,          ///< reading or writing storage failed (451 4.3.0)
    not_found,   ///< what was named does not exist
    exists,      ///< what was to be made exists already
    denied,      ///< rights are missing, or a check refused
    timeout,     ///< the deadline passed
    closed,      ///< the peer is gone, in good order or not
    temporary,   ///< try again later (a table or service cannot answer now)
    unsupported, ///< the feature or the kernel's help is not there
    corrupt,     ///< stored data fails its checks
    config,      ///< a setting is wrong
};

/// A failure: operation, object and reason, such as "open incoming/4A1B: Permission denied".
struct Error {
    Error(Errc error_code, std::string text) : code(error_code), what(std::move(text)) {}
    Errc code;
    std::string what;
};

/// Either a T or an Error.
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}       // NOLINT: implicit by design
    Result(Error error) : error_(std::move(error)) {}   // NOLINT: implicit by design
    Result(Errc code, std::string what) : error_(Error(code, std::move(what))) {}

    bool ok() const { return value_.has_value(); }
    explicit operator bool() const { return ok(); }
    T& operator*() & { return *value_; }
    const T& operator*() const& { return *value_; }
    T&& operator*() && { return std::move(*value_); }
    T* operator->() { return &*value_; }
    const T* operator->() const { return &*value_; }
    /// Only after !ok().
    const Error& error() const { return *error_; }

private:
    std::optional<T> value_;
    std::optional<Error> error_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}   // NOLINT: implicit by design
    Result(Errc code, std::string what) : error_(Error(code, std::move(what))) {}

    bool ok() const { return !error_.has_value(); }
    explicit operator bool() const { return ok(); }
    const Error& error() const { return *error_; }

private:
    std::optional<Error> error_;
};

/// An Error from errno: `what` + ": " + strerror, with ENOSPC/EDQUOT as no_space, ENOENT as not_found,
/// EEXIST as exists, EACCES/EPERM as denied, EPIPE/ECONNRESET as closed, ETIMEDOUT as timeout,
/// EAGAIN/ENFILE/EMFILE/ENOMEM as temporary, and io for the rest.
Error errno_error(std::string what, int error_number);
Error errno_error(std::string what);   ///< the same with the current errno

}  // namespace postern
