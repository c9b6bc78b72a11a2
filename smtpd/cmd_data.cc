/// DATA (RFC 5321 section 4.1.1.4) and BDAT (RFC 3030): the content of a message, handed to cleanup as it arrives.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "smtpd/session.h"

namespace postern::smtpd {

namespace {

constexpr const char* kTooBig = "552 5.3.4 Error: message file too big";

/// A name out of a certificate, for use within a comment of a header field (RFC 5322 section 3.2.2).
std::string comment_text(std::string_view name) {
    std::string out = printable(name, 200);
    for (char& c : out) {
        if (c == '(' || c == ')' || c == '\\' || c == '"') {
            c = '?';
        }
    }
    return out;
}

/// The lines that smtpd_tls_received_header puts into Received:.
void add_tls_comments(const TlsInfo& tls, bool certificate_asked_for, std::vector<std::string>& out) {
    if (tls.exchange_text.empty()) {
        out.push_back(fmt::format("(using {})", tls.cipher_text));
    } else {
        out.push_back(fmt::format("(using {}", tls.cipher_text));
        const std::size_t client = tls.exchange_text.find(" client-signature ");   // a line of its own, as Postfix has it
        out.push_back(fmt::format(" {}{}", tls.exchange_text.substr(0, client), client == std::string::npos ? ")" : ""));
        if (client != std::string::npos) {
            out.push_back(fmt::format("{})", tls.exchange_text.substr(client)));
        }
    }
    if (!tls.peer_certificate.empty()) {
        out.push_back(fmt::format("(Client CN \"{}\", Issuer \"{}\" ({}))", comment_text(tls.peer_subject),
                                  comment_text(tls.peer_issuer), tls.peer_verified ? "verified OK" : "not verified"));
    } else {
        out.emplace_back(certificate_asked_for ? "(Client did not present a certificate)" : "(No client certificate requested)");
    }
}

/// Why cleanup did not take a message.
Trouble trouble_of(const Receipt& receipt) {
    if (receipt.code == 552 || receipt.dsn == "5.4.0") {
        return Trouble::bounce;   // too big; too many hops
    }
    return receipt.code == 452 || receipt.dsn.starts_with("4.3.") ? Trouble::resource : Trouble::policy;
}

}  // namespace

/// There is a transaction with recipients, and smtpd_data_restrictions agree; answers when not.
Task<bool> Session::message_may_begin(std::string_view where) {
    if (!mail_ || (mail_->envelope.recipients.empty() && !mail_->in_bdat)) {
        const char* why = mail_ ? "554 5.5.1 Error: no valid recipients" : "503 5.5.1 Error: need RCPT command";
        co_await refuse(why);
        co_return false;
    }
    const Verdict verdict = co_await judge_alone(server_.lists().data, std::string(where));
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_await reject(where, verdict);
        co_return false;
    }
    co_return true;
}

