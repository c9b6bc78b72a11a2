#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include "lib/ipc/channel.h"

using namespace postern;

namespace {

enum class Colour : std::uint8_t { red, green };
struct Inner {
    std::string name;
    std::optional<std::int32_t> number;
};
template <class A>
void fields(A& a, Inner& m) { a(m.name, m.number); }
struct Everything {
    bool yes = false;
    std::uint64_t big = 0;
    std::int32_t negative = 0;
    Colour colour = Colour::red;
    std::vector<Inner> list;
    std::pair<std::string, std::uint16_t> both;
    UniqueFd file;
};
template <class A>
void fields(A& a, Everything& m) { a(m.yes, m.big, m.negative, m.colour, m.list, m.both, m.file); }
struct Text {
    std::string text;
};
template <class A>
void fields(A& a, Text& m) { a(m.text); }

using Messages = std::variant<Text, Everything, Trigger>;
using Talk = Channel<Messages, Messages>;

Everything sample() {
    Everything out;
    out.yes = true;
    out.big = 0x1234567890abcdefULL;
    out.negative = -5;
    out.colour = Colour::green;
    out.list.push_back({"first", 7});
    out.list.push_back({std::string("nul\0inside", 10), std::nullopt});
    out.both = {"pair", 65535};
    return out;
}

std::pair<UniqueFd, UniqueFd> sockets() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Task<Result<Messages>> exchange(Talk& from, Talk& to, Messages message) {
    std::visit([&](auto& m) { from.post(std::move(m)); }, message);
    Result<void> sent = co_await from.flush(Millis(1000));
    if (!sent) {
        co_return sent.error();
    }
    co_return co_await to.receive(Millis(1000));
}

Task<> send_all(Talk& to, int count, std::size_t size) {
    for (int i = 0; i < count; ++i) {
        Text text;
        text.text.assign(size, static_cast<char>('a' + i % 26));
        Result<void> sent = co_await to.send(std::move(text));
        REQUIRE(sent.ok());
    }
}

Task<std::size_t> receive_all(Talk& from, int count) {
    std::size_t total = 0;
    for (int i = 0; i < count; ++i) {
        Result<Messages> message = co_await from.receive(Millis(5000));
        REQUIRE(message.ok());
        const std::string& text = std::get<Text>(*message).text;
        CHECK(text.find_first_not_of(static_cast<char>('a' + i % 26)) == std::string::npos);
        total += text.size();
    }
    co_return total;
}

}  // namespace

TEST_CASE("every kind of member arrives as it was sent, descriptors too", "[ipc]") {
    auto [a, b] = sockets();
    Talk left(std::move(a));
    Talk right(std::move(b));
    Everything message = sample();
    int pipe_fds[2];
    REQUIRE(::pipe(pipe_fds) == 0);
    message.file.reset(pipe_fds[1]);
    Result<Messages> got = Loop::current().run_until(exchange(left, right, std::move(message)));
    REQUIRE(got.ok());
    auto& seen = std::get<Everything>(*got);
    CHECK(seen.yes);
    CHECK(seen.big == 0x1234567890abcdefULL);
    CHECK(seen.negative == -5);
    CHECK(seen.colour == Colour::green);
    REQUIRE(seen.list.size() == 2);
    CHECK(seen.list[0].number == 7);
    CHECK(seen.list[1].name == std::string("nul\0inside", 10));
    CHECK_FALSE(seen.list[1].number.has_value());
    CHECK(seen.both.second == 65535);
    REQUIRE(seen.file);
    CHECK(::write(seen.file.get(), "!", 1) == 1);
    char byte = 0;
    CHECK(::read(pipe_fds[0], &byte, 1) == 1);
    CHECK(byte == '!');
    ::close(pipe_fds[0]);
}

TEST_CASE("many descriptors in one flush stay with their messages", "[ipc]") {
    auto [a, b] = sockets();
    Talk left(std::move(a));
    Talk right(std::move(b));
    int reads[5];
    for (int i = 0; i < 5; ++i) {
        int fds[2];
        REQUIRE(::pipe(fds) == 0);
        reads[i] = fds[0];
        Everything message;
        message.big = static_cast<std::uint64_t>(i);
        message.file.reset(fds[1]);
        left.post(std::move(message));
        left.post(Text{std::string(10000, 't')});
    }
    for (int i = 0; i < 5; ++i) {
        Result<Messages> got = Loop::current().run_until(exchange(left, right, Text{"tail"}));
        REQUIRE(got.ok());
        auto& seen = std::get<Everything>(*got);
        CHECK(seen.big == static_cast<std::uint64_t>(i));
        REQUIRE(::write(seen.file.get(), "z", 1) == 1);
        char byte = 0;
        CHECK(::read(reads[i], &byte, 1) == 1);
        ::close(reads[i]);
        got = Loop::current().run_until(right.receive(Millis(1000)));
        REQUIRE(got.ok());
        CHECK(std::get<Text>(*got).text.size() == 10000);
    }
}

