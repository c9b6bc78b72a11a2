/// postcat - shows what is in queue files.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <optional>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/queue/journal.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"
#include "lib/queue/transit.h"

namespace {

using namespace postern;

struct Show {
    bool envelope = false, headers = false, body = false, offsets = false;
};

/// In the order in which messages move.
constexpr std::string_view kTransit = "transit";
constexpr std::string_view kQueues[] = {"maildrop", kTransit, "incoming", "active", "deferred", "hold", "corrupt"};
constexpr std::size_t kPiece = 256 * 1024;

void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string time_text(std::int64_t usec) {
    const auto when = static_cast<time_t>(usec / 1000000);
    struct tm local {};
    char text[64] = "";
    ::localtime_r(&when, &local);
    (void)std::strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &local);
    return text;
}

/// Prints one named thing about the message, as Postfix's postcat does.
class Lines {
public:
    Lines(const Show& show, std::uint64_t offset) : show_(show), offset_(offset) {}
    void line(std::string_view name, std::string_view value) const { put_line(name, ": ", value); }
    void text(std::string_view name, std::string_view value) const {
        if (!value.empty()) {
            line(name, value);
        }
    }
    /// "named_attribute: NAME=VALUE", unless the value is empty.
    void attribute(std::string_view name, std::string_view value) const {
        if (!value.empty()) {
            put_line("named_attribute: " + std::string(name), "=", value);
        }
    }

private:
    void put_line(std::string_view name, const char* between, std::string_view value) const {
        if (show_.offsets) {
            put(fmt::format("{:9} ", offset_));
        }
        put(fmt::format("{}{}{}\n", name, between, printable(value, 100000)));
    }
    const Show& show_;
    std::uint64_t offset_;
};

/// Postfix's number for NOTIFY, which scripts know; empty when there was none.
std::string notify_number(std::uint8_t bits) {
    const std::pair<std::uint8_t, int> numbers[] = {{queue::kNotifyNever, 1}, {queue::kNotifySuccess, 2}, {queue::kNotifyFailure, 4},
                                                    {queue::kNotifyDelay, 8}};
    int sum = 0;
    for (const auto& [bit, number] : numbers) {
        sum += (bits & bit) != 0 ? number : 0;
    }
    return sum == 0 ? std::string() : std::to_string(sum);
}

const char* journal_name(std::uint8_t kind) {
    constexpr const char* kNames[] = {"?",           "delivered",    "deferred", "bounced",         "reported",
                                      "next_attempt", "delay_warned", "expire",   "success_reported", "notice_sender"};
    return kind < std::size(kNames) ? kNames[kind] : kNames[0];
}

void show_client(const queue::Client& client, const Lines& out) {
    const std::pair<const char*, const std::string&> logged[] = {
        {"log_client_name", client.name}, {"log_client_address", client.address},   {"log_client_port", client.port},
        {"log_helo_name", client.helo},   {"log_protocol_name", client.protocol}};
    for (const auto& [name, value] : logged) {
        out.attribute(name, value);
    }
    const std::pair<const char*, const std::string&> attributes[] = {
        {"client_name", client.name},       {"reverse_client_name", client.reverse_name}, {"client_address", client.address},
        {"client_port", client.port},       {"helo_name", client.helo},                   {"protocol_name", client.protocol},
        {"sasl_method", client.sasl_method}, {"sasl_username", client.sasl_username},      {"sasl_sender", client.sasl_sender}};
    for (const auto& [name, value] : attributes) {
        out.attribute(name, value);
    }
}

/// Who is served already is a done_recipient.
void show_recipients(const queue::Envelope& envelope, const queue::JournalState& state, const Lines& out) {
    for (std::size_t i = 0; i < envelope.recipients.size(); ++i) {
        const queue::Recipient& recipient = envelope.recipients[i];
        out.attribute("dsn_orig_rcpt", recipient.dsn_orcpt);
        out.attribute("notify_flags", notify_number(recipient.notify));
        out.line("original_recipient", recipient.original.empty() ? recipient.address : recipient.original);
        out.line(state.recipients[i].finished() ? "done_recipient" : "recipient", recipient.address);
    }
}

