// What header_checks and body_checks do to a message (header_checks(5)).
#include <fmt/format.h>

#include <algorithm>

#include "cleanup/message.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/header.h"
#include "lib/mail/logged_address.h"

namespace postern::cleanup {
namespace {

using Kind = CheckAction::Kind;

/// "4.7.1 try later" or "try later": a code at the front replaces the default one.
struct DsnText {
    std::string dsn;
    std::string text;
};
DsnText split_dsn(std::string_view text, std::string_view default_dsn, std::string_view default_text) {
    const std::size_t end = text.find(' ');
    const std::string_view word = text.substr(0, end);
    const std::vector<std::string> parts = split_exact(word, '.');
    const bool is_code = parts.size() == 3 && (parts[0] == "4" || parts[0] == "5") &&
                         word.find_first_not_of("0123456789.") == std::string_view::npos && !parts[1].empty() &&
                         !parts[2].empty();
    if (is_code) {
        text = end == std::string_view::npos ? std::string_view() : trim(text.substr(end));
    }
    return {std::string(is_code ? word : default_dsn), std::string(text.empty() ? default_text : text)};
}

/// What the log calls an action whose line is nothing but its name and text; others have none, or one of their own.
const char* logged_as(Kind kind) {
    switch (kind) {
    case Kind::warn: return "warning";
    case Kind::info: return "info";
    case Kind::strip: return "strip";
    case Kind::discard: return "discard";
    case Kind::hold: return "hold";
    case Kind::filter: return "filter";
    case Kind::redirect: return "redirect";
    case Kind::bcc: return "bcc";
    case Kind::prepend: return "prepend";
    case Kind::replace: return "replace";
    default: return nullptr;
    }
}

}  // namespace

/// "QID: reject: header Subject: x from client[addr]; from=<a> to=<b> proto=ESMTP helo=<c>: 5.7.1 text"
void Message::log_action(const char* action, const char* what, std::string_view line, std::string_view text) const {
    const queue::Client& client = begin_.envelope.client;
    std::string out = fmt::format("{}: {}: {} {} from {}; from=<{}>", writer_->queue_id(), action, what, line.substr(0, 200),
                                  client.name.empty() ? "local" : client.name + "[" + client.address + "]",
                                  logged_address(shared_.config, begin_.envelope.sender));
    if (begin_.envelope.recipients.size() == 1) {
        out += " to=<" + logged_address(shared_.config, begin_.envelope.recipients.front().address) + ">";
    }
    if (!client.protocol.empty()) {
        out += " proto=" + client.protocol;
    }
    if (!client.helo.empty()) {
        out += " helo=<" + client.helo + ">";
    }
    if (!text.empty()) {
        out += ": ";
        out += text;
    }
    log_info("{}", out);
}

/// message_reject_characters: `bytes` has one at `at`.
Refusal Message::refuse_character(std::string_view bytes, std::size_t at) const {
    constexpr const char* kDsn = "5.7.1";
    constexpr const char* kText = "disallowed character";
    const std::size_t begin = bytes.rfind('\n', at) == std::string_view::npos ? 0 : bytes.rfind('\n', at) + 1;
    log_action("reject", "content", bytes.substr(begin, bytes.find('\n', at) - begin), fmt::format("{} {}", kDsn, kText));
    return refuse(550, kDsn, kText);
}

/// Carries out one action on `text` (a field or a body line, without its last LF), which it may replace.  `in_body`: it is not
/// of the message's own header.
Message::Checked Message::apply(const CheckAction& action, LineKind kind, bool in_body, std::string& text) {
    const bool in_header = kind != LineKind::body;
    const char* const what = in_header ? "header" : "body";
    if (const char* const name = logged_as(action.kind)) {
        log_action(name, what, text, action.text);
    }
    switch (action.kind) {
    case Kind::none:
    case Kind::warn:
    case Kind::info:
        break;
    case Kind::pass:
        (in_header ? skip_header_checks_ : skip_body_checks_) = true;
        break;
    case Kind::ignore:
    case Kind::strip:
        return {{}, false};
    case Kind::reject: {
        const DsnText reason = split_dsn(action.text, "5.7.1", "message content rejected");
        log_action("reject", what, text, reason.dsn + " " + reason.text);
        return {refuse(reason.dsn[0] == '4' ? 451 : 550, reason.dsn, reason.text), false};
    }
    case Kind::discard:
        discard_ = true;
        break;
    case Kind::hold:
        envelope_.hold = true;
        break;
    case Kind::filter:
        envelope_.content_filter = action.text;
        break;
    case Kind::redirect:
        envelope_.redirect = action.text;
        break;
    case Kind::bcc:
        extra_bcc_.push_back(action.text);
        break;
    case Kind::prepend:
        return {in_body ? add_body(action.text + "\n") : add_field(action.text + "\n"), true};
    case Kind::replace:
        if (!in_header || header_name_length(action.text) > 0) {
            text = action.text;
        } else {
            log_warning("{}: REPLACE text is no header field: {}", writer_->queue_id(), action.text);
        }
        break;
    }
    return {};
}

/// force_mime_input_conversion: a field that says 8bit is left out, and add_encoding() says at the header's end what is true then.
bool Message::replaces_encoding(std::string_view field) {
    if (!converts() || !equals_ignoring_case(field.substr(0, header_name_length(field)), "content-transfer-encoding")) {
        return false;
    }
    const std::string encoding(trim(unfold(find_field(field, "content-transfer-encoding").value)));
    if (seven_bit_encoding("", encoding).empty()) {
        return false;
    }
    replaced_encoding_ = encoding;
    return true;
}

Refusal Message::add_encoding() {
    if (replaced_encoding_.empty()) {
        return {};
    }
    return take_field("Content-Transfer-Encoding: " + std::string(seven_bit_encoding(content_type_, replaced_encoding_)) + "\n");
}

/// Of the message's own header: what its body is.
void Message::note_mime_field(std::string_view name, const std::string& field) {
    if (equals_ignoring_case(name, "content-type")) {
        content_type_ = unfold(find_field(field, "content-type").value);
    } else if (equals_ignoring_case(name, "content-transfer-encoding")) {
        transfer_encoding_ = trim(unfold(find_field(field, "content-transfer-encoding").value));
        if (declares_eight_bit(field) && shared_.config.detect_8bit_encoding_header()) {   // the next server is told so (RFC 6152)
            envelope_.encoding = queue::kEncoding8bit;
        }
    }
}

/// A field of a part's or an attached message's header, or a line of a part's first body_checks_size_limit bytes.
Refusal Message::check_piece(MimeWalker::Piece piece) {
    if (!judges_parts_) {
        return add_body(piece.text);
    }
    if (Refusal no = judge_piece(piece)) {
        return no;
    }
    const bool body = piece.kind == LineKind::body;
    const auto size_limit = static_cast<std::uint64_t>(shared_.config.body_checks_size_limit());
    if (piece.rest) {
        return part_field_kept_ ? add_body(piece.text) : Refusal();
    }
    part_field_kept_ = true;
    const bool passed = body ? skip_body_checks_ || piece.offset >= size_limit : skip_header_checks_;
    if (passed || !shared_.checks.checks(piece.kind)) {
        return add_body(piece.text);
    }
    std::string text = piece.text.substr(0, piece.text.size() - (piece.text.ends_with('\n') ? 1 : 0));
    const std::string before = text;
    const Result<CheckAction> action = shared_.checks.look_up(piece.kind, text);
    if (!action) {
        return map_error(action.error());
    }
    Checked checked = apply(*action, piece.kind, true, text);
    part_field_kept_ = checked.keep;
    if (checked.refusal || !checked.keep) {
        return checked.refusal;
    }
    return add_body(text == before ? piece.text : text + "\n");
}

Refusal Message::check_pieces() {
    for (MimeWalker::Piece& piece : walker_->take_pieces()) {
        if (Refusal no = check_piece(std::move(piece))) {
            return no;
        }
    }
    return {};
}

/// The body begins: somebody follows its structure when that may matter.
void Message::walk_body() {
    const Config& config = shared_.config;
    const bool mime = !config.disable_mime_input_processing();
    const bool checked = shared_.checks.checks_parts() || shared_.strict.headers || shared_.strict.body || shared_.strict.encoding_domain;
    judges_parts_ = checked && begin_.check_headers_and_body;
    takes_apart_ = judges_parts_ || converts();
    if (converts() && envelope_.encoding == queue::kEncoding8bit) {
        envelope_.encoding = queue::kEncodingUnspecified;   // what is left of 8-bit bytes nobody has declared
    }
    if (!takes_apart_ && (!mime || !config.detect_8bit_encoding_header() || envelope_.encoding == queue::kEncoding8bit)) {
        return;
    }
    walker_.emplace(MimeWalker::Limits{static_cast<std::size_t>(config.line_length_limit()), static_cast<std::size_t>(config.header_size_limit()),
                                       static_cast<std::size_t>(config.mime_nesting_limit()),
                                       static_cast<std::size_t>(config.mime_boundary_length_limit()), mime, converts()});
    walker_->start_body(content_type_, replaced_encoding_.empty() ? transfer_encoding_ : replaced_encoding_);
}

Refusal Message::end_body() {
    walker_->finish();
    if (walker_->declares_eight_bit() && !converts() && shared_.config.detect_8bit_encoding_header()) {
        envelope_.encoding = queue::kEncoding8bit;
    }
    return takes_apart_ ? check_pieces() : Refusal();
}

Refusal Message::check_body(std::string_view bytes) {
    if (!takes_apart_) {
        walker_->scan(bytes);
        return add_body(bytes);
    }
    const auto size_limit = static_cast<std::uint64_t>(shared_.config.body_checks_size_limit());
    if (!shared_.strict.body && walker_->is_plain_body(size_limit)) {   // the rest is of no interest
        walker_->finish();
        Refusal no = check_pieces();
        return no ? no : add_body(bytes);
    }
    walker_->feed(bytes);
    return check_pieces();
}

}  // namespace postern::cleanup
