#include "lib/notice/templates.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "lib/base/strings.h"
#include "lib/base/utf8.h"
#include "lib/config/expand.h"

namespace postern {
namespace {

constexpr std::string_view kGreeting = "This is the mail system at host $myhostname.\n\n";
constexpr std::string_view kHelp =
    "For further assistance, please send mail to postmaster.\n\n"
    "If you do so, please include this problem report. You can\n"
    "delete your own text from the attached returned message.\n\n";
constexpr std::string_view kSignature = "                   The mail system\n";
constexpr std::string_view kDefaultFrom = "Mail Delivery System <MAILER-DAEMON>";

NoticeTemplates make_builtin() {
    NoticeTemplates all;
    const auto text = [](std::string_view middle, std::string_view help) {
        return fmt::format("{}{}{}{}", kGreeting, middle, help, kSignature);
    };
    all.failure.subject = "Undelivered Mail Returned to Sender";
    all.failure.postmaster_subject = "Postmaster Copy: Undelivered Mail";
    all.failure.body = text("I'm sorry to have to inform you that your message could not\n"
                            "be delivered to one or more recipients. It's attached below.\n\n", kHelp);
    all.delay.subject = "Delayed Mail (still being retried)";
    all.delay.postmaster_subject = "Postmaster Warning: Delayed Mail";
    all.delay.body = text("####################################################################\n"
                          "# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #\n"
                          "####################################################################\n\n"
                          "Your message could not be delivered for more than $delay_warning_time_hours hour(s).\n"
                          "It will be retried until it is $maximal_queue_lifetime_days day(s) old.\n\n", kHelp);
    all.success.subject = "Successful Mail Delivery Report";
    all.success.body = text("Your message was successfully delivered to the destination(s)\n"
                            "listed below. If the message was delivered to mailbox you will\n"
                            "receive no further notifications. Otherwise you may still receive\n"
                            "notifications of mail delivery errors from other systems.\n\n", "");
    all.verify.subject = "Mail Delivery Status Report";
    all.verify.body = text("Enclosed is the mail delivery report that you requested.\n\n", "");
    return all;
}

struct Named {
    std::string_view name;
    NoticeTemplate NoticeTemplates::*member;
};
constexpr Named kNamed[] = {{"failure", &NoticeTemplates::failure},
                            {"delay", &NoticeTemplates::delay},
                            {"success", &NoticeTemplates::success},
                            {"verify", &NoticeTemplates::verify}};

/// Takes the file apart, line by line.
class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Result<NoticeTemplates> run() {
        NoticeTemplates all = NoticeTemplates::builtin();
        while (next()) {
            if (trim(line_).empty() || line_.front() == '#') {
                continue;
            }
            if (Result<void> taken = take_template(all); !taken) {
                return taken.error();
            }
        }
        return all;
    }

private:
    bool next() {
        if (text_.empty()) {
            return false;
        }
        const std::size_t end = std::min(text_.find('\n'), text_.size());
        line_ = text_.substr(0, end);
        text_.remove_prefix(std::min(end + 1, text_.size()));
        ++number_;
        return true;
    }
    Error wrong(std::string_view what) const { return Error(Errc::config, fmt::format("line {}: {}", number_, what)); }

    /// "name_template = <<WORD", lines, "WORD".
    Result<void> take_template(NoticeTemplates& all) {
        const std::size_t equals = line_.find('=');
        const std::string_view name = trim(line_.substr(0, equals));
        const std::string_view start = equals == std::string_view::npos ? std::string_view() : trim(line_.substr(equals + 1));
        if (!start.starts_with("<<") || trim(start.substr(2)).empty()) {
            return wrong("want: failure_template, delay_template, success_template or verify_template = <<EOF");
        }
        const std::string_view end = trim(start.substr(2));
        const auto named = std::find_if(std::begin(kNamed), std::end(kNamed),
                                        [name](const Named& one) { return name == std::string(one.name) + "_template"; });
        if (named == std::end(kNamed)) {
            return wrong(fmt::format("unknown template name: {}", printable(name, 100)));
        }
        NoticeTemplate& out = all.*(named->member);
        std::string body;
        bool in_header = true;
        while (next()) {
            if (line_ == end) {
                if (body.empty()) {
                    return wrong("missing message text in template");
                }
                out.body = std::move(body);
                return {};
            }
            if (in_header && !trim(line_).empty()) {
                if (Result<void> taken = take_header(out); !taken) {
                    return taken;
                }
            } else if (in_header) {
                in_header = false;
            } else {
                body += line_;
                body += '\n';
            }
        }
        return wrong(fmt::format("missing end of template: {}", printable(end, 100)));
    }

    Result<void> take_header(NoticeTemplate& out) {
        const std::size_t colon = line_.find(':');
        const std::string_view name = line_.substr(0, std::min(colon, line_.size()));
        const std::string value(colon == std::string_view::npos ? std::string_view() : trim(line_.substr(colon + 1)));
        if (value.empty() || std::any_of(value.begin(), value.end(), [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; })) {
            return wrong("malformed template header");
        }
        if (has_eight_bit(value)) {   // it becomes part of a header (RFC 5322 section 2.2); encoded words are welcome
            return wrong(fmt::format("non-ASCII \"{}\" header value", printable(name, 100)));
        }
        if (equals_ignoring_case(name, "charset")) {
            out.charset = value;
        } else if (equals_ignoring_case(name, "from")) {
            out.from = value == kDefaultFrom ? std::string() : value;
        } else if (equals_ignoring_case(name, "subject")) {
            out.subject = value;
        } else if (equals_ignoring_case(name, "postmaster-subject") && !out.postmaster_subject.empty()) {
            out.postmaster_subject = value;
        } else {
            return wrong(fmt::format("unknown template header: {}", printable(name, 100)));
        }
        return {};
    }