void show_envelope(const queue::QueueFile& file, const queue::JournalState& state, const Lines& out) {
    const queue::Envelope& e = file.envelope();
    out.line("message_size", fmt::format("{:15}", file.size_bytes()));
    out.line("message_arrival_time", time_text(e.arrival_usec));
    out.attribute("log_ident", e.client.ident);
    out.attribute("rewrite_context", e.rewrite_local ? "local" : "remote");
    out.attribute("envelope_id", e.dsn_envid);
    out.attribute("ret_flags", e.dsn_ret == 0 ? "" : e.dsn_ret == queue::kRetFull ? "1" : "2");
    out.attribute("encoding", e.encoding == 0 ? "" : e.encoding == queue::kEncoding7bit ? "7bit" : "8bit");
    out.attribute("smtputf8", e.smtputf8 ? "yes" : "");
    out.text("sender_fullname", e.sender_full_name);
    out.line("sender", e.sender);
    show_client(e.client, out);
    out.attribute("submit_uid", e.submit_uid >= 0 ? std::to_string(e.submit_uid) : "");
    out.attribute("maildrop_file", e.maildrop_file);
    out.attribute("verp_delimiters", e.verp_delimiters);
    out.text("content_filter", e.content_filter);
    out.text("redirect_to", e.redirect);
    show_recipients(e, state, out);
}

void show_journal(const queue::QueueFile& file, const std::vector<queue::JournalRecord>& records, const Lines& out) {
    for (const queue::JournalRecord& record : records) {
        std::string text = fmt::format("{} {}", time_text(record.time_usec), journal_name(record.kind));
        if (record.recipient < file.envelope().recipients.size()) {
            text += fmt::format(" <{}>", file.envelope().recipients[record.recipient].address);
        }
        if (record.kind == queue::kJournalNextAttempt) {
            text += " " + time_text(record.value_usec);
        }
        if (!record.dsn.empty() || !record.text.empty()) {
            text += fmt::format(" {} {}", record.dsn, record.text);
        }
        out.line("journal", text);
    }
}

/// Empty when it cannot be read; the log says why.
std::vector<queue::JournalRecord> journal_of(const queue::QueueFile& file, int fd) {
    Result<std::vector<queue::JournalRecord>> records = file.journal(fd);
    if (!records) {
        log_warning("{}", records.error().what);
        return {};
    }
    return std::move(*records);
}

bool show_extent(int fd, queue::Extent extent, const Show& show) {
    bool at_line_start = true;
    while (extent.length > 0) {
        const queue::Extent piece{extent.offset, std::min<std::uint64_t>(extent.length, kPiece)};
        const Result<std::string> bytes = queue::read_extent(fd, piece, kPiece);
        if (!bytes) {
            log_error("{}", bytes.error().what);
            return false;
        }
        if (!show.offsets) {
            put(*bytes);
        }
        for (std::size_t at = 0; show.offsets && at < bytes->size();) {
            const std::size_t end = bytes->find('\n', at);
            const std::size_t stop = end == std::string::npos ? bytes->size() : end + 1;
            if (at_line_start) {
                put(fmt::format("{:9} ", piece.offset + at));
            }
            put(std::string_view(*bytes).substr(at, stop - at));
            at_line_start = end != std::string::npos;
            at = stop;
        }
        extent.offset += piece.length;
        extent.length -= piece.length;
    }
    return true;
}

