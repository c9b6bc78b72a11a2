/// What master makes of master.cf: addresses, programs, command lines; and the lock that keeps two masters apart.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "lib/ipc/channel.h"
#include "master/child.h"
#include "master/endpoint.h"
#include "master/instance.h"
#include "master/plan.h"

using namespace postern;
using namespace postern::master;

namespace {

/// A configuration directory with a program "prog"; the working directory while it lives, so sockets land there.
class Scratch {
public:
    Scratch() {
        char name[] = "/tmp/postern-plan-XXXXXX";
        path_ = ::mkdtemp(name);
        before_ = std::filesystem::current_path();
        std::filesystem::current_path(path_);
        for (const char* directory : {"public", "private", "pid"}) {
            ::mkdir(directory, 0700);
        }
        std::ofstream("prog") << "#!/bin/sh\n";
        ::chmod("prog", 0755);
    }
    ~Scratch() {
        std::filesystem::current_path(before_);
        std::filesystem::remove_all(path_);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    Result<LoadedPlan> plan(std::string_view main_cf, std::string_view master_cf) const {
        std::ofstream(path_ + "/main.cf") << "daemon_directory = " << path_ << "\nqueue_directory = " << path_ << "\n" << main_cf;
        std::ofstream(path_ + "/master.cf") << master_cf;
        return load_plan(path_);
    }
    std::string refusal(std::string_view main_cf, std::string_view master_cf) const {
        const Result<LoadedPlan> loaded = plan(main_cf, master_cf);
        std::string text = loaded ? "accepted" : loaded.error().what;
        for (std::size_t at = text.find(path_ + "/"); at != std::string::npos; at = text.find(path_ + "/")) {
            text.erase(at, path_.size() + 1);
        }
        return text;
    }
    const std::string& path() const { return path_; }

private:
    std::string path_;
    std::filesystem::path before_;
};

std::string keys(const PlannedService& service) {
    std::string text;
    for (const Endpoint& endpoint : service.endpoints) {
        text += endpoint.key() + " ";
    }
    return text;
}

std::string keys_of(const Scratch& scratch, std::string_view main_cf, std::string_view name) {
    const Result<LoadedPlan> loaded = scratch.plan(main_cf, std::string(name) + " inet n - n - - prog\n");
    return loaded ? keys(loaded->plan.services.at(0)) : loaded.error().what;
}

}  // namespace

TEST_CASE("services listen where inet_interfaces and inet_protocols say", "[master]") {
    const Scratch scratch;
    CHECK(keys_of(scratch, "", "smtp") == "0.0.0.0:25 [::]:25 ");
    CHECK(keys_of(scratch, "inet_protocols = ipv4\n", "submissions") == "0.0.0.0:465 ");
    CHECK(keys_of(scratch, "inet_interfaces = loopback-only\n", "imaps") == "127.0.0.1:993 [::1]:993 ");
    CHECK(keys_of(scratch, "inet_interfaces = 192.0.2.1, [2001:db8::1]\n", "2525") == "192.0.2.1:2525 [2001:db8::1]:2525 ");
    CHECK(keys_of(scratch, "inet_interfaces = 192.0.2.1\n", "127.0.0.1:10025") == "127.0.0.1:10025 ");
    CHECK(keys_of(scratch, "", "[::1]:pop3s") == "[::1]:995 ");
    CHECK(keys_of(scratch, "known_tcp_ports = own=also=7777\n", "also") == "0.0.0.0:7777 [::]:7777 ");
    CHECK(keys_of(scratch, "", "no-such-port").find("unknown port \"no-such-port\"") != std::string::npos);
    CHECK(keys_of(scratch, "inet_interfaces =\n", "25").find("leave no address") != std::string::npos);
}

TEST_CASE("sockets are private or public", "[master]") {
    const Scratch scratch;
    const Result<LoadedPlan> loaded = scratch.plan("default_process_limit = 7\n",
                                                   "a unix - - n - - prog\nb unix n - n - 3 prog\nc fifo n - n - 0 prog\n");
    CHECK((loaded ? "" : loaded.error().what) == "");
    REQUIRE(loaded);
    CHECK(keys(loaded->plan.services[0]) == "private/a ");
    CHECK(keys(loaded->plan.services[1]) == "public/b ");
    CHECK(loaded->plan.services[0].process_limit == 7);
    CHECK(loaded->plan.services[1].process_limit == 3);
    CHECK(loaded->plan.services[2].process_limit == 0);
    CHECK(loaded->plan.services[0].program == scratch.path() + "/prog");
}

TEST_CASE("pickup and qmgr of an old master.cf wait at sockets, not FIFOs", "[master]") {
    Scratch scratch;
    for (const char* program : {"pickup", "qmgr"}) {
        std::filesystem::copy_file(scratch.path() + "/prog", scratch.path() + "/" + program);
    }
    const Result<LoadedPlan> loaded = scratch.plan("", "pickup fifo n - n 60 1 pickup\nqmgr fifo n - n 300 1 qmgr\nmine fifo n - n - 1 prog\n");
    REQUIRE(loaded.ok());
    REQUIRE(loaded->plan.services.size() == 3);
    CHECK(loaded->plan.services[0].endpoints[0].type == ServiceType::unix_stream);
    CHECK(loaded->plan.services[1].endpoints[0].type == ServiceType::unix_stream);
    CHECK(loaded->plan.services[2].endpoints[0].type == ServiceType::fifo);
    CHECK(loaded->plan.notices.size() == 2);
}

TEST_CASE("services can be switched off and overridden", "[master]") {
    const Scratch scratch;
    const Result<LoadedPlan> loaded = scratch.plan("master_service_disable = a/unix, inet\n",
                                                   "a unix - - n - - prog\nb unix - - n - - prog -v\n25 inet n - n - - prog\n"
                                                   "b unix n - n - - prog\n");
    REQUIRE(loaded);
    REQUIRE(loaded->plan.services.size() == 1);
    CHECK(keys(loaded->plan.services[0]) == "public/b ");
    CHECK(loaded->plan.notices.size() == 1);
}

TEST_CASE("what cannot work is refused before anything is opened", "[master]") {
    const Scratch scratch;
    CHECK(scratch.refusal("", "a unix - - n - - missing\n") == "master.cf:1: program missing: No such file or directory");
    CHECK(scratch.refusal("", "25 inet n - n 60 - prog\n").find("cannot have a wakeup time") != std::string::npos);
    CHECK(scratch.refusal("", "25 inet n - n - - prog\nsmtp inet n - n - - prog\n") ==
          "master.cf:2: 0.0.0.0:25 is already taken by the service of master.cf:1");
    CHECK(scratch.refusal("", "a unix - - n - - prog -o biff=maybe\n") == "master.cf:1: -o: biff = maybe: accepted: yes or no");
    CHECK(scratch.refusal("biff = maybe\n", "") == "main.cf:3: biff = maybe: accepted: yes or no");
    CHECK(scratch.refusal("", "a unix - - n\n").find("master.cf:1: bad field count") == 0);
}

TEST_CASE("a child is told what the contract says", "[master]") {
    const Result<MasterEntry> entry =
        parse_master_entry("submission inet n n y - - smtpd -v -o { a = b c } -S argv=x -o d");
    REQUIRE(entry);
    ChildPlan plan{*entry, "/x/smtpd", {5, 6}, {"0.0.0.0.587", "[..].587"}, 9, "/etc/postern", "LANG=C HOME_NOT_SET MAIL_CONFIG", 1, true};
    CHECK(child_arguments(plan) == std::vector<std::string>{"smtpd", "-n", "submission", "-t", "inet", "-P", "-c", "-v", "-v", "-o",
                                                            "stress=yes", "-o", "a=b c", "-S", "argv=x", "-o", "d"});
    const std::vector<std::string> environment = child_environment(plan, 5);
    const auto has = [&environment](const std::string& line) {
        return std::find(environment.begin(), environment.end(), line) != environment.end();
    };
    CHECK(has("LANG=C"));
    CHECK(has("MAIL_CONFIG=/etc/postern"));
    CHECK(has("LISTEN_FDS=2"));
    CHECK(has("LISTEN_FDNAMES=0.0.0.0.587:[..].587"));
    CHECK(has("POSTERN_STATUS_FD=5"));
    CHECK(has("POSTERN_MASTER_FD=6"));
    for (const std::string& line : environment) {
        CHECK(line.compare(0, 5, "HOME_") != 0);
    }
}

TEST_CASE("sockets have the buffers of tcp_windowsize", "[master]") {
    Endpoint endpoint;
    endpoint.type = ServiceType::inet;
    endpoint.address = "127.0.0.1";
    const auto sizes = [&](long window_bytes) {
        const Result<UniqueFd> fd = open_endpoint(endpoint, 5, window_bytes);
        REQUIRE(fd);
        std::pair<int, int> out;
        socklen_t size = sizeof(int);
        CHECK(::getsockopt(fd->get(), SOL_SOCKET, SO_SNDBUF, &out.first, &size) == 0);
        CHECK(::getsockopt(fd->get(), SOL_SOCKET, SO_RCVBUF, &out.second, &size) == 0);
        return out;
    };
    CHECK(sizes(20000) == std::pair(40000, 40000));   // the kernel doubles what it is told (socket(7))
    CHECK(sizes(0) != std::pair(40000, 40000));
}

TEST_CASE("a socket that was left behind is replaced, anything else is not", "[master]") {
    const Scratch scratch;
    Endpoint endpoint;
    endpoint.address = "public/x";
    for (const ServiceType type : {ServiceType::unix_stream, ServiceType::unix_dgram, ServiceType::fifo, ServiceType::unix_stream}) {
        endpoint.type = type;
        const Result<UniqueFd> fd = open_endpoint(endpoint, 512);
        REQUIRE(fd);
        CHECK(wake_endpoint(endpoint));
        if (type != ServiceType::unix_stream) {
            char byte = 0;
            CHECK(::read(fd->get(), &byte, 1) == 1);
        } else {
            const UniqueFd client(::accept(fd->get(), nullptr, nullptr));
            char frame[16];
            REQUIRE(::read(client.get(), frame, sizeof(frame)) == sizeof(kTriggerFrame));
            CHECK(std::equal(std::begin(kTriggerFrame), std::end(kTriggerFrame), frame));
        }
    }
    ::unlink("public/x");
    std::ofstream("public/x") << "precious";
    CHECK_FALSE(open_endpoint(endpoint, 512));
    CHECK(std::filesystem::file_size("public/x") == 8);
    endpoint.address = std::string(200, 'x');
    CHECK_FALSE(open_endpoint(endpoint, 512));
}

TEST_CASE("one queue has one master", "[master]") {
    const Scratch scratch;
    CHECK_FALSE(running_master(scratch.path()));
    {
        Result<InstanceLock> first = InstanceLock::take();
        REQUIRE(first);
        REQUIRE(first->write_pid());
        CHECK(running_master(scratch.path()) == ::getpid());
        const Result<InstanceLock> second = InstanceLock::take();
        REQUIRE(!second);
        CHECK(second.error().code == Errc::exists);
        CHECK(running_master(scratch.path()) == ::getpid());
    }
    CHECK_FALSE(running_master(scratch.path()));
    CHECK_FALSE(std::filesystem::exists("pid/master.pid"));
    std::ofstream("pid/master.pid") << "1234\n";   // of a master that was killed
    CHECK_FALSE(running_master(scratch.path()));
    CHECK(InstanceLock::take());
}

TEST_CASE("a master that begins while another ends does not take the lock of a file that is gone", "[master]") {
    const Scratch scratch;
    std::atomic<int> holders{0};
    std::atomic<int> taken{0};
    std::atomic<bool> alone{true};
    const auto try_often = [&] {
        for (int i = 0; i < 20000; ++i) {
            Result<InstanceLock> lock = InstanceLock::take();
            if (lock) {
                alone = ++holders == 1 && alone;
                ++taken;
                alone = lock->write_pid().ok() && alone;   // so that its end removes the file
                --holders;
            }
        }
    };
    std::thread first(try_often);
    std::thread second(try_often);
    std::thread third(try_often);
    first.join();
    second.join();
    third.join();
    CHECK(taken > 0);
    CHECK(alone);
}
