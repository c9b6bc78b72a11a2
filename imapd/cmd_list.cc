#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "imapd/commands.h"
#include "imapd/list_match.h"
#include "imapd/response.h"
#include "imapd/status_response.h"
#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/mail/utf7.h"

namespace postern::imapd {

namespace {

void write_line(Session& session, std::string_view verb, std::string_view flags, const std::string& name,
                std::string_view after = "") {
    std::string& out = session.out();
    out += "* ";
    out += verb;
    out += " (";
    out += flags;
    out += ") ";
    append_separator(out, session.account().separator());
    out += ' ';
    append_mailbox(out, name);
    out += after;
    out += "\r\n";
}

class Flags {
public:
    void add(std::string_view flag) {
        text_ += text_.empty() ? "" : " ";
        text_ += flag;
    }
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

/// Patterns with the reference before them, as in Dovecot and UW-IMAP: plain concatenation.
std::vector<std::string> full_patterns(const ListArguments& arguments) {
    std::vector<std::string> out;
    for (const std::string& pattern : arguments.patterns) {
        out.push_back(arguments.reference + pattern);
    }
    return out;
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& name, char separator) {
    const auto encoded = utf8_to_imap_utf7(name);
    return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
        return matches_pattern(pattern, encoded ? *encoded : name, separator);
    });
}

/// LIST "" "" asks for the separator and the root of the reference (RFC 3501 section 6.3.8).
bool asks_for_root(const ListArguments& arguments) {
    return !arguments.extended && arguments.patterns.size() == 1 && arguments.patterns[0].empty();
}

void write_root(Session& session, std::string_view verb, const std::string& reference) {
    const std::string& prefix = session.names().prefix();
    std::string& out = session.out();
    out += "* ";
    out += verb;
    out += " (\\Noselect) ";
    append_separator(out, session.account().separator());
    out += ' ';
    append_mailbox(out, !prefix.empty() && reference.starts_with(prefix) ? prefix : std::string());
    out += "\r\n";
}

/// For RECURSIVEMATCH: names above a subscribed mailbox that the patterns themselves do not find.
std::unordered_set<std::string> parents_of_hidden(const std::vector<store::MailboxInfo>& boxes,
                                                  const std::vector<std::string>& patterns, char separator) {
    std::unordered_set<std::string> out;
    for (const store::MailboxInfo& box : boxes) {
        if (!box.subscribed || matches_any(patterns, box.name, separator)) {
            continue;
        }
        for (std::size_t at = box.name.rfind(separator); at != std::string::npos && at > 0;
             at = box.name.rfind(separator, at - 1)) {
            out.insert(box.name.substr(0, at));
        }
    }
    return out;
}

/// Whether the selection options take this mailbox; `child_only`: for the sake of one below it.
bool selected(const ListArguments& arguments, const store::MailboxInfo& box, bool hidden_below, bool& child_only) {
    child_only = false;
    if (!arguments.select_subscribed && !arguments.select_special) {
        return box.exists || box.has_children;
    }
    const bool wanted = (!arguments.select_subscribed || box.subscribed) &&
                        (!arguments.select_special || !box.special_use.empty());
    child_only = !wanted && hidden_below;
    return wanted || child_only;
}

std::string list_flags(const ListArguments& arguments, const store::MailboxInfo& box) {
    Flags flags;
    if (!box.exists) {
        flags.add(arguments.extended ? "\\NonExistent" : "\\Noselect");
    }
    if ((arguments.select_subscribed || arguments.return_subscribed) && box.subscribed) {
        flags.add("\\Subscribed");
    }
    flags.add(box.has_children ? "\\HasChildren" : "\\HasNoChildren");
    const bool special = !arguments.extended || arguments.return_special || arguments.select_special;
    if (special && !box.special_use.empty()) {
        flags.add(box.special_use);
    }
    return flags.text();
}

}  // namespace

/// LIST (RFC 3501 section 6.3.8, RFC 5258, RFC 5819, RFC 6154):
///
///     list = "LIST" [SP "(" options ")"] SP reference SP patterns [SP "RETURN (" options ")"]
Task<std::string> cmd_list(Session& session, Command& command) {
    ListArguments arguments;
    if (!parse_list(command.parser, arguments)) {
        co_return command.bad();
    }
    if (asks_for_root(arguments)) {
        write_root(session, "LIST", arguments.reference);
        co_return "OK List completed.";
    }
    Result<std::vector<store::MailboxInfo>> found = session.account().list();
    if (!found) {
        co_return reply_for(found.error());
    }
    const std::vector<store::MailboxInfo> boxes = session.names().listing(std::move(*found));
    const std::vector<std::string> patterns = full_patterns(arguments);
    const char separator = session.account().separator();
    std::unordered_set<std::string> parents;
    if (arguments.select_recursive && arguments.select_subscribed) {
        parents = parents_of_hidden(boxes, patterns, separator);
    }
    for (const store::MailboxInfo& box : boxes) {
        // RFC 5258 section 3.5: there are mailboxes below this one that the selection takes and the pattern does not.
        const bool child_info = parents.contains(box.name);
        bool child_only = false;
        if (!selected(arguments, box, child_info, child_only) || !matches_any(patterns, box.name, separator)) {
            continue;
        }
        write_line(session, "LIST", list_flags(arguments, box), box.name,
                   child_info ? " (\"CHILDINFO\" (\"SUBSCRIBED\"))" : "");
        if (arguments.status_items != 0 && box.exists && !child_only) {
            const Result<void> status = write_status(session, session.names().store_name(box), arguments.status_items);
            if (!status) {
                log_warning("status of a listed mailbox: {}", status.error().what);
            }
        }
        const bool alive = co_await session.relieve();
        if (!alive) {
            co_return std::string();
        }
    }
    co_return "OK List completed.";
}

/// LSUB (RFC 3501 section 6.3.9): subscribed names, whether they exist or not.  With "%", a name is given
/// as \Noselect when only something below it is subscribed.
Task<std::string> cmd_lsub(Session& session, Command& command) {
    ListArguments arguments;
    if (!parse_lsub(command.parser, arguments)) {
        co_return command.bad();
    }
    if (asks_for_root(arguments)) {
        write_root(session, "LSUB", arguments.reference);
        co_return "OK Lsub completed.";
    }
    Result<std::vector<store::MailboxInfo>> found = session.account().list();
    if (!found) {
        co_return reply_for(found.error());
    }
    const std::vector<store::MailboxInfo> boxes = session.names().listing(std::move(*found));
    const std::vector<std::string> patterns = full_patterns(arguments);
    const bool percent = patterns[0].find('%') != std::string::npos;
    for (const store::MailboxInfo& box : boxes) {
        const bool parent = !box.subscribed && box.subscribed_descendant && percent;
        if ((box.subscribed || parent) && matches_any(patterns, box.name, session.account().separator())) {
            const bool no_mailbox = parent || (session.workarounds().lsub_flags && !box.exists);
            write_line(session, "LSUB", no_mailbox ? "\\Noselect" : "", box.name);
        }
    }
    co_return "OK Lsub completed.";
}

}  // namespace postern::imapd
