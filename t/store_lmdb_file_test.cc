/// LMDB files of services: their names in settings, and what happens to damaged ones.
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log/capture.h"
#include "lib/store/lmdb_file.h"
#include "t/store_helpers.h"

using namespace postern;
using namespace postern::store;

namespace {

const std::string kDamage(20'000, 'x');

Result<void> put(const Env& env, const std::string& key) {
    Result<Txn> txn = Txn::begin(env, true);
    REQUIRE(txn);
    REQUIRE(txn->put(0, key, "value"));
    return txn->commit();
}

bool has(const Env& env, const std::string& key) {
    const Result<Txn> txn = Txn::begin(env, false);
    REQUIRE(txn);
    const auto value = txn->get(0, key);
    REQUIRE(value);
    return value->has_value();
}

}  // namespace

TEST_CASE("a setting's name for a cache gives its file, whichever type it was under Postfix", "[store]") {
    for (const char* name : {"lmdb:/a/b", "btree:/a/b", "hash:/a/b", "proxy:btree:/a/b", " lmdb:/a/b "}) {
        CAPTURE(name);
        const Result<std::string> file = lmdb_file_of("some_map", name);
        REQUIRE(file);
        CHECK(*file == "/a/b.lmdb");
    }
    for (const char* name : {"pcre:/a/b", "lmdb:", "proxy:", "proxy:proxy:lmdb:/a/b", "/a/b", ""}) {
        CAPTURE(name);
        const Result<std::string> file = lmdb_file_of("some_map", name);
        REQUIRE_FALSE(file);
        CHECK(file.error().code == Errc::config);
        CHECK(file.error().what == "parameter some_map: \"" + std::string(name) + "\": want lmdb:/path/name, or nothing");
    }
}

TEST_CASE("a sound file is opened as it is", "[store]") {
    const Scratch scratch;
    LogCapture log;
    const Env::Options options{.path = scratch.path() + "/c.lmdb", .databases = {nullptr}};
    {
        const auto env = open_or_begin_anew(options);
        REQUIRE(env);
        REQUIRE(put(**env, "key"));
    }
    const auto env = open_or_begin_anew(options);
    REQUIRE(env);
    CHECK(has(**env, "key"));
    CHECK(::access((options.path + ".corrupt").c_str(), F_OK) != 0);
    CHECK(log.count("begun anew") == 0);
}

TEST_CASE("a damaged file is kept beside the one that is begun anew", "[store]") {
    const Scratch scratch;
    LogCapture log;
    const Env::Options options{.path = scratch.path() + "/c.lmdb", .databases = {nullptr}};
    write_file(options.path, kDamage);
    const auto env = open_or_begin_anew(options);
    REQUIRE(env);
    CHECK_FALSE(has(**env, "key"));
    REQUIRE(put(**env, "key"));
    CHECK(has(**env, "key"));
    struct stat aside {};
    REQUIRE(::stat((options.path + ".corrupt").c_str(), &aside) == 0);
    CHECK(static_cast<std::size_t>(aside.st_size) == kDamage.size());
    CHECK(log.count("it is kept as " + options.path + ".corrupt and begun anew") == 1);
}

TEST_CASE("what cannot be set aside, and what is no damage, is an error", "[store]") {
    const Scratch scratch;
    LogCapture log;
    const Env::Options options{.path = scratch.path() + "/c.lmdb", .databases = {nullptr}};
    write_file(options.path, kDamage);
    REQUIRE(::mkdir((options.path + ".corrupt").c_str(), 0700) == 0);
    const auto blocked = open_or_begin_anew(options);
    REQUIRE_FALSE(blocked);
    CHECK(blocked.error().what.starts_with("rename " + options.path));
    const Env::Options nowhere{.path = scratch.path() + "/no/c.lmdb", .databases = {nullptr}};
    const auto missing = open_or_begin_anew(nowhere);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == Errc::not_found);
}
