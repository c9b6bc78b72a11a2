#include "lib/checks/mime_walker.h"

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/mail/header.h"
#include "lib/mail/parameters.h"
#include "lib/mail/transfer_encoding.h"

namespace postern {
namespace {

bool is_eight_bit(std::string_view transfer_encoding) {
    const TransferEncoding encoding = parse_transfer_encoding(transfer_encoding);
    return encoding == TransferEncoding::eight_bit || encoding == TransferEncoding::binary;
}

}  // namespace

std::string_view seven_bit_encoding(std::string_view content_type, std::string_view transfer_encoding) {
    if (!is_eight_bit(transfer_encoding)) {
        return "";
    }
    const ContentType type = parse_content_type(content_type);   // RFC 2045 section 6.4: only what is in a composite is encoded
    const bool composite = equals_ignoring_case(type.type, "multipart") || equals_ignoring_case(type.type, "message");
    return composite ? "7bit" : "quoted-printable";
}

bool declares_eight_bit(std::string_view field) {
    field.remove_prefix(std::min(field.size(), field.find(':') + 1));
    field.remove_prefix(std::min(field.size(), field.find_first_not_of(" \t\n\v\f\r")));
    field.remove_suffix(field.ends_with('\n') ? 1 : 0);
    return equals_ignoring_case(field, "8bit") || equals_ignoring_case(field, "binary");
}

void MimeWalker::start_body(std::string_view content_type, std::string_view transfer_encoding) {
    content_type_ = content_type;
    transfer_encoding_ = transfer_encoding;
    begin_body();
}

void MimeWalker::feed(std::string_view bytes) {
    while (!bytes.empty()) {
        take_line(bytes);
    }
}

void MimeWalker::scan(std::string_view bytes) {
    while (!bytes.empty() && !is_plain_body(0)) {
        if (!skip_body_line(bytes)) {
            take_line(bytes);
        }
    }
    pieces_.clear();
}

/// In a body nothing but delimiter lines matters to scan().  False when there may be one, or this is no body.
bool MimeWalker::skip_body_line(std::string_view& bytes) {
    if (in_header_ || nested_begins_ || !line_.empty() || (bytes[0] == '-' && !line_goes_on_)) {
        return false;
    }
    const std::size_t end = bytes.find('\n');
    line_goes_on_ = end == std::string_view::npos;
    bytes.remove_prefix(line_goes_on_ ? bytes.size() : end + 1);
    return true;
}

/// Takes a line, or as much of it as is there and line_length_limit lets through at a time.
void MimeWalker::take_line(std::string_view& bytes) {
    const std::size_t end = bytes.find('\n');
    const std::size_t room = limits_.line - std::min(limits_.line, line_.size());
    const std::size_t take = std::min(end == std::string_view::npos ? bytes.size() : end + 1, std::max<std::size_t>(room, 1));
    line_ += bytes.substr(0, take);
    bytes.remove_prefix(take);
    const bool whole = line_.ends_with('\n');
    if (!whole && line_.size() < limits_.line) {
        return;
    }
    line(std::exchange(line_, {}));
    line_goes_on_ = !whole;
}

void MimeWalker::finish() {
    ends_ = true;
    if (!line_.empty()) {
        line(std::exchange(line_, {}));
    }
    end_field();
}

void MimeWalker::line(std::string text) {
    if (in_header_) {
        header_line(std::move(text));
    } else {
        body_line(std::move(text));
    }
}

void MimeWalker::header_line(std::string text) {
    const bool continues = !field_.empty() && (line_goes_on_ || text[0] == ' ' || text[0] == '\t');
    if (continues) {
        if (field_cut_ || field_.size() + text.size() > limits_.field) {
            if (!field_cut_) {
                pieces_.push_back({header_, false, 0, field_, false});
            }
            field_cut_ = true;   // field_ stays, so that what continues it is known as such
            pieces_.push_back({header_, true, 0, std::move(text), false});
        } else {
            field_ += text;
        }
        return;
    }
    end_field();
    if (header_name_length(text) > 0) {
        field_ = std::move(text);
        return;
    }
    add_encoding();
    begin_body();
    body_line(std::move(text));
}

/// The field is complete.
void MimeWalker::end_field() {
    if (field_.empty()) {
        return;
    }
    const std::string_view name = std::string_view(field_).substr(0, header_name_length(field_));
    const bool about_mime = is_mime_field(name);
    if (equals_ignoring_case(name, "content-type")) {
        content_type_ = unfold(find_field(field_, "content-type").value);
    } else if (equals_ignoring_case(name, "content-transfer-encoding")) {
        transfer_encoding_ = trim(unfold(find_field(field_, "content-transfer-encoding").value));
        declares_eight_bit_ = declares_eight_bit_ || postern::declares_eight_bit(field_);
    }
    const bool replaced = limits_.to_seven_bit && equals_ignoring_case(name, "content-transfer-encoding") && is_eight_bit(transfer_encoding_);
    if (!field_cut_ && !replaced) {
        pieces_.push_back({about_mime ? LineKind::mime_header : header_, false, 0, std::move(field_), false});
    }
    field_.clear();
    field_cut_ = false;
}

/// The header that ends here says how its part is encoded, when that is not what it said.
void MimeWalker::add_encoding() {
    const std::string_view encoding = limits_.to_seven_bit ? seven_bit_encoding(content_type_, transfer_encoding_) : "";
    if (!encoding.empty()) {
        pieces_.push_back({LineKind::mime_header, false, 0, "Content-Transfer-Encoding: " + std::string(encoding) + "\n", false});
    }
}

void MimeWalker::begin_header(LineKind kind) {
    in_header_ = true;
    header_ = kind;
    content_type_.clear();
    transfer_encoding_.clear();
}

/// What follows a header, by what the header says.
void MimeWalker::begin_body() {
    in_header_ = false;
    offset_ = 0;
    encodes_ = limits_.to_seven_bit && seven_bit_encoding(content_type_, transfer_encoding_) == "quoted-printable";
    eight_bit_ = equals_ignoring_case(transfer_encoding_, "8bit") || equals_ignoring_case(transfer_encoding_, "binary");
    if (!limits_.mime || content_type_.empty() || depth_ >= limits_.nesting) {
        return;
    }
    const ContentType type = parse_content_type(content_type_);
    const bool encoded = equals_ignoring_case(transfer_encoding_, "base64") || equals_ignoring_case(transfer_encoding_, "quoted-printable");
    const bool composite = equals_ignoring_case(type.type, "multipart") || equals_ignoring_case(type.type, "message");
    if (encoded && composite && !equals_ignoring_case(type.subtype, "global")) {   // RFC 6532 section 3.7 lets that one be encoded
        forbidden_encoding_ = transfer_encoding_;
    }
    if (equals_ignoring_case(type.type, "multipart")) {
        const std::string* boundary = find_parameter(type.parameters, "boundary");
        if (boundary != nullptr && !boundary->empty()) {
            boundaries_.push_back(boundary->substr(0, limits_.boundary));
            ++depth_;
        }
        return;
    }
    const bool message = equals_ignoring_case(type.type, "message") &&
                         (equals_ignoring_case(type.subtype, "rfc822") || equals_ignoring_case(type.subtype, "global"));
    if (message && !encoded) {
        ++depth_;
        nested_begins_ = true;   // after the empty line that ends this header
    }
}

/// A delimiter line (RFC 2046 section 5.1.1) ends all multiparts inside its own.
bool MimeWalker::at_boundary(std::string_view text) {
    if (!text.starts_with("--")) {
        return false;
    }
    text.remove_prefix(2);
    for (std::size_t i = boundaries_.size(); i-- > 0;) {
        if (!text.starts_with(boundaries_[i])) {
            continue;
        }
        const bool closes = text.substr(boundaries_[i].size()).starts_with("--");
        boundaries_.resize(closes ? i : i + 1);
        depth_ = boundaries_.size();
        if (!closes) {
            begin_header(LineKind::mime_header);
        }
        return true;
    }
    return false;
}

void MimeWalker::body_line(std::string text) {
    if (!line_goes_on_ && at_boundary(text)) {
        offset_ = 0;
        encodes_ = false;
        add_body(std::move(text));
        offset_ = 0;
        nested_begins_ = false;
        return;
    }
    const bool nested = std::exchange(nested_begins_, false) && (text == "\n" || text == "\r\n");
    add_body(std::move(text));
    if (nested) {   // that was the empty line after the header of the part that is a message
        begin_header(LineKind::nested_header);
    }
}

void MimeWalker::add_body(std::string text) {
    if (encodes_) {
        const bool cut = !ends_ && !text.ends_with('\n');   // the rest of the line comes next
        text = encode_quoted_printable(text) + (cut ? "=\n" : "");
    }
    const std::uint64_t size = text.size();
    pieces_.push_back({LineKind::body, false, offset_, std::move(text), eight_bit_});
    offset_ += size;
}

}  // namespace postern
