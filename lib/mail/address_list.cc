// Address lists in headers: RFC 5322 section 3.4 with the obsolete forms of section 4.4, and what mail
// really contains.
#include "lib/mail/address.h"
#include "lib/mail/scan.h"

namespace postern {

namespace {

/// The words before the character that decides what they are: display name, group name or local part.
struct Words {
    std::string text;        ///< words with one space where there was white space
    std::string packed;      ///< the same without any space: a local part
    std::size_t words = 0;
    bool quoted = false;     ///< one of them was a quoted string
    bool dotted = true;      ///< words and dots alternate: fit to be a local part
    bool spaced = false;     ///< white space between two words
    bool strange = false;    ///< characters that no grammar has here
};

class ListParser {
public:
    ListParser(std::string_view text, AddressListOptions options) : in_(text), options_(options) {}

    std::vector<ListAddress> run() {
        while (!in_.at_end() && list_.size() < options_.max_entries) {
            entry();
        }
        if (in_group_) {
            end_group();
        }
        return std::move(list_);
    }

private:
    void entry();
    Words words();
    void bare_address(const Words& words, std::size_t begin);
    void angle_address(std::string name, bool has_name);
    void route(ListAddress& out);
    void local_at_domain(ListAddress& out, const Words& local);
    void domain(std::string& out);
    void trailing_words(ListAddress& out);
    void add(ListAddress address);
    void begin_group(std::string name);
    void end_group();

