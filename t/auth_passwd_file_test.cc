#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "auth/passwd_file.h"
#include "auth/variables.h"

using namespace postern;

TEST_CASE("a full passwd-file line is cut into its fields", "[auth]") {
    const auto entry = parse_passwd_line(
        "joe@example.org:{SSHA}abc:1000:1001:Joe, Room 1:/home/joe:/bin/sh:"
        "userdb_mail=maildir:~/Maildir:LAYOUT=fs allow_nets=192.168.0.0/24,127.0.0.1 nologin userdb_quota_rule=*:storage=1G");
    REQUIRE(entry.ok());
    REQUIRE(entry->has_value());
    CHECK((*entry)->user == "joe@example.org");
    CHECK((*entry)->password == "{SSHA}abc");
    CHECK((*entry)->uid == 1000u);
    CHECK((*entry)->gid == 1001u);
    CHECK((*entry)->home == "/home/joe");
    CHECK((*entry)->mail == "maildir:~/Maildir:LAYOUT=fs");
    CHECK(*(*entry)->find_extra("allow_nets") == "192.168.0.0/24,127.0.0.1");
    CHECK(*(*entry)->find_extra("nologin") == "yes");
    CHECK(*(*entry)->find_extra("userdb_quota_rule") == "*:storage=1G");
    CHECK((*entry)->find_extra("proxy") == nullptr);
}

TEST_CASE("missing fields are empty and userdb_ fields replace the old ones", "[auth]") {
    const auto entry = parse_passwd_line("joe:{PLAIN}x");
    REQUIRE(entry.ok());
    CHECK_FALSE((*entry)->uid.has_value());
    CHECK((*entry)->home.empty());
    const auto userdb = parse_passwd_line("joe:{PLAIN}x:1:2::/a::userdb_uid=5 userdb_gid=6 userdb_home=/b");
    REQUIRE(userdb.ok());
    CHECK((*userdb)->uid == 5u);
    CHECK((*userdb)->gid == 6u);
    CHECK((*userdb)->home == "/b");
    const auto named = parse_passwd_line("joe:{PLAIN}x:vmail:mail::/a::userdb_gid=www-data");
    REQUIRE(named.ok());
    CHECK((*named)->uid_name == "vmail");
    CHECK((*named)->gid_name == "www-data");
    CHECK_FALSE((*named)->uid.has_value());
    const auto numbered = parse_passwd_line("joe:{PLAIN}x:vmail:mail::/a::userdb_uid=5");
    REQUIRE(numbered.ok());
    CHECK((*numbered)->uid == 5u);
    CHECK((*numbered)->uid_name.empty());
}

TEST_CASE("comments and empty lines are no entries", "[auth]") {
    for (const char* line : {"", "   ", "\t", "# joe:x", "\r"}) {
        const auto entry = parse_passwd_line(line);
        REQUIRE(entry.ok());
        CHECK_FALSE(entry->has_value());
    }
}

TEST_CASE("bad lines are named and left out, the rest counts", "[auth]") {
    const PasswdTable table = parse_passwd_file(
        "good:{PLAIN}a:1:1\n:nouser\nbad:x:not/a/number\nbig:x:4294967295\nneg:x:-1\nctl:\x01\ngood:{PLAIN}b\nlast:{PLAIN}z");
    CHECK(table.users.size() == 2);
    CHECK(table.users.at("good").password == "{PLAIN}a");
    CHECK(table.users.count("last") == 1);
    REQUIRE(table.problems.size() == 6);
    CHECK(table.problems[0] == "line 2: empty user name");
    CHECK(table.problems[1] == "line 3: invalid uid");
    CHECK(table.problems[5] == "line 7: user is listed twice; the first line counts");
    CHECK_FALSE(parse_passwd_line(std::string(kMaxPasswdLine + 1, 'a')).ok());
    std::string many = "u:p::::::";
    for (std::size_t i = 0; i <= kMaxExtraFields; ++i) {
        many += "f" + std::to_string(i) + " ";
    }
    CHECK_FALSE(parse_passwd_line(many).ok());
}

TEST_CASE("every prefix of a file parses or is a noted problem", "[auth]") {
    const std::string text = "a:{PLAIN}1:1:2:g:/h:/s:x=y z\n#c\nb:{PLAIN}2\n";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        CAPTURE(cut);
        const PasswdTable table = parse_passwd_file(std::string_view(text).substr(0, cut));
        CHECK(table.users.size() <= 2);
        CHECK(table.problems.empty());
    }
}

TEST_CASE("a passwd-file follows the file on disk", "[auth]") {
    char path[] = "/tmp/postern-passwd-XXXXXX";
    close(mkstemp(path));
    std::ofstream(path) << "joe:{PLAIN}one\n:bad\n";
    PasswdFile file(path);
    CHECK((*file.lookup("joe"))->password == "{PLAIN}one");
    CHECK_FALSE(file.lookup("ann")->has_value());
    CHECK(file.take_problems().size() == 1);
    CHECK(file.take_problems().empty());
    const auto generation = file.generation();
    std::ofstream(path) << "joe:{PLAIN}second\nann:{PLAIN}x\n";
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));   // looked at once a second
    CHECK((*file.lookup("joe"))->password == "{PLAIN}second");
    CHECK(file.lookup("ann")->has_value());
    CHECK(file.generation() != generation);
    unlink(path);
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));
    const auto gone = file.lookup("joe");
    REQUIRE_FALSE(gone.ok());
    CHECK(gone.error().code == Errc::not_found);
}

TEST_CASE("templates know Dovecot's variables", "[auth]") {
    Variables v;
    v.user = "Joe@Example.ORG";
    v.service = "imap";
    v.home = "/home/joe";
    v.remote_ip = "192.0.2.1";
    CHECK(*expand_variables("%u|%n|%d|%s|%h|%r|%%", v) == "Joe@Example.ORG|Joe|Example.ORG|imap|/home/joe|192.0.2.1|%");
    CHECK(*expand_variables("%Lu %Un %{user | lower} %{user|domain|upper}", v) ==
          "joe@example.org JOE joe@example.org EXAMPLE.ORG");
    CHECK(*expand_variables("%{home}/%{username}@%{domain}", v) == "/home/joe/Joe@Example.ORG");
    for (const char* bad : {"%", "%L", "%q", "%{nothing}", "%{user", "%{user|reverse}"}) {
        CAPTURE(bad);
        CHECK_FALSE(expand_variables(bad, v).ok());
    }
    CHECK_FALSE(expand_variables(std::string(kMaxExpansion + 1, 'x'), v).ok());
}

TEST_CASE("a user name cannot leave the place a template names", "[auth]") {
    Variables v;
    for (const char* user : {"../joe", "a/b", "..@example.org", "joe@..", ".", "joe@a/b"}) {
        CAPTURE(user);
        v.user = user;
        const bool through_name = expand_path("/var/mail/%n", v).ok();
        const bool through_domain = expand_path("/var/mail/%d/x", v).ok();
        CHECK_FALSE((through_name && through_domain));
    }
    v.user = "joe@example.org";
    v.home = "/home/joe";
    CHECK(*expand_path("%h/mail/%d/%n", v) == "/home/joe/mail/example.org/joe");
}
