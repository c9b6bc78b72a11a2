#include "imapd/fetch_body.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "imapd/crlf.h"
#include "imapd/response.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/header.h"
#include "lib/mail/imap_structure.h"
#include "lib/mail/transfer_encoding.h"

namespace postern::imapd {

namespace {

using Kind = FetchItem::Kind;

constexpr std::size_t kChunk = 64 * 1024;
/// A message of which a part is asked for is held in memory; a larger one is refused.
constexpr std::uint64_t kMaxParsed = 256U << 20;

Sent failure(const Error& error) {
    if (error.code == Errc::not_found) {
        return Sent::gone;
    }
    log_error("fetch: {}", error.what);
    return Sent::failed;
}

/// Reads up to `out.size()` bytes at `offset`; 0 at the end of the file.
Result<std::size_t> read_at(int fd, std::string& out, std::uint64_t offset, std::uint64_t end) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), end - std::min(end, offset)));
    for (;;) {
        const ssize_t got = want == 0 ? 0 : ::pread(fd, out.data(), want, static_cast<off_t>(offset));
        if (got >= 0) {
            return static_cast<std::size_t>(got);
        }
        if (errno != EINTR) {
            return errno_error("read message");
        }
    }
}

/// The slice of `text` that a partial asks for.
std::string_view slice(std::string_view text, const std::optional<Partial>& partial) {
    if (!partial) {
        return text;
    }
    if (partial->offset >= text.size()) {
        return {};
    }
    return text.substr(static_cast<std::size_t>(partial->offset), static_cast<std::size_t>(std::min<std::uint64_t>(
                                                                      partial->length, text.size())));
}

void write_literal_head(std::string& out, const std::string& label, std::uint64_t size, bool binary = false) {
    out += label;
    out += binary ? " ~{" : " {";
    append_number(out, size);
    out += "}\r\n";
}

/// Writes `text` as a literal in pieces, so that the output buffer stays small.  NUL cannot be sent in one
/// (RFC 3501 section 9): it goes out as 0x80, except in BINARY.
Task<Sent> send_literal(Session& session, const std::string& label, std::string_view text, bool binary) {
    const bool nul = text.find('\0') != std::string_view::npos;
    write_literal_head(session.out(), label, text.size(), binary && nul);
    for (std::size_t at = 0; at < text.size(); at += kChunk) {
        std::string& out = session.out();
        const std::size_t start = out.size();
        out += text.substr(at, kChunk);
        if (nul && !binary) {
            std::replace(out.begin() + static_cast<std::ptrdiff_t>(start), out.end(), '\0', '\x80');
        }
        const bool alive = co_await session.relieve();
        if (!alive) {
            co_return Sent::lost;
        }
    }
    co_return Sent::done;
}

/// The whole message, straight from its file: once to count, once to send, so that the announced size is
/// exact whatever the index believes.
Task<Sent> send_whole(Session& session, store::Reader& reader, store::Uid uid, const std::string& label) {
    const Result<store::Message> message = reader.message(uid);
    if (!message) {
        co_return failure(message.error());
    }
    const int fd = message->fd.get();
    std::string chunk(static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, message->size)), '\0');
    CrlfCounter counter;
    bool at_once = false;                            // the chunk still holds all of it
    for (std::uint64_t at = 0; at < message->size;) {
        const Result<std::size_t> got = read_at(fd, chunk, at, message->size);
        if (!got || *got == 0) {
            co_return failure(got ? Error(Errc::io, "message file is shorter than it was") : got.error());
        }
        counter.add(std::string_view(chunk).substr(0, *got));
        at += *got;
        at_once = *got == message->size;
    }
    if (!at_once) {
        reader.pause();                              // the client may take its time
    }
    write_literal_head(session.out(), label, counter.size());
    session.counters().body_count += 1;
    session.counters().body_bytes += counter.size();
    CrlfWriter writer;
    for (std::uint64_t at = 0; at < message->size;) {
        std::size_t size = static_cast<std::size_t>(message->size);
        if (!at_once) {
            const Result<std::size_t> got = read_at(fd, chunk, at, message->size);
            if (!got || *got == 0) {
                log_error("fetch: message file changed while it was sent");
                session.bye("BYE Message changed while it was sent.");
                session.client().close();
                co_return Sent::lost;
            }
            size = *got;
        }
        writer.append(session.out(), std::string_view(chunk).substr(0, size), counter.has_nul());
        at += size;
        const bool alive = co_await session.relieve();
        if (!alive) {
            co_return Sent::lost;
        }
    }
    co_return Sent::done;
}

