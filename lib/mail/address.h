/// Mail addresses: SMTP paths (RFC 5321 section 4.1.2, RFC 6531), header address lists (RFC 5322
/// sections 3.4 and 4.4) and domain names.
///
/// All functions take any bytes, need time linear in the input and never fail by exception.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"

namespace postern {

/// RFC 5321 section 4.5.3.1.1-3: octets of a local part, a domain and a path; RFC 1035 section 2.3.4: a label.
inline constexpr std::size_t kMaxLocalPart = 64;
inline constexpr std::size_t kMaxDomain = 255;
inline constexpr std::size_t kMaxLabel = 63;
/// What parse_path() takes at most: like Postfix, far more than the standard promises.
inline constexpr std::size_t kMaxPath = 2048;

/// One mailbox.  `local` is without quoting (`a b` for `"a b"`), `domain` as written; a domain literal
/// keeps its brackets.  Both empty is the null reverse-path; only `domain` empty is a bare local part,
/// such as `postmaster`.
struct Address {
    std::string local;
    std::string domain;

    bool empty() const { return local.empty() && domain.empty(); }
    /// Postfix's "internal" form, `local@domain` without quotes: for table lookups, logs and the queue.
    std::string internal() const;
    /// Postfix's "external" form, with the local part quoted where RFC 5321 asks for it: for SMTP
    /// commands and headers, without angle brackets.
    std::string external() const;
    bool operator==(const Address&) const = default;
};

/// The internal form back to an Address: the last `@` separates.  No syntax is checked.
Address split_internal(std::string_view internal);
/// The local part as it stands on the wire: quoted unless it is an RFC 5321 Dot-string (bytes over 127
/// count as atom characters, RFC 6531 section 3.3).  Control characters and NUL are quoted with `\`.
std::string quote_local(std::string_view local);
/// Internal to external form of a whole address; the last `@` separates.
std::string external_form(std::string_view internal);

// --- SMTP paths -------------------------------------------------------------------------------------------

struct PathOptions {
    /// strict_rfc821_envelopes: insist on `<` `>` and on bare RFC 5321 syntax.  Otherwise a missing pair of
    /// brackets, white space, comments and a display name are forgiven, as Postfix does.
    bool strict = false;
    /// `<>` is a path (MAIL FROM only).
    bool allow_null = false;
};

struct SmtpPath {
    Address address;
    bool utf8 = false;            ///< a byte over 127 is in it: needs SMTPUTF8 (RFC 6531)
    std::string_view parameters;  ///< what follows the path, without leading space: `SIZE=100 BODY=8BITMIME`
};

/// The path after `MAIL FROM:` or `RCPT TO:`.  `text` is the rest of the command line without its line
/// end; white space before the path is skipped.  A source route is checked and dropped (RFC 5321 section
/// 4.1.1.3).  The domain may be missing (`<postmaster>`); whether that is acceptable, and whether the
/// domain is a proper host name (`valid_hostname`, `valid_address_literal`), is the caller's decision.
/// The returned view points into `text`.  Errors: syntax, too_big.
Result<SmtpPath> parse_path(std::string_view text, PathOptions options = {});

/// A single address as an administrator or `sendmail` writes it on a command line (`user`, `user@host`,
/// `"a b"@host`, `Name <user@host>`).  Errors: syntax.
Result<Address> parse_address(std::string_view text);

// --- domains ----------------------------------------------------------------------------------------------

/// Letters, digits, hyphens and underscores (Postfix allows the last) in labels of 1 to 63 octets that do
/// not begin or end with a hyphen, at most 255 octets, not all numeric.  With `utf8`, well-formed UTF-8
/// is taken as letters (RFC 6531 U-labels).  No trailing dot.
bool valid_hostname(std::string_view name, bool utf8 = false);
/// `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3), with the brackets.
bool valid_address_literal(std::string_view text);
/// A dotted quad or an IPv6 address in text form, without brackets.
bool valid_ip_address(std::string_view text);
/// valid_hostname or valid_address_literal.
bool valid_mail_domain(std::string_view domain, bool utf8 = false);

// --- header address lists ---------------------------------------------------------------------------------

/// One entry of an address list.  What a group is made of comes as IMAP's ENVELOPE wants it (RFC 3501
/// section 7.4.2): a group_start with the group's name in `local`, its members, a group_end.
struct ListAddress {
    enum class Kind : unsigned char { mailbox, group_start, group_end };
    Kind kind = Kind::mailbox;
    /// Something RFC 5322 requires is missing (local part or domain) or the text is malformed.
    bool invalid = false;
    bool has_name = false;   ///< `name` was given, perhaps as `""`
    std::string name;        ///< display name or, without one, the comment after the address; quotes and
                             ///< folding undone, encoded words left as they are
    std::string route;       ///< `@a,@b`; obsolete source route
    std::string local;       ///< unquoted
    std::string domain;      ///< as written, with CFWS removed; may be empty

    Address address() const { return {local, domain}; }
};

struct AddressListOptions {
    /// Stop after so many entries; the rest is ignored.
    std::size_t max_entries = 10000;
    /// Leave out entries that name no mailbox at all (`Display Name` alone).
    bool only_deliverable = false;
};

/// Parses the value of From, To, Resent-Bcc and the like: folded or not, with groups, comments (nested up
/// to 20), obsolete routes, empty elements and missing commas at line ends.  Whatever cannot be
/// understood is skipped up to the next comma and reported by an entry with `invalid` set.
std::vector<ListAddress> parse_address_list(std::string_view value, AddressListOptions options = {});

/// `Name <local@domain>`, with the name quoted where it must be; the inverse of parse_address_list().
std::string format_list_address(const ListAddress& address);

// --- address extensions -----------------------------------------------------------------------------------

/// A local part and its extension.  `extension` is without the delimiter; `delimiter` is 0 when there is none.
struct SplitLocal {
    std::string_view base;
    std::string_view extension;
    char delimiter = 0;
};

/// recipient_delimiter as Postfix splits: at the first character that is in `delimiters`, with something
/// before it.  Never split: `postmaster`, `mailer-daemon`, `double-bounce` (any case) and, when `-` is a
/// delimiter, `owner-name` and `name-request`.  An empty extension is one: `user+`.
SplitLocal split_extension(std::string_view local, std::string_view delimiters);

}  // namespace postern
