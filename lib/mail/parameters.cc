#include "lib/mail/parameters.h"

#include <algorithm>
#include <map>
#include <optional>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/mail/charset.h"
#include "lib/mail/encoded_word.h"
#include "lib/mail/header.h"
#include "lib/mail/scan.h"

namespace postern {

namespace {

bool is_space(char c) { return is_fws(c) || c == '\v' || c == '\f'; }

/// Characters of a type, subtype or parameter name: RFC 2045 tokens and all that ends nothing.
bool is_word(char c) { return !is_space(c) && c != ';' && c != '(' && c != '"' && c != '='; }

std::string word(Scanner& in, bool slash_ends) {
    const std::size_t begin = in.position();
    while (!in.at_end() && is_word(in.peek()) && !(slash_ends && in.at('/'))) {
        in.take();
    }
    return std::string(in.between(begin, in.position()));
}

/// True when `name=` follows: the semicolon before it was forgotten.
bool next_parameter(Scanner in) {
    std::string name;
    if (!in.atom(name) || name.find('?') != std::string::npos) {
        return false;
    }
    const std::size_t equals = name.find('=');   // "=" is atext
    return equals != std::string::npos && equals > 0 && (equals + 1 < name.size() || in.at('"'));
}

/// A value without quotes: up to `;`, with inner white space as it is, without comments.
std::string plain_value(Scanner& in) {
    std::string value;
    while (!in.at_end() && !in.at(';')) {
        if (is_space(in.peek()) || in.at('(')) {
            const std::size_t begin = in.position();
            if (!in.skip_cfws()) {
                in.take();
            }
            if (in.at_end() || in.at(';') || next_parameter(in)) {
                break;
            }
            const std::string_view gap = in.between(begin, in.position());
            if (gap.find('(') == std::string_view::npos) {
                std::copy_if(gap.begin(), gap.end(), std::back_inserter(value), [](char c) { return c != '\r' && c != '\n'; });
            } else {
                value += ' ';
            }
            continue;
        }
        value += in.take();
    }
    return value;
}

MimeParameters parameters(Scanner& in) {
    MimeParameters list;
    while (!in.at_end() && list.size() < kMaxParameters) {
        in.skip_cfws();
        if (in.at(';')) {
            in.take();
            continue;
        }
        MimeParameter parameter;
        parameter.name = word(in, false);
        in.skip_cfws();
        if (!in.at('=')) {
            if (parameter.name.empty() && !in.at_end()) {
                if (in.at('"')) {
                    in.quoted_string(parameter.value);
                } else {
                    in.take();
                }
            }
            continue;
        }
        in.take();
        in.skip_cfws();
        if (in.at('"')) {
            in.quoted_string(parameter.value);
        } else {
            parameter.value = plain_value(in);
            if (parameter.value.empty()) {
                continue;
            }
        }
        if (!parameter.name.empty()) {
            list.push_back(std::move(parameter));
        }
    }
    return list;
}

// --- RFC 2231 ---------------------------------------------------------------------------------------------

struct ExtendedName {
    std::string_view base;
    std::optional<std::uint64_t> section;
    bool encoded = false;
};

/// `name`, `name*`, `name*3`, `name*3*`
ExtendedName split_name(std::string_view name) {
    ExtendedName split{name, std::nullopt, false};
    if (name.size() > 1 && name.back() == '*') {
        split.encoded = true;
        split.base = name.substr(0, name.size() - 1);
    }
    const std::size_t star = split.base.rfind('*');
    if (star != std::string_view::npos && star > 0 && split.base.size() - star < 10) {
        split.section = parse_number(split.base.substr(star + 1));
        if (split.section) {
            split.base = split.base.substr(0, star);
        }
    }
    return split;
}

std::string percent_decode(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::optional<std::uint64_t> byte =
            text[i] == '%' && i + 2 < text.size() ? parse_hex(text.substr(i + 1, 2)) : std::nullopt;
        if (byte) {
            out += static_cast<char>(*byte);
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

/// Takes `charset'language'` off the front; an empty charset when there is none.
std::string take_charset(std::string_view& value) {
    const std::size_t first = value.find('\'');
    const std::size_t second = first == std::string_view::npos ? first : value.find('\'', first + 1);
    if (second == std::string_view::npos) {
        return "utf-8";
    }
    const std::string charset(value.substr(0, first));
    value.remove_prefix(second + 1);
    return charset.empty() ? "utf-8" : charset;
}

/// All pieces of one parameter.
struct Pieces {
    std::size_t order = 0;
    const MimeParameter* plain = nullptr;
    const MimeParameter* encoded = nullptr;
    std::map<std::uint64_t, std::pair<const MimeParameter*, bool>> sections;
};

std::string join(const Pieces& pieces, std::uint64_t& used) {
    std::string charset = "utf-8";
    std::string bytes;
    for (used = 0;; ++used) {
        const auto section = pieces.sections.find(used);
        if (section == pieces.sections.end()) {
            break;
        }
        std::string_view value = section->second.first->value;
        if (!section->second.second) {
            bytes += value;
            continue;
        }
        if (used == 0) {
            charset = take_charset(value);
        }
        bytes += percent_decode(value);
    }
    return to_utf8_or_guess(charset, bytes);
}

void add_decoded(MimeParameters& out, const std::string& name, const Pieces& pieces, bool encoded_words) {
    std::uint64_t used = 0;
    if (pieces.sections.count(0) != 0) {
        out.push_back({name, join(pieces, used)});
    } else if (pieces.encoded != nullptr) {
        std::string_view value = pieces.encoded->value;
        const std::string charset = take_charset(value);
        out.push_back({name, to_utf8_or_guess(charset, percent_decode(value))});
    } else if (pieces.plain != nullptr) {
        const std::string& value = pieces.plain->value;
        out.push_back({name, encoded_words ? decode_encoded_words(value) : value});
    }
    for (auto rest = pieces.sections.lower_bound(used); rest != pieces.sections.end(); ++rest) {   // a gap: no section
        const MimeParameter& parameter = *rest->second.first;
        out.push_back({name + "*" + std::to_string(rest->first),
                       rest->second.second ? sanitize_utf8(percent_decode(parameter.value)) : parameter.value});
    }
}

/// One parameter's sections as one value, still encoded where one of them was; `used` is the number of the first section left over.
MimeParameter join_sections(const Pieces& pieces, std::uint64_t& used) {
    bool encoded = false;
    for (used = 0; pieces.sections.count(used) != 0; ++used) {
        encoded = encoded || pieces.sections.at(used).second;
    }
    MimeParameter joined;
    joined.name = split_name(pieces.sections.at(0).first->name).base;
    joined.name += encoded ? "*" : "";
    joined.value = encoded && !pieces.sections.at(0).second ? "''" : "";   // no character set, no language
    for (std::uint64_t at = 0; at < used; ++at) {
        const auto& [parameter, is_encoded] = pieces.sections.at(at);
        for (const char c : parameter->value) {
            if (c == '%' && encoded && !is_encoded) {
                joined.value += "%25";
            } else {
                joined.value += c;
            }
        }
    }
    return joined;
}

}  // namespace

ContentType parse_content_type(std::string_view value) {
    ContentType found;
    Scanner in(value);
    in.skip_cfws();
    found.type = word(in, true);
    in.skip_cfws();
    if (in.at('/')) {
        in.take();
        in.skip_cfws();
        found.subtype = word(in, false);
        if (in.at('=')) {   // no media type at all
            return {};
        }
    }
    if (found.type.empty()) {
        return {};
    }
    found.parameters = parameters(in);
    return found;
}

ContentDisposition parse_content_disposition(std::string_view value) {
    Scanner in(value);
    in.skip_cfws();
    ContentDisposition found;
    found.type = word(in, false);
    if (!found.type.empty() && !in.at('=')) {
        found.parameters = parameters(in);
        return found;
    }
    return {};
}

MimeParameters parse_parameters(std::string_view text) {
    Scanner in(text);
    return parameters(in);
}

MimeParameters decode_parameters(const MimeParameters& raw, bool encoded_words) {
    std::map<std::string, Pieces> names;
    std::vector<std::string> order;
    for (const MimeParameter& parameter : raw) {
        const ExtendedName name = split_name(parameter.name);
        const std::string key = to_lower(name.base);
        const auto [entry, added] = names.try_emplace(key);
        if (added) {
            order.push_back(key);
        }
        Pieces& pieces = entry->second;
        if (name.section) {
            pieces.sections.try_emplace(*name.section, &parameter, name.encoded);
        } else if (name.encoded) {
            pieces.encoded = pieces.encoded != nullptr ? pieces.encoded : &parameter;
        } else {
            pieces.plain = pieces.plain != nullptr ? pieces.plain : &parameter;
        }
    }
    MimeParameters out;
    for (const std::string& name : order) {
        add_decoded(out, name, names[name], encoded_words);
    }
    return out;
}

MimeParameters join_parameters(const MimeParameters& raw) {
    std::map<std::string, Pieces> names;
    for (const MimeParameter& parameter : raw) {
        if (const ExtendedName name = split_name(parameter.name); name.section) {
            names[to_lower(name.base)].sections.try_emplace(*name.section, &parameter, name.encoded);
        }
    }
    if (names.empty()) {
        return raw;
    }
    MimeParameters out;
    for (const MimeParameter& parameter : raw) {
        const ExtendedName name = split_name(parameter.name);
        const Pieces* const pieces = name.section ? &names.at(to_lower(name.base)) : nullptr;
        if (pieces == nullptr || pieces->sections.count(0) == 0) {
            out.push_back(parameter);
            continue;
        }
        std::uint64_t used = 0;
        MimeParameter joined = join_sections(*pieces, used);
        if (*name.section >= used) {
            out.push_back(parameter);
        } else if (*name.section == 0 && pieces->sections.at(0).first == &parameter) {
            out.push_back(std::move(joined));
        }
    }
    return out;
}

const std::string* find_parameter(const MimeParameters& parameters, std::string_view name) {
    for (const MimeParameter& parameter : parameters) {
        if (equals_ignoring_case(parameter.name, name)) {
            return &parameter.value;
        }
    }
    return nullptr;
}

}  // namespace postern