/// The header with its empty line, CRLF line ends.
Result<std::string> wire_header(store::Reader& reader, store::Uid uid) {
    const Result<std::string> header = reader.header(uid);
    if (!header) {
        return header.error();
    }
    std::string out;
    CrlfWriter().append(out, *header, header->find('\0') != std::string::npos);
    return out;
}

/// Whether `name` is listed (HEADER.FIELDS) or not (HEADER.FIELDS.NOT).
bool wanted_field(const SectionSpec& section, std::string_view name) {
    const bool listed = std::any_of(section.fields.begin(), section.fields.end(), [&](const std::string& field) {
        return equals_ignoring_case(field, name);
    });
    return listed == (section.text == SectionText::header_fields);
}

/// The wanted fields of a header and an empty line (RFC 3501 section 6.4.5, HEADER.FIELDS).
std::string pick_fields(std::string_view header, const SectionSpec& section) {
    std::string out;
    HeaderReader fields(header);
    HeaderField field;
    while (fields.next(field)) {
        if (!field.name.empty() && wanted_field(section, field.name)) {
            out += field.whole;
            out += "\r\n";
        }
    }
    out += "\r\n";
    return out;
}

Sent write_header(Session& session, const std::string& label, std::string_view text,
                  const std::optional<Partial>& partial) {
    const std::string_view part = slice(text, partial);
    session.counters().header_count += 1;
    session.counters().header_bytes += part.size();
    write_literal_head(session.out(), label, part.size());
    session.out() += part;
    return Sent::done;
}

/// BODY[HEADER] and BODY[HEADER.FIELDS ...] of the message itself, mostly from the index.
Sent send_header(Session& session, store::Reader& reader, store::Uid uid, const FetchItem& item,
                 const std::string& label) {
    if (item.section.text == SectionText::header_fields) {
        std::vector<std::string> names;
        for (const std::string& field : item.section.fields) {
            names.push_back(to_lower(field));
        }
        const Result<std::string_view> fields = reader.header_fields(uid, names);
        if (!fields) {
            return failure(fields.error());
        }
        std::string text(*fields);
        text += "\r\n";
        return write_header(session, label, text, item.partial);
    }
    const Result<std::string> header = wire_header(reader, uid);
    if (!header) {
        return failure(header.error());
    }
    if (item.section.text == SectionText::header_fields_not) {
        return write_header(session, label, pick_fields(*header, item.section), item.partial);
    }
    return write_header(session, label, *header, item.partial);
}

/// Makes sure that session.fetched() is message `uid`, parsed.
Result<void> load(Session& session, store::Reader& reader, store::Uid uid) {
    FetchedMessage& fetched = session.fetched();
    if (fetched.uid == uid) {
        return {};
    }
    fetched = FetchedMessage{};
    Result<std::string> text = reader.text(uid, kMaxParsed);
    if (!text) {
        return text.error();
    }
    fetched.text = std::move(*text);
    fetched.uid = uid;
    fetched.tree.emplace(MimeTree::parse(fetched.text));
    return {};
}

std::string part_text(const std::vector<std::uint32_t>& part) {
    std::string out;
    for (const std::uint32_t number : part) {
        out += (out.empty() ? "" : ".") + std::to_string(number);
    }
    return out;
}

std::optional<Section> locate(const MimeTree& tree, const FetchItem& item) {
    Section::What what = Section::What::whole;
    switch (item.section.text) {
    case SectionText::whole: break;
    case SectionText::header:
    case SectionText::header_fields:
    case SectionText::header_fields_not: what = Section::What::header; break;
    case SectionText::text: what = Section::What::text; break;
    case SectionText::mime: what = Section::What::mime; break;
    }
    if (item.kind == Kind::rfc822_text) {
        what = Section::What::text;
    }
    return find_section(tree, part_text(item.section.part), what);
}

/// Any other section: found in the parsed message.  A part that is not there is NIL.
Task<Sent> send_section(Session& session, const FetchItem& item, const std::string& label) {
    const MimeTree& tree = *session.fetched().tree;
    const std::optional<Section> section = locate(tree, item);
    if (!section) {
        session.out() += label + " NIL";
        co_return Sent::done;
    }
    std::string_view text = section->range.of(tree.message());
    std::string picked;
    if (item.section.text == SectionText::header_fields || item.section.text == SectionText::header_fields_not) {
        picked = pick_fields(text, item.section);
        text = picked;
    }
    const std::string_view part = slice(text, item.partial);
    session.counters().body_count += 1;
    session.counters().body_bytes += part.size();
    co_return co_await send_literal(session, label, part, false);
}

