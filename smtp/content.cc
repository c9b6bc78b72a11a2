#include "smtp/content.h"

#include <algorithm>

#include "lib/queue/queue_file.h"

namespace postern::smtp {
namespace {

constexpr std::uint64_t kSmallMessage = 128 * 1024;
constexpr std::uint64_t kMaxHeaders = 64 * 1024 * 1024;
constexpr std::size_t kPiece = 64 * 1024;

}  // namespace

/// Part of one line.
void DotEncoder::put(std::string_view text, std::string& out) {
    if (text.empty()) {
        return;
    }
    if (column_ == 0 && form_.dots && text.front() == '.') {
        out += '.';
    }
    while (form_.line_limit > 0 && column_ + text.size() > form_.line_limit) {
        const std::size_t room = form_.line_limit - column_;
        append(text.substr(0, room), out);
        out += "\r\n ";
        text.remove_prefix(room);
        column_ = 1;
        folded_ = true;
    }
    append(text, out);
    column_ += text.size();
}

void DotEncoder::append(std::string_view text, std::string& out) const {
    const std::size_t begin = out.size();
    out += text;
    if (form_.stray_cr_is_space) {
        for (std::size_t at = out.find('\r', begin); at != std::string::npos; at = out.find('\r', at)) {
            out[at] = ' ';
        }
    }
}

void DotEncoder::end_line(std::string& out) {
    out += "\r\n";
    column_ = 0;
}

void DotEncoder::add(std::string_view piece, std::string& out) {
    if (held_cr_ && !piece.empty()) {
        held_cr_ = false;
        if (piece.front() != '\n') {
            put("\r", out);
        }
    }
    out.reserve(out.size() + piece.size() + piece.size() / 16 + 64);
    while (!piece.empty()) {
        const std::size_t end = piece.find('\n');
        if (end == std::string_view::npos) {
            held_cr_ = piece.back() == '\r';
            put(piece.substr(0, piece.size() - (held_cr_ ? 1 : 0)), out);
            return;
        }
        const bool had_cr = end > 0 && piece[end - 1] == '\r';
        put(piece.substr(0, end - (had_cr ? 1 : 0)), out);
        end_line(out);
        piece.remove_prefix(end + 1);
    }
}

void DotEncoder::finish(std::string& out) {
    if (held_cr_) {
        held_cr_ = false;
        end_line(out);
    } else if (column_ > 0) {
        end_line(out);
    }
}

Result<void> Content::open(const queue::Deliver& request) {
    request_ = &request;
    const queue::Extent& headers = request.headers;
    const queue::Extent& body = request.body;
    if (headers.length > kMaxHeaders) {
        return Error(Errc::too_big, "headers too large");
    }
    size_ = headers.length + body.length;
    whole_ = headers.offset == body.offset + body.length && size_ <= kSmallMessage;
    text_.resize(whole_ ? size_ : headers.length);
    const std::uint64_t from = whole_ ? body.offset : headers.offset;
    const Result<void> got = queue::read_exactly(request.message.get(), text_.data(), text_.size(), from);
    if (!got) {
        return got;
    }
    const std::string_view text = text_;
    headers_ = whole_ ? text.substr(body.length) : text;
    body_ = whole_ ? text.substr(0, body.length) : std::string_view();
    rewind();
    return {};
}

void Content::replace(std::string text) {
    make_filter_ = nullptr;
    text_ = std::move(text);
    whole_ = true;
    headers_ = text_;
    body_ = {};
    size_ = text_.size();
    rewind();
}

void Content::replace_headers(std::string headers) {
    size_ = size_ - headers_.size() + headers.size();
    own_headers_ = std::move(headers);
    headers_ = own_headers_;
    rewind();
}

void Content::rewind(bool looking) {
    headers_given_ = headers_.empty();
    body_at_ = 0;
    filter_ = make_filter_ ? make_filter_(looking) : nullptr;
}

void Content::set_filter(FilterMaker make) {
    make_filter_ = std::move(make);
    rewind();
}

/// The filter may keep all of a piece: then the next one has to come too.
Result<std::string_view> Content::next() {
    if (!filter_) {
        return make_filter_ ? Result<std::string_view>(std::string_view()) : next_raw();
    }
    filtered_.clear();
    while (filtered_.empty() && filter_) {
        const Result<std::string_view> piece = next_raw();
        if (!piece) {
            return piece;
        }
        const Result<void> passed = piece->empty() ? filter_->finish(filtered_) : filter_->feed(*piece, filtered_);
        if (!passed) {
            return passed.error();
        }
        if (piece->empty()) {
            filter_.reset();
        }
    }
    return std::string_view(filtered_);
}

Result<std::string_view> Content::next_raw() {
    if (!headers_given_) {
        headers_given_ = true;
        return headers_;
    }
    if (whole_) {
        const std::string_view rest = body_.substr(std::min<std::uint64_t>(body_at_, body_.size()));
        body_at_ = body_.size();
        return rest;
    }
    const std::uint64_t left = request_->body.length - body_at_;
    piece_.resize(std::min<std::uint64_t>(left, kPiece));
    if (piece_.empty()) {
        return std::string_view();
    }
    const Result<void> got = queue::read_exactly(request_->message.get(), piece_.data(), piece_.size(), request_->body.offset + body_at_);
    if (!got) {
        return got.error();
    }
    body_at_ += piece_.size();
    return std::string_view(piece_);
}

}  // namespace postern::smtp
