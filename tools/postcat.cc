/// postcat - shows what is in queue files.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/queue/queue_file.h"
#include "lib/queue/queue_id.h"

namespace {

using namespace postern;

struct Show {
    bool envelope = false, headers = false, body = false, offsets = false;
};

constexpr const char* kQueues[] = {"maildrop", "incoming", "active", "deferred", "hold", "corrupt"};
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

/// Prints one named thing about the message.
class Lines {
public:
    Lines(const Show& show, std::uint64_t offset) : show_(show), offset_(offset) {}
    void line(std::string_view name, std::string_view value) const {
        if (show_.offsets) {
            put(fmt::format("{:9} ", offset_));
        }
        put(fmt::format("{}: {}\n", name, printable(value, 100000)));
    }
    void text(std::string_view name, std::string_view value) const {
        if (!value.empty()) {
            line(name, value);
        }
    }

private:
    const Show& show_;
    std::uint64_t offset_;
};

std::string notify_text(std::uint8_t bits) {
    std::string out;
    const std::pair<std::uint8_t, const char*> names[] = {{queue::kNotifyNever, "never"},
                                                           {queue::kNotifySuccess, "success"},
                                                           {queue::kNotifyFailure, "failure"},
                                                           {queue::kNotifyDelay, "delay"}};
    for (const auto& [bit, name] : names) {
        if ((bits & bit) != 0) {
            out += (out.empty() ? "" : ",") + std::string(name);
        }
    }
    return out;
}

const char* journal_name(std::uint8_t kind) {
    constexpr const char* kNames[] = {"?",           "delivered",    "deferred", "bounced",         "reported",
                                      "next_attempt", "delay_warned", "expire",   "success_reported"};
    return kind < std::size(kNames) ? kNames[kind] : kNames[0];
}

void show_envelope(const queue::QueueFile& file, const Lines& out) {
    const queue::Envelope& e = file.envelope();
    out.line("message_size", std::to_string(file.size_bytes()));
    out.line("message_arrival_time", time_text(e.arrival_usec));
    const std::pair<const char*, const std::string&> attributes[] = {
        {"client_name", e.client.name},         {"reverse_client_name", e.client.reverse_name},
        {"client_address", e.client.address},   {"client_port", e.client.port},
        {"helo_name", e.client.helo},           {"protocol_name", e.client.protocol},
        {"sasl_method", e.client.sasl_method},  {"sasl_username", e.client.sasl_username},
        {"sasl_sender", e.client.sasl_sender},  {"log_ident", e.client.ident},
        {"envelope_id", e.dsn_envid},           {"full_name", e.sender_full_name},
        {"content_filter", e.content_filter},   {"redirect", e.redirect},
        {"verp_delimiters", e.verp_delimiters}, {"maildrop_file", e.maildrop_file}};
    for (const auto& [name, value] : attributes) {
        out.text(fmt::format("named_attribute: {}", name), value);
    }
    if (e.submit_uid >= 0) {
        out.line("named_attribute: submit_uid", std::to_string(e.submit_uid));
    }
    out.text("named_attribute: ret_flags", e.dsn_ret == 0 ? "" : e.dsn_ret == queue::kRetFull ? "full" : "hdrs");
    out.text("named_attribute: encoding", e.encoding == 0 ? "" : e.encoding == queue::kEncoding7bit ? "7bit" : "8bit");
    out.text("named_attribute: smtputf8", e.smtputf8 ? "yes" : "");
    out.line("named_attribute: rewrite_context", e.rewrite_local ? "local" : "remote");
    out.line("sender", e.sender);
    for (const queue::Recipient& recipient : e.recipients) {
        out.text("named_attribute: dsn_orig_rcpt", recipient.dsn_orcpt);
        out.text("named_attribute: notify_flags", notify_text(recipient.notify));
        out.text("original_recipient", recipient.original);
        out.line("recipient", recipient.address);
    }
}

void show_journal(const queue::QueueFile& file, int fd, const Lines& out) {
    const Result<std::vector<queue::JournalRecord>> records = file.journal(fd);
    if (!records) {
        log_warning("{}", records.error().what);
        return;
    }
    for (const queue::JournalRecord& record : *records) {
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
    if (show.envelope) {
        put(fmt::format("*** ENVELOPE RECORDS {} ***\n", name));
        show_envelope(*file, Lines(show, file->headers().offset + file->headers().length));
        put(fmt::format("*** MESSAGE CONTENTS {} ***\n", name));
    }
    bool ok = !show.headers || show_extent(fd, file->headers(), show);
    ok = ok && (!show.body || show_extent(fd, file->body(), show));
    if (show.envelope) {
        put(fmt::format("*** DELIVERY JOURNAL {} ***\n", name));
        show_journal(*file, fd, Lines(show, file->journal_offset()));
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

bool show_queue_id(const std::string& directory, const std::string& id, const Show& show) {
    if (!queue::is_queue_id(id)) {
        fatal("bad mail queue ID: {}", printable(id, 100));
    }
    int reason = ENOENT;
    for (const char* queue_name : kQueues) {
        const std::string name = queue::queue_path(queue_name, id);
        const UniqueFd fd(::open((directory + "/" + name).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        if (fd) {
            return show_file(fd.get(), name, show);
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
