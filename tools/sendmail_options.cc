#include "tools/sendmail_options.h"

#include <string_view>

#include "lib/base/strings.h"
#include "lib/mail/address.h"
#include "tools/sendmail_input.h"

namespace postern::sendmail {
namespace {

Error usage(std::string text) { return {Errc::syntax, std::move(text)}; }

/// Options that take an argument, in the same word or the next.
constexpr std::string_view kWithArgument = "ABCDFLNORVXbdefhopqr";
/// Of those, the ones whose argument must be in the same word: -q, -d and -o would otherwise eat a recipient.
constexpr std::string_view kSameWordOnly = "qdo";
/// Options without argument.
constexpr std::string_view kPlain = "EGIJUacimnstvx";

Result<std::uint8_t> parse_notify(std::string_view text) {
    std::uint8_t bits = 0;
    for (const std::string& word : split(text, ",")) {
        if (equals_ignoring_case(word, "success")) {
            bits |= queue::kNotifySuccess;
        } else if (equals_ignoring_case(word, "failure")) {
            bits |= queue::kNotifyFailure;
        } else if (equals_ignoring_case(word, "delay")) {
            bits |= queue::kNotifyDelay;
        } else if (equals_ignoring_case(word, "never")) {
            bits |= queue::kNotifyNever;
        } else {
            bits = 0;
            break;
        }
    }
    const bool contradictory = (bits & queue::kNotifyNever) != 0 && bits != queue::kNotifyNever;
    if (bits == 0 || contradictory) {
        return usage("bad -N option value -- specify never or any combination of success, failure, delay");
    }
    return bits;
}

/// RFC 3461 section 4: xtext.
std::string to_xtext(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 33 || byte > 126 || c == '+' || c == '=') {
            out += "+" + to_upper(hex_encode(std::string_view(&c, 1)));
        } else {
            out += c;
        }
    }
    return out;
}

class Parser {
public:
    Result<void> option(char name, const std::string& value) {
        switch (name) {
        case 't': out.recipients_from_header = true; return {};
        case 'i': out.dot_ends = false; return {};
        case 'v': out.envelope.trace = true; return {};
        case 'G': out.envelope.rewrite_local = false; return {};
        case 'I': out.mode = Mode::make_aliases; return {};
        case 'C': out.config_directory = directory_of(value); return {};
        case 'F': out.envelope.sender_full_name = value; return {};
        case 'B': return body_type(value);
        case 'N': return notify(value);
        case 'R': return ret(value);
        case 'V': return envid(value);
        case 'X': return x_option(value);
        case 'O': return long_option(value);
        case 'b': return mode(value);
        case 'q': return flush(value);
        case 'o': return o_option(value);
        case 'f':
        case 'r': return sender(value);
        default: return {};   // accepted for scripts that were written for other mailers
        }
    }
    /// -V was for VERP before it was for envelope ids: so it still is with two characters, and before a word of two characters
    /// (-V -f SENDER), as with Postfix.
    std::string without_old_verp(const std::string& word, const std::string& next) {
        const bool old = word.starts_with("-V") && (word.size() == 4 || (word.size() == 2 && next.size() == 2));
        if (!old) {
            return word;
        }
        const std::string better = "-X" + word.substr(1);
        out.warnings.push_back("option " + printable(word) + " is deprecated with Postfix 2.3; specify " + printable(better) + " instead");
        return better;
    }
    Options out;

private:
    /// What only says how delivery should be reported does not keep the message from being sent.
    Result<void> ignore(const std::string& what) {
        out.warnings.push_back(what + " -- ignored");
        return {};
    }
    /// -C /etc/postern/main.cf and -C /etc/postern mean the same.
    static std::string directory_of(const std::string& value) {
        const std::size_t slash = value.rfind('/');
        return value.ends_with(".cf") && slash != std::string::npos ? value.substr(0, slash) : value;
    }
    Result<void> body_type(const std::string& value) {
        if (equals_ignoring_case(value, "7BIT")) {
            out.envelope.encoding = queue::kEncoding7bit;
        } else if (equals_ignoring_case(value, "8BITMIME")) {
            out.envelope.encoding = queue::kEncoding8bit;
        } else {
            return usage("-B option needs 7BIT or 8BITMIME");
        }
        return {};
    }
    Result<void> notify(const std::string& value) {
        const Result<std::uint8_t> bits = parse_notify(value);
        if (!bits) {
            return ignore(bits.error().what);
        }
        out.notify = *bits;
        return {};
    }
    Result<void> ret(const std::string& value) {
        if (equals_ignoring_case(value, "full")) {
            out.envelope.dsn_ret = queue::kRetFull;
        } else if (equals_ignoring_case(value, "hdrs")) {
            out.envelope.dsn_ret = queue::kRetHeaders;
        } else {
            return ignore("bad -R option value -- specify full or hdrs");
        }
        return {};
    }
    Result<void> envid(const std::string& value) {
        if (value.empty() || value.size() > 100) {   // RFC 3461 section 4.4
            return ignore("bad -V option value -- specify an envelope id of at most 100 characters");
        }
        out.envelope.dsn_envid = to_xtext(value);
        return {};
    }
    Result<void> x_option(const std::string& value) {
        if (!value.starts_with('V')) {
            return {};   // Sendmail's traffic log
        }
        const std::string delimiters = value.substr(1);
        if (!delimiters.empty() && delimiters.size() != 2) {
            return usage("-XV requires two characters, or none");
        }
        out.verp = true;
        out.envelope.verp_delimiters = delimiters;
        return {};
    }
    Result<void> long_option(const std::string& value) {
        if (starts_with_ignoring_case(value, "requiretls=")) {
            out.envelope.requiretls = equals_ignoring_case(value.substr(11), "yes");
        } else if (starts_with_ignoring_case(value, "smtputf8=")) {
            out.envelope.smtputf8 = equals_ignoring_case(value.substr(9), "yes");
        }
        return {};
    }
    Result<void> o_option(const std::string& value) {
        if (value == "i") {
            out.dot_ends = false;
        } else if (value.starts_with('A')) {
            if (value.size() < 2) {
                return usage("-oA requires pathname");
            }
            out.alias_database = value.substr(1);
        }
        return {};
    }
    Result<void> mode(const std::string& value) {
        switch (value.empty() ? '\0' : value[0]) {
        case 'm': out.mode = Mode::submit; return {};
        case 'd':
        case 'D':
        case 'l': out.mode = Mode::daemon; return {};
        case 's': out.mode = Mode::smtp; return {};
        case 'p': out.mode = Mode::list_queue; return {};
        case 'i': out.mode = Mode::make_aliases; return {};
        case 'v': out.envelope.verify_only = true; return {};
        case 'a': return {};
        case 'h':
        case 'H': out.mode = Mode::nothing; return {};
        default: return usage("unsupported: -b" + printable(value, 20));
        }
    }
    Result<void> flush(const std::string& value) {
        if (value.empty() || (value[0] >= '0' && value[0] <= '9')) {
            out.mode = value.empty() && out.mode == Mode::submit ? Mode::flush : out.mode;
            // "-bd -q15m" is how Sendmail is started as a daemon; "-q15m" alone asks for one as well.
            out.mode = !value.empty() && out.mode == Mode::submit ? Mode::daemon : out.mode;
            return {};
        }
        out.argument = value.substr(1);
        if (out.argument.empty() || (value[0] != 'I' && value[0] != 'R' && value[0] != 'S')) {
            return usage("-q" + printable(value, 20) + ": specify -q, -qIqueueid, or -qRsite");
        }
        out.mode = value[0] == 'I' ? Mode::flush_id : Mode::flush_site;
        return {};
    }
    Result<void> sender(const std::string& value) {
        out.has_sender = true;
        out.envelope.sender.clear();
        const std::string_view text = trim(value);
        if (text.empty() || text == "<>") {
            return {};
        }
        if (const Result<Address> address = parse_address(text)) {
            out.envelope.sender = address->internal();
            return {};
        }
        const std::vector<std::string> found = addresses_in(text);   // as Postfix: what can be made of it
        if (found.empty()) {
            return usage("bad sender address: " + printable(value, 100));
        }
        out.envelope.sender = found.front();
        out.warnings.push_back("-f option specified malformed sender: " + printable(value, 100));
        return {};
    }
};

}  // namespace

