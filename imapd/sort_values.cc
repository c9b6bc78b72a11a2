#include "imapd/sort_values.h"

#include "imapd/fold.h"
#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/date.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/header.h"

namespace postern::imapd {

namespace {

constexpr std::size_t kMaxReferences = 200;          ///< the last ones count

/// The message ids in a References or In-Reply-To field, without their angle brackets.
std::vector<std::string> message_ids(std::string_view value) {
    std::vector<std::string> out;
    for (std::size_t at = value.find('<'); at != std::string_view::npos; at = value.find('<', at)) {
        const std::size_t end = value.find_first_of("<>", at + 1);
        if (end == std::string_view::npos) {
            break;
        }
        if (value[end] == '>') {
            std::string id;
            for (const char c : value.substr(at + 1, end - at - 1)) {
                if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != '"') {
                    id += c;
                }
            }
            if (id.find('@') != std::string::npos) {
                out.push_back(std::move(id));
            }
        }
        at = end;
    }
    if (out.size() > kMaxReferences) {
        out.erase(out.begin(), out.end() - static_cast<std::ptrdiff_t>(kMaxReferences));
    }
    return out;
}

void read_address(std::string_view header, std::string_view name, std::string& local, std::string* display) {
    const HeaderField field = find_field(header, name);
    AddressListOptions options;
    options.max_entries = 1;
    const std::vector<ListAddress> list = parse_address_list(field.value, options);
    if (list.empty()) {
        return;
    }
    const ListAddress& first = list.front();
    local = collated(first.local);
    if (display != nullptr) {
        const bool named = first.has_name && !first.name.empty();
        *display = collated(named ? decode_encoded_words(first.name) : first.local + "@" + first.domain);
    }
}

void read_references(std::string_view header, SortValues& out) {
    const std::vector<std::string> own = message_ids(find_field(header, "message-id").value);
    out.message_id = own.empty() ? std::string() : own.front();
    out.references = message_ids(find_field(header, "references").value);
    if (out.references.empty()) {
        out.references = message_ids(find_field(header, "in-reply-to").value);
        if (out.references.size() > 1) {
            out.references.resize(1);
        }
    }
}

}  // namespace

std::string collated(std::string_view utf8) {
    std::string out = fold_case(utf8);
    for (char& c : out) {
        c = upper(c);                                // RFC 4790 section 9.2.1: i;ascii-casemap compares upper case
    }
    return out;
}

bool read_sort_values(store::Reader& reader, store::Uid uid, bool for_threads, SortValues& out) {
    static const std::vector<std::string> kForSort = {"date", "subject", "from", "to", "cc"};
    static const std::vector<std::string> kForThreads = {"date", "subject", "message-id", "references", "in-reply-to"};
    const Result<store::Summary> summary = reader.summary(uid, store::Need::size_and_date);
    if (!summary) {
        return false;
    }
    out.uid = uid;
    out.arrival = summary->internal_date;
    out.size = summary->size;
    const Result<std::string_view> header = reader.header_fields(uid, for_threads ? kForThreads : kForSort);
    if (!header) {
        return false;
    }
    const auto date = parse_rfc5322_date(unfold(find_field(*header, "date").value));
    out.sent = date ? date->unix_time : out.arrival;
    BaseSubject subject = base_subject(decode_header_text(find_field(*header, "subject").value));
    out.subject = collated(subject.text);
    out.reply = subject.reply;
    if (for_threads) {
        read_references(*header, out);
    } else {
        read_address(*header, "from", out.from, &out.display_from);
        read_address(*header, "to", out.to, &out.display_to);
        read_address(*header, "cc", out.cc, nullptr);
    }
    return true;
}

}  // namespace postern::imapd
