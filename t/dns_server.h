/// What tests of lib/dns share: a server of the test's own on loopback, which answers from a zone, and a resolver that asks it.
#pragma once

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "lib/async/loop.h"
#include "lib/base/strings.h"
#include "lib/base/unique_fd.h"
#include "lib/dns/dns.h"

namespace postern::dns_test {

inline std::string number16(unsigned value) {
    return {static_cast<char>(value >> 8), static_cast<char>(value & 255)};
}

inline std::string wire_name(const std::string& name) {
    std::string out;
    for (const std::string& label : split_exact(name, '.')) {
        if (!label.empty()) {
            out += static_cast<char>(label.size());
            out += label;
        }
    }
    return out + '\0';
}

inline std::string address(int family, const char* text) {
    std::array<char, 16> bytes{};
    REQUIRE(::inet_pton(family, text, bytes.data()) == 1);
    return {bytes.data(), family == AF_INET ? std::size_t{4} : std::size_t{16}};
}

inline std::string text_record(const std::string& text) {
    return static_cast<char>(text.size()) + text;
}

/// What the server says about a name; types without an entry exist and are empty.
struct Zone {
    int rcode = 0;
    bool silent = false;
    std::vector<std::pair<DnsType, std::string>> records;
};

/// One thread, one UDP socket.
class NameServer {
public:
    explicit NameServer(std::map<std::string, Zone> names) : names_(std::move(names)), socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        REQUIRE(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
        socklen_t size = sizeof where;
        REQUIRE(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&where), &size) == 0);
        endpoint_ = "127.0.0.1@" + std::to_string(ntohs(where.sin_port));
        thread_ = std::thread([this] { run(); });
    }
    ~NameServer() {
        ended_ = true;
        ::shutdown(socket_.get(), SHUT_RDWR);
        thread_.join();
    }
    const std::string& endpoint() const { return endpoint_; }

