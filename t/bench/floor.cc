/// floor - the least that a mail server can do, as a yardstick: SMTP in, a queue file, a Maildir file or another server.  It looks at
/// nothing, checks nothing and schedules nothing, but keeps what it has accepted.
///
///     floor PROCESSES PORT SESSIONS DIRECTORY [SINK_PORT]
///
/// Serves 127.0.0.1:PORT with a thread for each of SESSIONS connections.  A message goes into DIRECTORY/queue (written under one
/// name, flushed, renamed) before 250 is said; then into DIRECTORY/mail/user0 (tmp, flush, new), or to the server on SINK_PORT over a
/// connection that is kept; then its queue file is removed, and DIRECTORY/log gets one line.
///
/// PROCESSES is 1, or 4: then one listens, one writes the queue file, one opens and removes it, and one gets its descriptor and
/// delivers, as separated privileges ask for.  Each has a thread for each connection, which waits for what its neighbour sends.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

std::string directory;
int sink_port = 0;
int log_fd = -1;

[[noreturn]] void give_up(const char* what) {
    std::perror(what);
    std::exit(1);
}

void say(int socket, std::string_view text) {
    if (::send(socket, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
        give_up("send");
    }
}

/// Reads until what has come ends in `end`; false when the other side has gone.
bool hear(int socket, std::string& text, std::string_view end) {
    char piece[16384];
    while (!text.ends_with(end)) {
        const ssize_t got = ::recv(socket, piece, sizeof(piece), 0);
        if (got <= 0) {
            return false;
        }
        text.append(piece, static_cast<std::size_t>(got));
    }
    return true;
}

/// Reads so many replies of one line.
void hear_replies(int socket, std::size_t count) {
    std::string text;
    while (count > 0) {
        text.clear();
        if (!hear(socket, text, "\n")) {
            give_up("the sink");
        }
        for (const char c : text) {
            count -= c == '\n' && count > 0 ? 1 : 0;
        }
    }
}

sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

void write_file(const std::string& temporary, const std::string& final, std::string_view content) {
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ::write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size()) || ::fsync(fd) != 0 ||
        ::close(fd) != 0 || ::rename(temporary.c_str(), final.c_str()) != 0) {
        give_up(temporary.c_str());
    }
}

int connect_sink() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(sink_port);
    const int one = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        give_up("connect");
    }
    hear_replies(socket, 1);
    say(socket, "HELO floor\r\n");
    hear_replies(socket, 1);
    return socket;
}

/// A step in a life of a message; where there are four processes, each takes one, and waits for the one before.
enum Step { kAccept, kQueue, kManage, kDeliver, kSteps };

/// Sends some bytes, with a descriptor if there is one, to the thread of the same number in a neighbouring process.
void hand_over(int socket, std::string_view text, int fd = -1) {
    iovec part{const_cast<char*>(text.data()), text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (fd >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof(control);
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
    }
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
        give_up("sendmsg");
    }
}

/// The next message of a neighbour; `fd` gets its descriptor.
std::string take_over(int socket, int* fd = nullptr) {
    std::string text(65536, '\0');
    iovec part{text.data(), text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) {
        std::exit(0);   // the neighbour has gone
    }
    if (fd != nullptr && message.msg_controllen > 0) {
        std::memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    }
    text.resize(static_cast<std::size_t>(got));
    return text;
}

/// Talks with one client; false when it has sent no message.
bool receive(int client, std::string& text) {
    say(client, "220 floor ESMTP\r\n");
    for (const std::string_view reply : {"250 floor\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"}) {
        text.clear();
        if (!hear(client, text, "\r\n")) {
            return false;
        }
        say(client, reply);
    }
    text.clear();
    return hear(client, text, "\r\n.\r\n");
}

void queue(const std::string& name, std::string_view text) {
    write_file(directory + "/queue/" + name + ".new", directory + "/queue/" + name, text);
}

