/// Follows the MIME structure of a message as it streams by (RFC 2045, 2046), for checks of headers inside it.
///
/// Every byte that goes in comes out, in order, as fields and body lines, unless Limits::to_seven_bit wants some encoded; what does not
/// look like MIME is body.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/checks/checks.h"

namespace postern {

/// `field`, a Content-Transfer-Encoding of any header, is "8bit" or "binary" and nothing else: no comment, no blank at the end.
bool declares_eight_bit(std::string_view field);

/// What a part with these values in its header says of its encoding once it is in 7 bits (RFC 6152 section 3); empty: it stays as it is.
std::string_view seven_bit_encoding(std::string_view content_type, std::string_view transfer_encoding);

class MimeWalker {
public:
    struct Limits {
        std::size_t line = 2048;        ///< line_length_limit: a longer line comes in pieces
        std::size_t field = 102400;     ///< header_size_limit: a longer field is cut there, the rest comes as `rest`
        std::size_t nesting = 100;      ///< mime_nesting_limit: what is deeper is body
        std::size_t boundary = 2048;    ///< mime_boundary_length_limit: bytes of a boundary that count
        bool mime = true;               ///< false: there is no structure (disable_mime_input_processing)
        bool to_seven_bit = false;      ///< force_mime_input_conversion: parts that say 8bit or binary come as quoted-printable
    };
    /// A field or a body line, with its LF unless it was cut.
    struct Piece {
        LineKind kind = LineKind::body;
        bool rest = false;              ///< goes with the field before it, and is not looked at
        std::uint64_t offset = 0;       ///< of a body line: bytes of the same part before it
        std::string text;
        bool eight_bit = false;         ///< of a body line: its part says that it has 8-bit bytes (8bit, binary)
    };

    explicit MimeWalker(Limits limits) : limits_(limits) {}

    /// The message's header goes elsewhere: the body begins, of this Content-Type and Content-Transfer-Encoding (values; may be empty).
    void start_body(std::string_view content_type, std::string_view transfer_encoding);
    /// Bytes, cut anywhere.  Completed pieces are added to pieces().
    void feed(std::string_view bytes);
    /// The same for somebody who wants to know what the structure says, not the bytes: no pieces, and hardly any work in long bodies.
    void scan(std::string_view bytes);
    /// The end: what waits comes out; a last line keeps having no LF.
    void finish();
    /// Nothing but body will come, and `offset` bytes of it have been.
    bool is_plain_body(std::uint64_t offset) const {
        return !in_header_ && boundaries_.empty() && !nested_begins_ && !encodes_ && offset_ >= offset;
    }
    /// The encoding of a multipart or message that RFC 2045 section 6.4 forbids there; empty when all is well so far.
    const std::string& forbidden_encoding() const { return forbidden_encoding_; }
    /// The header of a part or of an attached message says that 8-bit bytes follow.
    bool declares_eight_bit() const { return declares_eight_bit_; }
    std::vector<Piece> take_pieces() { return std::exchange(pieces_, {}); }

private:
    void take_line(std::string_view& bytes);
    bool skip_body_line(std::string_view& bytes);
    void line(std::string text);
    void header_line(std::string text);
    void body_line(std::string text);
    bool at_boundary(std::string_view text);
    void end_field();
    void begin_header(LineKind kind);
    void begin_body();
    void add_body(std::string text);
    void add_encoding();

    Limits limits_;
    std::vector<std::string> boundaries_;   ///< of the multiparts we are in, outermost first
    std::vector<Piece> pieces_;
    std::string line_, field_, content_type_, transfer_encoding_, forbidden_encoding_;
    LineKind header_ = LineKind::header;    ///< of which the header is
    std::size_t depth_ = 0;
    std::uint64_t offset_ = 0;
    bool in_header_ = true;
    bool eight_bit_ = false;                ///< the part that we are in says so
    bool declares_eight_bit_ = false;
    bool encodes_ = false;                  ///< the part that we are in comes out as quoted-printable
    bool ends_ = false;
    bool line_goes_on_ = false;             ///< the line was cut: what comes is its rest
    bool field_cut_ = false;
    bool nested_begins_ = false;            ///< the next line, when empty, is followed by an attached message's header
};

}  // namespace postern
