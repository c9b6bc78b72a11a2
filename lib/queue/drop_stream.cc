#include "lib/queue/drop_stream.h"

#include <unistd.h>

#include <cerrno>

#include "lib/queue/envelope_codec.h"
#include "lib/queue/stored.h"

namespace postern::queue {
namespace {

constexpr std::size_t kMaxPiece = 1024 * 1024;

}  // namespace

Result<void> DropStreamWriter::write_all(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t wrote = ::write(fd_, bytes.data(), bytes.size());
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote < 0) {
            return errno_error("write to postdrop");
        }
        bytes.remove_prefix(static_cast<std::size_t>(wrote));
    }
    return {};
}

Result<void> DropStreamWriter::content(std::string_view bytes) {
    while (!bytes.empty()) {
        const std::string_view piece = bytes.substr(0, kMaxPiece);
        std::string block;
        put_number(block, static_cast<std::uint32_t>(piece.size()));
        block += piece;
        const Result<void> written = write_all(block);
        if (!written) {
            return written;
        }
        bytes.remove_prefix(piece.size());
    }
    return {};
}

Result<void> DropStreamWriter::finish(const Envelope& envelope) {
    const std::string encoded = encode_envelope(envelope);
    std::string block;
    put_number(block, std::uint32_t{0});
    put_number(block, static_cast<std::uint32_t>(encoded.size()));
    block += encoded;
    return write_all(block);
}

Result<std::string> DropStreamReader::read_exactly(std::size_t size) {
    std::string bytes(size, '\0');
    std::size_t have = 0;
    while (have < size) {
        const ssize_t got = ::read(fd_, bytes.data() + have, size - have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno_error("read submission");
        }
        if (got == 0) {
            return Error(Errc::closed, "submission broke off");
        }
        have += static_cast<std::size_t>(got);
    }
    return bytes;
}

Result<std::string> DropStreamReader::read_block(std::size_t limit) {
    const Result<std::string> head = read_exactly(sizeof(std::uint32_t));
    if (!head) {
        return head;
    }
    const auto size = StoredReader(*head).number<std::uint32_t>();
    if (size > limit) {
        return Error(Errc::too_big, "submission: block too large");
    }
    return read_exactly(size);
}

Result<std::string> DropStreamReader::content() { return read_block(kMaxPiece); }

Result<Envelope> DropStreamReader::envelope() {
    const Result<std::string> bytes = read_block(kMaxDropEnvelope);
    if (!bytes) {
        return bytes.error();
    }
    return decode_envelope(*bytes);
}

}  // namespace postern::queue
