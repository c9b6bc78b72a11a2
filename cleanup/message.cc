#include "cleanup/message.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <ctime>
#include <iterator>

#include "lib/mail/header_rewrite.h"
#include "cleanup/received.h"
#include "cleanup/recipients.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/header.h"

namespace postern::cleanup {
namespace {

/// All header fields of a message together; they wait in memory until the body is on disk.
constexpr std::size_t kMaxHeaderBytes = 16 * 1024 * 1024;

std::int64_t now_usec() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
}

/// The value of a field as it is logged: without white space around it.
std::string_view field_value(std::string_view field) {
    const std::size_t colon = field.find(':');
    return colon == std::string_view::npos ? std::string_view() : trim(field.substr(colon + 1));
}

}  // namespace

Shared::Shared(const Config& settings, AddressMaps& address_maps, ContentChecks& content_checks)
    : config(settings),
      maps(address_maps),
      checks(content_checks),
      strict(settings),
      drop_headers(split(to_lower(settings.message_drop_headers()), ", \t\r\n")),
      rejected(settings.message_reject_characters()),
      stripped(settings.message_strip_characters()) {}

Message::Message(Shared& shared, queue::Begin begin)
    : shared_(shared),
      begin_(std::move(begin)),
      splitter_(static_cast<std::size_t>(shared.config.header_size_limit()), kMaxHeaderBytes) {}

Message::~Message() = default;

Refusal Message::refuse(std::uint32_t code, std::string_view dsn, std::string_view text) const {
    queue::Refused refused;
    refused.code = code;
    refused.dsn = dsn;
    refused.text = text;
    refused.queue_id = writer_ ? writer_->queue_id() : "";
    return refused;
}

/// The reply for a failed write (RFC 5321 section 4.2.3, RFC 3463).
Refusal Message::storage_error(const Error& error) const {
    const std::string id = writer_ ? writer_->queue_id() : "NOQUEUE";
    if (error.code == Errc::too_big) {
        log_warning("{}: queue file size limit exceeded", id);
        return refuse(552, "5.3.4", "Error: message file too big");
    }
    log_warning("{}: {}", id, error.what);
    if (error.code == Errc::no_space) {
        return refuse(452, "4.3.1", "Error: insufficient system storage");
    }
    return refuse(451, "4.3.0", "Error: queue file write error");
}

Refusal Message::map_error(const Error& error) const {
    log_warning("{}: {} -- message not accepted, try again later", writer_ ? writer_->queue_id() : "NOQUEUE", error.what);
    return refuse(451, "4.3.0", "Error: queue file write error");
}

Refusal Message::start() {
    if (shared_.config.queue_minfree() > 0) {
        struct statvfs disk {};
        if (::statvfs(shared_.queue_directory.c_str(), &disk) == 0 &&
            disk.f_bavail * disk.f_frsize < static_cast<std::uint64_t>(shared_.config.queue_minfree())) {
            log_warning("NOQUEUE: not enough free space in mail queue: {} bytes < {}", disk.f_bavail * disk.f_frsize,
                        shared_.config.queue_minfree());
            return refuse(452, "4.3.1", "Error: insufficient system storage");
        }
    }
    queue::WriterOptions options;
    options.queue_directory = shared_.queue_directory;
    options.size_limit_bytes = static_cast<std::uint64_t>(shared_.config.message_size_limit());
    options.long_queue_ids = shared_.config.enable_long_queue_ids();
    options.time_usec = now_usec();
    options.io = shared_.io;
    options.in_memory = shared_.committer != nullptr && shared_.committer->takes_memory();
    if (begin_.envelope.arrival_usec == 0) {
        begin_.envelope.arrival_usec = options.time_usec;
    }
    Result<std::unique_ptr<queue::QueueFileWriter>> writer = queue::QueueFileWriter::create(std::move(options));
    if (!writer) {
        return storage_error(writer.error());
    }
    writer_ = std::move(*writer);
    const Result<std::string> sender = shared_.maps.rewrite(begin_.envelope.sender, kEnvelopeSender, begin_.map_addresses);
    if (!sender) {
        return map_error(sender.error());
    }
    envelope_ = begin_.envelope;
    envelope_.recipients.clear();
    envelope_.sender = *sender;
    envelope_.hop_count = 0;
    if (begin_.add_received) {
        return take_field(received_field(shared_.config, begin_, writer_->queue_id()));
    }
    return {};
}

Refusal Message::content(std::string_view bytes) {
    // LF ends a line here, so a CR can only be a stray one (RFC 5321 section 2.3.8).
    if (shared_.config.cleanup_replace_stray_cr_lf() && bytes.find('\r') != std::string_view::npos) {
        std::string clean(bytes);
        std::replace(clean.begin(), clean.end(), '\r', ' ');
        return clean_content(clean);
    }
    return clean_content(bytes);
}

