/// A small JSON reader for test vectors.  Anything malformed gives null values, so that tests fail.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/utf8.h"

namespace postern::test {

struct Json {
    enum class Type { null, boolean, number, string, array, object };
    Type type = Type::null;
    bool boolean = false;
    double number = 0;
    std::string string;
    std::vector<Json> items;           ///< of an array; the values of an object
    std::vector<std::string> names;    ///< of an object, in order

    bool is_null() const { return type == Type::null; }
    bool is_string() const { return type == Type::string; }
    const Json& operator[](std::string_view name) const {
        static const Json none;
        for (std::size_t i = 0; i < names.size() && i < items.size(); ++i) {
            if (names[i] == name) {
                return items[i];
            }
        }
        return none;
    }
    /// The text, or "" when it is none.
    const std::string& text() const { return string; }
    long integer() const { return static_cast<long>(number); }
};

class JsonReader {
public:
    explicit JsonReader(std::string_view text) : text_(text) {}

    Json value() {
        space();
        Json out;
        if (at_ >= text_.size()) {
            return out;
        }
        const char c = text_[at_];
        if (c == '{') {
            ++at_;
            out.type = Json::Type::object;
            while (!end('}')) {
                space();
                out.names.push_back(string());
                space();
                take(':');
                out.items.push_back(value());
                space();
                take(',');
            }
        } else if (c == '[') {
            ++at_;
            out.type = Json::Type::array;
            while (!end(']')) {
                out.items.push_back(value());
                space();
                take(',');
            }
        } else if (c == '"') {
            out.type = Json::Type::string;
            out.string = string();
        } else {
            const std::size_t begin = at_;
            while (at_ < text_.size() && std::string_view(",]} \t\r\n").find(text_[at_]) == std::string_view::npos) {
                ++at_;
            }
            const std::string word(text_.substr(begin, at_ - begin));
            if (word == "true" || word == "false") {
                out.type = Json::Type::boolean;
                out.boolean = word == "true";
            } else if (word != "null") {
                out.type = Json::Type::number;
                out.number = std::strtod(word.c_str(), nullptr);
            }
        }
        return out;
    }

private:
    void space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) {
            ++at_;
        }
    }
    bool take(char c) {
        if (at_ < text_.size() && text_[at_] == c) {
            ++at_;
            return true;
        }
        return false;
    }
    bool end(char c) {
        space();
        return at_ >= text_.size() || take(c);
    }
    char32_t hex4() {
        const std::string digits(text_.substr(at_, 4));
        at_ += 4;
        return static_cast<char32_t>(std::strtoul(digits.c_str(), nullptr, 16));
    }
    std::string string() {
        std::string out;
        if (!take('"')) {
            ++at_;   // malformed: move on
            return out;
        }
        while (at_ < text_.size() && text_[at_] != '"') {
            const char c = text_[at_++];
            if (c != '\\' || at_ >= text_.size()) {
                out += c;
                continue;
            }
            const char escape = text_[at_++];
            switch (escape) {
                case 'n': out += '\n'; break;
                case 'r': out += '\r'; break;
                case 't': out += '\t'; break;
                case 'b': out += '\b'; break;
                case 'f': out += '\f'; break;
                case 'u': {
                    char32_t code = hex4();
                    if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
                        at_ += 2;
                        code = 0x10000 + ((code - 0xD800) << 10) + (hex4() - 0xDC00);
                    }
                    append_utf8(out, code);
                    break;
                }
                default: out += escape;
            }
        }
        take('"');
        return out;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

inline Json parse_json(std::string_view text) { return JsonReader(text).value(); }

}  // namespace postern::test
