#include "lib/checks/filter.h"

#include "lib/log/log.h"
#include "lib/mail/header.h"

namespace postern {

using Kind = CheckAction::Kind;

Result<void> CheckFilter::feed(std::string_view bytes, std::string& out) {
    walker_.feed(bytes);
    return pass(out);
}

Result<void> CheckFilter::finish(std::string& out) {
    walker_.finish();
    return pass(out);
}

Result<void> CheckFilter::pass(std::string& out) {
    for (const MimeWalker::Piece& piece : walker_.take_pieces()) {
        if (Result<void> checked = check(piece, out); !checked) {
            return checked;
        }
    }
    return {};
}

Result<void> CheckFilter::check(const MimeWalker::Piece& piece, std::string& out) {
    if (piece.rest) {
        out += field_kept_ ? piece.text : std::string();
        return {};
    }
    field_kept_ = true;
    if (!checks_.checks(piece.kind) || (piece.kind == LineKind::body && piece.offset >= body_limit_)) {
        out += piece.text;
        return {};
    }
    std::string_view line = piece.text;
    line.remove_suffix(line.ends_with('\n') ? 1 : 0);
    const Result<CheckAction> action = checks_.look_up(piece.kind, line);
    if (!action) {
        return action.error();
    }
    apply(*action, piece, line, out);
    return {};
}

void CheckFilter::apply(const CheckAction& action, const MimeWalker::Piece& piece, std::string_view line, std::string& out) {
    const bool body = piece.kind == LineKind::body;
    const char* const what = body ? "body" : "header";
    switch (action.kind) {
    case Kind::ignore:
        field_kept_ = false;
        return;
    case Kind::strip:
        log("strip", what, line, action.text);
        field_kept_ = false;
        return;
    case Kind::replace:
        log("replace", what, line, action.text);
        if (body || header_name_length(action.text) > 0) {
            out += action.text + "\n";
            return;
        }
        if (logger_) {
            log_warning("REPLACE text is no header field: {}", action.text);
        }
        break;
    case Kind::prepend:
        log("prepend", what, line, action.text);
        out += action.text + "\n";
        break;
    case Kind::warn:
        log("warning", what, line, action.text);
        break;
    case Kind::info:
        log("info", what, line, action.text);
        break;
    default:
        break;
    }
    out += piece.text;
}

}  // namespace postern