TEST_CASE("more than the socket holds passes with waiting", "[ipc]") {
    auto [a, b] = sockets();
    Talk left(std::move(a));
    Talk right(std::move(b));
    spawn(send_all(left, 100, 100000));
    CHECK(Loop::current().run_until(receive_all(right, 100)) == 100 * 100000);
}

TEST_CASE("a trigger is a message of its own", "[ipc]") {
    auto [a, b] = sockets();
    Talk right(std::move(b));
    REQUIRE(::write(a.get(), kTriggerFrame, sizeof kTriggerFrame) == sizeof kTriggerFrame);
    Result<Messages> got = Loop::current().run_until(right.receive(Millis(1000)));
    REQUIRE(got.ok());
    CHECK(std::holds_alternative<Trigger>(*got));
}

TEST_CASE("a frame over the limit and a peer that leaves are errors, not waits", "[ipc]") {
    auto [a, b] = sockets();
    Talk right(std::move(b), 1000);
    const char huge[8] = {'\xe9', '\x03', 0, 0, 0, 0, 0, 0};
    REQUIRE(::write(a.get(), huge, sizeof huge) == sizeof huge);
    CHECK(Loop::current().run_until(right.receive(Millis(1000))).error().code == Errc::too_big);
    auto [c, d] = sockets();
    Talk other(std::move(d));
    REQUIRE(::write(c.get(), "\5\0\0", 3) == 3);
    c.reset();
    CHECK(Loop::current().run_until(other.receive(Millis(1000))).error().code == Errc::closed);
}

TEST_CASE("no prefix and no altered byte of a message decodes to more than it holds", "[ipc]") {
    std::string payload;
    std::vector<UniqueFd> fds;
    Encoder encoder(payload, fds);
    Everything message = sample();
    fields(encoder, message);
    std::deque<UniqueFd> none;
    for (std::size_t size = 0; size < payload.size(); ++size) {
        Frame frame;
        frame.tag = 1;
        frame.payload = payload.substr(0, size);
        CHECK_FALSE(Talk::decode(frame, none).ok());
    }
    for (std::size_t at = 0; at < payload.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            Frame frame;
            frame.tag = 1;
            frame.payload = payload;
            frame.payload[at] = static_cast<char>(frame.payload[at] ^ (1 << bit));
            Result<Messages> got = Talk::decode(frame, none);
            if (got.ok()) {
                CHECK(std::get<Everything>(*got).list.size() <= payload.size());
            }
        }
    }
}

TEST_CASE("connecting where nobody listens says so", "[ipc]") {
    Result<UniqueFd> fd = Loop::current().run_until(connect_unix("/tmp/no/such/socket", Millis(100)));
    REQUIRE_FALSE(fd.ok());
    CHECK(fd.error().code == Errc::not_found);
}

namespace {

Task<> flush_later(Talk& channel) {
    const Result<void> sent = co_await channel.flush(Millis(2000));
    (void)sent.ok();
}

Task<> fill(FrameSocket& socket, std::optional<Errc>& result) {
    const std::string text(900'000, 'x');
    socket.post(1, text, {});
    const Result<void> sent = co_await socket.flush(Millis(5000));
    result = sent ? Errc::not_found : sent.error().code;
}

Task<std::string> sent_in_two(Talk& from, Talk& to) {
    Text text;
    text.text = std::string(900'000, 'x') + "end";
    from.post(std::move(text));
    const Result<void> first = co_await from.flush(Millis(20));   // the socket's buffer is full, and nobody reads
    if (first) {
        co_return std::string("not interrupted");
    }
    spawn(flush_later(from));
    Result<Messages> got = co_await to.receive(Millis(2000));
    const Text* const whole = got ? std::get_if<Text>(&*got) : nullptr;
    co_return whole == nullptr ? std::string("broken") : whole->text.substr(whole->text.size() - 3) + std::to_string(whole->text.size());
}

}  // namespace

TEST_CASE("a message that could not be sent whole in time goes on where it was cut", "[ipc]") {
    auto [a, b] = sockets();
    Talk from(std::move(a)), to(std::move(b));
    CHECK(Loop::current().run_until(sent_in_two(from, to)) == "end900003");
}

TEST_CASE("whoever waits for room in a channel that is closed or destroyed is told, and does not touch it", "[ipc]") {
    const bool destroyed = GENERATE(true, false);
    auto [a, b] = sockets();
    auto socket = std::make_unique<FrameSocket>(std::move(a), std::size_t{1} << 20);
    std::optional<Errc> result;
    spawn(fill(*socket, result));
    CHECK_FALSE(result);
    if (destroyed) {
        socket.reset();
    } else {
        socket->close();
    }
    Loop::current().run_until(sleep_for(Millis(1)));
    CHECK(result == Errc::closed);
    if (socket) {
        const Result<void> again = Loop::current().run_until(socket->flush(Millis(100)));
        CHECK_FALSE(again.ok());
    }
}