/// BINARY[] and BINARY.SIZE[] (RFC 3516): with the part's transfer encoding undone.
Task<Sent> send_binary(Session& session, const FetchItem& item, const std::string& label) {
    const MimeTree& tree = *session.fetched().tree;
    const std::optional<Section> section = locate(tree, item);
    if (!section) {
        session.out() += label + (item.kind == Kind::binary_size ? " 0" : " NIL");
        co_return Sent::done;
    }
    std::string_view text = section->range.of(tree.message());
    std::string decoded;
    const MimePart& part = tree.part(section->part);
    if (!item.section.part.empty() && !part.is_multipart && !part.is_message) {
        const TransferEncoding encoding = parse_transfer_encoding(part.transfer_encoding);
        if (encoding == TransferEncoding::unknown) {
            co_return Sent::undecodable;
        }
        if (encoding == TransferEncoding::base64 || encoding == TransferEncoding::quoted_printable) {
            decoded = decode_transfer(encoding, text);
            text = decoded;
        }
    }
    if (item.kind == Kind::binary_size) {
        session.out() += label + ' ' + std::to_string(text.size());
        co_return Sent::done;
    }
    const std::string_view piece = slice(text, item.partial);
    session.counters().body_count += 1;
    session.counters().body_bytes += piece.size();
    co_return co_await send_literal(session, label, piece, true);
}

bool is_whole_message(const FetchItem& item) {
    return item.kind == Kind::rfc822 || (item.kind == Kind::section && item.section.part.empty() &&
                                         item.section.text == SectionText::whole && !item.partial);
}

bool is_message_header(const FetchItem& item) {
    return item.kind == Kind::rfc822_header ||
           (item.kind == Kind::section && item.section.part.empty() &&
            (item.section.text == SectionText::header || item.section.text == SectionText::header_fields ||
             item.section.text == SectionText::header_fields_not));
}

}  // namespace

bool needs_text(const FetchItem& item) {
    switch (item.kind) {
    case Kind::section:
    case Kind::rfc822:
    case Kind::rfc822_header:
    case Kind::rfc822_text:
    case Kind::binary:
    case Kind::binary_size: return true;
    default: return false;
    }
}

std::string item_label(const FetchItem& item) {
    switch (item.kind) {
    case Kind::rfc822: return "RFC822";
    case Kind::rfc822_header: return "RFC822.HEADER";
    case Kind::rfc822_text: return "RFC822.TEXT";
    default: break;
    }
    std::string out = item.kind == Kind::binary ? "BINARY[" : item.kind == Kind::binary_size ? "BINARY.SIZE[" : "BODY[";
    out += part_text(item.section.part);
    if (item.section.text != SectionText::whole && !item.section.part.empty()) {
        out += '.';
    }
    switch (item.section.text) {
    case SectionText::whole: break;
    case SectionText::header: out += "HEADER"; break;
    case SectionText::text: out += "TEXT"; break;
    case SectionText::mime: out += "MIME"; break;
    case SectionText::header_fields:
    case SectionText::header_fields_not:
        out += item.section.text == SectionText::header_fields ? "HEADER.FIELDS (" : "HEADER.FIELDS.NOT (";
        for (const std::string& field : item.section.fields) {
            out += out.back() == '(' ? "" : " ";
            append_astring(out, to_upper(field));
        }
        out += ')';
        break;
    }
    out += ']';
    if (item.partial && item.kind != Kind::binary_size) {
        out += '<' + std::to_string(item.partial->offset) + '>';
    }
    return out;
}

Task<Sent> send_text_item(Session& session, store::Reader& reader, store::Uid uid, const FetchItem& item,
                          const std::string& label) {
    if (is_whole_message(item) && session.fetched().uid != uid) {
        co_return co_await send_whole(session, reader, uid, label);
    }
    if (is_message_header(item)) {
        co_return send_header(session, reader, uid, item, label);
    }
    const Result<void> loaded = load(session, reader, uid);
    if (!loaded) {
        co_return failure(loaded.error());
    }
    if (session.fetched().text.size() > kChunk) {
        reader.pause();                              // the client may take its time
    }
    if (item.kind == Kind::binary || item.kind == Kind::binary_size) {
        co_return co_await send_binary(session, item, label);
    }
    co_return co_await send_section(session, item, label);
}

}  // namespace postern::imapd
