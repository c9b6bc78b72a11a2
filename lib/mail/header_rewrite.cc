#include "lib/mail/header_rewrite.h"

#include <utility>

#include "lib/mail/address.h"

namespace postern {
namespace {

constexpr int kMaxCommentDepth = 100;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Index behind the quoted string or comment that opens at `at`.
std::size_t skip_quoted(std::string_view text, std::size_t at) {
    for (++at; at < text.size(); ++at) {
        if (text[at] == '\\') {
            ++at;
        } else if (text[at] == '"') {
            return at + 1;
        }
    }
    return text.size();
}
std::size_t skip_comment(std::string_view text, std::size_t at) {
    int depth = 0;
    for (; at < text.size(); ++at) {
        if (text[at] == '\\') {
            ++at;
        } else if (text[at] == '(') {
            depth = depth < kMaxCommentDepth ? depth + 1 : depth;
        } else if (text[at] == ')' && --depth == 0) {
            return at + 1;
        }
    }
    return text.size();
}

/// One element of the list: where its bare text (no comments at the ends) begins and ends, and its angle address.
struct Element {
    std::size_t start = std::string_view::npos;
    std::size_t end = 0;
    std::size_t angle_start = std::string_view::npos;
    std::size_t angle_end = 0;

    void text(std::size_t from, std::size_t to) {
        start = start == std::string_view::npos ? from : start;
        end = to;
    }
};

/// The route of "<@a,@b:user@c>" ends at its colon (RFC 5322 section 4.4).
std::size_t behind_route(std::string_view value, std::size_t from, std::size_t to) {
    if (from < to && value[from] == '@') {
        const std::size_t colon = value.substr(0, to).find(':', from);
        return colon == std::string_view::npos ? from : colon + 1;
    }
    return from;
}

class Finder {
public:
    explicit Finder(std::string_view value) : value_(value) {}

    std::vector<AddressSpan> run() {
        for (at_ = 0; at_ < value_.size();) {
            const char c = value_[at_];
            if (c == '(') {
                at_ = skip_comment(value_, at_);
            } else if (is_space(c)) {
                ++at_;
            } else if (c == ',' || c == ';') {
                end_element();
                ++at_;
            } else if (c == ':') {   // what stood before it was the name of a group
                element_ = {};
                ++at_;
            } else if (c == '<') {
                angle();
            } else {
                word();
            }
        }
        end_element();
        return std::move(found_);
    }

private:
    void word() {
        const std::size_t from = at_;
        if (value_[at_] == '"') {
            at_ = skip_quoted(value_, at_);
        } else if (value_[at_] == '[') {
            const std::size_t end = value_.find(']', at_);
            at_ = end == std::string_view::npos ? value_.size() : end + 1;
        } else {
            at_ += value_[at_] == '\\' ? 2 : 1;
            at_ = at_ > value_.size() ? value_.size() : at_;
        }
        element_.text(from, at_);
    }
    void angle() {
        element_.angle_start = at_ + 1;
        for (++at_; at_ < value_.size() && value_[at_] != '>';) {
            if (value_[at_] == '"') {
                at_ = skip_quoted(value_, at_);
            } else if (value_[at_] == '(') {
                at_ = skip_comment(value_, at_);
            } else {
                at_ += value_[at_] == '\\' ? 2 : 1;
            }
        }
        element_.angle_end = at_ < value_.size() ? at_ : value_.size();
        at_ = element_.angle_end + 1;
    }
    void end_element() {
        const Element element = std::exchange(element_, {});
        std::size_t from = element.start;
        std::size_t to = element.end;
        if (element.angle_start != std::string_view::npos) {
            from = behind_route(value_, element.angle_start, element.angle_end);
            to = element.angle_end;
        }
        if (from == std::string_view::npos || from >= to) {
            return;
        }
        const std::string_view text = value_.substr(from, to - from);
        const std::vector<ListAddress> parsed = parse_address_list(text, {.max_entries = 2});
        if (parsed.size() != 1 || parsed[0].kind != ListAddress::Kind::mailbox) {
            return;
        }
        const Address address = parsed[0].address();
        const bool bare_local = address.domain.empty() && !address.local.empty();
        if (address.empty() || (parsed[0].invalid && !bare_local)) {
            return;
        }
        found_.push_back({from, to - from, address.internal()});
    }

    std::string_view value_;
    std::size_t at_ = 0;
    Element element_;
    std::vector<AddressSpan> found_;
};

}  // namespace

std::vector<AddressSpan> find_addresses(std::string_view value) { return Finder(value).run(); }

std::string header_address(std::string_view internal) { return external_form(internal); }

}  // namespace postern
