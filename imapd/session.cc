#include "imapd/session.h"

#include <algorithm>

#include <fmt/format.h>

#include "imapd/commands.h"
#include "imapd/response.h"
#include "imapd/targets.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"

namespace postern::imapd {

namespace {

constexpr int kMaxErrors = 20;                       ///< BAD answers in a row before BYE, as Dovecot
constexpr Millis kKeepFetched = std::chrono::seconds(3);

}  // namespace

Session::Session(std::unique_ptr<Stream> client, store::Account& account, AppendQueue& appends, const Config& config,
                 ClientInfo info)
    : client_(std::move(client)),
      account_(account),
      appends_(appends),
      config_(config),
      workarounds_(config),
      names_(config.namespace_prefix(), account.separator(), workarounds_.extra_separator),
      info_(std::move(info)) {}

Workarounds::Workarounds(const Config& config) {
    for (const std::string& word : split_list(config.imap_client_workarounds())) {
        delay_newmail = delay_newmail || word == "delay-newmail";
        extra_separator = extra_separator || word == "tb-extra-mailbox-sep";
        lsub_flags = lsub_flags || word == "tb-lsub-flags";
    }
}

bool Session::keywords_fit(const std::vector<std::string>& keywords) const {
    const auto most = static_cast<std::size_t>(config_.mail_max_keyword_length());
    return std::all_of(keywords.begin(), keywords.end(), [most](const std::string& keyword) { return keyword.size() <= most; });
}

Millis Session::patience() const { return std::chrono::duration_cast<Millis>(config_.imap_timeout()); }

Task<> Session::run(std::string greeting) {
    out() += greeting;
    ReadLimits limits;
    limits.command_bytes = static_cast<std::size_t>(config_.imap_max_line_length());
    limits.patience = patience();
    while (!ended_) {
        // A message kept for the client's next piece is let go when that does not come soon.
        const bool keeping = fetched_.uid != 0;
        const Millis first_wait = keeping ? kKeepFetched : limits.patience;
        Wake wake = co_await client_->wait_input(first_wait);
        if (wake == Wake::timed_out && keeping) {
            fetched_ = FetchedMessage{};
            wake = co_await client_->wait_input(limits.patience);
        }
        if (wake == Wake::timed_out) {
            bye("BYE Disconnected for inactivity.");
            break;
        }
        if (stopping_) {                                   // also with more commands in the pipe
            bye("BYE Server shutting down.");
            break;
        }
        if (wake == Wake::interrupted) {
            continue;
        }
        ReadCommand next = co_await read_command(*client_, limits);
        if (next.command) {
            co_await execute(std::move(*next.command));
        } else {
            co_await failed(std::move(next.failure));
        }
    }
    mailbox_.reset();
    [[maybe_unused]] const Result<void> sent =
        co_await client_->flush(std::chrono::seconds(10));
    log_end(logged_out_ ? "Logged out" : stopping_ ? "Server shutting down" : "Connection closed");
    client_->close();
}

Task<> Session::failed(CommandFailure failure) {
    switch (failure.kind) {
    case CommandFailure::Kind::lost:
        ended_ = true;
        break;
    case CommandFailure::Kind::idle:
        bye("BYE Disconnected for inactivity.");
        break;
    case CommandFailure::Kind::too_long:
        out() += fmt::format("{} BAD [LIMIT] Command line or literal too long.\r\n", failure.tag.empty() ? "*" : failure.tag);
        ++errors_;
        too_many_errors();
        break;
    case CommandFailure::Kind::close:
        bye("BYE [TOOBIG] Literal too large.");
        break;
    }
    co_return;
}

Task<> Session::execute(CommandText text) {
    Command command(std::move(text));
    std::string reply;
    const CommandRow* row = nullptr;
    if (!parse_head(command.parser, command.head)) {
        reply = "BAD Error in IMAP command received by server: " + command.parser.error();
    } else {
        row = find_command(command.head.name);
        if (row == nullptr || (command.head.uid && row->uid == Uid::never)) {
            reply = "BAD Error in IMAP command " + printable(command.head.name, 40) + ": Unknown command.";
        } else if (row->selected && mailbox_ == nullptr) {
            reply = "BAD No mailbox selected.";
        } else {
            reply = co_await row->handler(*this, command);
        }
    }
    if (ended_ || reply.empty()) {
        co_return;
    }
    const bool bad = starts_with_ignoring_case(reply, "BAD");
    errors_ = bad ? errors_ + 1 : 0;
    if (!bad && row != nullptr && row->after != After::nothing && mailbox_ != nullptr) {
        const bool hold = row->after == After::hold && !command.head.uid;
        const bool later = workarounds_.delay_newmail && row->news == News::may_wait;
        if (!send_changes(hold ? store::Expunges::hold : store::Expunges::show, command.head.uid,
                          later ? store::Arrivals::hold : store::Arrivals::show)) {
            co_return;
        }
    }
    out() += command.head.tag.empty() ? "*" : command.head.tag;
    out() += ' ';
    out() += reply;
    out() += "\r\n";
    logged_out_ = command.head.name == "LOGOUT" && !bad;
    ended_ = ended_ || logged_out_;
    too_many_errors();
    co_await relieve();
}

void Session::too_many_errors() {
    if (errors_ >= kMaxErrors) {
        bye("BYE Too many invalid IMAP commands.");
    }
}

void Session::stop() {
    stopping_ = true;
    client_->interrupt();
}

void Session::bye(std::string_view line) {
    out() += "* ";
    out() += line;
    out() += "\r\n";
    ended_ = true;
}

void Session::open(std::unique_ptr<store::Mailbox> mailbox) {
    mailbox_ = std::move(mailbox);
    search_result_.clear();
    fetched_ = FetchedMessage{};
}

void Session::close() { open(nullptr); }

void Session::enable_condstore() {
    if (condstore_) {
        return;
    }
    condstore_ = true;
    if (mailbox_ != nullptr) {
        out() += fmt::format("* OK [HIGHESTMODSEQ {}] Highest\r\n", mailbox_->highest_modseq());
    }
}

std::optional<store::UidSet> Session::uids_named(const SequenceSet& set, bool by_uid) const {
    const store::UidSet& all = mailbox_->uids();
    if (set.saved) {
        return intersection(all, search_result_);
    }
    const std::uint32_t exists = mailbox_->exists();
    if (by_uid) {
        return intersection(all, set.resolve(exists > 0 ? mailbox_->uid_of(exists) : 0));
    }
    const store::UidSet wanted = set.resolve(exists);
    if (!wanted.empty() && wanted.ranges().back().last > exists) {
        return std::nullopt;
    }
    return uids_at(all, wanted);
}

Task<bool> Session::relieve() {
    if (!client_->congested()) {
        co_return true;
    }
    const Result<void> sent = co_await client_->flush(patience());
    ended_ = ended_ || !sent;
    co_return sent.ok();
}

void Session::log_end(std::string_view how) {
    std::string text = config_.imap_logout_format();
    const auto put = [&](std::string_view name, std::uint64_t value) {
        const std::string digits = std::to_string(value);
        for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + digits.size())) {
            text.replace(at, name.size(), digits);
        }
    };
    put("%{deleted}", counters_.deleted);
    put("%{expunged}", counters_.expunged);
    put("%{trashed}", counters_.trashed);
    put("%{fetch_hdr_count}", counters_.header_count);
    put("%{fetch_hdr_bytes}", counters_.header_bytes);
    put("%{fetch_body_count}", counters_.body_count);
    put("%{fetch_body_bytes}", counters_.body_bytes);
    put("%{input}", client_->bytes_in());
    put("%{output}", client_->bytes_out());
    put("%i", client_->bytes_in());
    put("%o", client_->bytes_out());
    log_info("imap({})<{}><{}>: {} {}", info_.user, ::getpid(), info_.session_id, how, text);
}

}  // namespace postern::imapd
