/// Message structure in IMAP wire form (RFC 3501 section 7.4.2, RFC 9051 section 7.5.2).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "lib/mail/mime.h"

namespace postern {

/// An nstring/string: quoted when it can be, else as a literal (`{3}CRLF...`); NUL bytes become 0x80, which
/// IMAP cannot carry otherwise (as Dovecot does).
void append_imap_string(std::string& out, std::string_view text);

/// ENVELOPE of a header block, with its outer parentheses.  Missing and empty fields are NIL, Sender and
/// Reply-To default to From.
std::string imap_envelope(std::string_view header);
/// BODY, with its outer parentheses.
std::string imap_body(const MimeTree& tree);
/// BODYSTRUCTURE, with its outer parentheses.
std::string imap_bodystructure(const MimeTree& tree);
/// BODY from a stored BODYSTRUCTURE (the extension data dropped); nothing when it is not well-formed.
std::optional<std::string> body_from_bodystructure(std::string_view bodystructure);

/// What a section specification (RFC 3501 section 6.4.5) names: `1.2`, `1.2.MIME`, `1.HEADER`, `TEXT`, ``.
struct Section {
    enum class What : unsigned char { whole, header, text, mime };
    What what = What::whole;
    std::uint32_t part = 0;   ///< the entity in the tree whose header or text is meant
    TextRange range;          ///< the bytes meant
};

/// Finds a section.  `numbers` is the numeric part (`1.2`, may be empty), `what` what follows: whole for
/// nothing.  HEADER and TEXT with numbers need a message/rfc822 part.  Nothing when there is no such part.
/// HEADER.FIELDS is asked for as header; the caller picks the fields.
std::optional<Section> find_section(const MimeTree& tree, std::string_view numbers, Section::What what);

}  // namespace postern