/// Envelope and client facts for cleanup; content follows.
void Session::begin_submission() {
    queue::Begin begin;
    queue::Envelope& envelope = mail_->envelope;
    queue::Client& client = envelope.client;
    client.name = info_.name;
    client.reverse_name = info_.reverse_name;
    client.address = info_.address;
    client.port = info_.port;
    client.helo = helo_;
    client.protocol = protocol_name();
    client.ident = forwarded_.ident;
    client.sasl_method = sasl_.method;
    client.sasl_username = sasl_.username;
    client.sasl_sender = sasl_.sender;
    client.service = server_.service_name();
    const TlsInfo* tls = client_.tls();
    if (tls != nullptr && config_.smtpd_tls_received_header()) {
        add_tls_comments(*tls, config_.smtpd_tls_ask_ccert() || config_.smtpd_tls_req_ccert(), client.tls_comments);
    }
    if (forwarded_.has_client) {   // Received: names who sent it to us; all else is about who sent it to them
        begin.peer = client;
        client.name = forwarded_.name;
        client.address = forwarded_.address;
        client.port = forwarded_.port;
        client.helo = forwarded_.helo;
        client.protocol = forwarded_.protocol;
    }
    envelope.origin = queue::kOriginSmtp;
    envelope.content_filter = mail_->effects.filter.empty() ? config_.content_filter() : mail_->effects.filter;
    envelope.redirect = mail_->effects.redirect;
    envelope.hold = mail_->effects.hold;
    for (const std::string& address : mail_->effects.bcc) {
        queue::Recipient bcc;
        bcc.address = address;
        envelope.recipients.push_back(std::move(bcc));
    }
    const Words& words = server_.words();
    envelope.rewrite_local = info_.local || (words.rewrite_authenticated && sasl_.authenticated());
    if (!envelope.rewrite_local && words.rewrite_own_hosts && !sasl_.authenticated()) {
        envelope.rewrite_local = server_.router().is_own_address(info_.address);
    }
    if (!envelope.rewrite_local && words.rewrite_mynetworks) {
        Result<bool> inside = server_.clients().mynetworks.matches(info_.name, info_.address);
        envelope.rewrite_local = inside && *inside;
    }
    if (!forwarded_.source.empty()) {
        envelope.rewrite_local = equals_ignoring_case(forwarded_.source, "LOCAL");
    }
    begin.complete_headers = envelope.rewrite_local;
    begin.map_addresses = words.map_addresses;
    begin.check_headers_and_body = words.check_content;
    begin.hide_client = config_.smtpd_hide_client_session();
    begin.envelope = envelope;
    mail_->submission = server_.outlet().begin(std::move(begin));
    if (envelope.requiretls && config_.requiretls_esmtp_header()) {   // content filters know nothing of envelopes
        mail_->content += "Require-TLS-ESMTP: yes\n";
    }
    for (const std::string& field : mail_->effects.prepend) {
        mail_->content += field + "\n";
    }
}

Task<> Session::data(const Command& command) {
    if (!command.argument.empty()) {
        co_return co_await refuse("501 5.5.4 Syntax: DATA");
    }
    if (mail_ && mail_->in_bdat) {
        co_return co_await refuse("503 5.5.1 Error: DATA after BDAT");
    }
    const bool may_begin = co_await message_may_begin("DATA");
    if (!may_begin) {
        co_return;
    }
    begin_submission();
    co_await reply("354 End data with <CR><LF>.<CR><LF>");
    DataDecoder decoder(bare_newline_policy());
    const Result<void> read = co_await read_data(decoder);
    if (!read) {
        // The line that ends the session says how far the client got.
        stage_ = fmt::format("DATA ({} bytes)", mail_->content_bytes);
        const Error error = read.error();
        reset_transaction();
        co_await end_of_conversation(error);
        finished_ = true;
        co_return;
    }
    if (decoder.saw_bare_newline() && !mail_->refusal) {
        mail_->refusal = judge_bare_newline("END-OF-MESSAGE");
        mail_->refusal_logged = mail_->refusal.has_value();
    }
    stage_ = "END-OF-MESSAGE";
    co_await finish_message("END-OF-MESSAGE");
    co_await flush_transcript();
}

/// A LF came without CR: the answer to that, if it is not taken (smtpd_forbid_bare_newline).  What follows cannot have been
/// smuggled in: only CRLF.CRLF, or a chunk's size, has ended the message.
std::optional<std::string> Session::judge_bare_newline(std::string_view where) {
    const BareNewline policy = bare_newline_policy();
    if (policy == BareNewline::reject || policy == BareNewline::note) {
        log_info("NOQUEUE: {}: {}: bare <LF> received;{}", policy == BareNewline::reject ? "reject" : "info", where_from(where),
                 envelope_text());
    }
    return policy == BareNewline::reject ? std::optional(bare_newline_reply()) : std::nullopt;
}

std::string Session::bare_newline_reply() const {
    return fmt::format("{} 5.5.2 {} Error: bare <LF> received", config_.smtpd_forbid_bare_newline_reject_code(), config_.myhostname());
}