Result<Options> parse_options(const std::string& program, const std::vector<std::string>& arguments) {
    Parser parser;
    parser.out.envelope.rewrite_local = true;
    if (program == "mailq") {
        parser.out.mode = Mode::list_queue;
    } else if (program == "newaliases") {
        parser.out.mode = Mode::make_aliases;
    } else if (program == "smtpd") {
        parser.out.mode = Mode::daemon;
    }
    std::size_t at = 0;
    for (; at < arguments.size() && arguments[at].size() > 1 && arguments[at][0] == '-'; ++at) {
        if (arguments[at] == "--") {
            ++at;
            break;
        }
        const std::string word = parser.without_old_verp(arguments[at], at + 1 < arguments.size() ? arguments[at + 1] : "");
        for (std::size_t i = 1; i < word.size(); ++i) {
            const char name = word[i];
            if (kWithArgument.find(name) == std::string_view::npos) {
                if (kPlain.find(name) == std::string_view::npos) {
                    return usage("unknown option -" + printable(word.substr(i, 1)));
                }
                const Result<void> taken = parser.option(name, "");
                if (!taken) {
                    return taken.error();
                }
                continue;
            }
            std::string value = word.substr(i + 1);
            if (value.empty() && kSameWordOnly.find(name) == std::string_view::npos) {
                if (at + 1 >= arguments.size()) {
                    return usage(std::string("option -") + name + " needs an argument");
                }
                value = arguments[++at];
            } else if (name == 'o' && value.size() == 1 && std::string_view("LrFXCDP").find(value[0]) != std::string_view::npos &&
                       at + 1 < arguments.size() && arguments[at + 1][0] != '-') {
                ++at;   // Sendmail's "-o x value" of options that have one
            }
            const Result<void> taken = parser.option(name, value);
            if (!taken) {
                return taken.error();
            }
            break;
        }
    }
    parser.out.recipients.assign(arguments.begin() + static_cast<std::ptrdiff_t>(at), arguments.end());
    return std::move(parser.out);
}

}  // namespace postern::sendmail
