#include "smtp/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/strings.h"
#include "lib/log/log.h"
#include "lib/stream/request_time.h"

namespace postern::smtp {
namespace {

constexpr std::size_t kMaxReplyLine = 16 * 1024;
constexpr std::size_t kMaxReplyLines = 1000;

/// "keyword" and its parameters, of one line behind "250-".
void take_keyword(Features& features, std::string_view line, const std::vector<std::string>& ignored) {
    const std::size_t end = std::min(line.find_first_of(" ="), line.size());
    const std::string keyword = to_lower(line.substr(0, end));
    const std::string parameters(trim(line.substr(std::min(end + 1, line.size()))));
    if (std::find(ignored.begin(), ignored.end(), keyword) != ignored.end()) {
        return;
    }
    if (keyword == "pipelining") {
        features.pipelining = true;
    } else if (keyword == "size") {
        features.size = true;
        features.size_limit = parse_number(parameters).value_or(0);
    } else if (keyword == "8bitmime") {
        features.eight_bit = true;
    } else if (keyword == "smtputf8") {
        features.smtputf8 = true;
    } else if (keyword == "chunking") {
        features.chunking = true;
    } else if (keyword == "dsn") {
        features.dsn = true;
    } else if (keyword == "requiretls") {
        features.requiretls = true;
    } else if (keyword == "starttls") {
        features.starttls = true;
    } else if (keyword == "auth" && (features.auth.empty() || line.substr(end, 1) == " ")) {
        features.auth = parameters;
    } else if (keyword == "xforward") {
        features.xforward = to_upper(parameters);
    }
}

}  // namespace

Features parse_features(std::string_view reply_text, const std::vector<std::string>& ignored) {
    Features features;
    features.esmtp = true;
    std::size_t at = reply_text.find('\n');   // the first line has the server's name
    while (at != std::string_view::npos) {
        const std::size_t end = reply_text.find('\n', at + 1);
        const std::string_view line = reply_text.substr(at + 1, end == reply_text.npos ? end : end - at - 1);
        if (line.size() > 4) {
            take_keyword(features, trim(line.substr(4)), ignored);
        }
        at = end;
    }
    return features;
}

Session::Session(const Settings& settings, TableList& filter, std::unique_ptr<Stream> stream, HostAddress host)
    : settings_(settings), filter_(filter), stream_(std::move(stream)), host_(std::move(host)),
      transcript_(NotifyClasses(settings.config()).only(Trouble::protocol)), opened_(std::chrono::steady_clock::now()) {}

Session::~Session() = default;

void Session::command(std::string_view text) {
    std::string& out = stream_->output();
    transcript_.said(text);
    if (debugged) {
        log_info("> {}: {}", host_.with_port(), text);
    } else {
        log_debug("> {}: {}", host_.with_port(), text);
    }
    out += text;
    out += "\r\n";
}

void Session::secret_command(std::string_view text) {
    const bool first = text.starts_with("AUTH ");
    transcript_.said(first ? without_secret(text) : std::string(kNotShown));
    const std::size_t secret_at = first ? text.find(' ', 5) : std::string_view::npos;
    secrets_.emplace_back(first ? (secret_at == text.npos ? std::string_view() : text.substr(secret_at + 1)) : text);
    std::string& out = stream_->output();
    out += text;
    out += "\r\n";
}

/// smtp_reply_filter: the reply line as this client shall see it.
std::string Session::filtered(std::string line) {
    if (filter_.empty()) {
        return line;
    }
    const Lookup found = filter_.lookup(line);
    if (!found) {
        log_warning("{}", found.error().what);
        return line;
    }
    if (!*found) {
        return line;
    }
    log_info("{}: replacing server reply \"{}\" with \"{}\"", host_.with_port(), line, **found);
    return **found;
}

Millis Session::left_of(std::chrono::steady_clock::time_point begin, Millis timeout, std::uint64_t bytes) const {
    return settings_.per_request_deadline() ? request_time_left(begin, timeout, bytes, settings_.min_data_rate()) : timeout;
}

Task<Result<Reply>> Session::reply(Millis timeout) {
    const auto begin = std::chrono::steady_clock::now();
    ReplyParser parser;
    for (std::size_t lines = 0; lines < kMaxReplyLines; ++lines) {
        Result<std::string> line = co_await stream_->read_line(kMaxReplyLine, left_of(begin, timeout));
        if (!line) {
            dead_ = true;
            co_return line.error();
        }
        std::string text = filtered(std::move(*line));
        hide_secrets(text);
        const std::string shown = text.starts_with("334") ? fmt::format("334 {}", kNotShown) : text;   // a challenge: salt, nonce
        transcript_.heard(shown);
        if (debugged) {
            log_info("< {}: {}", host_.with_port(), shown);
        } else {
            log_debug("< {}: {}", host_.with_port(), shown);
        }
        const ReplyParser::State state = parser.feed(text);
        if (state == ReplyParser::State::done) {
            Reply out = parser.take();
            dead_ = dead_ || out.code == 421;   // RFC 5321 section 3.8: the server closes the channel
            co_return out;
        }
        if (state == ReplyParser::State::garbage) {
            // To skip it, as long as commands are not pipelined, would be harmless; but who answers in another
            // language once will not be understood later either.
            transcript_.happened(Trouble::protocol);
            log_warning("non-{} response from {}: {}", settings_.lmtp() ? "LMTP" : "ESMTP", host_.with_port(), printable(text, 100));
            break;
        }
    }
    dead_ = true;
    co_return Error(Errc::syntax, "protocol error");
}

Failure Session::broken(const Error& error, std::string_view doing) const {
    const std::string peer = host_.name_and_address();
    Failure out{"4.4.2", "", true};
    if (error.code == Errc::timeout) {
        out.text = fmt::format("conversation with {} timed out while {}", peer, doing);
    } else if (error.code == Errc::syntax || error.code == Errc::too_big) {
        out.dsn = "4.5.0";
        out.text = fmt::format("protocol error in the reply of {} while {}", peer, doing);
    } else {
        out.text = fmt::format("lost connection with {} while {}", peer, doing);
    }
    return out;
}

/// What Postfix's client finds worth a notice: codes that say that we are not understood (RFC 5321 section 4.2.2: x0z), or
/// that do not belong here.
void Session::look_at_code(int code) {
    if (code < 400 || code > 599 || code == 555 || (code >= 500 && code < 510)) {
        transcript_.happened(Trouble::protocol);
    }
}

std::optional<queue::Begin> Session::take_transcript() {
    std::optional<queue::Begin> notice;
    if (transcript_.due()) {
        const std::string peer = host_.with_port();
        notice = transcript_.notice(settings_.config(), fmt::format("{} client: errors from {}", settings_.lmtp() ? "LMTP" : "SMTP", peer),
                                    fmt::format("Unexpected response from {}.", peer), "");
    }
    transcript_.clear();
    return notice;
}

Failure Session::with_reply(const Reply& reply, std::string text) {
    look_at_code(reply.code);
    Failure out{reply.dsn, std::move(text)};
    if (reply.code / 100 != 4 && reply.code / 100 != 5) {
        out.dsn = "4.5.0";   // 2xx or 3xx where it does not belong: our failure or the server's, not the sender's
    }
    out.remote_mta = host_.host;
    out.diagnostic = "smtp; " + reply.one_line();
    return out;
}

Failure Session::refused(const Reply& reply, std::string_view in_reply_to) {
    return with_reply(reply, fmt::format("host {} said: {} (in reply to {})", host_.name_and_address(), reply.one_line(), in_reply_to));
}

Failure Session::refuses_to_talk(const Reply& reply) {
    Failure out = with_reply(reply, fmt::format("host {} refused to talk to me: {}", host_.name_and_address(), reply.one_line()));
    out.destination_dead = true;
    return out;
}

Task<std::optional<Failure>> Session::greet() {
    Result<Reply> greeting = co_await reply(settings_.helo_timeout());
    if (!greeting) {
        co_return broken(greeting.error(), "receiving the initial server greeting");
    }
    if (!greeting->positive()) {
        Failure failure = refuses_to_talk(*greeting);
        if (settings_.skip_5xx_greeting()) {
            failure.soften();   // another host may be in a better mood
        }
        co_return failure;
    }
    const std::vector<std::string> words = split(greeting->text, " \t");
    if (!settings_.lmtp() && words.size() > 1 && equals_ignoring_case(words[1], settings_.config().myhostname())) {
        log_warning("host {} greeted me with my own hostname {}", host_.with_port(), settings_.config().myhostname());
    }
    offers_esmtp_ = to_lower(greeting->text).find("esmtp") != std::string::npos;
    co_return std::nullopt;
}

Task<std::optional<Failure>> Session::hello(const Hello& how) {
    const std::string_view verb = settings_.lmtp() ? "LHLO" : "EHLO";
    bool extended = !settings_.never_send_ehlo() && (offers_esmtp_ || settings_.always_send_ehlo());
    Reply answer;
    if (extended) {
        command(fmt::format("{} {}", verb, settings_.helo_name()));
        Result<Reply> got = co_await reply(settings_.helo_timeout());
        if (!got) {
            co_return broken(got.error(), fmt::format("performing the {} handshake", verb));
        }
        if (!got->positive() && (got->code == 421 || settings_.lmtp())) {
            co_return refuses_to_talk(*got);
        }
        extended = got->positive();
        answer = std::move(*got);
    }
    if (!extended) {
        command(fmt::format("HELO {}", settings_.helo_name()));
        Result<Reply> got = co_await reply(settings_.helo_timeout());
        if (!got) {
            co_return broken(got.error(), "performing the HELO handshake");
        }
        if (!got->positive()) {
            co_return refuses_to_talk(*got);
        }
        answer = std::move(*got);
    }
    features_ = extended ? parse_features(answer.text, how.ignored) : Features();
    const std::vector<std::string> words = split(answer.text.substr(std::min<std::size_t>(4, answer.text.size())), " \t\n");
    server_helo_ = words.empty() ? std::string() : words[0];
    if (!settings_.lmtp() && !words.empty() && equals_ignoring_case(words[0], settings_.config().myhostname())) {
        if (how.loop_test) {
            Failure loops{how.best_mx ? "5.4.6" : "4.4.6", fmt::format("mail for {} loops back to myself", how.nexthop), true};
            co_return loops;
        }
        log_warning("host {} replied to HELO/EHLO with my own hostname {}", host_.with_port(), settings_.config().myhostname());
    }
    if (features_.smtputf8 && !features_.eight_bit) {
        log_info("host {} offers SMTPUTF8 support, but not 8BITMIME", host_.with_port());
    }
    co_return std::nullopt;
}

Task<> Session::quit() {
    if (dead_) {
        stream_->close();
        co_return;
    }
    dead_ = true;
    if (!quit_sent_) {
        command("QUIT");
    }
    if (settings_.skip_quit_response()) {
        const Result<void> sent = co_await stream_->flush(settings_.quit_timeout());
        if (!sent) {
            log_debug("QUIT to {}: {}", host_.with_port(), sent.error().what);
        }
    } else {
        const Result<Reply> answer = co_await reply(settings_.quit_timeout());
        if (!answer) {
            log_debug("QUIT to {}: {}", host_.with_port(), answer.error().what);
        }
    }
    stream_->close();
}

}  // namespace postern::smtp
