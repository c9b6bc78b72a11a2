#include "lib/base/result.h"

#include <cerrno>
#include <cstring>

namespace postern {

namespace {

Errc code_of(int error_number) {
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return Errc::no_space;
    case EFBIG:
        return Errc::too_big;
    case ENOENT:
    case ENOTDIR:
        return Errc::not_found;
    case EEXIST:
        return Errc::exists;
    case EACCES:
    case EPERM:
    case EROFS:
        return Errc::denied;
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN:
        return Errc::closed;
    case ETIMEDOUT:
        return Errc::timeout;
    case EAGAIN:
    case ENFILE:
    case EMFILE:
    case ENOMEM:
        return Errc::temporary;
    default:
        return Errc::io;
    }
}

}  // namespace

Error errno_error(std::string what, int error_number) {
    what += ": ";
    what += std::strerror(error_number);
    return Error(code_of(error_number), std::move(what));
}

Error errno_error(std::string what) {
    return errno_error(std::move(what), errno);
}

}  // namespace postern
