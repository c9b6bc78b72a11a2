/// The wire form of messages, byte by byte, and the descriptors that go with it.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "lib/ipc/frame.h"

using namespace postern;

namespace {

std::string frame_of(std::uint8_t tag, std::size_t fds, std::string_view payload) {
    std::string bytes;
    append_frame(bytes, tag, fds, payload);
    return bytes;
}

bool same_file(int a, int b) {
    struct stat left {}, right {};
    REQUIRE(::fstat(a, &left) == 0);
    REQUIRE(::fstat(b, &right) == 0);
    return left.st_dev == right.st_dev && left.st_ino == right.st_ino;
}

}  // namespace

TEST_CASE("a frame is size, tag, descriptors, zero, payload", "[ipc]") {
    CHECK(frame_of(7, 2, "abc") == std::string("\3\0\0\0\7\2\0\0abc", 11));
    const Result<std::optional<Frame>> frame = read_frame(frame_of(7, 2, "abc") + "more", 3);
    REQUIRE(frame);
    REQUIRE(*frame);
    CHECK((*frame)->tag == 7);
    CHECK((*frame)->fd_count == 2);
    CHECK((*frame)->payload == "abc");
}

TEST_CASE("no prefix of a frame is a frame", "[ipc]") {
    const std::string whole = frame_of(255, kMaxFrameFds, std::string(300, '\xff'));
    for (std::size_t size = 0; size < whole.size(); ++size) {
        CAPTURE(size);
        const Result<std::optional<Frame>> frame = read_frame(std::string_view(whole).substr(0, size), 300);
        REQUIRE(frame);
        CHECK_FALSE(*frame);
        CHECK_FALSE(has_whole_frame(std::string_view(whole).substr(0, size)));
    }
    CHECK(has_whole_frame(whole));
}

TEST_CASE("a header that breaks the rules is refused before its payload comes", "[ipc]") {
    const auto error = [](std::string_view header) {
        const Result<std::optional<Frame>> frame = read_frame(header, 1000);
        REQUIRE_FALSE(frame);
        return frame.error().code;
    };
    using namespace std::string_view_literals;
    CHECK(error("\xe9\3\0\0\0\0\0\0"sv) == Errc::too_big);
    CHECK(error("\xff\xff\xff\xff\0\0\0\0"sv) == Errc::too_big);
    CHECK(error("\1\0\0\0\0\x11\0\0"sv) == Errc::syntax);
    CHECK(error("\1\0\0\0\0\0\1\0"sv) == Errc::syntax);
    CHECK(error("\1\0\0\0\0\0\0\1"sv) == Errc::syntax);
    CHECK(read_frame("\xe8\3\0\0\0\x10\0\0"sv, 1000));
}

TEST_CASE("descriptors arrive in order, and those sent stay the sender's", "[ipc]") {
    int pair[2] = {-1, -1};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    const UniqueFd left(pair[0]), right(pair[1]);
    std::vector<UniqueFd> sent;
    for (std::size_t i = 0; i < kMaxFrameFds; ++i) {
        sent.emplace_back(::dup(i == 0 ? left.get() : right.get()));
    }
    char byte = 'x';
    iovec part{&byte, 1};
    msghdr out{}, in{};
    out.msg_iov = in.msg_iov = &part;
    out.msg_iovlen = in.msg_iovlen = 1;
    FdsOfMessage attached, expected;
    attached.attach(out, sent);
    REQUIRE(::sendmsg(left.get(), &out, 0) == 1);
    expected.expect(in);
    REQUIRE(::recvmsg(right.get(), &in, MSG_CMSG_CLOEXEC) == 1);
    std::deque<UniqueFd> received;
    FdsOfMessage::take(in, received);
    REQUIRE(received.size() == kMaxFrameFds);
    CHECK(same_file(received.front().get(), left.get()));
    CHECK(same_file(received.back().get(), right.get()));
    CHECK(same_file(sent.front().get(), left.get()));
}
