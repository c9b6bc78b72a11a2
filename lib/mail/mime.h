/// The MIME structure of a stored message (RFC 2045, 2046, 2183).
///
/// The message is one contiguous piece of memory with LF or CRLF line ends, mixed at will.  One pass,
/// no copy of the text; sizes are known both as stored and as IMAP and POP3 count them, with every line
/// end as CRLF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/mail/parameters.h"

namespace postern {

/// A piece of the message: bytes [begin, end).
struct TextRange {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::uint64_t lines = 0;      ///< line feeds in it
    std::uint64_t bare_lf = 0;    ///< line feeds without a CR before them
    std::uint64_t octets() const { return end - begin + bare_lf; }   ///< with CRLF line ends
    std::string_view of(std::string_view message) const { return message.substr(begin, end - begin); }
};

/// Limits of the structure.  What is nested deeper or comes after the last part allowed is not looked
/// into: a multipart at the limit is reported as application/octet-stream.
struct MimeLimits {
    std::size_t max_depth = 50;
    std::size_t max_parts = 5000;
};

/// One entity.  Its header fields are given raw (folded, views into the message), parsed where every
/// caller wants them parsed.
struct MimePart {
    static constexpr std::uint32_t kNone = 0xffffffff;

    TextRange header;             ///< up to and including the empty line
    TextRange body;               ///< all after it; of a multipart with preamble and epilogue
    ContentType type;             ///< with the default filled in where the field is missing or broken
    std::string_view transfer_encoding, id, description, disposition, language, location, md5;   ///< raw values
    std::uint32_t parent = kNone;
    std::uint32_t first_child = kNone;
    std::uint32_t next_sibling = kNone;
    bool is_multipart = false;    ///< has been parsed as one; may have no children
    bool is_message = false;      ///< message/rfc822 or message/global that was parsed; its one child is the message
};

/// All parts of a message in the order in which they begin; parts[0] is the message itself.
class MimeTree {
public:
    /// The message must stay where it is as long as the tree is used.
    static MimeTree parse(std::string_view message, MimeLimits limits = {});

    std::string_view message() const { return message_; }
    const std::vector<MimePart>& parts() const { return parts_; }
    const MimePart& root() const { return parts_.front(); }
    const MimePart& part(std::uint32_t index) const { return parts_[index]; }
    /// RFC822.SIZE: all octets, with CRLF line ends.
    std::uint64_t octets() const { return root().header.octets() + root().body.octets(); }

private:
    friend class MimeParser;
    std::string_view message_;
    std::vector<MimePart> parts_;
};

/// Octets of `text` when every line ends in CRLF (a LF after a CR is left alone).
std::uint64_t crlf_octets(std::string_view text);
/// Appends `text` with every bare LF as CRLF.
void append_crlf(std::string& out, std::string_view text);

}  // namespace postern