bool show_file(int fd, const std::string& name, const Show& show) {
    const Result<queue::QueueFile> file = queue::QueueFile::read(fd);
    if (!file) {
        log_error("{}: {}", name, file.error().what);
        return false;
    }
    const std::vector<queue::JournalRecord> records = show.envelope ? journal_of(*file, fd) : std::vector<queue::JournalRecord>();
    if (show.envelope) {
        put(fmt::format("*** ENVELOPE RECORDS {} ***\n", name));
        const queue::JournalState state = queue::replay(records, file->envelope().recipients);
        show_envelope(*file, state, Lines(show, file->headers().offset + file->headers().length));
        put(fmt::format("*** MESSAGE CONTENTS {} ***\n", name));
    }
    bool ok = !show.headers || show_extent(fd, file->headers(), show);
    ok = ok && (!show.body || show_extent(fd, file->body(), show));
    if (show.envelope) {
        put(fmt::format("*** HEADER EXTRACTED {} ***\n", name));
        show_journal(*file, records, Lines(show, file->journal_offset()));
        put(fmt::format("*** MESSAGE FILE END {} ***\n", name));
    }
    if (const Result<void> content = file->verify_content(fd); !content) {
        log_error("{}: {}", name, content.error().what);
        ok = false;
    }
    return ok;
}

/// Standard input as a file that can be read at any offset.
UniqueFd standard_input() {
    UniqueFd copy(::memfd_create("postcat", MFD_CLOEXEC));
    std::string buffer(kPiece, '\0');
    for (ssize_t got = 0; copy && (got = ::read(STDIN_FILENO, buffer.data(), buffer.size())) > 0;) {
        if (::write(copy.get(), buffer.data(), static_cast<std::size_t>(got)) != got) {
            copy.reset();
        }
    }
    return copy;
}

/// As open(2).
UniqueFd open_message(const std::string& directory, std::string_view queue_name, const std::string& id) {
    if (queue_name != kTransit) {
        return UniqueFd(::open((directory + "/" + queue::queue_path(queue_name, id)).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    }
    const std::optional<queue::Transit> transit = queue::Transit::open(directory, directory);
    return transit ? transit->open_any(id) : UniqueFd();
}

bool show_queue_id(const std::string& directory, const std::string& id, const Show& show) {
    if (!queue::is_queue_id(id)) {
        fatal("bad mail queue ID: {}", printable(id, 100));
    }
    int reason = ENOENT;
    for (const std::string_view queue_name : kQueues) {
        const UniqueFd fd = open_message(directory, queue_name, id);
        if (fd) {
            return show_file(fd.get(), queue::queue_path(queue_name, id), show);
        }
        reason = errno == ENOENT ? reason : errno;
    }
    fatal("open queue file {}: {}", id, strerror(reason));
}

}  // namespace

int main(int argc, char** argv) {
    log_open("postcat", LogDestination{});
    Show show;
    bool by_id = false;
    std::string directory = Config::default_directory();
    for (int option = 0; (option = ::getopt(argc, argv, "bc:dehnoqrsv")) != -1;) {
        switch (option) {
        case 'b': show.body = true; break;
        case 'c': directory = optarg; break;
        case 'e': show.envelope = true; break;
        case 'h': show.headers = true; break;
        case 'o': show.offsets = true; break;
        case 'q': by_id = true; break;
        case 'd':   // record types are not numbers here: nothing to show in decimal
        case 'n':
        case 'r':
        case 's':
        case 'v': break;
        default: fatal("usage: postcat [-b (body text)] [-c config_dir] [-d (decimal)] [-e (envelope records)] "
                       "[-h (header text)] [-o (file offset)] [-q (access queue)] [-v] [file(s)...]");
        }
    }
    if (!show.body && !show.envelope && !show.headers) {
        show.body = show.envelope = show.headers = true;
    }
    bool ok = true;
    if (by_id && optind < argc) {
        const Result<Config> config = Config::load(directory);
        if (!config) {
            fatal("{}", config.error().what);
        }
        for (int i = optind; i < argc; ++i) {
            ok = show_queue_id(config->queue_directory(), argv[i], show) && ok;
        }
        return ok ? 0 : 1;
    }
    if (optind >= argc) {
        const UniqueFd input = standard_input();
        return show_file(input.get(), "stdin", show) ? 0 : 1;
    }
    for (int i = optind; i < argc; ++i) {
        const UniqueFd fd(::open(argv[i], O_RDONLY | O_CLOEXEC));
        if (!fd) {
            log_error("{}", errno_error(std::string("open ") + argv[i]).what);
        }
        ok = fd && show_file(fd.get(), argv[i], show) && ok;
    }
    return ok ? 0 : 1;
}
