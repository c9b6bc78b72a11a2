#include "smtp/transfer.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/utf8.h"
#include "lib/log/log.h"
#include "smtp/seven_bit.h"

namespace postern::smtp {
namespace {

/// Commands that leave together.  Bounded, because a server that has filled its send buffer with replies reads
/// no more commands (RFC 2920 section 3.1).
constexpr std::size_t kGroup = 100;
/// Larger messages are not held in memory to convert them.
constexpr std::size_t kMaxConverted = 128 * 1024 * 1024;

/// Whether `is` holds for a piece of what is left; reads no further then.  Errors: as Content::next().
template <class Predicate>
Result<bool> any_piece(Content& content, Predicate is) {
    for (;;) {
        const Result<std::string_view> piece = content.next();
        if (!piece) {
            return piece.error();
        }
        if (piece->empty()) {
            return false;
        }
        if (is(*piece)) {
            return true;
        }
    }
}

/// Whatever a queue file says, no address becomes a command of its own.
bool is_one_line(std::string_view command) {
    return command.find_first_of(std::string_view("\r\n\0", 3)) == command.npos;
}

}  // namespace

Transfer::Transfer(Delivery& delivery, Session& session, bool last)
    : delivery_(delivery), session_(session), settings_(session.settings()), last_(last) {}

/// 8-bit content for a server without 8BITMIME (RFC 6152 section 3) is converted.  False when that cannot be done.
bool Transfer::convert() {
    const queue::Deliver& request = delivery_.request();
    if (session_.features().eight_bit || request.encoding == queue::kEncoding7bit ||
        settings_.config().disable_mime_output_conversion()) {
        return true;
    }
    Content& content = delivery_.content();
    content.rewind(true);
    const Result<bool> found = any_piece(content, [](std::string_view piece) { return has_eight_bit(piece); });
    content.rewind();
    if (found && !*found) {
        return true;
    }
    std::string text;
    const Result<bool> too_large = !found ? found : any_piece(content, [&text](std::string_view piece) {
        text += piece;
        return text.size() > kMaxConverted;
    });
    if (!too_large) {
        content_lost(too_large.error());
        return false;
    }
    if (*too_large) {
        Failure why{"5.6.3", fmt::format("message is too large to convert for host {}, which does not take 8-bit content",
                                         session_.host().name_and_address())};
        delivery_.failed_all(&session_, why);
        return false;
    }
    content.replace(to_seven_bit(text));
    return true;
}

/// What the server cannot take at all is known before the first command.
bool Transfer::acceptable() {
    if (!convert()) {
        return false;
    }
    const Features& features = session_.features();
    const queue::Deliver& request = delivery_.request();
    const std::string peer = session_.host().name_and_address();
    if (request.smtputf8) {
        needs_utf8_ = has_eight_bit(request.sender) || has_eight_bit(delivery_.content().headers());
        for (const std::size_t i : delivery_.open_recipients()) {
            needs_utf8_ = needs_utf8_ || has_eight_bit(delivery_.recipient(i).address);
        }
    }
    if (needs_utf8_ && !features.smtputf8) {
        Failure why{"5.6.7", fmt::format("SMTPUTF8 is required, but was not offered by host {}", peer)};
        delivery_.failed_all(&session_, why);
        return false;
    }
    if (delivery_.requiretls() == RequireTlsLevel::enforce && !features.requiretls) {
        // Another server may offer it: only when none does is it for good (RFC 8689 section 4.2.1).
        Failure why{"5.7.30", fmt::format("REQUIRETLS support is required, but was not offered by host {}", peer), true};
        delivery_.failed_all(&session_, why);
        return false;
    }
    const std::uint64_t size = delivery_.content().size_bytes();
    if (features.size_limit > 0 && size > features.size_limit) {
        Failure why{"5.3.4", fmt::format("message size {} exceeds size limit {} of server {}", size, features.size_limit, peer)};
        delivery_.failed_all(&session_, why);
        return false;
    }
    return true;
}

/// False when nobody is left to deliver to; then all are told.
bool Transfer::plan() {
    if (session_.unfinished) {
        steps_.push_back({Step::Kind::rset, 0, "RSET"});
    }
    plan_xforward();
    steps_.push_back({Step::Kind::mail, 0, mail_command()});
    if (!is_one_line(steps_.back().command)) {
        delivery_.failed_all(&session_, {"5.1.7", "bad sender address: it has a line break"});
    }
    for (const std::size_t i : delivery_.open_recipients()) {
        Step step{Step::Kind::rcpt, i, rcpt_command(i)};
        if (is_one_line(step.command)) {
            steps_.push_back(std::move(step));
        } else {
            delivery_.failed(i, &session_, {"5.1.3", "bad recipient address: it has a line break"});
        }
    }
    if (steps_.back().kind == Step::Kind::mail) {
        return false;
    }
    const bool wants_data = !delivery_.request().verify_only || settings_.address_verify_target() == "data";
    if (wants_data && !uses_chunks()) {
        steps_.push_back({Step::Kind::data, 0, "DATA"});
    }
    return true;
}

Millis Transfer::patience(Step::Kind kind) const {
    switch (kind) {
    case Step::Kind::rset: return settings_.rset_timeout();
    case Step::Kind::xforward: return settings_.xforward_timeout();
    case Step::Kind::mail: return settings_.mail_timeout();
    case Step::Kind::rcpt: return settings_.rcpt_timeout();
    case Step::Kind::data: return settings_.data_init_timeout();
    }
    return settings_.data_init_timeout();
}

/// Nothing that this server said about this message has been heard before the reply to this step.
bool Transfer::is_fresh(const Step& step) const {
    return session_.uses() > 0 && !mail_failed_ && accepted_.empty() &&
           (step.kind == Step::Kind::rset || step.kind == Step::Kind::xforward || step.kind == Step::Kind::mail);
}

/// Commands and replies up to DATA.  False when the connection was stale.
Task<bool> Transfer::talk() {
    std::size_t written = 0;
    const std::size_t group = session_.features().pipelining ? kGroup : 1;
    const bool early = goes_early();
    for (std::size_t at = 0; at < steps_.size(); ++at) {
        if (written == at) {
            // What is known to be in vain is not sent: nobody to deliver to.
            const bool in_vain = mail_failed_ || (steps_[at].kind == Step::Kind::data && accepted_.empty());
            if (in_vain) {
                break;
            }
            for (; written < steps_.size() && written < at + group; ++written) {
                session_.command(steps_[written].command);
            }
            early_sent_ = early && written == steps_.size() && write_early();
        }
        const bool good = co_await hear(steps_[at]);
        if (!good) {
            co_return false;
        }
        if (is_over()) {
            break;
        }
    }
    co_return true;
}

/// Nothing more will be heard.  After a 421 to what left together with the content, there may be: the server has the message, and
/// its word on that decides whether somebody got it.
bool Transfer::is_over() const {
    return lost_ || (session_.dead() && !early_sent_);
}

Task<bool> Transfer::hear(const Step& step) {
    static constexpr std::string_view kDoing[] = {"sending RSET", "sending XFORWARD name/address", "sending MAIL FROM",
                                                  "sending RCPT TO", "sending DATA command"};
    const bool fresh = is_fresh(step);   // a connection that was kept has to show that it is alive
    const Millis timeout = fresh ? std::min(patience(step.kind), patience(Step::Kind::rset)) : patience(step.kind);
    Result<Reply> reply = co_await session_.reply(timeout);
    if (!reply) {
        if (fresh && (reply.error().code == Errc::closed || reply.error().code == Errc::timeout)) {
            co_return false;
        }
        const Failure why = session_.broken(reply.error(), kDoing[static_cast<std::size_t>(step.kind)]);
        delivery_.failed_all(&session_, why);
        lost_ = true;
        co_return true;
    }
    co_return heard(step, *reply);
}

/// False when the server had said goodbye to a connection that was kept.
bool Transfer::heard(const Step& step, const Reply& reply) {
    if (reply.code == 421 && is_fresh(step)) {
        return false;
    }
    switch (step.kind) {
    case Step::Kind::rset:
        session_.unfinished = false;
        break;
    case Step::Kind::xforward:
        if (!reply.positive()) {   // it is only a courtesy
            log_warning("host {} said: {} (in reply to {})", session_.host().with_port(), reply.one_line(), step.command);
        }
        break;
    case Step::Kind::mail:
        session_.unfinished = true;
        if (!reply.positive()) {
            mail_failed_ = true;
            delivery_.failed_all(&session_, session_.refused(reply, "MAIL FROM command"));
        }
        break;
    case Step::Kind::rcpt:
        if (mail_failed_) {
            break;
        }
        if (!reply.positive()) {
            delivery_.failed(step.recipient, &session_, session_.refused(reply, "RCPT TO command"));
        } else if (delivery_.request().verify_only && settings_.address_verify_target() != "data") {
            delivery_.sent(step.recipient, session_, reply);
        } else {
            accepted_.push_back(step.recipient);
        }
        break;
    case Step::Kind::data:
        data_accepted_ = reply.intermediate();
        if (!data_accepted_ && !mail_failed_ && !accepted_.empty()) {
            for (const std::size_t i : accepted_) {
                delivery_.failed(i, &session_, session_.refused(reply, "DATA command"));
            }
            accepted_.clear();
        }
        break;
    }
    return true;
}

/// Content up to the final dot, which is still in the buffer.  False when the connection broke.
Task<bool> Transfer::stream_content() {
    Stream& stream = session_.stream();
    Content& content = delivery_.content();
    const auto begin = std::chrono::steady_clock::now();
    const std::uint64_t sent_before = stream.bytes_out();
    DotEncoder encoder({settings_.line_length_limit(), true, settings_.replace_stray_cr()});
    for (;;) {
        const Result<std::string_view> piece = content.next();
        if (!piece) {
            content_lost(piece.error());
            co_return false;
        }
        if (piece->empty()) {
            break;
        }
        encoder.add(*piece, stream.output());
        if (stream.congested()) {
            const Millis left = session_.left_of(begin, settings_.data_xfer_timeout(), stream.bytes_out() - sent_before);
            const Result<void> sent = co_await stream.flush(left);
            if (!sent) {
                delivery_.failed_all(&session_, session_.broken(sent.error(), "sending message body"));
                co_return false;
            }
        }
    }
    encoder.finish(stream.output());
    note_folding(encoder);
    co_return true;
}

/// Before content, every reply has been read.  A server that has said more by then answers other commands than ours: its next
/// words must not be taken for what became of the message.
bool Transfer::is_in_step() {
    if (session_.stream().buffered().empty()) {
        return true;
    }
    const Failure why{"4.5.0", fmt::format("host {} answered commands that were not sent", session_.host().name_and_address()), true};
    delivery_.failed_all(&session_, why);
    session_.mark_dead();
    return false;
}

void Transfer::content_lost(const Error& error) {
    log_warning("{}: {}", delivery_.request().queue_id, error.what);
    Failure why{"4.3.0", fmt::format("local data error while talking to {}", session_.host().name_and_address())};
    delivery_.failed_all(&session_, why);
}

/// The message is about to become the server's.  False when it had better not: the queue manager has gone, and its successor
/// will order this delivery anew; without its end the server drops the message, so that the recipients get one copy.
bool Transfer::conclude() {
    if (!delivery_.is_wanted()) {
        Failure why{"4.3.0", "queue manager is gone"};
        delivery_.failed_all(&session_, why);
        return false;
    }
    delivery_.sending(accepted_);
    return true;
}

Task<> Transfer::send_content() {
    const bool complete = co_await stream_content();
    if (!complete) {
        session_.mark_dead();
        co_return;
    }
    if (!conclude()) {
        session_.mark_dead();
        co_return;
    }
    session_.stream().write(".\r\n");
    session_.note_said(".");
    if (last_ && session_.features().pipelining) {
        session_.command("QUIT");
        session_.quit_sent();
    }
    co_await end_content();
}

Task<> Transfer::end_content() {
    if (settings_.lmtp()) {
        co_await end_lmtp();
    } else {
        co_await end_smtp();
    }
}

constexpr std::string_view kEnding = "sending end of data -- message may be sent more than once";

Task<> Transfer::end_smtp() {
    Result<Reply> reply = co_await session_.reply(settings_.data_done_timeout());
    if (!reply) {
        delivery_.failed_all(&session_, session_.broken(reply.error(), kEnding));
        co_return;
    }
    if (reply->positive()) {
        delivery_.taken(0, *reply);
    }
    session_.unfinished = uses_chunks() && !reply->positive();   // RFC 3030 section 2: RSET after a BDAT that failed
    for (const std::size_t i : accepted_) {
        if (reply->positive()) {
            delivery_.sent(i, session_, *reply);
        } else {
            delivery_.failed(i, &session_, session_.refused(*reply, end_command()));
        }
    }
    co_await delivery_.tell();
}

/// RFC 2033 section 4.2: one reply for each accepted recipient, in order.
Task<> Transfer::end_lmtp() {
    for (std::size_t nth = 0; nth < accepted_.size(); ++nth) {
        const std::size_t i = accepted_[nth];
        Result<Reply> reply = co_await session_.reply(settings_.data_done_timeout());
        if (!reply) {
            delivery_.failed_all(&session_, session_.broken(reply.error(), kEnding));
            co_return;
        }
        if (reply->positive()) {
            delivery_.taken(nth, *reply);
            delivery_.sent(i, session_, *reply);
        } else {
            delivery_.failed(i, &session_, session_.refused(*reply, end_command()));
        }
        if (session_.stream().buffered().empty()) {
            co_await delivery_.tell();
        }
        if (session_.dead() && i != accepted_.back()) {   // 421: the others get no answer
            Failure why = session_.refused(*reply, end_command());
            why.dsn = "4.4.2";
            delivery_.failed_all(&session_, why);
            co_return;
        }
    }
    session_.unfinished = uses_chunks();   // which may have failed for some: RSET does no harm
    co_await delivery_.tell();
}

/// A probe that went as far as DATA: whoever is accepted is deliverable, and the connection ends before content.
Task<> Transfer::end_probe() {
    for (const std::size_t i : accepted_) {
        Reply fine;
        fine.code = 250;
        fine.dsn = "2.0.0";
        fine.text = "250 2.0.0 accepted by the server";
        delivery_.sent(i, session_, fine);
    }
    session_.mark_dead();
    co_await delivery_.tell();
}

Task<bool> Transfer::run() {
    if (!acceptable()) {
        co_return true;
    }
    if (session_.uses() > 0 && !session_.stream().buffered().empty()) {   // words of its own: a goodbye, or it is out of step
        session_.mark_dead();
        co_return false;
    }
    if (!plan()) {
        co_return true;
    }
    const bool good = co_await talk();
    if (!good) {
        session_.mark_dead();
        co_return false;
    }
    if (is_over()) {
        Failure closed{"4.4.2", fmt::format("lost connection with {}", session_.host().name_and_address()), true};
        delivery_.failed_all(&session_, closed);
        co_return true;
    }
    if (early_sent_) {
        co_await end_early();
        co_return true;
    }
    const bool has_content = uses_chunks() ? !accepted_.empty() : data_accepted_;
    if (!has_content || !is_in_step()) {
        co_return true;
    }
    if (uses_chunks()) {
        co_await send_chunks();
        co_return true;
    }
    if (delivery_.request().verify_only) {
        co_await end_probe();
        co_return true;
    }
    if (!accepted_.empty()) {
        co_await send_content();
        co_return true;
    }
    // DATA went with the commands before it, and the server wants content though nobody is left: an empty message
    // to nobody, whose reply says nothing (RFC 2920 section 3.1).
    session_.command(".");
    const Result<Reply> reply = co_await session_.reply(settings_.data_done_timeout());
    if (reply) {
        session_.unfinished = false;
    }
    co_return true;
}

}  // namespace postern::smtp
