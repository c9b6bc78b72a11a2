#include "local/message.h"

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/queue/queue_file.h"

namespace postern::local {
namespace {

constexpr std::uint64_t kSmallMessage = 128 * 1024;
constexpr std::uint64_t kMaxHeaders = 64 * 1024 * 1024;
constexpr std::string_view kFrom = "From ";

}  // namespace

Result<MessagePtr> Message::load(queue::Deliver request, bool may_be_repeated) {
    auto message = std::make_shared<Message>();
    message->may_be_repeated_ = may_be_repeated;
    const queue::Extent headers = request.headers;
    const queue::Extent body = request.body;
    const bool adjacent = headers.offset == body.offset + body.length;
    if (headers.length > kMaxHeaders) {
        return Error(Errc::too_big, request.queue_id + ": headers too large");
    }
    message->has_body_ = adjacent && headers.length + body.length <= kSmallMessage;
    const std::uint64_t from = message->has_body_ ? body.offset : headers.offset;
    const std::uint64_t length = message->has_body_ ? body.length + headers.length : headers.length;
    message->text_.resize(length);
    const Result<void> got = queue::read_exactly(request.message.get(), message->text_.data(), length, from);
    if (!got) {
        return Error(got.error().code, request.queue_id + ": " + got.error().what);
    }
    const std::string_view text = message->text_;
    message->headers_ = message->has_body_ ? text.substr(body.length) : text;
    message->body_ = message->has_body_ ? text.substr(0, body.length) : std::string_view();
    message->request_ = std::move(request);
    return MessagePtr(std::move(message));
}

Result<std::size_t> Message::read_body(std::uint64_t offset, char* buffer, std::size_t size) const {
    if (offset >= request_.body.length) {
        return std::size_t{0};
    }
    const std::size_t want = std::min<std::uint64_t>(size, request_.body.length - offset);
    const Result<void> got = queue::read_exactly(request_.message.get(), buffer, want, request_.body.offset + offset);
    return got ? Result<std::size_t>(want) : got.error();
}

std::string Message::field(std::string_view name, std::size_t nth) const {
    std::string_view rest = headers_;
    std::string value;
    bool inside = false;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (!line.empty() && (line.front() == ' ' || line.front() == '\t')) {
            if (inside) {
                value += line;
            }
            continue;
        }
        if (inside) {
            break;
        }
        if (line.size() > name.size() && line[name.size()] == ':' && starts_with_ignoring_case(line, name) && nth-- == 0) {
            inside = true;
            value = line.substr(name.size() + 1);
        }
    }
    return std::string(trim(value));
}

bool Message::was_delivered_to(std::string_view address) const {
    constexpr std::string_view kName = "delivered-to:";
    const std::string wanted = quoted(address);
    for (std::size_t at = 0; at < headers_.size();) {
        const std::size_t end = std::min(headers_.find('\n', at), headers_.size());
        const std::string_view line = headers_.substr(at, end - at);
        if (starts_with_ignoring_case(line, kName) && equals_ignoring_case(trim(line.substr(kName.size())), wanted)) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

std::string quoted(std::string_view internal_address) {
    return external_form(internal_address);
}

/// Decides about the held beginning of a line, which is not a proper prefix of "From " any more.
void BodyFilter::begin_line(std::string& out) {
    if (quote_from && held_ == kFrom) {
        out += '>';
    }
    out += held_;
    held_.clear();
    at_line_start_ = false;
}

void BodyFilter::add(std::string_view piece, std::string& out) {
    if (changes_nothing()) {
        out += piece;
        at_line_start_ = piece.empty() ? at_line_start_ : piece.back() == '\n';
        return;
    }
    while (!piece.empty()) {
        const char c = piece.front();
        if (at_line_start_ && quote_from && c == kFrom[held_.size()]) {
            held_ += c;
            piece.remove_prefix(1);
            if (held_.size() == kFrom.size()) {
                begin_line(out);
            }
            continue;
        }
        if (at_line_start_) {
            if (stuff_dots && c == '.' && held_.empty()) {
                out += '.';
            }
            begin_line(out);
        }
        const std::size_t end = piece.find('\n');
        out += piece.substr(0, end);
        if (end == std::string_view::npos) {
            return;
        }
        out += eol;
        at_line_start_ = true;
        piece.remove_prefix(end + 1);
    }
}

void BodyFilter::finish(std::string& out) {
    if (!held_.empty()) {
        begin_line(out);
    }
    if (!at_line_start_) {
        out += eol;
        at_line_start_ = true;
    }
}

}  // namespace postern::local
