// The journal: records come back in order, damage costs only the damaged record.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "lib/queue/journal.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"

using namespace postern;
using namespace postern::queue;

namespace {

JournalRecord record(std::uint8_t kind, std::uint32_t recipient, const std::string& text = "") {
    JournalRecord r;
    r.kind = kind;
    r.recipient = recipient;
    r.time_usec = 1700000000000000;
    r.dsn = "4.0.0";
    r.text = text;
    return r;
}

}  // namespace

TEST_CASE("journal records come back as they were written", "[queue]") {
    JournalRecord full = record(kJournalBounced, 2, std::string("a\0b", 3));
    full.relay = "mx[192.0.2.1]:25";
    full.action = "failed";
    full.remote_mta = "mx";
    full.diagnostic = "smtp; 550 no";
    full.value_usec = -5;
    const std::vector<JournalRecord> back = decode_journal(encode_journal({record(kJournalDeferred, 0, "x"), full}));
    REQUIRE(back.size() == 2);
    CHECK(back[0].text == "x");
    CHECK(back[1].text == full.text);
    CHECK(back[1].relay == full.relay);
    CHECK(back[1].action == full.action);
    CHECK(back[1].remote_mta == full.remote_mta);
    CHECK(back[1].diagnostic == full.diagnostic);
    CHECK(back[1].value_usec == -5);
    CHECK(back[1].recipient == 2);
}

TEST_CASE("a text over its bound is cut, not refused", "[queue]") {
    const auto back = decode_journal(encode_journal({record(kJournalDeferred, 0, std::string(100000, 'x'))}));
    REQUIRE(back.size() == 1);
    CHECK(back[0].text.size() == kMaxJournalText);
}

TEST_CASE("a damaged journal record costs only itself", "[queue]") {
    const std::string first = encode_journal({record(kJournalDelivered, 0, "first")});
    const std::string second = encode_journal({record(kJournalDelivered, 1, "second")});
    const std::string third = encode_journal({record(kJournalDelivered, 2, "third")});
    for (std::size_t at = 0; at < second.size(); ++at) {
        CAPTURE(at);
        std::string bad = second;
        bad[at] = static_cast<char>(bad[at] ^ 0x10);
        const auto back = decode_journal(first + bad + third);
        REQUIRE(back.size() == 2);
        REQUIRE(back[0].text == "first");
        REQUIRE(back[1].text == "third");
    }
    for (std::size_t length = 0; length < second.size(); ++length) {
        CAPTURE(length);
        const auto back = decode_journal(first + second.substr(0, length) + third);
        REQUIRE(back.size() == 2);
        REQUIRE(back[1].text == "third");
    }
}

TEST_CASE("replay tells what is left to do", "[queue]") {
    const JournalState state = replay({record(kJournalDeferred, 0, "busy"), record(kJournalDelivered, 1),
                                       record(kJournalBounced, 2, "no"), record(kJournalBounced, 3),
                                       record(kJournalReported, 3), record(kJournalDelivered, 99),
                                       record(kJournalDelayWarned, kWholeMessage), record(77, 0)},
                                      std::vector<Recipient>(4));
    CHECK(state.recipients[0].kind == kJournalDeferred);
    CHECK(state.recipients[0].attempts == 1);
    CHECK(state.recipients[0].last.text == "busy");
    CHECK(state.recipients[1].finished());
    CHECK_FALSE(state.recipients[2].finished());
    CHECK(state.recipients[3].finished());
    CHECK(state.unfinished() == 2);
    CHECK(state.delay_warned);
    CHECK_FALSE(state.expire);
}

TEST_CASE("an alias that was expanded is done, whatever has become of the journal", "[queue]") {
    std::vector<Recipient> recipients(2);
    recipients[1].expanded = true;
    for (const auto& records : {std::vector<JournalRecord>{}, {record(kJournalDeferred, 1, "busy")}, {record(kJournalBounced, 1, "no")}}) {
        const JournalState state = replay(records, recipients);
        CHECK_FALSE(state.recipients[0].finished());
        CHECK(state.recipients[1].finished());
        CHECK(state.recipients[1].last.action == "expanded");
        CHECK(state.recipients[1].last.text == "alias expanded");
        CHECK_FALSE(state.recipients[1].success_reported);
    }
    CHECK(replay({record(kJournalSuccessReported, 1)}, recipients).recipients[1].success_reported);
}

TEST_CASE("forced expiry and the next attempt are read from the journal", "[queue]") {
    JournalRecord next = record(kJournalNextAttempt, kWholeMessage);
    next.value_usec = 42;
    JournalRecord now = record(kJournalExpire, kWholeMessage);
    now.value_usec = 1;
    const JournalState state = replay({next, now}, std::vector<Recipient>(1));
    CHECK(state.next_attempt_usec == 42);
    CHECK(state.expire);
    CHECK(state.expire_now);
}

TEST_CASE("queue ids have Postfix's two forms", "[queue]") {
    CHECK(make_queue_id(1700000000000010, 0xABCDE, false) == "0000AABCDE");
    CHECK(make_queue_id(1700000000999999, 0x1, false) == "F423F1");
    const std::string long_id = make_queue_id(1328283888000001, 1000, true);
    CHECK(long_id.substr(10, 1) == "z");
    CHECK(is_queue_id(long_id));
    CHECK(is_queue_id("0000AABCDE"));
    CHECK(make_queue_id(1700000000000010, 5, true) < make_queue_id(1700000000000011, 5, true));
    CHECK(make_queue_id(1700000000999999, 5, true) < make_queue_id(1700000001000000, 5, true));
    for (const bool is_long : {false, true}) {
        for (const std::uint64_t number : {kFirstRandomNumber, 2 * kFirstRandomNumber - 1}) {
            const std::string random = make_queue_id(1700000000000010, number, is_long);
            CHECK((is_queue_id(random) && has_random_number(random)));
        }
        for (const std::uint64_t inode : {std::uint64_t{1}, kFirstRandomNumber - 1, 2 * kFirstRandomNumber}) {
            CHECK_FALSE(has_random_number(make_queue_id(1700000000000010, inode, is_long)));
        }
    }
    for (const char* bad : {"", "tmp.1.2.3", "..", "ABC", "0000AABCDe", "../../etc", "4A1B/2C9F30", "zzzzzzzzzz", "Bcdfghjklmz"}) {
        CAPTURE(bad);
        CHECK_FALSE(is_queue_id(bad));
    }
}
