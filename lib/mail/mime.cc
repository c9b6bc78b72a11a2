#include "lib/mail/mime.h"

#include <cstring>

#include "lib/base/strings.h"
#include "lib/mail/header.h"

namespace postern {

namespace {

/// A place in the message with what was counted before it.
struct Mark {
    std::size_t at = 0;
    std::uint64_t lines = 0;
    std::uint64_t bare_lf = 0;
};

TextRange between(const Mark& begin, const Mark& end) {
    return {begin.at, end.at, end.lines - begin.lines, end.bare_lf - begin.bare_lf};
}

/// The separator a multipart declares; empty when it has none that can be used.
std::string_view boundary_of(const ContentType& type) {
    const std::string* boundary = find_parameter(type.parameters, "boundary");
    std::string_view text = boundary == nullptr ? std::string_view() : std::string_view(*boundary);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
        text.remove_suffix(1);
    }
    return text;
}

}  // namespace

class MimeParser {
public:
    MimeParser(std::string_view message, MimeLimits limits) : message_(message), limits_(limits) {}
    std::vector<MimePart> run();

private:
    /// An entity whose end has not come.
    struct Open {
        std::uint32_t part = 0;
        Mark header, body;
        std::string boundary;   ///< empty: none, or its close-delimiter has been seen
        bool digest = false;
    };
    struct Match {
        std::size_t level = 0;   ///< in open_
        bool close = false;
    };

    std::string_view next_line();
    bool find_boundary(std::string_view line, Match& match) const;
    std::uint32_t add_part(std::uint32_t parent);
    void begin_entity(std::uint32_t parent);
    bool at_boundary(const Match& match);
    void header();
    void header_field(MimePart& part, std::string_view field);
    void end_header();
    void body();
    void close_above(std::size_t level, const Mark& end);

    std::string_view message_;
    MimeLimits limits_;
    std::vector<MimePart> parts_;
    std::vector<std::uint32_t> last_child_;   ///< by part
    std::vector<Open> open_;
    Mark now_;        ///< the next byte
    Mark line_;       ///< the start of the line next_line() returned
    Mark line_end_;   ///< before the line end that precedes that line
    std::size_t boundaries_ = 0;   ///< open ones; without any, nothing needs to be looked for
};

/// The next line without its line end; counts it.  Only before the end of the message.
std::string_view MimeParser::next_line() {
    line_ = now_;
    const char* begin = message_.data() + now_.at;
    const std::size_t left = message_.size() - now_.at;
    const char* feed = static_cast<const char*>(std::memchr(begin, '\n', left));
    if (feed == nullptr) {
        now_.at = message_.size();
        return {begin, left};
    }
    std::size_t length = static_cast<std::size_t>(feed - begin);
    now_.at += length + 1;
    ++now_.lines;
    if (length > 0 && begin[length - 1] == '\r') {
        --length;
    } else {
        ++now_.bare_lf;
    }
    return {begin, length};
}

/// RFC 2046 section 5.1.1: a line that begins with `--` and a boundary.  The innermost that matches wins, unless an
/// outer one that matches is longer: `--abcd` is not `--abc`.
bool MimeParser::find_boundary(std::string_view line, Match& match) const {
    if (boundaries_ == 0 || line.size() < 3 || line[0] != '-' || line[1] != '-') {
        return false;
    }
    const std::string_view rest = line.substr(2);
    std::size_t longest = 0;
    for (std::size_t level = open_.size(); level-- > 0;) {
        const std::string& boundary = open_[level].boundary;
        if (boundary.size() > longest && rest.substr(0, boundary.size()) == boundary) {
            longest = boundary.size();
            match = {level, rest.substr(longest, 2) == "--"};
        }
    }
    return longest > 0;
}

std::uint32_t MimeParser::add_part(std::uint32_t parent) {
    const auto index = static_cast<std::uint32_t>(parts_.size());
    parts_.emplace_back();
    last_child_.push_back(MimePart::kNone);
    parts_[index].parent = parent;
    if (parent != MimePart::kNone) {
        std::uint32_t& last = last_child_[parent];
        (last == MimePart::kNone ? parts_[parent].first_child : parts_[last].next_sibling) = index;
        last = index;
    }
    return index;
}

void MimeParser::begin_entity(std::uint32_t parent) {
    Open entity;
    entity.part = add_part(parent);
    entity.header = now_;
    entity.body = now_;
    open_.push_back(std::move(entity));
    header();
}

/// The line just read is a delimiter: all that is nested in its multipart ends before it.  True when a part
/// begins after it.
bool MimeParser::at_boundary(const Match& match) {
    close_above(match.level, line_end_);
    Open& multipart = open_[match.level];
    if (match.close) {
        multipart.boundary.clear();
        --boundaries_;
    } else if (parts_.size() >= limits_.max_parts) {
        for (Open& entity : open_) {
            entity.boundary.clear();
        }
        boundaries_ = 0;
    } else {
        begin_entity(multipart.part);
        return true;
    }
    return false;
}

/// Reads the header of the newest entity, then decides what its body is.
void MimeParser::header() {
    std::size_t field_begin = now_.at;
    bool has_field = false;
    const auto end_field = [&](std::size_t end) {
        if (has_field) {
            header_field(parts_[open_.back().part], message_.substr(field_begin, end - field_begin));
        }
        has_field = false;
    };
    while (now_.at < message_.size()) {
        const Mark before = now_;
        const std::string_view line = next_line();
        Match match;
        if (find_boundary(line, match)) {   // the empty line is missing; body() reads this line again
            now_ = before;
            break;
        }
        if (line.empty()) {
            end_field(before.at);
            open_.back().body = now_;
            line_end_ = now_;
            return end_header();
        }
        if (line[0] != ' ' && line[0] != '\t') {
            end_field(before.at);
            field_begin = before.at;
            has_field = lower(line[0]) == 'c';   // only Content-* fields matter
        }
    }
    end_field(now_.at);
    open_.back().body = now_;
    line_end_ = now_;
    end_header();
}