Refusal Message::clean_content(std::string_view bytes) {
    if (begin_.check_headers_and_body && !shared_.rejected.empty()) {
        if (const std::size_t at = shared_.rejected.find_in(bytes); at != std::string_view::npos) {
            return refuse_character(bytes, at);
        }
    }
    if (begin_.check_headers_and_body && !shared_.stripped.empty()) {
        splitter_.feed(shared_.stripped.strip(bytes));
    } else {
        splitter_.feed(bytes);
    }
    return take_pieces();
}

/// Moves what the splitter has found into the queue file.
Refusal Message::take_pieces() {
    for (std::string& field : splitter_.take_fields()) {
        if (replaces_encoding(field)) {
            continue;
        }
        Refusal no = judge_field(field);
        no = no ? std::move(no) : take_field(std::move(field));
        if (no) {
            return no;
        }
    }
    if (splitter_.header_too_big()) {
        return storage_error(Error(Errc::too_big, "header"));
    }
    if (splitter_.header_done() && !header_ended_) {
        if (Refusal no = header_end()) {
            return no;
        }
    }
    const std::string body = splitter_.take_body();
    if (body.empty()) {
        return {};
    }
    return walker_ ? check_body(body) : add_body(body);
}

Refusal Message::add_body(std::string_view bytes) {
    const Result<void> written = writer_->body(bytes);
    return written ? Refusal() : storage_error(written.error());
}

Refusal Message::add_field(std::string_view text) {
    const Result<void> added = writer_->header(text);
    return added ? Refusal() : storage_error(added.error());
}

Refusal Message::take_field(std::string field) {
    const std::string_view own_name = std::string_view(field).substr(0, header_name_length(field));
    const LineKind line_kind = is_mime_field(own_name) ? LineKind::mime_header : LineKind::header;
    note_mime_field(own_name, field);
    if (shared_.checks.checks(line_kind) && begin_.check_headers_and_body && !skip_header_checks_) {
        field.pop_back();
        const Result<CheckAction> action = shared_.checks.look_up(line_kind, field);
        if (!action) {
            return map_error(action.error());
        }
        Checked checked = apply(*action, line_kind, false, field);
        field += '\n';
        if (checked.refusal || !checked.keep) {
            return checked.refusal;
        }
    }
    const std::string_view name = std::string_view(field).substr(0, header_name_length(field));
    const HeaderKind& kind = header_kind(name);
    if (kind.header == Header::other) {
        note_requiretls(name, field);
        return drops(name) ? Refusal() : add_field(field);
    }
    return known_field(kind, std::move(field));
}

/// "Require-TLS-ESMTP: yes": what the envelope asked for before a content filter had the message.
void Message::note_requiretls(std::string_view name, std::string_view field) {
    const Config& config = shared_.config;
    if (equals_ignoring_case(name, "Require-TLS-ESMTP") && config.requiretls_esmtp_header() && config.requiretls_enable() &&
        equals_ignoring_case(field_value(field), "yes")) {
        envelope_.requiretls = true;
    }
}

Refusal Message::known_field(const HeaderKind& kind, std::string field) {
    seen_.add(kind.header);
    const std::string& id = writer_->queue_id();
    if (kind.header == Header::message_id) {
        log_info("{}: message-id={}", id, field_value(field));
    } else if (kind.header == Header::resent_message_id) {
        log_info("{}: resent-message-id={}", id, field_value(field));
    } else if (kind.header == Header::received) {
        if (++envelope_.hop_count >= static_cast<std::uint32_t>(shared_.config.hopcount_limit())) {
            log_warning("{}: message rejected: hopcount exceeded", id);
            return refuse(554, "5.4.6", "Error: too many hops");
        }
    }
    if (kind.resent) {
        resent_ = "Resent-";
    }
    if (drops(kind.name)) {
        return {};
    }
    if (kind.sender_addresses || kind.recipient_addresses) {
        if (Refusal no = rewrite_field(kind, field)) {
            return no;
        }
    }
    return add_field(field);
}

/// Header addresses are completed and mapped for local clients, and for others only with
/// remote_header_rewrite_domain.
Refusal Message::rewrite_field(const HeaderKind& kind, std::string& field) {
    const std::string& remote_domain = shared_.config.remote_header_rewrite_domain();
    if (!begin_.complete_headers && remote_domain.empty()) {
        return {};
    }
    const AddressPlace place = kind.sender_addresses ? kHeaderSender : kHeaderRecipient;
    const Result<std::string> rewritten = rewrite_addresses(field, [&](const std::string& address) {
        const bool add_domain = !begin_.complete_headers && address.find('@') == std::string::npos;
        return shared_.maps.rewrite(add_domain ? address + "@" + remote_domain : address, place, begin_.map_addresses);
    });
    if (!rewritten) {
        return map_error(rewritten.error());
    }
    field = *rewritten;
    return {};
}

bool Message::drops(std::string_view field_name) const {
    return std::any_of(shared_.drop_headers.begin(), shared_.drop_headers.end(),
                       [&](const std::string& dropped) { return equals_ignoring_case(dropped, field_name); });
}

