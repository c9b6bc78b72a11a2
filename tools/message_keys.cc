#include "tools/message_keys.h"

#include <string>
#include <vector>

#include "lib/base/strings.h"

namespace postern::tools {
namespace {

constexpr std::size_t kMaxDepth = 20;

/// The boundary parameter of a Content-Type field; empty when it has none.
std::string boundary_of(std::string_view field) {
    const std::string folded = to_lower(field);
    std::size_t at = folded.find("boundary=");
    if (at == std::string::npos) {
        return {};
    }
    at += 9;
    if (at < field.size() && field[at] == '"') {
        return std::string(field.substr(at + 1, field.find('"', at + 1) - at - 1));
    }
    return std::string(field.substr(at, field.find_first_of("; \t\n", at) - at));
}

class Walk {
public:
    Walk(const MessageKeys& wanted, const std::function<void(std::string_view)>& visit) : wanted_(wanted), visit_(visit) {}

    void line(std::string_view text) {
        if (wanted_.mime && !in_header_ && begins_part(text)) {
            in_header_ = true;
            is_message_ = false;
            return;
        }
        if (!in_header_) {
            if (wanted_.body) {
                visit_(text);
            }
            return;
        }
        if (text.empty()) {
            finish_field();
            in_header_ = wanted_.mime && is_message_;   // an attached message begins with its own header
            is_message_ = false;
            return;
        }
        if ((text.front() == ' ' || text.front() == '\t') && !field_.empty()) {
            field_ += '\n';
        } else {
            finish_field();
        }
        field_ += text;
    }
    void finish() { finish_field(); }

private:
    void finish_field() {
        if (field_.empty()) {
            return;
        }
        if (wanted_.headers) {
            visit_(field_);
        }
        if (wanted_.mime && starts_with_ignoring_case(field_, "content-type:")) {
            const std::string value = to_lower(trim(std::string_view(field_).substr(13)));
            is_message_ = value.compare(0, 14, "message/rfc822") == 0;
            const std::string boundary = boundary_of(field_);
            if (value.compare(0, 10, "multipart/") == 0 && !boundary.empty() && boundaries_.size() < kMaxDepth) {
                boundaries_.push_back(boundary);
            }
        }
        field_.clear();
    }

    /// "--boundary" of an open multipart begins a part; "--boundary--" ends its multipart.
    bool begins_part(std::string_view text) {
        if (text.substr(0, 2) != "--") {
            return false;
        }
        for (std::size_t depth = boundaries_.size(); depth-- > 0;) {
            const std::string_view rest = trim(text.substr(2));
            if (rest == boundaries_[depth]) {
                boundaries_.resize(depth + 1);
                return true;
            }
            if (rest == boundaries_[depth] + "--") {
                boundaries_.resize(depth);
                return false;
            }
        }
        return false;
    }

    const MessageKeys& wanted_;
    const std::function<void(std::string_view)>& visit_;
    bool in_header_ = true;
    bool is_message_ = false;
    std::string field_;
    std::vector<std::string> boundaries_;
};

}  // namespace

void for_each_message_key(std::string_view message, const MessageKeys& wanted,
                          const std::function<void(std::string_view)>& visit) {
    Walk walk(wanted, visit);
    while (!message.empty()) {
        const std::size_t end = message.find('\n');
        walk.line(message.substr(0, end));
        message.remove_prefix(end == std::string_view::npos ? message.size() : end + 1);
    }
    walk.finish();
}

}  // namespace postern::tools