void MimeParser::header_field(MimePart& part, std::string_view field) {
    while (!field.empty() && (field.back() == '\n' || field.back() == '\r')) {
        field.remove_suffix(1);
    }
    constexpr std::string_view kContent = "content-";
    const std::size_t length = header_name_length(field);
    if (length <= kContent.size() || !starts_with_ignoring_case(field, kContent)) {
        return;
    }
    const std::string_view name = field.substr(kContent.size(), length - kContent.size());
    const std::string_view value = field.substr(field.find(':', length) + 1);
    const auto keep = [&](std::string_view& slot) {   // the first of several counts
        slot = slot.data() == nullptr ? value : slot;
    };
    if (equals_ignoring_case(name, "type")) {
        if (part.type.type.empty()) {
            part.type = parse_content_type(value);
        }
    } else if (equals_ignoring_case(name, "transfer-encoding")) {
        keep(part.transfer_encoding);
    } else if (equals_ignoring_case(name, "id")) {
        keep(part.id);
    } else if (equals_ignoring_case(name, "description")) {
        keep(part.description);
    } else if (equals_ignoring_case(name, "disposition")) {
        keep(part.disposition);
    } else if (equals_ignoring_case(name, "language")) {
        keep(part.language);
    } else if (equals_ignoring_case(name, "location")) {
        keep(part.location);
    } else if (equals_ignoring_case(name, "md5")) {
        keep(part.md5);
    }
}

/// Fills in the default type (RFC 2045 section 5.2, RFC 2046 section 5.1.5) and opens what can be nested.
void MimeParser::end_header() {
    Open& entity = open_.back();
    MimePart& part = parts_[entity.part];
    const bool in_digest = open_.size() > 1 && open_[open_.size() - 2].digest;
    if (part.type.type.empty() || part.type.subtype.empty()) {
        part.type = in_digest ? ContentType{"message", "rfc822", {}} : ContentType{"text", "plain", {{"charset", "us-ascii"}}};
    }
    const bool too_deep = open_.size() > limits_.max_depth || parts_.size() >= limits_.max_parts;
    const bool multipart = equals_ignoring_case(part.type.type, "multipart");
    const bool message = equals_ignoring_case(part.type.type, "message") &&
                         (equals_ignoring_case(part.type.subtype, "rfc822") || equals_ignoring_case(part.type.subtype, "global"));
    if (multipart && boundary_of(part.type).empty()) {   // RFC 2045 section 5.2: not well-formed
        part.type = ContentType{"text", "plain", {{"charset", "us-ascii"}}};
    } else if ((multipart || message) && too_deep) {
        part.type = ContentType{"application", "octet-stream", {}};
    } else if (multipart) {
        part.is_multipart = true;
        entity.boundary = boundary_of(part.type);
        entity.digest = equals_ignoring_case(part.type.subtype, "digest");
        ++boundaries_;
    } else if (message) {
        part.is_message = true;
        begin_entity(entity.part);   // `entity` and `part` are gone now
    }
}

/// Lines of bodies until the message ends.
void MimeParser::body() {
    while (now_.at < message_.size()) {
        const Mark before = now_;
        const std::string_view line = next_line();
        Match match;
        if (find_boundary(line, match) && at_boundary(match)) {
            continue;
        }
        line_end_ = before;   // where the line's end begins
        line_end_.at += line.size();
    }
}

void MimeParser::close_above(std::size_t level, const Mark& end) {
    while (open_.size() - 1 > level) {
        const Open& entity = open_.back();
        MimePart& part = parts_[entity.part];
        part.header = between(entity.header, entity.body);
        part.body = between(entity.body, end.at < entity.body.at ? entity.body : end);
        if (!entity.boundary.empty()) {
            --boundaries_;
        }
        open_.pop_back();
    }
}

std::vector<MimePart> MimeParser::run() {
    begin_entity(MimePart::kNone);
    body();
    close_above(0, now_);
    MimePart& root = parts_[0];
    root.header = between(open_[0].header, open_[0].body);
    root.body = between(open_[0].body, now_);
    return std::move(parts_);
}

MimeTree MimeTree::parse(std::string_view message, MimeLimits limits) {
    MimeTree tree;
    tree.message_ = message;
    tree.parts_ = MimeParser(message, limits).run();
    return tree;
}

std::uint64_t crlf_octets(std::string_view text) {
    std::uint64_t octets = text.size();
    const char* at = text.data();
    const char* const end = at + text.size();
    while (at < end) {
        const char* feed = static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
        if (feed == nullptr) {
            break;
        }
        octets += feed == text.data() || feed[-1] != '\r' ? 1 : 0;
        at = feed + 1;
    }
    return octets;
}

void append_crlf(std::string& out, std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        const void* found = std::memchr(text.data() + at, '\n', text.size() - at);
        if (found == nullptr) {
            break;
        }
        const std::size_t feed = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
        out.append(text, at, feed - at);
        out += feed > 0 && text[feed - 1] == '\r' ? "\n" : "\r\n";
        at = feed + 1;
    }
    out.append(text, at, text.size() - at);
}

}  // namespace postern
