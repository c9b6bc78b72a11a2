/// pop3_uidl_format: how a message's unique id (RFC 1939 section 7, UIDL) is made.
///
/// Dovecot's variables: %u UID, %v UIDVALIDITY, %f and %g the message's lasting name, %m MD5 of its header;
/// modifiers X (hexadecimal, lower case digits), L and U (case) and M (MD5 in hexadecimal) in the order they are
/// written, and a width: `%08Xu%08Xv`; what is longer is cut, or, when the width begins with 0, what is shorter gets
/// zeros.  Also the long forms %{uid}, %{uidvalidity}, %{filename}, %{guid}, %{md5}, with `| hex(8)`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern::pop3d {

/// RFC 1939 section 7: at most 70 characters, from 0x21 to 0x7E.
inline constexpr std::size_t kMaxUidl = 70;

/// What the variables stand for.
struct UidlValues {
    std::uint32_t uid = 0;
    std::uint32_t uidvalidity = 0;
    std::string_view name;           ///< of %f and %g
    std::string_view header_md5;     ///< of %m
};

/// MD5 as 32 lower case digits.  Errors: unsupported, where the cryptographic library does not offer MD5.
Result<std::string> md5_hex(std::string_view bytes);

class UidlFormat {
public:
    /// Errors: config, naming what is not understood.
    static Result<UidlFormat> parse(std::string_view format);

    bool needs_name() const { return needs_name_; }
    bool needs_header() const { return needs_header_; }
    /// Appends the id; characters that are not allowed become `_`, and too long ones are cut.  Errors: as md5_hex().
    Result<void> append(std::string& out, const UidlValues& values) const;

private:
    enum class What : unsigned char { literal, uid, uidvalidity, name, md5 };
    struct Piece {
        What what = What::literal;
        std::string text;            ///< of a literal
        std::size_t width = 0;
        bool zeros = false;
        std::string modifiers;       ///< of XLUM
    };
    static Result<Piece> short_form(std::string_view& rest);
    static Result<Piece> long_form(std::string_view& rest);
    static Result<std::string> value_of(const Piece& piece, const UidlValues& values);

    std::vector<Piece> pieces_;
    bool needs_name_ = false;
    bool needs_header_ = false;
};

}  // namespace postern::pop3d
