// proxymap: what may be asked, the answers, and the client side of "proxy:" tables over a real socket.
#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "lib/async/loop.h"
#include "lib/ipc/channel.h"
#include "lib/log/capture.h"
#include "proxymap/allowed.h"
#include "proxymap/server.h"

using namespace postern;

namespace {

Config config_with(const std::string& text) {
    Result<Config> config = Config::from_text(text);
    INFO((config ? "" : config.error().what));
    REQUIRE(config);
    return std::move(*config);
}

constexpr const char* kMaps =
    "virtual_alias_maps = proxy:inline:{a=1}, inline:{b=2}, proxy:regexp:{{/^(a)b/ $$1}}\n"
    "alias_maps = proxy:lmdb:/no/such/table\n"
    "local_recipient_maps = proxy:unix:passwd.byname $alias_maps\n";

UniqueFd listen_on(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(fd.get(), 5) == 0);
    return fd;
}

/// Serves `connections` clients one after another on a thread of its own.
void serve_clients(int listener, int connections, const Config& config) {
    proxymap::Server server(config);
    for (int i = 0; i < connections; ++i) {
        UniqueFd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        Loop::current().run_until(server.serve(std::move(client)));
    }
}

struct Directory {
    std::string path;
    Directory() {
        char name[] = "/tmp/proxymap-test-XXXXXX";
        path = mkdtemp(name);
    }
    ~Directory() { CHECK(system(("rm -rf " + path).c_str()) == 0); }
};

}  // namespace

TEST_CASE("only tables named with proxy: are allowed", "[proxymap]") {
    const auto tables = proxymap::allowed_tables(
        "proxy:lmdb:/a $unknown lmdb:/b, proxy:inline:{x=y, z=w} {check_access proxy:cidr:/c} unionmap:{proxy:lmdb:/d, static:x}");
    CHECK(tables == std::set<std::string, std::less<>>{"lmdb:/a", "inline:{x=y, z=w}", "cidr:/c", "lmdb:/d"});
    CHECK(proxymap::allowed_tables("").empty());
}

TEST_CASE("answers say found, absent, failed or denied", "[proxymap]") {
    LogCapture log;
    const Config config = config_with(kMaps);
    proxymap::Server server(config);
    CHECK(server.answer({"inline:{a=1}", "A", true}).status == table_proxy::kFound);
    CHECK(server.answer({"inline:{a=1}", "A", true}).text == "1");
    CHECK(server.answer({"inline:{a=1}", "A", false}).status == table_proxy::kAbsent);
    CHECK(server.answer({"inline:{a=1}", "zz", true}).status == table_proxy::kAbsent);
    const std::string rules = "regexp:{{/^(a)b/ $1}}";
    CHECK(server.answer({rules, "ab", true}).text == "a");
    CHECK(server.answer({rules, "ab", true, false}).status == table_proxy::kAbsent);
    CHECK(log.count("regular expression substitution is not allowed: skipping this rule") == 1);
    CHECK(server.answer({"unix:passwd.byname", "root", true}).text.substr(0, 5) == "root:");
    CHECK(server.answer({"lmdb:/no/such/table", "x", true}).status == table_proxy::kFailed);
    CHECK(server.answer({"inline:{b=2}", "b", true}).status == table_proxy::kDenied);
    CHECK(server.answer({"texthash:/etc/passwd", "x", true}).status == table_proxy::kDenied);
}

TEST_CASE("proxy: tables of one thread share one connection", "[proxymap]") {
    const Directory directory;
    const Config config = config_with(kMaps);
    const std::string path = directory.path + "/proxymap";
    const UniqueFd listener = listen_on(path);
    TableContext context;
    context.proxymap_socket = path;

    std::thread server(serve_clients, listener.get(), 1, std::cref(config));
    std::thread client([&] {
        Result<TablePtr> aliases = open_table("proxy:inline:{a=1}", context);
        Result<TablePtr> users = open_table("proxy:unix:passwd.byname", context);
        REQUIRE(aliases);
        REQUIRE(users);
        CHECK((*aliases)->name() == "proxy:inline:{a=1}");
        CHECK_FALSE((*aliases)->is_pattern());
        for (int i = 0; i < 3; ++i) {
            CHECK(**(*aliases)->lookup("A") == "1");
            CHECK_FALSE((*aliases)->lookup("b")->has_value());
            CHECK((*users)->lookup("root")->has_value());
        }
    });
    client.join();   // its connection ends with its thread
    server.join();
}

TEST_CASE("without a server the answer is a temporary error", "[proxymap]") {
    TableContext context;
    context.proxymap_socket = "/no/such/socket";
    Result<TablePtr> table = open_table("proxy:static:x", context);
    REQUIRE(table);
    const Lookup answer = (*table)->lookup("key");
    REQUIRE(!answer);
    CHECK(answer.error().code == Errc::temporary);
    CHECK(answer.error().what == "proxy:static:x: proxymap: connect /no/such/socket: No such file or directory");
}

TEST_CASE("pattern tables behind proxy: are known as such", "[proxymap]") {
    TableContext context;
    context.proxymap_socket = "/no/such/socket";
    CHECK((*open_table("proxy:pcre:/x", context))->is_pattern());
    CHECK((*open_table("proxy:unionmap:{pcre:/x,cidr:/y}", context))->is_pattern());
    CHECK_FALSE((*open_table("proxy:unionmap:{pcre:/x,lmdb:/y}", context))->is_pattern());
}
