#include "lib/mail/imap_structure.h"

#include <array>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "lib/mail/header.h"
#include "lib/mail/transfer_encoding.h"

namespace postern {

namespace {

/// Longer strings go as literals: some clients have line limits.
constexpr std::size_t kMaxQuoted = 1000;
/// What an address without a part is shown with, for NIL would make it a group (as Dovecot).
constexpr std::string_view kMissingLocal = "MISSING_MAILBOX";
constexpr std::string_view kMissingDomain = "MISSING_DOMAIN";

void append_nstring(std::string& out, std::string_view text) {
    if (text.empty()) {
        out += "NIL";
    } else {
        append_imap_string(out, text);
    }
}

/// A raw field value; NIL when missing or empty.
void append_field(std::string& out, std::string_view raw) {
    const std::string value = unfold(raw);
    append_nstring(out, value);
}

/// A raw field value; NIL when the field is missing, an empty string when it is empty (RFC 3501 section 7.4.2).
void append_present_field(std::string& out, std::string_view raw) {
    if (raw.data() == nullptr) {
        out += "NIL";
    } else {
        append_imap_string(out, unfold(raw));
    }
}

// --- ENVELOPE ---------------------------------------------------------------------------------------------

void append_address(std::string& out, const ListAddress& address) {
    if (address.kind == ListAddress::Kind::group_end) {
        out += "(NIL NIL NIL NIL)";
        return;
    }
    out += '(';
    append_nstring(out, address.name);
    out += ' ';
    append_nstring(out, address.route);
    out += ' ';
    if (address.kind == ListAddress::Kind::group_start) {
        append_imap_string(out, address.local);
        out += " NIL)";
        return;
    }
    const bool empty_local = address.local.empty() && address.invalid;
    append_imap_string(out, empty_local ? kMissingLocal : std::string_view(address.local));
    out += ' ';
    append_imap_string(out, address.domain.empty() ? kMissingDomain : std::string_view(address.domain));
    out += ')';
}

/// The lists of an envelope, each in wire form without its parentheses; the strings raw.
struct EnvelopeFields {
    enum List { from, sender, reply_to, to, cc, bcc, kLists };
    enum Text { date, subject, in_reply_to, message_id, kTexts };
    std::array<std::string, kLists> lists;
    std::array<std::string_view, kTexts> texts;
};

constexpr std::array<std::string_view, EnvelopeFields::kLists> kListNames = {"from", "sender", "reply-to", "to", "cc", "bcc"};
constexpr std::array<std::string_view, EnvelopeFields::kTexts> kTextNames = {"date", "subject", "in-reply-to", "message-id"};

EnvelopeFields read_envelope(std::string_view header) {
    EnvelopeFields fields;
    HeaderReader reader(header);
    HeaderField field;
    while (reader.next(field)) {
        if (field.name.size() < 2 || field.name.size() > 11) {
            continue;
        }
        for (std::size_t i = 0; i < kListNames.size(); ++i) {
            if (equals_ignoring_case(field.name, kListNames[i])) {
                for (const ListAddress& address : parse_address_list(field.value)) {
                    append_address(fields.lists[i], address);
                }
            }
        }
        for (std::size_t i = 0; i < kTextNames.size(); ++i) {
            if (fields.texts[i].data() == nullptr && equals_ignoring_case(field.name, kTextNames[i])) {
                fields.texts[i] = field.value;
            }
        }
    }
    return fields;
}

// --- BODY and BODYSTRUCTURE -------------------------------------------------------------------------------

class StructureWriter {
public:
    StructureWriter(const MimeTree& tree, bool extended) : tree_(tree), extended_(extended) {}

    /// Depth is bounded by MimeLimits.
    void write(const MimePart& part) {
        out += '(';
        if (part.is_multipart) {
            multipart(part);
        } else {
            single(part);
        }
        out += ')';
    }
    std::string out;

private:
    void multipart(const MimePart& part);
    void single(const MimePart& part);
    void parameters(const MimeParameters& raw, bool text);
    void encoding(std::string_view raw);
    void extension(const MimePart& part);

