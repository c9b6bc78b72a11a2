// BODY out of a stored BODYSTRUCTURE.
#include <optional>

#include "lib/base/strings.h"
#include "lib/mail/imap_structure.h"

namespace postern {

namespace {

constexpr int kMaxNesting = 200;

/// Copies pieces of a parenthesised list.
class StructureReader {
public:
    explicit StructureReader(std::string_view text) : text_(text) {}

    /// One body at `(`; appends its BODY form.
    bool body(std::string& out, int depth);
    bool at_end() const { return at_ == text_.size(); }

private:
    bool element(std::string& out);
    bool skip_string();
    bool space(std::string& out);
    bool take(char c) {
        if (at_ < text_.size() && text_[at_] == c) {
            ++at_;
            return true;
        }
        return false;
    }
    bool close_list();

    std::string_view text_;
    std::size_t at_ = 0;
};

/// At `"` or `{`: moves behind the string.
bool StructureReader::skip_string() {
    if (take('"')) {
        while (at_ < text_.size()) {
            const char c = text_[at_++];
            if (c == '"') {
                return true;
            }
            at_ += c == '\\' ? 1 : 0;
        }
        return false;
    }
    const std::size_t close = text_.find('}', at_);
    if (close == std::string_view::npos || close - at_ > 12) {
        return false;
    }
    const std::optional<std::uint64_t> size = parse_number(text_.substr(at_ + 1, close - at_ - 1));
    if (!size || text_.substr(close + 1, 2) != "\r\n" || *size > text_.size() - close - 3) {
        return false;
    }
    at_ = close + 3 + static_cast<std::size_t>(*size);
    return true;
}

/// Appends one string, atom or list.
bool StructureReader::element(std::string& out) {
    const std::size_t begin = at_;
    std::size_t depth = 0;
    do {
        if (at_ >= text_.size()) {
            return false;
        }
        const char c = text_[at_];
        if (c == '"' || c == '{') {
            if (!skip_string()) {
                return false;
            }
        } else if (c == '(') {
            ++depth;
            ++at_;
        } else if (c == ')') {
            if (depth == 0) {
                return false;
            }
            --depth;
            ++at_;
        } else if (c == ' ') {
            if (depth == 0) {
                return false;
            }
            ++at_;
        } else {
            while (at_ < text_.size() && text_[at_] != ' ' && text_[at_] != ')' && text_[at_] != '(') {
                ++at_;
            }
        }
    } while (depth > 0);
    out.append(text_, begin, at_ - begin);
    return true;
}

bool StructureReader::space(std::string& out) {
    out += ' ';
    return take(' ');
}

/// Drops what is left of a list.
bool StructureReader::close_list() {
    std::string dropped;
    while (!take(')')) {
        if (!take(' ') || !element(dropped)) {
            return false;
        }
        dropped.clear();
    }
    return true;
}

bool StructureReader::body(std::string& out, int depth) {
    if (depth > kMaxNesting || !take('(')) {
        return false;
    }
    out += '(';
    if (at_ < text_.size() && text_[at_] == '(') {
        while (at_ < text_.size() && text_[at_] == '(') {
            if (!body(out, depth + 1)) {
                return false;
            }
        }
        if (!space(out) || !element(out)) {
            return false;
        }
    } else {
        std::string type;
        std::string subtype;
        if (!element(type) || !take(' ') || !element(subtype)) {
            return false;
        }
        out += type + ' ' + subtype;
        for (int i = 0; i < 5; ++i) {
            if (!space(out) || !element(out)) {
                return false;
            }
        }
        const bool message = equals_ignoring_case(type, "\"message\"") &&
                             (equals_ignoring_case(subtype, "\"rfc822\"") || equals_ignoring_case(subtype, "\"global\""));
        if (message && (!space(out) || !element(out) || !space(out) || !body(out, depth + 1))) {
            return false;
        }
        if ((message || equals_ignoring_case(type, "\"text\"")) && (!space(out) || !element(out))) {
            return false;
        }
    }
    out += ')';
    return close_list();
}

}  // namespace

std::optional<std::string> body_from_bodystructure(std::string_view bodystructure) {
    StructureReader reader(bodystructure);
    std::string out;
    out.reserve(bodystructure.size());
    return reader.body(out, 0) && reader.at_end() ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace postern