    std::string_view text_, line_;
    std::size_t number_ = 0;
};

struct Unit {
    std::string_view name;
    std::int64_t seconds;
};
constexpr Unit kUnits[] = {{"_seconds", 1}, {"_minutes", 60}, {"_hours", 3600}, {"_days", 86400}, {"_weeks", 604800}};

/// Parameters, and times in units of one's choice.
class Values final : public NameSource {
public:
    explicit Values(const Config& config) : config_(config) {}
    std::optional<Value> find(std::string_view name) const override {
        const Unit times[] = {{"delay_warning_time", config_.delay_warning_time().count()},
                              {"maximal_queue_lifetime", config_.maximal_queue_lifetime().count()}};
        for (const Unit& time : times) {
            if (name.starts_with(time.name) && name.substr(time.name.size()).starts_with('_')) {
                return in_unit(name, time.seconds, name.substr(time.name.size()));
            }
        }
        const std::optional<std::string> value = config_.lookup(std::string(name));
        return value ? std::optional<Value>(Value{*value, true}) : std::nullopt;
    }

    /// Why the text cannot be meant like this; empty: it can.
    const std::string& problem() const { return problem_; }
    /// Names of times that come out as 0 in their unit, and are not.
    const std::vector<std::string>& zeros() const { return zeros_; }

private:
    Value in_unit(std::string_view name, std::int64_t seconds, std::string_view suffix) const {
        for (const Unit& unit : kUnits) {
            if (suffix == unit.name) {
                if (seconds > 0 && seconds < unit.seconds) {
                    zeros_.emplace_back(name);
                }
                return Value{std::to_string(seconds / unit.seconds), true};
            }
        }
        problem_ = fmt::format("unrecognized suffix \"{}\" in parameter \"{}\"", printable(suffix.substr(1), 100), printable(name, 100));
        return Value{"", true};
    }

    const Config& config_;
    mutable std::string problem_;               // notes of find(), which looks on for all that asks
    mutable std::vector<std::string> zeros_;
};

}  // namespace

bool NoticeTemplate::is_ascii() const {
    return !has_eight_bit(body);
}

const NoticeTemplates& NoticeTemplates::builtin() {
    static const NoticeTemplates templates = make_builtin();
    return templates;
}

Result<NoticeTemplates> NoticeTemplates::open(const Config& config) {
    const std::string& path = config.bounce_template_file();
    if (path.empty()) {
        return builtin();
    }
    Result<NoticeTemplates> templates = read(path);
    if (!templates) {
        return Error(templates.error().code, "parameter bounce_template_file: " + templates.error().what);
    }
    return templates;
}

Result<NoticeTemplates> NoticeTemplates::read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        return errno_error("open " + path);
    }
    std::string text(kMaxTemplateFile + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    Result<NoticeTemplates> templates = parse(text);
    return templates ? templates : Result<NoticeTemplates>(Error(templates.error().code, path + ", " + templates.error().what));
}

Result<NoticeTemplates> NoticeTemplates::parse(std::string_view text) {
    if (text.size() > kMaxTemplateFile) {
        return Error(Errc::config, "line 1: the file is too large");
    }
    return Parser(text).run();
}

Result<std::string> expand_notice(const Config& config, std::string_view body) {
    const Values values(config);
    Result<std::string> text = expand(body, values);
    return values.problem().empty() ? text : Result<std::string>(Error(Errc::syntax, values.problem()));
}

std::vector<std::string> doubtful_times(const Config& config, const NoticeTemplates& templates, const std::string& file) {
    std::vector<std::string> out;
    for (const Named& named : kNamed) {
        const Values values(config);
        if (!expand((templates.*(named.member)).body, values)) {
            continue;   // preview_templates() says why
        }
        for (const std::string& name : values.zeros()) {
            out.push_back(fmt::format("{}: zero result in {} template conversion of parameter \"{}\"", file.empty() ? "[built-in]" : file,
                                      named.name, name));
            out.push_back(fmt::format("please reduce time unit \"{}\" of \"{}\" in {} template", name.substr(name.rfind('_') + 1), name, named.name));
            out.push_back("for instructions see the bounce(5) manual");
        }
    }
    return out;
}

std::string format_templates(const NoticeTemplates& templates) {
    std::string out;
    for (const Named& named : kNamed) {
        const NoticeTemplate& one = templates.*(named.member);
        out += fmt::format("{}{}_template = <<EOF\nCharset: {}\nFrom: {}\nSubject: {}\n", out.empty() ? "" : "\n", named.name, one.charset,
                           one.from.empty() ? kDefaultFrom : std::string_view(one.from), one.subject);
        if (!one.postmaster_subject.empty()) {
            out += fmt::format("Postmaster-Subject: {}\n", one.postmaster_subject);
        }
        out += fmt::format("\n{}EOF\n", one.body);
    }
    return out;
}

Result<std::string> preview_templates(const Config& config, const NoticeTemplates& templates) {
    std::string out;
    for (const Named& named : kNamed) {
        const Result<std::string> body = expand_notice(config, (templates.*(named.member)).body);
        if (!body) {
            return body;
        }
        out += fmt::format("{}expanded_{}_text = <<EOF\n{}EOF\n", out.empty() ? "" : "\n", named.name, *body);
    }
    return out;
}

}  // namespace postern
