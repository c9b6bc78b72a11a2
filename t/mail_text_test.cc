// Character sets, encoded words, transfer encodings, modified UTF-7.
#include <catch2/catch.hpp>

#include <map>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/charset.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/header.h"
#include "lib/mail/transfer_encoding.h"
#include "lib/mail/utf7.h"
#include "t/corpus.h"
#include "t/json.h"

using namespace postern;
using namespace postern::test;

TEST_CASE("eight-bit bytes are found wherever they are", "[mail]") {
    for (std::size_t at = 0; at < 20; ++at) {
        std::string text(20, 'a');
        CHECK_FALSE(has_eight_bit(text));
        text[at] = '\xc3';
        CHECK(has_eight_bit(text));
    }
}

TEST_CASE("UTF-8 is checked and repaired", "[mail]") {
    CHECK(valid_utf8("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"));
    for (const char* bad : {"\x80", "\xC0\x80", "\xC3", "\xE2\x82", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xFF"}) {
        CHECK_FALSE(valid_utf8(bad));
    }
    CHECK(sanitize_utf8("a\xFF" "b") == "a\xEF\xBF\xBD" "b");
    CHECK(utf8_prefix("a\xC3\xA4", 2) == 1);
    CHECK(utf8_prefix("a\xC3\xA4", 3) == 3);
    CHECK(utf8_prefix("\x80\x80\x80\x80\x80\x80", 5) == 5);
}

TEST_CASE("character sets", "[mail]") {
    CHECK(to_utf8("ISO-8859-1", "\xE4") == "\xC3\xA4");
    CHECK(to_utf8("windows-1252", "\x80") == "\xE2\x82\xAC");
    CHECK(to_utf8("koi8-r", "\xC1") == "\xD0\xB0");
    CHECK(to_utf8("iso-2022-jp", "\x1B$B$\"\x1B(B") == "\xE3\x81\x82");
    CHECK(to_utf8("shift_jis", "\x82") == "\xEF\xBF\xBD");
    CHECK(to_utf8("utf-8", "\xFF") == "\xEF\xBF\xBD");
    CHECK_FALSE(to_utf8("utf-9", "a"));
    CHECK_FALSE(to_utf8("utf-8//TRANSLIT", "a"));
    CHECK_FALSE(to_utf8("", "a"));
    CHECK(to_utf8_or_guess("x", "\xE4") == "\xC3\xA4");
    CHECK(to_utf8_or_guess("x", "\xC3\xA4") == "\xC3\xA4");
}

TEST_CASE("encoded words go both ways", "[mail]") {
    CHECK(encode_header_text("plain") == "plain");
    CHECK(encode_header_text("=?x") == "=?UTF-8?Q?=3D=3Fx?=");
    CHECK(encode_header_text("\xC3\xA4 b") == "=?UTF-8?Q?=C3=A4_b?=");
    std::string text;
    for (int i = 0; i < 500; ++i) {
        append_utf8(text, static_cast<char32_t>(0x20 + i * 7));
        text += i % 9 == 0 ? " " : "";
    }
    text = std::string(trim(text));
    for (const bool phrase : {false, true}) {
        const std::string encoded = encode_header_text(text, phrase);
        CHECK(decode_header_text(encoded) == text);
        for (const std::string& line : split(encoded, "\n")) {
            CHECK(trim(line).size() <= 75);
        }
    }
    CHECK(decode_encoded_words("=?utf-8?q?=C3?= =?UTF-8?q?=A4?=") == "\xC3\xA4");
    CHECK(decode_encoded_words("=?x-unknown?q?=C3=A4?=") == "\xC3\xA4");
    CHECK(decode_encoded_words("a  b") == "a  b");
    std::string bomb;
    for (int i = 0; i < 50000; ++i) {
        bomb += "=?a?q?";
    }
    CHECK(decode_encoded_words(bomb) == bomb);
}

TEST_CASE("base64 as mail brings it", "[mail]") {
    CHECK(decode_base64("YWJj") == "abc");
    CHECK(decode_base64("YW\r\nJj ") == "abc");
    CHECK(decode_base64("YQ==YmI=") == "abb");
    CHECK(decode_base64("YWI") == "ab");
    CHECK(decode_base64("Y!W*J.j") == "abc");
    CHECK(decode_base64("====").empty());
    CHECK(encode_base64_lines(std::string(58, 'x')).size() == 80 + 2);
    const std::string bytes = random_bytes(5000);
    CHECK(decode_base64(encode_base64_lines(bytes)) == bytes);
}

TEST_CASE("quoted-printable as mail brings it", "[mail]") {
    CHECK(decode_quoted_printable("a=3Db=\nc") == "a=bc");
    CHECK(decode_quoted_printable("a=  \r\nb") == "ab");
    CHECK(decode_quoted_printable("a  \t\r\nb ") == "a\r\nb ");
    CHECK(decode_quoted_printable("a=ZZ =4") == "a=ZZ =4");
    CHECK(decode_quoted_printable("a=") == "a");
    CHECK(decode_quoted_printable("a=20 \nb") == "a \nb");
    CHECK(encode_quoted_printable("a \n.b\nFrom c\n=\xC3\xA4") == "a=20\n=2Eb\n=46rom c\n=3D=C3=A4");
    std::string text;
    for (int i = 0; i < 3000; ++i) {
        text += static_cast<char>(i * 7919 % 251);
        text += i % 400 == 0 ? "\n" : "";
    }
    const std::string encoded = encode_quoted_printable(text);
    CHECK(decode_quoted_printable(encoded) == text);
    for (const std::string& line : split(encoded, "\n")) {
        CHECK(line.size() <= 76);
    }
    CHECK(parse_transfer_encoding(" Quoted-Printable (really) ") == TransferEncoding::quoted_printable);
    CHECK(parse_transfer_encoding("uuencode") == TransferEncoding::unknown);
    CHECK(parse_transfer_encoding("") == TransferEncoding::seven_bit);
}

TEST_CASE("encoded words of the facts table", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const Json table = parse_json(read_file(root + "/fields/facts/encoded-word.json"));
    REQUIRE(table["cases"].items.size() == 10);
    Tally tally("fields/facts/encoded-word");
    for (const Json& item : table["cases"].items) {
        CAPTURE(item["raw"].text());
        // White space at the ends is not part of an unstructured value for us; there it is kept behind.
        const std::string found = decode_header_text(item["raw"].text());
        if (item["raw"].text() == "a =?utf-8?b?////?= b") {
            // One U+FFFD for each maximal ill-formed piece, as Unicode recommends, not one for the whole run.
            CHECK(found == "a \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD b");
            tally.except();
            continue;
        }
        CHECK(found == std::string(trim(item["decoded"].text())));
        tally.count(true);
    }
}

TEST_CASE("unstructured fields of mail-parser", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const std::map<std::string, std::string> exceptions = {
        // Text right before or after an encoded word stays right there; only white space between two words goes.
        {"[SUSPECTED SPAM]=?utf-8?B?VGhpcyBpcyB0aGUgb3JpZ2luYWwgc3ViamVjdA==?=\n", "[SUSPECTED SPAM]This is the original subject"},
        {"[SUSPECTED SPAM]=?utf-8?B?VGhpcyBpcyB0aGUgb\n 3JpZ2luYWwgc3ViamVjdA==?=\n", "[SUSPECTED SPAM]This is the original subject"},
        {"[SUSPECTED SPAM]=?utf-8?B?VGhpcyBpcyB0aGUgb\r\n 3JpZ2luYWwgc3ViamVjdA==?=\r\n", "[SUSPECTED SPAM]This is the original subject"},
        {"Some text =?utf-8?Q?" "?=here\n", "Some text here"},
        // Folding leaves its white space behind (RFC 5322 section 2.2.3), as many as there are.
        {" from x.y.test\n      by example.net\n      via TCP\n      with ESMTP\n      id ABC12345\n      for <mary@example.net>;  21 Nov 1997 10:05:43 -0600\n",
         "from x.y.test      by example.net      via TCP      with ESMTP      id ABC12345      for <mary@example.net>;  21 Nov 1997 10:05:43 -0600"},
        {" FWD: \n Saying Hello \nX-Mailer: 123\r\n", "FWD:  Saying Hello"},
        {" let's = try =?iso-8859-1? to break\n =? the \n parser\n", "let's = try =?iso-8859-1? to break =? the  parser"},
        {" Fwd: \n\tSaying \n Hello\r\n", "Fwd: \tSaying  Hello"},
        {"=?utf-8?Q?Hello\n _there!?=\n", "Hello  there!"},
        {"=?utf-8?Q?Hello\r\n _there!?=\r\n", "Hello  there!"},
        {"=?utf-8?Q?Hello\r\n   \t  _there!?=\r\n", "Hello   \t   there!"},
    };
    const Json table = parse_json(read_file(root + "/fields/mail-parser/unstructured.json"));
    REQUIRE(table.items.size() == 30);
    Tally tally("fields/mail-parser/unstructured");
    for (const Json& item : table.items) {
        const std::string& header = item["header"].text();
        CAPTURE(header);
        const std::string text = "X:" + header;   // up to the field's end only
        const std::string found = decode_header_text(find_field(text, "X").value);
        const auto exception = exceptions.find(header);
        if (exception != exceptions.end()) {
            CHECK(found == exception->second);
            tally.except();
        } else {
            CHECK(found == item["expected"].text());
            tally.count(found == item["expected"].text());
        }
    }
}

TEST_CASE("modified UTF-7 of the facts table", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    const Json table = parse_json(read_file(root + "/imap/facts/modified-utf7.json"));
    REQUIRE(!table["cases"].items.empty());
    Tally tally("imap/facts/modified-utf7");
    for (const Json& item : table["cases"].items) {
        CAPTURE(item["utf8"].text(), item["mutf7"].text());
        if (item["utf8"].is_string()) {
            CHECK(utf8_to_imap_utf7(item["utf8"].text()) == item["mutf7"].text());
            CHECK(imap_utf7_to_utf8(item["mutf7"].text()) == item["utf8"].text());
        } else if (item["utf8"].is_null()) {
            CHECK_FALSE(imap_utf7_to_utf8(item["mutf7"].text()));
        } else {
            CHECK_FALSE(utf8_to_imap_utf7("p\xE4\xE4"));
        }
        tally.count(true);
    }
}

TEST_CASE("modified UTF-7 has one form for each name", "[mail]") {
    for (const char* bad : {"&AGE-", "&2D0-", "&3gA-", "&AOT-", "a\x80", "&AOQ", "&A-", "&AAA"}) {
        CAPTURE(bad);
        CHECK_FALSE(imap_utf7_to_utf8(bad));
    }
    for (char32_t c = 1; c < 0x11000; c += 37) {
        if (c >= 0xD800 && c < 0xE000) {
            continue;
        }
        std::string name = "x";
        append_utf8(name, c);
        append_utf8(name, c + 1 == 0xD800 ? 0x20 : c + 1);
        const std::optional<std::string> encoded = utf8_to_imap_utf7(name);
        REQUIRE(encoded);
        REQUIRE(imap_utf7_to_utf8(*encoded) == name);
    }
}

TEST_CASE("ill-formed UTF-8 gives as many replacement characters as Unicode asks for", "[mail][corpus]") {
    const std::string root = corpus();
    if (root.empty()) {
        return;
    }
    // Lines: `number:valid:text`, `number:valid hex:bytes`, `number:invalid hex:bytes:skipped:replaced`
    const auto from_hex = [](const std::string& text) {
        std::string out;
        std::string digits;
        for (const char c : text == "nothing" ? std::string() : text) {
            digits += c == ' ' ? "" : std::string(1, c);
            if (digits.size() == 2) {
                out += static_cast<char>(parse_hex(digits).value_or(0));
                digits.clear();
            }
        }
        return out;
    };
    Tally tally("charset/utf8tests");
    std::istringstream lines(read_file(root + "/charset/utf8tests/utf8tests.txt"));
    int count = 0;
    for (std::string line; std::getline(lines, line);) {
        std::vector<std::string> part = split_exact(line, ':');
        for (std::string& piece : part) {
            piece = std::string(trim(piece));
        }
        if (line.empty() || line[0] == '#' || part.size() < 3 || part[1] == "valid") {
            continue;
        }
        CAPTURE(line);
        ++count;
        const std::string bytes = from_hex(part[2]);
        if (part[1] == "valid hex") {
            CHECK(valid_utf8(bytes));
            CHECK(sanitize_utf8(bytes) == bytes);
            tally.count(true);
            continue;
        }
        REQUIRE(part.size() == 5);
        CHECK_FALSE(valid_utf8(bytes));
        CHECK(sanitize_utf8(bytes) == from_hex(part[4]));
        tally.count(sanitize_utf8(bytes) == from_hex(part[4]));
    }
    CHECK(count > 200);
}
