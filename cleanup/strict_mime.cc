// strict_7bit_headers, strict_8bitmime, strict_8bitmime_body, strict_mime_encoding_domain: what MIME forbids is refused.
#include <fmt/format.h>

#include "cleanup/message.h"
#include "lib/base/strings.h"
#include "lib/base/utf8.h"

namespace postern::cleanup {
namespace {

constexpr const char* kHeader = "improper use of 8-bit data in message header";
constexpr const char* kBody = "improper use of 8-bit data in message body";
constexpr const char* kEncoding = "invalid message/* or multipart/* encoding domain";

}  // namespace

Strictness::Strictness(const Config& config)
    : headers(config.strict_7bit_headers() || config.strict_8bitmime()),
      body((config.strict_8bitmime_body() || config.strict_8bitmime()) && !config.disable_mime_input_processing()),
      encoding_domain(config.strict_mime_encoding_domain() && !config.disable_mime_input_processing()) {}

Refusal Message::refuse_mime(const char* why, std::string_view text) const {
    log_action("reject", fmt::format("mime-error {}:", why).c_str(), trim(text), "");
    return refuse(550, "5.6.0", why);
}

/// A field of the message's own header, or of a part's.  SMTPUTF8 makes no difference, as in Postfix.
Refusal Message::judge_field(std::string_view field) const {
    const bool wanted = shared_.strict.headers && begin_.check_headers_and_body;
    return wanted && has_eight_bit(field) ? refuse_mime(kHeader, field) : Refusal();
}

/// A piece of the body; what the walker has seen of the structure comes first.
Refusal Message::judge_piece(const MimeWalker::Piece& piece) const {
    if (shared_.strict.encoding_domain && !walker_->forbidden_encoding().empty()) {
        return refuse_mime(kEncoding, walker_->forbidden_encoding());
    }
    if (piece.kind != LineKind::body) {
        return judge_field(piece.text);
    }
    const bool wrong = shared_.strict.body && !piece.eight_bit && has_eight_bit(piece.text);
    return wrong ? refuse_mime(kBody, piece.text) : Refusal();
}

}  // namespace postern::cleanup