/// Reads to the end of data.  Content over message_size_limit is read but not kept.
Task<Result<void>> Session::read_data(DataDecoder& decoder) {
    const auto limit = static_cast<std::uint64_t>(config_.message_size_limit());
    begin_request();
    while (!decoder.finished()) {
        Result<void> more = co_await client_.fill(time_left(mail_->wire_bytes));
        if (!more) {
            co_return more;
        }
        const std::size_t before = mail_->content.size();
        const std::size_t used = decoder.feed(client_.buffered(), mail_->content);
        client_.consume(used);
        mail_->wire_bytes += used;
        mail_->content_bytes += mail_->content.size() - before;
        if (limit > 0 && mail_->content_bytes > limit) {
            mail_->submission.reset();
            mail_->refusal = kTooBig;
            mail_->content.clear();
            continue;
        }
        co_await mail_->submission->write(mail_->content);
    }
    mail_->wire_bytes -= std::min<std::uint64_t>(mail_->wire_bytes, 3);   // ".", CR, LF
    co_return Result<void>();
}

/// End of a message: restrictions, cleanup's answer, ours.
Task<> Session::finish_message(std::string_view where) {
    if (mail_->refusal) {
        const std::string text = *mail_->refusal;
        if (!mail_->refusal_logged) {
            log_info("NOQUEUE: reject: {}: {};{}", where_from(where), text, envelope_text());
        }
        reset_transaction();
        co_return co_await refuse(text, Trouble::bounce);
    }
    const Verdict verdict = co_await judge_alone(server_.lists().end_of_data, "END-OF-MESSAGE");
    if (verdict.outcome == Verdict::Outcome::reject) {
        co_await reject(where, verdict);
        reset_transaction();
        co_return;
    }
    if (mail_->effects.discard) {
        reset_transaction();
        co_return co_await reply("250 2.0.0 Ok");
    }
    std::string rest = std::move(mail_->content);
    const Receipt receipt = co_await mail_->submission->finish(std::move(rest));
    if (!receipt.queued) {
        log_info("{}: reject: {}: {} {} {};{}", receipt.queue_id.empty() ? "NOQUEUE" : receipt.queue_id,
                 where_from(where), receipt.code, receipt.dsn, receipt.text, envelope_text());
        reset_transaction();
        co_return co_await refuse(fmt::format("{} {} {}", receipt.code, receipt.dsn, receipt.text), trouble_of(receipt));
    }
    std::string extra;
    if (!forwarded_.ident.empty()) {
        extra += ", orig_queue_id=" + forwarded_.ident;
    }
    if (forwarded_.has_client) {
        extra += fmt::format(", orig_client={}[{}]", forwarded_.name, forwarded_.address);
    }
    if (sasl_.authenticated()) {
        extra += fmt::format(", sasl_method={}, sasl_username={}", sasl_.method, sasl_.username);
        if (!sasl_.sender.empty()) {
            extra += ", sasl_sender=" + sasl_.sender;
        }
    }
    log_info("{}: client={}{}", receipt.queue_id, info_.text(), extra);
    reset_transaction();
    co_await reply("250 2.0.0 Ok: queued as " + receipt.queue_id);
}

// --- BDAT ---------------------------------------------------------------------------------------------------