void deliver(const std::string& name, std::string_view text, int& sink) {
    if (sink_port == 0) {
        write_file(directory + "/mail/user0/tmp/" + name, directory + "/mail/user0/new/" + name, text);
        return;
    }
    sink = sink >= 0 ? sink : connect_sink();
    say(sink, "MAIL FROM:<s@example.net>\r\nRCPT TO:<user@sink.example>\r\nDATA\r\n");
    hear_replies(sink, 3);
    say(sink, text);
    hear_replies(sink, 1);
}

void remove(const std::string& name) {
    const std::string line = name + ": status=sent\n";
    if (::unlink((directory + "/queue/" + name).c_str()) != 0 || ::write(log_fd, line.data(), line.size()) < 0) {
        give_up(name.c_str());
    }
}

/// The first step: connection after connection, a message on each.  `next` is the second step's process, or -1.
void serve(int listener, int number, int next) {
    int sink = -1;
    for (long count = 0;; ++count) {
        const int client = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (client < 0) {
            give_up("accept");
        }
        const int one = 1;
        ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        const std::string name = std::to_string(number) + "." + std::to_string(count);
        std::string text;
        if (receive(client, text)) {
            if (next >= 0) {
                hand_over(next, name + "\n" + text);
                take_over(next);
            } else {
                queue(name, text);
            }
            say(client, "250 ok\r\n");
            std::string quit;
            hear(client, quit, "\r\n");
            say(client, "221 bye\r\n");
            if (next < 0) {
                deliver(name, text, sink);
                remove(name);
            }
        }
        ::close(client);
    }
}

/// Any other step.
void work(Step step, int previous, int next) {
    int sink = -1;
    for (;;) {
        int fd = -1;
        const std::string request = take_over(previous, &fd);
        const std::string name = request.substr(0, request.find('\n'));
        if (step == kQueue) {
            queue(name, std::string_view(request).substr(name.size() + 1));
            hand_over(previous, "ok");
            hand_over(next, name);
        } else if (step == kManage) {
            fd = ::open((directory + "/queue/" + name).c_str(), O_RDONLY | O_CLOEXEC);
            hand_over(next, name, fd);
            take_over(next);
            remove(name);
            ::close(fd);
        } else {
            std::string text(65536, '\0');
            const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
            if (got <= 0) {
                give_up("read");
            }
            text.resize(static_cast<std::size_t>(got));
            deliver(name, text, sink);
            ::close(fd);
            hand_over(previous, "ok");
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) {
        std::fprintf(stderr, "usage: floor PROCESSES PORT SESSIONS DIRECTORY [SINK_PORT]\n");
        return 64;
    }
    const bool separate = std::atoi(argv[1]) > 1;
    const int sessions = std::atoi(argv[3]);
    directory = argv[4];
    sink_port = argc > 5 ? std::atoi(argv[5]) : 0;
    log_fd = ::open((directory + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(std::atoi(argv[2]));
    const int one = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (log_fd < 0 || ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 || ::listen(listener, 200) != 0) {
        give_up("floor");
    }
    // links[step][session]: between a step and the next one
    std::vector<std::vector<std::array<int, 2>>> links(kSteps - 1, std::vector<std::array<int, 2>>(static_cast<std::size_t>(sessions), {-1, -1}));
    int step = kAccept;
    if (separate) {
        for (std::vector<std::array<int, 2>>& some : links) {
            for (std::array<int, 2>& pair : some) {
                if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
                    give_up("socketpair");
                }
            }
        }
        for (int other = kQueue; other < kSteps && step == kAccept; ++other) {
            step = ::fork() == 0 ? other : kAccept;
        }
        ::prctl(PR_SET_PDEATHSIG, step == kAccept ? 0 : SIGTERM);
    }
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < static_cast<std::size_t>(sessions); ++i) {
        const auto link = [&](int at, std::size_t end) { return at >= 0 && at < kSteps - 1 ? links[static_cast<std::size_t>(at)][i][end] : -1; };
        if (step == kAccept) {
            threads.emplace_back(serve, listener, static_cast<int>(i), link(0, 0));
        } else {
            threads.emplace_back(work, static_cast<Step>(step), link(step - 1, 1), link(step, 0));
        }
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    return 0;
}
