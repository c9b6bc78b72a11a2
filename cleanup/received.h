/// Trace and identification fields that cleanup(8) makes (RFC 5321 section 4.4, RFC 5322 section 3.6).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/config/config.h"
#include "lib/queue/messages.h"

namespace postern::cleanup {

/// "Sun, 22 Nov 2026 11:21:04 +0000 (UTC)", local time, as Postfix writes dates.
std::string mail_date(std::int64_t unix_time);

/// The whole Received: field with its last LF, in Postfix's form for this origin.  Texts from outside are freed
/// from control characters, so that nobody can add lines to the header by way of HELO.
/// With `begin.hide_client` nothing about the client, its log-in and its protocol.
std::string received_field(const Config& config, const queue::Begin& begin, std::string_view queue_id);

/// Without the angle brackets: time and queue id, or the queue id alone when it is a long one.
std::string make_message_id(const Config& config, std::string_view queue_id, std::int64_t unix_time);

/// "From: Full Name <user@example.org>\n" for the sender, MAILER-DAEMON for the null sender (header_from_format).
std::string from_field(const Config& config, std::string_view resent, std::string_view sender,
                       std::string_view full_name);

}  // namespace postern::cleanup