private:
    void run() {
        std::array<char, 1500> packet{};
        const timeval soon{0, 50'000};
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
        while (!ended_) {
            sockaddr_in from{};
            socklen_t size = sizeof from;
            const ssize_t got = ::recvfrom(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
            if (got < 17) {
                continue;
            }
            const std::string reply = answer({packet.data(), static_cast<std::size_t>(got)});
            if (!reply.empty()) {
                ::sendto(socket_.get(), reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
            }
        }
    }

    std::string answer(const std::string& query) const {
        std::string name;
        std::size_t at = 12;
        while (at < query.size() && query[at] != 0) {
            const auto length = static_cast<unsigned char>(query[at]);
            name += (name.empty() ? "" : ".") + query.substr(at + 1, length);
            at += 1 + length;
        }
        const std::string question = query.substr(12, at + 5 - 12);
        const unsigned type = static_cast<unsigned char>(query[at + 2]);
        const auto found = names_.find(to_lower(name));
        if (found != names_.end() && found->second.silent) {
            return {};
        }
        const Zone* zone = found == names_.end() ? nullptr : &found->second;
        std::string records;
        unsigned count = 0;
        for (const auto& [kind, data] : zone != nullptr ? zone->records : decltype(Zone::records){}) {
            if (static_cast<unsigned>(kind) == type || kind == DnsType::cname) {
                records += number16(0xc00c) + number16(static_cast<unsigned>(kind)) + number16(1) + number16(0) + number16(60) +
                           number16(static_cast<unsigned>(data.size())) + data;
                ++count;
            }
        }
        const int rcode = zone == nullptr ? 3 : zone->rcode;
        return query.substr(0, 2) + number16(0x8580u | static_cast<unsigned>(rcode)) + number16(1) + number16(count) + number16(0) +
               number16(0) + question + records;
    }

    std::map<std::string, Zone> names_;
    UniqueFd socket_;
    std::string endpoint_;
    std::atomic<bool> ended_ = false;
    std::thread thread_;
};

inline std::map<std::string, Zone> names() {
    std::map<std::string, Zone> out;
    out["two.example"].records = {{DnsType::a, address(AF_INET, "192.0.2.1")},
                                  {DnsType::a, address(AF_INET, "192.0.2.2")},
                                  {DnsType::aaaa, address(AF_INET6, "2001:db8::1")},
                                  {DnsType::mx, number16(20) + wire_name("b.example")},
                                  {DnsType::mx, number16(10) + wire_name("a.example")},
                                  {DnsType::ns, wire_name("ns.example")},
                                  {DnsType::txt, text_record("first ") + text_record("second")}};
    out["_submission._tcp.two.example"].records = {{DnsType::srv, number16(7) + number16(30) + number16(587) + wire_name("a.example")}};
    out["short.corp.example"].records = {{DnsType::a, address(AF_INET, "192.0.2.30")}};
    out["deep.sub.corp.example"].records = {{DnsType::a, address(AF_INET, "192.0.2.31")}};
    out["empty.corp.example"].records = {{DnsType::txt, text_record("no address")}};
    out["_25._tcp.two.example"].records = {{DnsType::tlsa, std::string("\3\1\1") + std::string(32, '\xab')}};
    out["alias.example"].records = {{DnsType::cname, wire_name("two.example")}};
    out["nullmx.example"].records = {{DnsType::mx, number16(0) + wire_name("")}};
    out["fails.example"].rcode = 2;
    out["refused.example"].rcode = 5;
    out["silent.example"].silent = true;
    out["xn--bcher-kva.example"].records = {{DnsType::a, address(AF_INET, "192.0.2.30")}};
    out["good.example"].records = {{DnsType::a, address(AF_INET, "192.0.2.10")}, {DnsType::a, address(AF_INET, "192.0.2.11")}};
    out["11.2.0.192.in-addr.arpa"].records = {{DnsType::ptr, wire_name("good.example")}};
    out["12.2.0.192.in-addr.arpa"].records = {{DnsType::ptr, wire_name("good.example")}};
    out["13.2.0.192.in-addr.arpa"].records = {{DnsType::ptr, wire_name("no.such.example")}};
    out["14.2.0.192.in-addr.arpa"].records = {{DnsType::ptr, wire_name("fails.example")}};
    out["15.2.0.192.in-addr.arpa"].records = {{DnsType::ptr, wire_name("evil\r\nname].example")}};
    out["16.2.0.192.in-addr.arpa"].rcode = 2;
    out[reverse_name("2001:db8::7")].records = {{DnsType::ptr, wire_name("six.example")}};
    out["six.example"].records = {{DnsType::aaaa, address(AF_INET6, "2001:db8::7")}};
    return out;
}

struct Resolver {
    NameServer server{names()};
    std::unique_ptr<Dns> dns;
    explicit Resolver(HostsUse hosts = HostsUse::first, const std::string& hosts_file = "/etc/hosts") {
        DnsOptions options;
        options.server = server.endpoint();
        options.hosts = hosts;
        options.hosts_file = hosts_file;
        Result<std::unique_ptr<Dns>> made = Dns::create(options);
        INFO((made ? "" : made.error().what));
        REQUIRE(made);
        dns = std::move(*made);
    }
    Result<DnsAnswer> ask(const std::string& name, DnsType type, Millis patience = std::chrono::seconds(10)) {
        return Loop::current().run_until(dns->query(name, type, patience));
    }
    std::string texts(const std::string& name, DnsType type) {
        const Result<DnsAnswer> answer = ask(name, type);
        if (!answer) {
            return "error";
        }
        std::vector<std::string> sorted;
        for (const DnsAnswer::Record& record : answer->records) {
            sorted.push_back(type == DnsType::mx ? std::to_string(record.preference) + " " + record.text : record.text);
        }
        std::sort(sorted.begin(), sorted.end());
        std::string out;
        for (const std::string& text : sorted) {
            out += (out.empty() ? "" : ", ") + text;
        }
        return out;
    }
    HostName host(const std::string& ip) { return Loop::current().run_until(host_name_of(*dns, ip)); }
};

/// Waits for an answer beside others; `dns` and `done` outlive it.
inline Task<> ask_and_note(Dns& dns, std::string name, DnsType type, Millis patience, bool& done) {
    const Result<DnsAnswer> answer = co_await dns.query(std::move(name), type, patience);
    CHECK_FALSE(answer);
    done = true;
}

inline void wait_for(const bool& done) {
    while (!done) {
        Loop::current().run_until(sleep_for(Millis(5)));
    }
}

}  // namespace postern::dns_test