/// Adds what RFC 5322 section 3.6 asks for and is missing, behind the last field, in Postfix's order.
Refusal Message::header_end() {
    header_ended_ = true;
    if (Refusal no = add_encoding()) {
        return no;
    }
    const Config& config = shared_.config;
    walk_body();
    const bool complete = begin_.complete_headers || config.always_add_missing_headers();
    const bool resent = !resent_.empty();
    const std::int64_t now = begin_.envelope.arrival_usec / 1000000;
    std::string added;
    bool has_message_id = seen_.has(Header::message_id);
    if (complete && !seen_.has(resent ? Header::resent_message_id : Header::message_id)) {
        const std::string id = make_message_id(config, writer_->queue_id(), now);
        added += resent_ + "Message-Id: <" + id + ">\n";
        log_info("{}: {}message-id=<{}>", writer_->queue_id(), resent ? "resent-" : "", id);
        has_message_id = has_message_id || !resent;
    }
    if (!has_message_id) {
        log_info("{}: message-id=<>", writer_->queue_id());
    }
    if (complete && !seen_.has(resent ? Header::resent_date : Header::date)) {
        added += resent_ + "Date: " + mail_date(now) + "\n";
    }
    if (complete && !seen_.has(resent ? Header::resent_from : Header::from)) {
        added += from_field(config, resent_, envelope_.sender, envelope_.sender_full_name);
    }
    const bool visible = seen_.has(Header::to) || seen_.has(Header::cc) || seen_.has(Header::resent_to) ||
                         seen_.has(Header::resent_cc);
    if (complete && !visible && !config.undisclosed_recipients_header().empty()) {
        if (header_name_length(config.undisclosed_recipients_header()) > 0) {
            added += config.undisclosed_recipients_header() + "\n";
        } else {
            log_warning("bad undisclosed_recipients_header text: not a message header");
        }
    }
    if (!added.empty()) {
        if (Refusal no = add_field(added)) {
            return no;
        }
    }
    return splitter_.missing_separator() ? end_header(complete) : Refusal();
}

/// non_empty_end_of_header_action: a line that is no field has ended the header, without an empty line between.  Only mail that
/// passes through is left so: where the header is this system's to complete, it is set apart.
Refusal Message::end_header(bool complete) {
    constexpr const char* kWhat = "message header was not terminated by empty line";
    const std::string& action = shared_.config.non_empty_end_of_header_action();
    if (equals_ignoring_case(action, "keep") && !complete) {
        return {};
    }
    if (equals_ignoring_case(action, "reject")) {
        return refuse(550, "5.6.0", kWhat);
    }
    if (equals_ignoring_case(action, "add_header")) {
        if (Refusal no = add_field(fmt::format("MIME-Error: {}\n", kWhat))) {
            return no;
        }
    }
    return add_body("\n");
}

Refusal Message::work_out_recipients() {
    Result<FinalRecipients> found = final_recipients(shared_.config, shared_.maps, begin_, envelope_.sender, extra_bcc_);
    if (!found) {
        return map_error(found.error());
    }
    envelope_.recipients = std::move(found->recipients);
    if (!envelope_.redirect.empty()) {
        queue::Recipient only;
        only.address = envelope_.redirect;
        envelope_.recipients = {only};
    }
    if (envelope_.recipients.empty()) {
        return refuse(550, "5.1.0", "Error: no recipients specified");
    }
    std::move(found->expanded.begin(), found->expanded.end(), std::back_inserter(envelope_.recipients));
    return Refusal();
}

Task<queue::FromCleanup> Message::finish() {
    splitter_.finish();
    Refusal no = take_pieces();
    if (!no && walker_) {
        no = end_body();
    }
    if (!no) {
        no = work_out_recipients();
    }
    if (no) {
        co_return std::move(*no);
    }
    queue::Queued queued;
    queued.queue_id = writer_->queue_id();
    queued.size_bytes = writer_->size_bytes();
    if (discard_) {
        co_return queued;
    }
    if (envelope_.hold) {
        writer_->set_directory("hold");
    }
    Result<void> written = writer_->envelope(envelope_);
    if (written) {
        written = co_await commit();
    }
    if (!written) {
        no = storage_error(written.error());
        co_return std::move(*no);
    }
    committed_ = true;
    co_return queued;
}

/// What is held stays for long, and what came from maildrop/ must be in incoming/ after a power failure too, where pickup looks for
/// it before anybody else (lib/queue/maildrop.h): their own files are flushed.
Task<Result<void>> Message::commit() {
    if (shared_.committer == nullptr || envelope_.hold || !maildrop_file().empty()) {
        co_return co_await writer_->commit();
    }
    Result<queue::LogPlace> place = co_await shared_.committer->commit(*writer_);
    if (!place) {
        co_return place.error();
    }
    place_ = std::move(*place);
    co_return Result<void>();
}

std::optional<queue::NewMessage> Message::notice() {
    if (!committed_ || envelope_.hold) {
        return std::nullopt;
    }
    queue::NewMessage message;
    message.queue_id = writer_->queue_id();
    message.place = std::move(place_);
    // Without the file: qmgr opens it itself for reading only, since agents get its descriptor.
    return message;
}

}  // namespace postern::cleanup
