#include "imapd/base_subject.h"

#include "lib/base/strings.h"

namespace postern::imapd {

namespace {

std::string_view skip_spaces(std::string_view text) {
    while (!text.empty() && text.front() == ' ') {
        text.remove_prefix(1);
    }
    return text;
}

/// subj-blob = "[" *BLOBCHAR "]" *WSP; its length, 0 when there is none.
std::size_t blob_length(std::string_view text) {
    if (text.empty() || text.front() != '[') {
        return 0;
    }
    const std::size_t end = text.find_first_of("[]", 1);
    if (end == std::string_view::npos || text[end] == '[') {
        return 0;
    }
    return text.size() - skip_spaces(text.substr(end + 1)).size();
}

/// subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"; its length, 0 when there is none.
std::size_t refwd_length(std::string_view text) {
    std::size_t at = 0;
    if (starts_with_ignoring_case(text, "re") || starts_with_ignoring_case(text, "fw")) {
        at = starts_with_ignoring_case(text, "fwd") ? 3 : 2;
    } else {
        return 0;
    }
    at = text.size() - skip_spaces(text.substr(at)).size();
    at += blob_length(text.substr(at));
    return at < text.size() && text[at] == ':' ? at + 1 : 0;
}

/// subj-leader = (*subj-blob subj-refwd) / WSP; its length, 0 when there is none.
std::size_t leader_length(std::string_view text) {
    std::size_t at = 0;
    while (const std::size_t blob = blob_length(text.substr(at))) {
        at += blob;
    }
    const std::size_t refwd = refwd_length(text.substr(at));
    return refwd == 0 ? 0 : at + refwd;
}

/// Step 2: "(fwd)" and spaces at the end.
std::string_view without_trailers(std::string_view text, bool& reply) {
    for (;;) {
        if (!text.empty() && text.back() == ' ') {
            text.remove_suffix(1);
        } else if (text.size() >= 5 && equals_ignoring_case(text.substr(text.size() - 5), "(fwd)")) {
            text.remove_suffix(5);
            reply = true;
        } else {
            return text;
        }
    }
}

/// Steps 3 to 5: "Re:" and blobs at the beginning.
std::string_view without_leaders(std::string_view text, bool& reply) {
    for (;;) {
        text = skip_spaces(text);
        if (const std::size_t leader = leader_length(text); leader > 0) {
            text.remove_prefix(leader);
            reply = true;
        } else {
            break;
        }
    }
    // No "Re:" follows these blobs, however many of them go: that need not be looked at again for each.
    for (std::size_t blob = blob_length(text); blob > 0 && blob < text.size(); blob = blob_length(text)) {
        text.remove_prefix(blob);
    }
    return text;
}

}  // namespace

BaseSubject base_subject(std::string_view subject) {
    BaseSubject out;
    std::string collapsed;                           // step 1
    for (const char c : subject) {
        const bool space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (!space) {
            collapsed += c;
        } else if (collapsed.empty() || collapsed.back() != ' ') {
            collapsed += ' ';
        }
    }
    std::string_view text = collapsed;
    for (;;) {
        text = without_leaders(without_trailers(text, out.reply), out.reply);
        if (!starts_with_ignoring_case(text, "[fwd:") || text.back() != ']') {   // step 6
            break;
        }
        text = text.substr(5, text.size() - 6);
        out.reply = true;
    }
    out.text = text;
    return out;
}

}  // namespace postern::imapd
