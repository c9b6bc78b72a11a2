#include "lib/config/choices.h"

#include <vector>

#include "lib/base/strings.h"
#include "lib/config/feedback.h"

namespace postern {
namespace {

/// What a parameter takes.
enum class Form : unsigned char {
    one,            ///< one of the words
    one_or_empty,
    list,           ///< any of the words, also none
    pairs,          ///< NAME=word, NAME=word, ...: any name, one of the words
    log_password,   ///< one of the words, and ":NUMBER" behind those but the first
    feedback,       ///< Feedback
    charset,        ///< the name of a character set, as encoded words have it (RFC 2047 section 2)
};

struct Row {
    std::string_view name;
    Form form;
    std::string_view words;
};

constexpr Row kRows[] = {
    {"allow_mail_to_commands", Form::list, "alias forward include"},
    {"allow_mail_to_files", Form::list, "alias forward include"},
    {"auth_verbose_passwords", Form::log_password, "no plain sha1"},
    {"canonical_classes", Form::list, "envelope_sender envelope_recipient header_sender header_recipient"},
    {"default_destination_concurrency_negative_feedback", Form::feedback, ""},
    {"default_destination_concurrency_positive_feedback", Form::feedback, ""},
    {"full_name_encoding_charset", Form::charset, ""},
    {"header_from_format", Form::one, "standard obsolete"},
    {"imap_client_workarounds", Form::list, "delay-newmail tb-extra-mailbox-sep tb-lsub-flags"},
    {"info_log_address_format", Form::one, "external internal"},
    {"inet_protocols", Form::list, "all ipv4 ipv6"},
    {"lmtp_address_preference", Form::one, "any ipv4 ipv6"},
    {"lmtp_dns_resolver_options", Form::list, "res_defnames res_dnsrch"},
    {"lmtp_dns_support_level", Form::one_or_empty, "disabled enabled dnssec"},
    {"log_format", Form::one, "text json"},
    {"maillog_file_permissions", Form::one, "0600 0640 0644"},
    {"mail_fsync", Form::one, "optimized always never"},
    {"mailbox_delivery_lock", Form::list, "fcntl flock dotlock"},
    {"mailbox_auto", Form::pairs, "create subscribe"},
    {"mailbox_special_use", Form::pairs, "\\All \\Archive \\Drafts \\Flagged \\Important \\Junk \\Sent \\Trash"},
    {"masquerade_classes", Form::list, "envelope_sender envelope_recipient header_sender header_recipient"},
    {"mbox_read_locks", Form::list, "fcntl flock dotlock dotlock_try lockf"},
    {"mbox_write_locks", Form::list, "fcntl flock dotlock dotlock_try lockf"},
    {"mynetworks_style", Form::one, "class subnet host"},
    {"non_empty_end_of_header_action", Form::one, "keep fix_quietly add_header reject"},
    {"notify_classes", Form::list, "bounce 2bounce data delay policy protocol resource software"},
    {"pop3_client_workarounds", Form::list, "outlook-no-nuls oe-ns-eoh"},
    {"pop3_delete_type", Form::one, "default expunge flag"},
    {"pop3_uidl_duplicates", Form::one, "allow rename"},
    {"prepend_delivered_header", Form::list, "command file forward"},
    {"propagate_unmatched_extensions", Form::list, "canonical virtual alias forward include generic"},
    {"receive_override_options", Form::list,
     "no_unknown_recipient_checks no_address_mappings no_header_body_checks no_milters"},
    {"recipient_canonical_classes", Form::list, "envelope_recipient header_recipient"},
    {"sender_canonical_classes", Form::list, "envelope_sender header_sender"},
    {"sendmail_fix_line_endings", Form::one, "always strict never"},
    {"smtp_address_preference", Form::one, "any ipv4 ipv6"},
    {"smtp_dns_resolver_options", Form::list, "res_defnames res_dnsrch"},
    {"smtp_dns_support_level", Form::one_or_empty, "disabled enabled dnssec"},
    {"smtp_tls_dane_insecure_mx_policy", Form::one, "may encrypt dane"},
    {"smtp_tls_security_level", Form::one_or_empty,
     "none may encrypt dane dane-only fingerprint verify secure"},
    {"smtpd_forbid_bare_newline", Form::one, "no yes normalize reject note"},
    {"smtpd_tls_security_level", Form::one_or_empty, "none may encrypt"},
    {"smtpd_upstream_proxy_protocol", Form::one_or_empty, "haproxy"},
    {"smtputf8_autodetect_classes", Form::list, "all bounce forward local notify sendmail smtpd unknown verify"},
    {"ssl", Form::one, "yes no required"},
    {"ssl_min_protocol", Form::one, "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3"},
    {"syslog_facility", Form::one,
     "auth authpriv cron daemon ftp kern lpr mail news syslog user uucp local0 local1 local2 local3 local4 local5 "
     "local6 local7"},
    {"virtual_mailbox_lock", Form::list, "fcntl flock dotlock"},
};

constexpr std::size_t kMaxCharset = 40;

const Row* find_row(std::string_view name) {
    for (const Row& row : kRows) {
        if (row.name == name) {
            return &row;
        }
    }
    return nullptr;
}

bool has_word(const Row& row, std::string_view word) {
    for (const std::string& allowed : split(row.words, " ")) {
        if (equals_ignoring_case(allowed, word)) {
            return true;
        }
    }
    return false;
}

bool are_pairs(const Row& row, std::string_view value) {
    for (const std::string& pair : split(value, ",")) {
        const std::size_t equals = pair.rfind('=');
        const bool named = equals != std::string::npos && !trim(std::string_view(pair).substr(0, equals)).empty();
        if (!trim(pair).empty() && (!named || !has_word(row, trim(std::string_view(pair).substr(equals + 1))))) {
            return false;
        }
    }
    return true;
}

bool is_log_password(const Row& row, std::string_view value) {
    const std::size_t colon = value.find(':');
    const std::string_view word = value.substr(0, colon);
    if (colon == std::string_view::npos) {
        return has_word(row, word);
    }
    const std::optional<std::uint64_t> bytes = parse_number(value.substr(colon + 1));
    return has_word(row, word) && !equals_ignoring_case(word, "no") && bytes && *bytes > 0 && *bytes < 1000;
}

}  // namespace

bool is_choice(std::string_view name, std::string_view value) {
    const Row* row = find_row(name);
    if (row == nullptr) {
        return true;
    }
    if (row->form == Form::pairs) {
        return are_pairs(*row, value);
    }
    if (row->form == Form::log_password) {
        return is_log_password(*row, value);
    }
    if (row->form == Form::feedback) {
        return Feedback::parse(value).ok();
    }
    if (row->form == Form::charset) {
        constexpr std::string_view kToken = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:+";
        return !value.empty() && value.size() <= kMaxCharset && value.find_first_not_of(kToken) == std::string_view::npos;
    }
    if (row->form != Form::list) {
        return value.empty() ? row->form == Form::one_or_empty : has_word(*row, value);
    }
    for (const std::string& word : split(value, ", \t\r\n")) {
        if (!has_word(*row, word)) {
            return false;
        }
    }
    return true;
}

std::string choices_of(std::string_view name) {
    const Row* row = find_row(name);
    if (row == nullptr) {
        return {};
    }
    if (row->form == Form::feedback) {
        return std::string(kAcceptedFeedback);
    }
    if (row->form == Form::charset) {
        return "the name of a character set, such as utf-8 or iso-8859-1";
    }
    std::string words = row->form == Form::list ? "a list of " : "one of ";
    if (row->form == Form::pairs) {
        words = "NAME=WORD, NAME=WORD, ... with a word of ";
    }
    bool first = true;
    for (const std::string& word : split(row->words, " ")) {
        words += first ? word : ", " + word;
        first = false;
    }
    if (row->form == Form::log_password) {
        return words + ", plain:N or sha1:N for the first N bytes";
    }
    return row->form == Form::one_or_empty ? words + ", or nothing" : words;
}

}  // namespace postern