    const MimeTree& tree_;
    bool extended_;
};

void StructureWriter::multipart(const MimePart& part) {
    if (part.first_child == MimePart::kNone) {   // the grammar wants at least one part
        out += "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0";
        out += extended_ ? " NIL NIL NIL NIL)" : ")";
    }
    for (std::uint32_t child = part.first_child; child != MimePart::kNone; child = tree_.part(child).next_sibling) {
        write(tree_.part(child));
    }
    out += ' ';
    append_imap_string(out, part.type.subtype);
    if (extended_) {
        out += ' ';
        parameters(part.type.parameters, false);
        extension(part);
    }
}

void StructureWriter::single(const MimePart& part) {
    const bool text = equals_ignoring_case(part.type.type, "text");
    append_imap_string(out, part.type.type);
    out += ' ';
    append_imap_string(out, part.type.subtype);
    out += ' ';
    parameters(part.type.parameters, text);
    out += ' ';
    append_field(out, part.id);
    out += ' ';
    append_field(out, part.description);
    out += ' ';
    encoding(part.transfer_encoding);
    out += ' ';
    out += std::to_string(part.body.octets());
    if (text) {
        out += ' ';
        out += std::to_string(part.body.lines);
    } else if (part.is_message) {
        const MimePart& message = tree_.part(part.first_child);
        out += ' ';
        out += imap_envelope(message.header.of(tree_.message()));
        out += ' ';
        write(message);
        out += ' ';
        out += std::to_string(part.body.lines);
    }
    if (extended_) {
        out += ' ';
        append_field(out, part.md5);
        extension(part);
    }
}

void StructureWriter::parameters(const MimeParameters& raw, bool text) {
    const MimeParameters list = join_parameters(raw);
    const bool add_charset = text && find_parameter(list, "charset") == nullptr;
    if (list.empty() && !add_charset) {
        out += "NIL";
        return;
    }
    char separator = '(';
    for (const MimeParameter& parameter : list) {
        out += separator;
        append_imap_string(out, parameter.name);
        out += ' ';
        append_imap_string(out, parameter.value);
        separator = ' ';
    }
    if (add_charset) {
        out += separator;
        out += "\"charset\" \"us-ascii\"";
    }
    out += ')';
}

/// A token as it stands; 7bit when there is none.
void StructureWriter::encoding(std::string_view raw) {
    const std::string stripped = raw.empty() ? std::string() : strip_comments(raw);
    std::string_view token = trim(stripped);
    token = token.substr(0, token.find_first_of("; \t"));
    bool good = !token.empty();
    for (const char c : token) {
        good = good && c > ' ' && c < 127 && std::string_view("()<>@,:\\\"/[]?=").find(c) == std::string_view::npos;
    }
    append_imap_string(out, good ? token : std::string_view("7bit"));
}

/// body-fld-dsp, body-fld-lang, body-fld-loc
void StructureWriter::extension(const MimePart& part) {
    const ContentDisposition disposition = parse_content_disposition(part.disposition);
    if (disposition.type.empty()) {
        out += " NIL";
    } else {
        out += " (";
        append_imap_string(out, disposition.type);
        out += ' ';
        parameters(disposition.parameters, false);
        out += ')';
    }
    const std::vector<std::string> languages =
        part.language.empty() ? std::vector<std::string>() : split(strip_comments(part.language), ", \t");
    char separator = '(';
    out += ' ';
    for (const std::string& language : languages) {
        out += separator;
        append_imap_string(out, language);
        separator = ' ';
    }
    out += languages.empty() ? "NIL " : ") ";
    append_field(out, part.location);
}

}  // namespace

void append_imap_string(std::string& out, std::string_view text) {
    bool quotable = text.size() <= kMaxQuoted;
    for (std::size_t i = 0; quotable && i < text.size(); ++i) {
        const unsigned char c = static_cast<unsigned char>(text[i]);
        quotable = c != 0 && c != '\r' && c != '\n' && c < 128;
    }
    if (!quotable) {
        out += '{';
        out += std::to_string(text.size());
        out += "}\r\n";
        const std::size_t begin = out.size();
        out += text;
        for (std::size_t i = begin; i < out.size(); ++i) {
            out[i] = out[i] == '\0' ? static_cast<char>(0x80) : out[i];
        }
        return;
    }
    out += '"';
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
        }
        out += c;
    }
    out += '"';
}

std::string imap_envelope(std::string_view header) {
    using Fields = EnvelopeFields;
    Fields fields = read_envelope(header);
    for (const Fields::List list : {Fields::sender, Fields::reply_to}) {
        if (fields.lists[list].empty()) {
            fields.lists[list] = fields.lists[Fields::from];
        }
    }
    std::string out = "(";
    append_present_field(out, fields.texts[Fields::date]);
    out += ' ';
    append_present_field(out, fields.texts[Fields::subject]);
    for (const std::string& list : fields.lists) {
        if (list.empty()) {
            out += " NIL";
        } else {
            out += " (";
            out += list;
            out += ')';
        }
    }
    out += ' ';
    append_present_field(out, fields.texts[Fields::in_reply_to]);
    out += ' ';
    append_present_field(out, fields.texts[Fields::message_id]);
    out += ')';
    return out;
}

std::string imap_body(const MimeTree& tree) {
    StructureWriter writer(tree, false);
    writer.write(tree.root());
    return std::move(writer.out);
}

std::string imap_bodystructure(const MimeTree& tree) {
    StructureWriter writer(tree, true);
    writer.write(tree.root());
    return std::move(writer.out);
}

// --- sections ---------------------------------------------------------------------------------------------

std::optional<Section> find_section(const MimeTree& tree, std::string_view numbers, Section::What what) {
    Section found;
    found.what = what;
    std::uint32_t at = 0;
    bool addressed = false;   // `at` was named by a number; otherwise it is a message
    for (const std::string& text : numbers.empty() ? std::vector<std::string>() : split_exact(numbers, '.')) {
        const std::optional<std::uint64_t> number = parse_number(text);
        if (!number || *number == 0) {
            return std::nullopt;
        }
        if (addressed && tree.part(at).is_message) {
            at = tree.part(at).first_child;
        } else if (addressed && !tree.part(at).is_multipart) {
            return std::nullopt;
        }
        addressed = true;
        if (!tree.part(at).is_multipart) {
            if (*number != 1) {
                return std::nullopt;
            }
            continue;
        }
        at = tree.part(at).first_child;
        for (std::uint64_t i = 1; i < *number && at != MimePart::kNone; ++i) {
            at = tree.part(at).next_sibling;
        }
        if (at == MimePart::kNone) {
            return std::nullopt;
        }
    }
    if (addressed && (what == Section::What::header || what == Section::What::text)) {
        if (!tree.part(at).is_message) {
            return std::nullopt;
        }
        at = tree.part(at).first_child;
    }
    const MimePart& part = tree.part(at);
    found.part = at;
    if (what == Section::What::header || what == Section::What::mime) {
        found.range = part.header;
    } else {
        found.range = part.body;
    }
    if (!addressed && what == Section::What::mime) {
        return std::nullopt;
    }
    if (!addressed && what == Section::What::whole) {
        found.range = {part.header.begin, part.body.end, part.header.lines + part.body.lines,
                       part.header.bare_lf + part.body.bare_lf};
    }
    return found;
}

}  // namespace postern
