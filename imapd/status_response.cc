#include "imapd/status_response.h"

#include <array>

#include "imapd/response.h"

namespace postern::imapd {

Result<void> write_status(Session& session, const std::string& mailbox, unsigned items) {
    store::Account& account = session.account();
    const Result<store::Status> status = account.status(mailbox);
    if (!status) {
        return status.error();
    }
    std::uint64_t size = 0;
    if ((items & kStatusSize) != 0) {
        const Result<std::uint64_t> total = account.total_size(mailbox);
        if (!total) {
            return total.error();
        }
        size = *total;
    }
    if ((items & kStatusHighestModseq) != 0) {
        session.enable_condstore();
    }
    const auto limit = static_cast<std::uint64_t>(session.config().imap_literal_size_limit());
    struct Value {
        unsigned bit;
        const char* name;
        std::uint64_t value;
    };
    const std::array<Value, 8> values = {{
        {kStatusMessages, "MESSAGES", status->messages}, {kStatusRecent, "RECENT", status->recent},
        {kStatusUidNext, "UIDNEXT", status->uidnext}, {kStatusUidValidity, "UIDVALIDITY", status->uidvalidity},
        {kStatusUnseen, "UNSEEN", status->unseen}, {kStatusHighestModseq, "HIGHESTMODSEQ", status->highest_modseq},
        {kStatusSize, "SIZE", size}, {kStatusAppendLimit, "APPENDLIMIT", limit},
    }};
    std::string& out = session.out();
    out += "* STATUS ";
    append_mailbox(out, session.names().to_client(mailbox));
    out += " (";
    for (const Value& value : values) {
        if ((items & value.bit) != 0) {
            out += out.back() == '(' ? "" : " ";
            out += value.name;
            out += ' ';
            if (value.bit == kStatusAppendLimit && limit == 0) {
                out += "NIL";
            } else {
                append_number(out, value.value);
            }
        }
    }
    out += ")\r\n";
    return {};
}

}  // namespace postern::imapd
