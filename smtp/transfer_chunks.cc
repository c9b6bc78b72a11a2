// Content by BDAT (RFC 3030) for servers that offer CHUNKING and PIPELINING: no byte has to be doubled, and a small message
// leaves in one flight with its envelope.  smtp_discard_ehlo_keywords = chunking turns it off.
#include <fmt/format.h>

#include "lib/log/log.h"
#include "smtp/transfer.h"

namespace postern::smtp {
namespace {

constexpr std::size_t kChunk = 256 * 1024;
/// More would be sent in vain too often: to servers that refuse sender or recipients.
constexpr std::uint64_t kEarly = 32 * 1024;
/// Chunks on the way; the replies to more might fill the server's send buffer, and then it reads no more.
constexpr int kOnTheWay = 4;

}  // namespace

bool Transfer::uses_chunks() const {
    const Features& features = session_.features();
    return features.chunking && features.pipelining && !delivery_.request().verify_only;
}

std::string_view Transfer::end_command() const {
    return uses_chunks() ? "BDAT command" : "end of DATA command";
}

/// A small message goes along with its envelope.  Not on a connection that has been used before: when that turns out to be
/// stale the message is sent again at once, and it must be certain that the server did not have it.
bool Transfer::goes_early() {
    return uses_chunks() && session_.uses() == 0 && delivery_.content().size_bytes() <= kEarly && delivery_.is_wanted();
}

/// Everything that next() yields; false when it cannot be read, which is found again, and told, by who tries later.
bool Transfer::write_early() {
    Content& content = delivery_.content();
    DotEncoder encoder({settings_.line_length_limit(), false, false});
    std::string chunk;
    for (;;) {
        const Result<std::string_view> piece = content.next();
        if (!piece) {
            content.rewind();
            return false;
        }
        if (piece->empty()) {
            break;
        }
        encoder.add(*piece, chunk);
    }
    encoder.finish(chunk);
    note_folding(encoder);
    delivery_.sending(delivery_.open_recipients());
    write_chunk(chunk, true);
    return true;
}

void Transfer::write_chunk(std::string& chunk, bool last) {
    session_.command(fmt::format("BDAT {}{}", chunk.size(), last ? " LAST" : ""));
    session_.stream().write(chunk);
    chunk.clear();
    if (last && last_) {
        session_.command("QUIT");
        session_.quit_sent();
    }
}

void Transfer::note_folding(const DotEncoder& encoder) const {
    if (encoder.folded()) {
        log_info("{}: breaking line > {} bytes with <CR><LF>SPACE", delivery_.request().queue_id, settings_.line_length_limit());
    }
}

/// The envelope has been answered; the content is there already.
Task<> Transfer::end_early() {
    if (accepted_.empty() && session_.dead()) {
        co_return;
    }
    if (accepted_.empty()) {
        const Result<Reply> reply = co_await session_.reply(settings_.data_done_timeout());   // says nothing: nobody was to get it
        if (!reply) {
            log_debug("BDAT without recipients: {}", reply.error().what);
        }
        session_.unfinished = true;
        co_return;
    }
    delivery_.sending(accepted_);   // not those that were refused
    co_await end_content();
}

/// Reads replies to chunks that are not the last until `allowed` are on the way.  False when the transfer is over.
Task<bool> Transfer::hear_chunks(int& on_the_way, int allowed) {
    while (on_the_way > allowed) {
        const Result<Reply> reply = co_await session_.reply(settings_.data_xfer_timeout());
        if (!reply) {
            delivery_.failed_all(&session_, session_.broken(reply.error(), "sending message body"));
            co_return false;
        }
        if (!reply->positive()) {   // RFC 3030 section 2: the transaction has failed, whatever else is on the way
            for (const std::size_t i : accepted_) {
                delivery_.failed(i, &session_, session_.refused(*reply, end_command()));
            }
            session_.mark_dead();
            co_return false;
        }
        --on_the_way;
    }
    co_return true;
}

/// False when the content cannot be sent or read; then all are told.
Task<bool> Transfer::stream_chunks(int& on_the_way) {
    Stream& stream = session_.stream();
    const auto begin = std::chrono::steady_clock::now();
    const std::uint64_t sent_before = stream.bytes_out();
    DotEncoder encoder({settings_.line_length_limit(), false, false});
    std::string chunk;
    for (;;) {
        const Result<std::string_view> piece = delivery_.content().next();
        if (!piece) {
            content_lost(piece.error());
            co_return false;
        }
        if (piece->empty()) {
            break;
        }
        encoder.add(*piece, chunk);
        if (chunk.size() < kChunk) {
            continue;
        }
        write_chunk(chunk, false);
        ++on_the_way;
        const Millis left = session_.left_of(begin, settings_.data_xfer_timeout(), stream.bytes_out() - sent_before);
        const Result<void> sent = co_await stream.flush(left);
        if (!sent) {
            delivery_.failed_all(&session_, session_.broken(sent.error(), "sending message body"));
            co_return false;
        }
        const bool good = co_await hear_chunks(on_the_way, kOnTheWay);
        if (!good) {
            co_return false;
        }
    }
    encoder.finish(chunk);
    note_folding(encoder);
    const bool wanted = conclude();
    if (wanted) {
        write_chunk(chunk, true);
    }
    co_return wanted;
}

Task<> Transfer::send_chunks() {
    int on_the_way = 0;
    const bool complete = co_await stream_chunks(on_the_way);
    if (!complete) {
        session_.mark_dead();
        co_return;
    }
    const bool good = co_await hear_chunks(on_the_way, 0);
    if (good) {
        co_await end_content();
    }
}

}  // namespace postern::smtp
