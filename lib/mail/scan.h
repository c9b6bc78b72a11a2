/// The lexical pieces that all structured header fields share (RFC 5322 section 3.2).  For lib/mail itself.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postern {

/// Folding or plain white space: SP, HT, CR, LF.
inline bool is_fws(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
inline bool is_control(char c) { return static_cast<unsigned char>(c) < 32 || c == 127; }
/// RFC 5322 atext, and bytes over 127 (RFC 6532).
bool is_atext(char c);

/// A position in a structured field.  Every step moves forward; nothing recurses.
class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) {}

    bool at_end() const { return pos_ >= text_.size(); }
    /// NUL at the end; check at_end() where NUL bytes matter.
    char peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }
    bool at(char c) const { return pos_ < text_.size() && text_[pos_] == c; }
    char take() { return text_[pos_++]; }
    std::size_t position() const { return pos_; }
    void rewind(std::size_t position) { pos_ = position; }
    std::string_view rest() const { return text_.substr(pos_); }
    std::string_view between(std::size_t begin, std::size_t end) const { return text_.substr(begin, end - begin); }

    /// Skips white space and comments.  True when there was any.  A comment without end sets broken().
    /// The text of the last comment, if `comment` is given and there is one, replaces its contents.
    bool skip_cfws(std::string* comment = nullptr);
    /// At `"`: appends the contents, with escapes and line ends removed.  A missing end sets broken().
    void quoted_string(std::string& out);
    /// Appends atext characters; true when there was one.
    bool atom(std::string& out);
    bool broken() const { return broken_; }

private:
    void comment(std::string* out);

    std::string_view text_;
    std::size_t pos_ = 0;
    bool broken_ = false;
};

}  // namespace postern
