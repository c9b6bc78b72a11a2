/// The texts of delivery status notifications that an administrator may change: bounce_template_file (bounce(5)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/base/result.h"
#include "lib/config/config.h"

namespace postern {

struct NoticeTemplate {
    std::string charset = "us-ascii";
    std::string from;                  ///< header field value; empty: the usual sender in header_from_format
    std::string subject;
    std::string postmaster_subject;    ///< of the copy for the postmaster; empty where there is none
    std::string body;                  ///< with $name, not expanded

    bool is_ascii() const;
};

struct NoticeTemplates {
    NoticeTemplate failure, delay, success, verify;

    /// Those that everybody has.
    static const NoticeTemplates& builtin();
    /// bounce_template_file's, over the built-in ones; those alone when the parameter is empty.  Errors: of reading it, and parse()'s.
    static Result<NoticeTemplates> open(const Config& config);
    static Result<NoticeTemplates> read(const std::string& path);
    /// The text of such a file, at most kMaxTemplateFile bytes.  Errors: config, with the line.
    static Result<NoticeTemplates> parse(std::string_view text);
};

inline constexpr std::size_t kMaxTemplateFile = 256 * 1024;

/// The body for people to read: $name is the parameter's value; delay_warning_time and maximal_queue_lifetime also have
/// _seconds, _minutes, _hours, _days and _weeks, and no other suffix.  Errors: syntax.
Result<std::string> expand_notice(const Config& config, std::string_view body);
/// Warnings about times of which nothing is left in the unit that a template asks for: "0 days" of five hours.  `file` is where the
/// templates came from; empty: they are the built-in ones.
std::vector<std::string> doubtful_times(const Config& config, const NoticeTemplates& templates, const std::string& file);

/// As postconf -t prints them, and parse() reads them.
std::string format_templates(const NoticeTemplates& templates);
/// postconf -b: the four bodies, expanded.  Errors: syntax.
Result<std::string> preview_templates(const Config& config, const NoticeTemplates& templates);

}  // namespace postern
