/// What a stored password's text stands for, under its encoding; for the schemes (password_scheme.cc, legacy_schemes.cc).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/sasl/password_scheme.h"

namespace postern {

std::optional<std::string> decode_hex(std::string_view text);

/// base64 with or without its padding: LDAP exports and old tools drop it.
std::optional<std::string> decode_base64(std::string_view text);

/// "invalid SCHEME password data".
Error bad_data(const StoredPassword& stored);

/// The text a scheme such as CRYPT or PLAIN works on: decoded only if an encoding was written.
std::optional<std::string> text_of(const StoredPassword& stored);

/// The bytes of a digest scheme: as written by the encoding, else hexadecimal when the length says so, else base64.
std::optional<std::string> digest_bytes(const StoredPassword& stored, std::size_t exact_size);

}  // namespace postern
