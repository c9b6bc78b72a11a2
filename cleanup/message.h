/// One message on its way through cleanup(8): from Begin to a durable queue file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cleanup/characters.h"
#include "cleanup/committer.h"
#include "lib/checks/mime_walker.h"
#include "lib/mail/header_kinds.h"
#include "cleanup/maps.h"
#include "cleanup/splitter.h"
#include "lib/async/task.h"
#include "lib/base/unique_fd.h"
#include "lib/queue/messages.h"
#include "lib/queue/queue_file.h"

namespace postern::cleanup {

/// What is refused though much mail has it (strict_8bitmime and its kin).
struct Strictness {
    explicit Strictness(const Config& config);
    bool headers, body, encoding_domain;
};

/// What all messages of a process share; outlives them.
struct Shared {
    Shared(const Config& settings, AddressMaps& address_maps, ContentChecks& content_checks);
    const Config& config;
    AddressMaps& maps;
    ContentChecks& checks;
    Strictness strict;
    std::vector<std::string> drop_headers;           ///< message_drop_headers, lower case
    CharacterSet rejected, stripped;                 ///< message_reject_characters, message_strip_characters
    std::string queue_directory = ".";
    queue::FileIo* io = nullptr;                     ///< null: the system
    Committer* committer = nullptr;                  ///< null: each message is made durable by itself
};

/// Why a message is not taken; nothing: all is well.
using Refusal = std::optional<queue::Refused>;

class Message {
public:
    Message(Shared& shared, queue::Begin begin);
    ~Message();
    Message(const Message&) = delete;
    Message& operator=(const Message&) = delete;

    /// Makes the queue file and the Received: field.  First of all.
    Refusal start();
    /// More content, cut anywhere.  After a refusal the message is to be destroyed.
    Refusal content(std::string_view bytes);
    /// The content is complete: finishes the headers, works out the recipients, commits.  The answer is Queued
    /// only when the message is on stable storage.
    Task<queue::FromCleanup> finish();

    /// After Queued: the id when qmgr is to be told (the message is in incoming/).
    std::optional<queue::NewMessage> notice();
    /// Begin's envelope.maildrop_file; its lock (Begin::source) lasts as long as this object.
    const std::string& maildrop_file() const { return begin_.envelope.maildrop_file; }

private:
    Refusal refuse(std::uint32_t code, std::string_view dsn, std::string_view text) const;
    Refusal storage_error(const Error& error) const;
    Refusal map_error(const Error& error) const;

    Refusal refuse_character(std::string_view bytes, std::size_t at) const;
    Refusal clean_content(std::string_view bytes);
    Refusal end_header(bool complete);
    Refusal take_pieces();
    Refusal take_field(std::string field);
    void note_requiretls(std::string_view name, std::string_view field);
    Refusal known_field(const HeaderKind& kind, std::string field);
    Refusal rewrite_field(const HeaderKind& kind, std::string& field);
    Refusal header_end();
    Refusal add_field(std::string_view text);
    Refusal add_body(std::string_view bytes);
    Refusal refuse_mime(const char* why, std::string_view text) const;
    Refusal judge_field(std::string_view field) const;
    Refusal judge_piece(const MimeWalker::Piece& piece) const;
    bool converts() const { return shared_.config.force_mime_input_conversion() && !shared_.config.disable_mime_input_processing(); }
    bool replaces_encoding(std::string_view field);
    Refusal add_encoding();
    void walk_body();
    Refusal end_body();
    Refusal check_body(std::string_view bytes);
    Refusal check_pieces();
    Refusal check_piece(MimeWalker::Piece piece);
    void note_mime_field(std::string_view name, const std::string& field);
    struct Checked {
        Refusal refusal;
        bool keep = true;
    };
    Checked apply(const CheckAction& action, LineKind kind, bool in_body, std::string& text);
    void log_action(const char* action, const char* what, std::string_view line, std::string_view text) const;
    Refusal work_out_recipients();
    Task<Result<void>> commit();
    bool drops(std::string_view field_name) const;

    Shared& shared_;
    queue::Begin begin_;
    queue::Envelope envelope_;                 ///< as it will be stored
    std::unique_ptr<queue::QueueFileWriter> writer_;
    queue::LogPlace place_;                    ///< after the commit
    ContentSplitter splitter_;
    HeaderSet seen_;
    std::string resent_;                       ///< "Resent-" once a resent field was seen
    std::vector<std::string> extra_bcc_;       ///< BCC actions
    std::optional<MimeWalker> walker_;         ///< takes the body apart, when parts of it are checked or may say 8bit
    std::string content_type_, transfer_encoding_;
    bool part_field_kept_ = true;
    std::string replaced_encoding_;            ///< force_mime_input_conversion: what the header said
    bool takes_apart_ = false;                 ///< else the walker only scans
    bool judges_parts_ = false;                ///< checks and strictness, too
    bool header_ended_ = false, skip_header_checks_ = false, skip_body_checks_ = false, discard_ = false;
    bool committed_ = false;
};

}  // namespace postern::cleanup