    Scanner in_;
    AddressListOptions options_;
    std::vector<ListAddress> list_;
    std::string comment_;
    bool in_group_ = false;
};

bool is_boundary(char c) { return c == ',' || c == ';' || c == ':' || c == '<' || c == '>' || c == '@'; }

Words ListParser::words() {
    Words found;
    bool space = false;
    bool after_word = false;
    while (true) {
        space = in_.skip_cfws(&comment_) || space;
        if (in_.at_end() || is_boundary(in_.peek())) {
            break;
        }
        if (space && !found.text.empty()) {
            found.text += ' ';
        }
        space = false;
        if (in_.at('.')) {
            in_.take();
            found.text += '.';
            found.packed += '.';
            found.dotted = found.dotted && after_word;
            after_word = false;
            continue;
        }
        found.spaced = found.spaced || after_word;
        found.dotted = found.dotted && !after_word;
        std::string word;
        if (in_.at('"')) {
            in_.quoted_string(word);
            found.quoted = true;
        } else if (!in_.atom(word)) {
            word += in_.take();
            found.strange = true;
        }
        found.text += word;
        found.packed += word;
        ++found.words;
        after_word = true;
    }
    found.dotted = found.dotted && after_word && !found.strange;
    return found;
}

void ListParser::entry() {
    comment_.clear();
    const std::size_t begin = in_.position();
    Words head = words();
    if (in_.at(',')) {
        in_.take();
        bare_address(head, begin);
    } else if (in_.at(';')) {
        in_.take();
        bare_address(head, begin);
        if (in_group_) {
            end_group();
        }
    } else if (in_.at(':')) {
        in_.take();
        if (in_group_) {
            end_group();
        }
        begin_group(std::move(head.text));
    } else if (in_.at('<')) {
        in_.take();
        const bool has_name = head.words > 0 && !head.text.empty();
        angle_address(std::move(head.text), has_name);
    } else if (in_.at('@')) {
        ListAddress address;
        local_at_domain(address, head);
        if (in_.at('<')) {   // phil@example.com <phil@example.com>: the first is a name
            std::string_view name = in_.between(begin, in_.position());
            while (!name.empty() && is_fws(name.back())) {
                name.remove_suffix(1);
            }
            while (!name.empty() && is_fws(name.front())) {
                name.remove_prefix(1);
            }
            in_.take();
            return angle_address(std::string(name), true);
        }
        address.name = comment_;
        address.has_name = !comment_.empty();
        add(std::move(address));
    } else if (in_.at('>')) {
        in_.take();   // stray
        bare_address(head, begin);
    } else {
        bare_address(head, begin);
    }
}

/// Words that nothing follows: a local part without domain, or a display name without address.
void ListParser::bare_address(const Words& head, std::size_t begin) {
    ListAddress address;
    address.invalid = true;
    if (in_.broken() && !head.quoted) {   // a comment that never ends swallows all
        if (in_.position() > begin) {
            add(std::move(address));
        }
        return;
    }
    if (head.words == 0) {
        if (head.packed.empty()) {
            return;   // an empty element
        }
    } else if (head.spaced || (head.quoted && head.words == 1 && head.packed == head.text)) {
        address.name = head.text;
        address.has_name = true;
        return add(std::move(address));
    }
    address.local = head.packed;
    address.name = comment_;
    address.has_name = !comment_.empty();
    add(std::move(address));
}

void ListParser::angle_address(std::string name, bool has_name) {
    ListAddress address;
    address.name = std::move(name);
    address.has_name = has_name;
    in_.skip_cfws();
    route(address);
    const std::size_t begin = in_.position();
    Words local = words();
    if (in_.at('@')) {
        local_at_domain(address, local);
    } else {
        address.local = local.packed;
        address.invalid = true;
    }
    if (!in_.at('>') && !in_.at_end()) {   // something no address has: keep its text
        address.invalid = true;
        const std::size_t end = in_.rest().find('>');
        const std::size_t length = end == std::string_view::npos ? in_.rest().size() : end;
        address.local = in_.between(begin, in_.position() + length);
        address.domain.clear();
        in_.rewind(in_.position() + length);
    }
    if (in_.at('>')) {
        in_.take();
        trailing_words(address);
    } else {
        address.invalid = true;
    }
    add(std::move(address));
}

/// `@a,@b:` before the local part.  Without the colon there is nothing else.
void ListParser::route(ListAddress& out) {
    while (in_.at('@')) {
        in_.take();
        std::string host;
        domain(host);
        if (!host.empty()) {
            out.route += out.route.empty() ? "@" : ",@";
            out.route += host;
        }
        while (in_.at(',')) {
            in_.take();
            in_.skip_cfws(&comment_);
        }
        if (in_.at(':')) {
            in_.take();
            return;
        }
    }
}

/// At `@`.  More than one `@` is wrong; as in Postfix the last one counts.
void ListParser::local_at_domain(ListAddress& out, const Words& local) {
    out.local = local.dotted ? local.packed : local.text;
    out.invalid = !local.dotted;
    bool first = true;
    while (in_.at('@')) {
        if (!first) {
            out.local += '@';
            out.local += out.domain;
            out.domain.clear();
            out.invalid = true;
        }
        in_.take();
        domain(out.domain);
        first = false;
    }
    out.invalid = out.invalid || out.domain.empty();
}

/// dot-atom or domain-literal, with CFWS removed.
void ListParser::domain(std::string& out) {
    in_.skip_cfws(&comment_);
    if (in_.at('[')) {
        while (!in_.at_end()) {
            const char c = in_.take();
            if (c == '\\' && !in_.at_end()) {
                out += in_.take();
            } else if (!is_fws(c)) {
                out += c;
            }
            if (c == ']') {
                break;
            }
        }
        in_.skip_cfws(&comment_);
        return;
    }
    while (in_.atom(out)) {
        in_.skip_cfws(&comment_);
        if (!in_.at('.')) {
            break;
        }
        while (in_.at('.')) {
            out += in_.take();
            in_.skip_cfws(&comment_);
        }
    }
}

/// Comments and stray words after `>`: a name where there was none.
void ListParser::trailing_words(ListAddress& out) {
    comment_.clear();
    const std::size_t begin = in_.position();
    Words tail = words();
    if (in_.at(':') || in_.at('@') || (in_.at('<') && tail.words > 0)) {   // a comma is missing
        in_.rewind(begin);
        return;
    }
    if (!out.has_name) {
        out.name = tail.words > 0 ? std::move(tail.text) : comment_;
        out.has_name = !out.name.empty();
    }
}

void ListParser::add(ListAddress address) {
    const bool deliverable = !address.local.empty() || !address.domain.empty();
    if (list_.size() < options_.max_entries && (deliverable || !options_.only_deliverable)) {
        list_.push_back(std::move(address));
    }
}

void ListParser::begin_group(std::string name) {
    in_group_ = true;
    ListAddress group;
    group.kind = ListAddress::Kind::group_start;
    group.local = std::move(name);
    list_.push_back(std::move(group));
}

void ListParser::end_group() {
    in_group_ = false;
    ListAddress group;
    group.kind = ListAddress::Kind::group_end;
    list_.push_back(std::move(group));
}

bool plain_phrase(std::string_view name) {
    for (const char c : name) {
        if (!is_atext(c)) {
            return false;
        }
    }
    return !name.empty();
}

}  // namespace

std::vector<ListAddress> parse_address_list(std::string_view value, AddressListOptions options) {
    return ListParser(value, options).run();
}

std::string format_list_address(const ListAddress& address) {
    std::string name;
    if (!address.name.empty()) {
        if (plain_phrase(address.name)) {
            name = address.name;
        } else {
            name = "\"";
            for (const char c : address.name) {
                if (c == '"' || c == '\\') {
                    name += '\\';
                }
                name += c;
            }
            name += "\"";
        }
    }
    if (address.local.empty() && address.domain.empty() && address.route.empty()) {
        return name;
    }
    std::string out = name.empty() ? "<" : name + " <";
    if (!address.route.empty()) {
        out += address.route + ":";
    }
    out += quote_local(address.local);
    if (!address.domain.empty()) {
        out += "@" + address.domain;
    }
    return out + ">";
}

}  // namespace postern
