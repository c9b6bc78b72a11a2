/// LF to CRLF while text passes through in pieces.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace postern::imapd {

/// How long a text will be with CRLF line ends.  Pieces may be cut anywhere.
class CrlfCounter {
public:
    void add(std::string_view piece) {
        size_ += piece.size();
        for (std::size_t at = 0; at < piece.size();) {
            const void* const found = std::memchr(piece.data() + at, '\n', piece.size() - at);
            if (found == nullptr) {
                break;
            }
            const auto lf = static_cast<std::size_t>(static_cast<const char*>(found) - piece.data());
            size_ += (lf > 0 ? piece[lf - 1] : last_) != '\r' ? 1 : 0;
            at = lf + 1;
        }
        nul_ = nul_ || std::memchr(piece.data(), '\0', piece.size()) != nullptr;
        last_ = piece.empty() ? last_ : piece.back();
    }
    std::uint64_t size() const { return size_; }
    bool has_nul() const { return nul_; }

private:
    std::uint64_t size_ = 0;
    char last_ = 0;
    bool nul_ = false;
};

/// Appends pieces of a text with every bare LF as CRLF.
class CrlfWriter {
public:
    /// `replace_nul`: NUL becomes 0x80, which an IMAP literal can carry.
    void append(std::string& out, std::string_view piece, bool replace_nul) {
        const std::size_t start = out.size();
        for (std::size_t at = 0; at < piece.size();) {
            const void* const found = std::memchr(piece.data() + at, '\n', piece.size() - at);
            if (found == nullptr) {
                out.append(piece.data() + at, piece.size() - at);
                break;
            }
            const auto lf = static_cast<std::size_t>(static_cast<const char*>(found) - piece.data());
            const bool bare = (lf > 0 ? piece[lf - 1] : last_) != '\r';
            out.append(piece.data() + at, lf - at);
            if (bare) {
                out += '\r';
            }
            out += '\n';
            at = lf + 1;
        }
        if (replace_nul) {
            std::replace(out.begin() + static_cast<std::ptrdiff_t>(start), out.end(), '\0', '\x80');
        }
        last_ = piece.empty() ? last_ : piece.back();
    }

private:
    char last_ = 0;
};

}  // namespace postern::imapd