/// RFC 3030 section 2: "BDAT n [LAST]", then n bytes as they are.  After an error the bytes that were announced are
/// still read, because the client has sent them already.
Task<> Session::bdat(const Command& command) {
    const std::vector<std::string> words = split(command.argument, " \t");
    const auto size = words.empty() ? std::nullopt : parse_number(words[0]);
    const bool last = words.size() == 2 && equals_ignoring_case(words[1], "LAST");
    if (!size || words.size() > 2 || (words.size() == 2 && !last)) {
        co_await refuse("501 5.5.4 Syntax: BDAT count [LAST]");
        finished_ = true;   // without the count the next command cannot be found
        co_return;
    }
    const bool first = !mail_ || !mail_->in_bdat;
    std::optional<std::string> early;
    if (!mail_ || (mail_->envelope.recipients.empty() && !mail_->in_bdat)) {
        early = mail_ ? "554 5.5.1 Error: no valid recipients" : "503 5.5.1 Error: need RCPT command";
    } else if (!mail_->in_bdat) {
        const Verdict verdict = co_await judge_alone(server_.lists().data, "BDAT");
        mail_->in_bdat = true;
        begin_submission();
        if (verdict.outcome == Verdict::Outcome::reject) {
            mail_->refusal = note_refusal("BDAT", verdict);
            mail_->refusal_logged = true;
        }
    }
    const bool refused_before = !early && mail_->refusal && !first;
    const Result<bool> read = co_await read_chunk(*size);
    if (!read) {
        stage_ = fmt::format("BDAT ({} bytes)", mail_ ? mail_->content_bytes : 0);
        const Error error = read.error();
        reset_transaction();
        co_await end_of_conversation(error);
        finished_ = true;
        co_return;
    }
    if (early) {
        co_return co_await refuse(*early);
    }
    co_await answer_chunk(*size, last, refused_before);
}

/// `refused_before`: the answer to an earlier chunk was a refusal, and this one was only read off the wire.
Task<> Session::answer_chunk(std::uint64_t size, bool last, bool refused_before) {
    if (refused_before) {
        if (last) {
            reset_transaction();
        }
        co_return co_await refuse(fmt::format("551 5.0.0 Discarded {} bytes after earlier error", size), Trouble::policy);
    }
    judge_chunk(last);
    if (last) {
        stage_ = "END-OF-MESSAGE";
        // A CR that ended the last chunk was kept back in case a LF followed.
        if (mail_->pending_cr) {
            mail_->content += '\r';
        }
        co_await finish_message("END-OF-MESSAGE");
        co_return co_await flush_transcript();
    }
    if (mail_->refusal) {
        if (!std::exchange(mail_->refusal_logged, true)) {
            log_info("NOQUEUE: reject: {}: {};{}", where_from("BDAT content"), *mail_->refusal, envelope_text());
        }
        co_return co_await refuse(*mail_->refusal, Trouble::policy);
    }
    co_await reply(fmt::format("250 2.0.0 Ok: {} bytes", size));
}

/// smtpd_forbid_bare_newline for what has come by BDAT: a refusal does not wait for the last chunk.
void Session::judge_chunk(bool last) {
    if (!mail_->bare_newline || mail_->refusal || (!last && bare_newline_policy() != BareNewline::reject)) {
        return;
    }
    mail_->refusal = judge_bare_newline(last ? "END-OF-MESSAGE" : "BDAT content");
    if (mail_->refusal) {
        mail_->refusal_logged = true;
        mail_->submission.reset();
        mail_->content.clear();
    }
}

/// Reads one chunk into the open message, CRLF turned into LF; bytes nobody wants are dropped.
Task<Result<bool>> Session::read_chunk(std::uint64_t size) {
    const auto limit = static_cast<std::uint64_t>(config_.message_size_limit());
    const std::uint64_t announced = size;
    begin_request();
    while (size > 0) {
        Result<void> more = co_await client_.fill(time_left(announced - size));
        if (!more) {
            co_return more.error();
        }
        const std::string_view piece = client_.buffered().substr(0, size);
        const std::size_t taken = piece.size();
        if (mail_ && mail_->in_bdat && !mail_->refusal) {
            mail_->content_bytes += taken;
            mail_->wire_bytes += taken;
            mail_->bare_newline = unix_lines(piece, mail_->pending_cr, mail_->content) || mail_->bare_newline;
        }
        client_.consume(taken);
        size -= taken;
        if (!mail_ || !mail_->in_bdat || mail_->refusal) {
            continue;
        }
        if (limit > 0 && mail_->content_bytes > limit) {
            mail_->submission.reset();
            mail_->content.clear();
            mail_->refusal = kTooBig;
            continue;
        }
        co_await mail_->submission->write(mail_->content);
    }
    co_return true;
}

}  // namespace postern::smtpd
