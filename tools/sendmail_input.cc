#include "tools/sendmail_input.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/header.h"

namespace postern::sendmail {
namespace {

/// A line longer than this is given out in pieces.
constexpr std::size_t kLongLine = 64 * 1024;

bool is_from_line(std::string_view text) {
    const std::size_t start = text.find_first_not_of('>');
    return start != std::string_view::npos && text.substr(start, 5) == "From ";
}

void add_mailboxes(std::string_view value, std::vector<std::string>& out) {
    for (const ListAddress& entry : parse_address_list(value, {.max_entries = 100000, .only_deliverable = true})) {
        if (entry.kind != ListAddress::Kind::mailbox || entry.address().empty()) {
            continue;
        }
        std::string address = entry.address().internal();
        if (std::find(out.begin(), out.end(), address) == out.end()) {
            out.push_back(std::move(address));
        }
    }
}

}  // namespace

std::string InputFilter::feed(std::string_view bytes) {
    std::string out;
    while (!bytes.empty() && !ended_) {
        const std::size_t end = bytes.find('\n');
        const bool complete = end != std::string_view::npos;
        const std::string_view piece = bytes.substr(0, complete ? end + 1 : bytes.size());
        bytes.remove_prefix(piece.size());
        if (partial_.empty() && complete) {
            line(piece, !inside_long_line_, true, out);
            inside_long_line_ = false;
            continue;
        }
        partial_ += piece;
        if (!complete && partial_.size() <= kLongLine) {
            continue;
        }
        std::string text = std::exchange(partial_, {});
        if (!complete && text.back() == '\r') {   // may belong to the line's end
            text.pop_back();
            partial_.assign(1, '\r');
        }
        line(text, !inside_long_line_, complete, out);
        inside_long_line_ = !complete;
    }
    return out;
}

bool InputFilter::strips_cr() const {
    switch (options_.fix) {
    case FixLineEndings::always:
        return true;
    case FixLineEndings::strict:   // as the first line has it
        return first_line_ || first_had_cr_;
    case FixLineEndings::never:
        break;
    }
    return false;
}

/// `text` is a line with its LF, or a piece of a long one: its start, its end if `complete`.
void InputFilter::line(std::string_view text, bool start, bool complete, std::string& out) {
    if (start) {
        skipping_ = first_line_ && is_from_line(text);
    }
    if (skipping_) {
        first_line_ = !complete;   // only one such line, and it does not say how lines end
        return;
    }
    if (start && options_.dot_ends && (text == ".\n" || text == ".\r\n")) {
        ended_ = true;
        return;
    }
    if (complete) {
        text.remove_suffix(1);
        if (text.ends_with('\r') && strips_cr()) {
            text.remove_suffix(1);
            first_had_cr_ = first_had_cr_ || first_line_;
        }
        first_line_ = false;
    }
    out += text;
    if (complete) {
        out += '\n';
    }
    collect_header(text, start, complete);
}

void InputFilter::collect_header(std::string_view text, bool start, bool complete) {
    if (!options_.want_header || header_done_) {
        return;
    }
    const bool continuation = start && !text.empty() && (text[0] == ' ' || text[0] == '\t') && !header_.empty();
    if (start && !continuation && header_name_length(text) == 0) {
        header_done_ = true;
        return;
    }
    if (header_.size() + text.size() > kMaxHeaderForRecipients) {
        header_done_ = true;
        return;
    }
    header_ += text;
    if (complete) {
        header_ += '\n';
    }
}

std::string InputFilter::finish() {
    std::string out;
    if (!ended_ && (!partial_.empty() || inside_long_line_)) {
        const std::string rest = std::exchange(partial_, {}) + "\n";
        line(rest, !inside_long_line_, true, out);
        inside_long_line_ = false;
    }
    return out;
}

std::vector<std::string> recipients_in_header(std::string_view header) {
    std::vector<std::string> plain, resent;
    bool is_resent = false;
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        if (equals_ignoring_case(field.name, "to") || equals_ignoring_case(field.name, "cc") ||
            equals_ignoring_case(field.name, "bcc")) {
            add_mailboxes(field.value, plain);
        } else if (starts_with_ignoring_case(field.name, "resent-")) {
            is_resent = true;
            const std::string_view rest = field.name.substr(7);
            if (equals_ignoring_case(rest, "to") || equals_ignoring_case(rest, "cc") || equals_ignoring_case(rest, "bcc")) {
                add_mailboxes(field.value, resent);
            }
        }
    }
    return is_resent ? resent : plain;
}

std::vector<std::string> addresses_in(std::string_view argument) {
    std::vector<std::string> out;
    add_mailboxes(argument, out);
    return out;
}

std::vector<std::string> recipients_in_argument(std::string_view argument) {
    const std::string_view text = trim(argument);
    if (text.starts_with('<') && text.find('>') == std::string_view::npos) {
        return {std::string(text)};
    }
    std::vector<std::string> out = addresses_in(argument);
    if (out.empty()) {
        out.emplace_back();
    }
    return out;
}

}  // namespace postern::sendmail
