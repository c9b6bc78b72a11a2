/// The SCRAM exchanges and SASLprep examples of the shared corpus (RFC 5802, 7677, 4013).
#include <catch2/catch.hpp>

#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "lib/base/strings.h"
#include "lib/sasl/scram_keys.h"

using namespace postern;

namespace {

std::string corpus() {
    const char* set = std::getenv("POSTERN_CORPUS");
    return set != nullptr ? set : "../shared/corpus";
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<std::string> files_in(const std::string& directory) {
    std::vector<std::string> names;
    if (DIR* open = opendir(directory.c_str())) {
        while (const dirent* entry = readdir(open)) {
            if (entry->d_name[0] != '.') {
                names.push_back(directory + "/" + entry->d_name);
            }
        }
        closedir(open);
    }
    std::sort(names.begin(), names.end());
    return names;
}

void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += static_cast<char>(0xc0 | (code >> 6));
        out += static_cast<char>(0x80 | (code & 0x3f));
    } else {
        out += static_cast<char>(0xe0 | (code >> 12));
        out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
        out += static_cast<char>(0x80 | (code & 0x3f));
    }
}

/// All strings of a JSON text in order; enough for these files, whose keys are known.
std::vector<std::string> json_strings(const std::string& json) {
    std::vector<std::string> strings;
    for (std::size_t i = 0; i < json.size(); ++i) {
        if (json[i] != '"') {
            continue;
        }
        std::string text;
        for (++i; i < json.size() && json[i] != '"'; ++i) {
            if (json[i] != '\\') {
                text += json[i];
            } else if (json[++i] == 'u') {
                append_utf8(text, static_cast<unsigned>(std::stoul(json.substr(i + 1, 4), nullptr, 16)));
                i += 4;
            } else {
                text += json[i] == 'n' ? '\n' : json[i];
            }
        }
        strings.push_back(std::move(text));
    }
    return strings;
}

struct Exchange {
    std::string label, digest, password, salt, steps[4];
    bool saslprep = true;
};

Exchange parse_exchange(const std::string& json) {
    const std::vector<std::string> strings = json_strings(json);
    Exchange exchange;
    exchange.saslprep = json.find("\"skipSASLprep\" : true") == std::string::npos;
    std::map<std::string, std::string*> wanted{{"label", &exchange.label}, {"digest", &exchange.digest},
                                               {"pass", &exchange.password}, {"salt64", &exchange.salt}};
    for (std::size_t i = 0; i + 1 < strings.size(); ++i) {
        if (const auto found = wanted.find(strings[i]); found != wanted.end()) {
            *found->second = strings[++i];
        } else if (strings[i] == "steps") {
            std::copy_n(strings.begin() + static_cast<long>(i) + 1, std::min<std::size_t>(4, strings.size() - i - 1),
                        exchange.steps);
        }
    }
    return exchange;
}

std::string exclusive_or(std::string a, const std::string& b) {
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
        a[i] = static_cast<char>(a[i] ^ b[i]);
    }
    return a;
}

/// What RFC 5802 section 3 has server and client compute, from our keys and the exchange's messages.
struct Signatures {
    bool proof_accepted;
    std::string server_final;
};
Signatures check(const Exchange& exchange) {
    const ScramHash hash = exchange.digest == "SHA-1" ? ScramHash::sha1 : ScramHash::sha256;
    const auto salt = base64_decode(trim(exchange.salt));
    REQUIRE(salt);
    const ScramKeys keys = derive_scram_keys(hash, exchange.password, *salt, 4096);
    const std::size_t proof_at = exchange.steps[2].rfind(",p=");
    REQUIRE(proof_at != std::string::npos);
    const std::string message = exchange.steps[0].substr(3) + "," + exchange.steps[1] + "," +
                                exchange.steps[2].substr(0, proof_at);
    const auto proof = base64_decode(exchange.steps[2].substr(proof_at + 3));
    REQUIRE(proof);
    const std::string client_key = exclusive_or(*proof, scram_hmac(hash, keys.stored_key, message));
    return {scram_digest(hash, client_key) == keys.stored_key,
            "v=" + base64_encode(scram_hmac(hash, keys.server_key, message))};
}

}  // namespace

TEST_CASE("good SCRAM exchanges of the corpus check out with our keys", "[sasl]") {
    const std::vector<std::string> files = files_in(corpus() + "/sasl/scram/good");
    if (files.empty()) {
        std::printf("skipped: no corpus at %s\n", corpus().c_str());
        return;
    }
    int checked = 0;
    for (const std::string& file : files) {
        CAPTURE(file);
        const Exchange exchange = parse_exchange(read_file(file));
        if (exchange.digest == "SHA-512" || !exchange.saslprep) {
            continue;   // not offered; and we always prepare
        }
        const Signatures signatures = check(exchange);
        CHECK(signatures.proof_accepted);
        CHECK(signatures.server_final == exchange.steps[3]);
        ++checked;
    }
    CHECK(checked >= 10);
}

TEST_CASE("bad client proofs of the corpus are refused", "[sasl]") {
    const std::vector<std::string> files = files_in(corpus() + "/sasl/scram/bad-client");
    if (files.empty()) {
        std::printf("skipped: no corpus at %s\n", corpus().c_str());
        return;
    }
    int checked = 0;
    for (const std::string& file : files) {
        if (file.find("bad-proof") != std::string::npos) {
            CAPTURE(file);
            CHECK_FALSE(check(parse_exchange(read_file(file))).proof_accepted);
            ++checked;
        }
    }
    CHECK(checked == 2);
}

TEST_CASE("SASLprep examples of RFC 4013 section 3", "[sasl]") {
    CHECK(*saslprep("I\xc2\xadX") == "IX");
    CHECK(*saslprep("user") == "user");
    CHECK(*saslprep("USER") == "USER");
    CHECK(*saslprep("\xc2\xaa") == "a");
    CHECK(*saslprep("\xe2\x85\xa8") == "IX");
    CHECK_FALSE(saslprep("\x07").ok());
    CHECK_FALSE(saslprep("\xd8\xa7" "1").ok());
    CHECK_FALSE(saslprep("\xff").ok());
    CHECK_FALSE(saslprep(std::string_view("a\0b", 3)).ok());
}
