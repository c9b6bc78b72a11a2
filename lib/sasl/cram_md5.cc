// The state of an unfinished digest is to be had from OpenSSL's old functions only.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "lib/sasl/cram_md5.h"

#include <openssl/crypto.h>
#include <openssl/md5.h>

#include <algorithm>
#include <array>

namespace postern {

namespace {

using Block = std::array<unsigned char, MD5_CBLOCK>;

void append_state(std::string& out, Block block, unsigned char padding) {
    for (unsigned char& byte : block) {
        byte ^= padding;
    }
    MD5_CTX md5;
    MD5_Init(&md5);
    MD5_Update(&md5, block.data(), block.size());
    for (const MD5_LONG word : {md5.A, md5.B, md5.C, md5.D}) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
            out += static_cast<char>(word >> shift & 0xFFU);
        }
    }
    OPENSSL_cleanse(block.data(), block.size());
    OPENSSL_cleanse(&md5, sizeof md5);
}

}  // namespace

std::string cram_md5_states(std::string_view password) {
    Block key{};
    if (password.size() > key.size()) {   // RFC 2104 section 2: a long key is hashed first
        MD5(reinterpret_cast<const unsigned char*>(password.data()), password.size(), key.data());
    } else {
        std::copy(password.begin(), password.end(), key.begin());
    }
    std::string out;
    append_state(out, key, 0x5C);
    append_state(out, key, 0x36);
    OPENSSL_cleanse(key.data(), key.size());
    return out;
}

}  // namespace postern
