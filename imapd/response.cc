#include "imapd/response.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "imapd/capability.h"
#include "lib/base/strings.h"
#include "lib/config/config.h"
#include "lib/log/log.h"
#include "lib/mail/imap_structure.h"
#include "lib/mail/utf7.h"

namespace postern::imapd {

std::string session_capabilities(const Config& config) {
    const std::string& setting = config.imap_capability();
    if (!setting.empty() && setting.front() != '+') {
        return setting;
    }
    std::string out(kBaseCapabilities);
    out += ' ';
    out += kSessionCapabilities;
    if (config.imap_literal_size_limit() > 0) {
        out += " APPENDLIMIT=" + std::to_string(config.imap_literal_size_limit());   // RFC 7889
    }
    if (!setting.empty()) {
        out += ' ';
        out += trim(std::string_view(setting).substr(1));
    }
    return out;
}

void append_number(std::string& out, std::uint64_t value) {
    std::array<char, 20> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    out.append(digits.data(), static_cast<std::size_t>(end - digits.data()));
}

void append_astring(std::string& out, std::string_view text) {
    const bool atom = !text.empty() && !equals_ignoring_case(text, "NIL") &&
                      std::all_of(text.begin(), text.end(), [](char c) {
                          constexpr std::string_view kSpecials = "(){%*\"\\";
                          return c > ' ' && c < 0x7F && kSpecials.find(c) == std::string_view::npos;
                      });
    if (atom) {
        out += text;
    } else {
        append_imap_string(out, text);
    }
}

void append_separator(std::string& out, char separator) {
    out += '"';
    out += separator == '\\' || separator == '"' ? "\\" : "";
    out += separator;
    out += '"';
}

void append_mailbox(std::string& out, std::string_view utf8_name) {
    const auto encoded = utf8_to_imap_utf7(utf8_name);
    append_astring(out, encoded ? std::string_view(*encoded) : utf8_name);
}

Result<std::string> mailbox_from_client(std::string_view name, char separator) {
    if (name.empty()) {
        return Error(Errc::syntax, "Invalid mailbox name: Name is empty");   // Dovecot's words
    }
    auto decoded = imap_utf7_to_utf8(name);
    if (!decoded || decoded->empty()) {
        return Error(Errc::syntax, "Mailbox name is not valid modified UTF-7");
    }
    const bool control = std::any_of(decoded->begin(), decoded->end(), [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    });
    if (control) {
        return Error(Errc::syntax, "Mailbox name has control characters");
    }
    const bool inbox = starts_with_ignoring_case(*decoded, "INBOX") &&
                       (decoded->size() == 5 || (*decoded)[5] == separator);
    if (inbox) {
        decoded->replace(0, 5, "INBOX");
    }
    return std::move(*decoded);
}

void append_flags(std::string& out, std::uint32_t flags, std::uint64_t keyword_bits,
                  const std::vector<std::string>& keywords) {
    constexpr std::array<std::pair<std::uint32_t, std::string_view>, 6> kNames = {{
        {store::kAnswered, "\\Answered "}, {store::kFlagged, "\\Flagged "}, {store::kDeleted, "\\Deleted "},
        {store::kSeen, "\\Seen "}, {store::kDraft, "\\Draft "}, {store::kRecent, "\\Recent "},
    }};
    out += '(';
    const std::size_t start = out.size();
    if (flags != 0) {
        for (const auto& [bit, name] : kNames) {
            if ((flags & bit) != 0) {
                out += name;
            }
        }
    }
    for (std::size_t i = 0; keyword_bits != 0 && i < keywords.size(); ++i, keyword_bits >>= 1) {
        if ((keyword_bits & 1) != 0) {
            out += keywords[i];
            out += ' ';
        }
    }
    if (out.size() > start) {
        out.pop_back();
    }
    out += ')';
}

std::string format_uids(const std::vector<store::Uid>& uids) {
    std::string out;
    for (std::size_t i = 0; i < uids.size();) {
        std::size_t end = i + 1;
        while (end < uids.size() && uids[end] == uids[end - 1] + 1) {
            ++end;
        }
        if (!out.empty()) {
            out += ',';
        }
        append_number(out, uids[i]);
        if (end - i > 1) {
            out += ':';
            append_number(out, uids[end - 1]);
        }
        i = end;
    }
    return out;
}

std::string reply_for(const Error& error) {
    switch (error.code) {
    case Errc::not_found: return "NO [NONEXISTENT] Mailbox doesn't exist";
    case Errc::exists: return "NO [ALREADYEXISTS] Mailbox already exists";
    case Errc::syntax: return "NO [CANNOT] " + printable(error.what, 200);
    case Errc::denied: return "NO [NOPERM] Permission denied";
    case Errc::no_space: return "NO [OVERQUOTA] Not enough disk space";
    case Errc::too_big: return "NO [LIMIT] " + printable(error.what, 200);
    case Errc::temporary:
    case Errc::timeout: log_warning("{}", error.what); return "NO [UNAVAILABLE] Try again later";
    default: break;
    }
    log_error("{}", error.what);
    return "NO [SERVERBUG] Internal error occurred. Refer to server log for more information.";
}

}  // namespace postern::imapd
