/// One IMAP client after login: reads commands, runs them, tells about changes (RFC 3501).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "imapd/append_queue.h"
#include "imapd/command_reader.h"
#include "imapd/mailbox_names.h"
#include "imapd/parse_any.h"
#include "imapd/syntax.h"
#include "lib/config/config.h"
#include "lib/mail/mime.h"
#include "lib/store/store.h"
#include "lib/stream/stream.h"

namespace postern::imapd {

/// Who is served; for the log.
struct ClientInfo {
    std::string user;
    std::string session_id;
};

/// A command being run.  Does not move: the parser looks into `text`.
struct Command {
    explicit Command(CommandText from) : text(std::move(from.text)), message(from.message), parser(text) {}
    Command(const Command&) = delete;
    Command& operator=(const Command&) = delete;

    std::string text;
    std::optional<LiteralHeader> message;      ///< APPEND: the literal not yet read
    CommandHead head;
    Parser parser;                             ///< stands before the arguments

    /// The reply for arguments that did not parse.
    std::string bad() const { return "BAD Error in IMAP command " + head.name + ": " + parser.error(); }
};

/// For imap_logout_format.
struct Counters {
    std::uint64_t deleted = 0;                 ///< messages that got \Deleted
    std::uint64_t expunged = 0;
    std::uint64_t trashed = 0;                 ///< copied or moved to \Trash
    std::uint64_t header_count = 0, header_bytes = 0;
    std::uint64_t body_count = 0, body_bytes = 0;
};

/// The text of the message that was fetched last, kept between the commands of a client that fetches a
/// large part in pieces.  Dropped when the client asks for another message or nothing for a while.
struct FetchedMessage {
    store::Uid uid = 0;                        ///< 0: nothing here
    std::string text;                          ///< with CRLF line ends
    std::optional<MimeTree> tree;              ///< of `text`
};

/// imap_client_workarounds.
struct Workarounds {
    explicit Workarounds(const Config& config);
    bool delay_newmail = false;                ///< new messages are told by few commands only (CommandRow::news)
    bool extra_separator = false;              ///< see MailboxNames
    bool lsub_flags = false;                   ///< LSUB shows \\Noselect for what is no mailbox
};

/// The conversation.  `account`, `appends` and `config` outlive it.
inline constexpr const char* kKeywordTooLong = "NO [LIMIT] Keyword is too long.";

class Session {
public:
    Session(std::unique_ptr<Stream> client, store::Account& account, AppendQueue& appends, const Config& config,
            ClientInfo info);

    /// Serves the client until LOGOUT or until it is gone.  `greeting` is sent first: the tagged reply to the
    /// command that logged in, with its CRLF.
    Task<> run(std::string greeting);

    /// The process wants to end: the client hears BYE when its present command has ended, at once when idle.
    void stop();

    // --- for commands ---
    Stream& client() { return *client_; }
    std::string& out() { return client_->output(); }
    store::Account& account() { return account_; }
    AppendQueue& appends() { return appends_; }
    const Config& config() const { return config_; }
    /// mail_max_keyword_length.
    bool keywords_fit(const std::vector<std::string>& keywords) const;
    const ClientInfo& info() const { return info_; }
    const MailboxNames& names() const { return names_; }
    const Workarounds& workarounds() const { return workarounds_; }
    store::Mailbox* mailbox() { return mailbox_.get(); }
    Counters& counters() { return counters_; }
    FetchedMessage& fetched() { return fetched_; }
    Millis patience() const;                   ///< autologout (RFC 3501 section 5.4)
    bool stopping() const { return stopping_; }

    void open(std::unique_ptr<store::Mailbox> mailbox);
    void close();
    /// Waits for nothing: ends the session after `line` ("BYE ...") has been written.
    void bye(std::string_view line);
    bool ended() const { return ended_; }

    bool condstore() const { return condstore_; }
    /// A CONDSTORE-enabling command came (RFC 7162 section 3.1): tells HIGHESTMODSEQ the first time.
    void enable_condstore();

    /// The messages of the snapshot that a set names, by UID.  Nothing when a sequence number is out of range.
    std::optional<store::UidSet> uids_named(const SequenceSet& set, bool by_uid) const;
    store::UidSet& search_result() { return search_result_; }

    /// Looks for changes and writes them.  False: the mailbox is gone and BYE has been written.
    bool send_changes(store::Expunges expunges, bool with_uid, store::Arrivals arrivals = store::Arrivals::show);
    void write_flags_lines();                  ///< FLAGS and PERMANENTFLAGS of the selected mailbox

    /// Sends what is written when there is much of it.  False: the client is gone.
    Task<bool> relieve();

private:
    Task<> execute(CommandText text);
    Task<> failed(CommandFailure failure);
    void write_fetch_update(const store::Changes::FlagUpdate& update, bool with_uid);
    void too_many_errors();
    void log_end(std::string_view how);

    std::unique_ptr<Stream> client_;
    store::Account& account_;
    AppendQueue& appends_;                     ///< shared by the sessions of the process
    const Config& config_;
    const Workarounds workarounds_;
    const MailboxNames names_;
    ClientInfo info_;
    std::unique_ptr<store::Mailbox> mailbox_;
    store::UidSet search_result_;              ///< RFC 5182
    FetchedMessage fetched_;
    Counters counters_;
    int errors_ = 0;                           ///< BAD answers in a row
    bool condstore_ = false;
    bool ended_ = false;
    bool stopping_ = false;
    bool logged_out_ = false;
};

}  // namespace postern::imapd
