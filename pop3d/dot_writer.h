/// A stored message as POP3 sends it (RFC 1939 section 3): CRLF line ends, lines that begin with a dot get another,
/// and a line with a dot alone at the end.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace postern::pop3d {

struct DotOptions {
    std::uint64_t body_lines = std::numeric_limits<std::uint64_t>::max();   ///< TOP sends the header and this many
    bool replace_nuls = false;       ///< pop3_client_workarounds = outlook-no-nuls: NUL becomes 0x80
    bool end_header = false;         ///< pop3_client_workarounds = oe-ns-eoh: an empty line where the header has no end
};

class DotWriter {
public:
    explicit DotWriter(DotOptions options = {}) : options_(options) {}

    /// Appends the next piece of the message, cut anywhere.  False: no more is wanted.
    bool write(std::string_view bytes, std::string& out);
    /// Appends the end.
    void finish(std::string& out);
    /// Octets of the message that were sent, without stuffed dots and the final line.
    std::uint64_t octets() const { return octets_; }

private:
    void append(std::string_view piece, std::string& out);
    void end_line(std::string& out);

    DotOptions options_;
    std::uint64_t octets_ = 0;
    std::uint64_t line_bytes_ = 0;   ///< of the line being sent
    std::uint64_t lines_left_ = 0;
    bool in_header_ = true;
    bool last_cr_ = false;
    bool done_ = false;
};

}  // namespace postern::pop3d
