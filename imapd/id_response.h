/// ID (RFC 2971), before and after login.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::imapd {

/// The untagged response with its CRLF.  `imap_id_send` is Dovecot's setting: "name * version *", where "*" is
/// the default value of name, version, support-url or support-email; empty: NIL.
std::string id_response(std::string_view imap_id_send);

/// "name=x, version=y" of the fields that imap_id_log lists ("*": all); empty when there is none.
std::string id_for_log(const std::vector<std::pair<std::string, std::string>>& pairs, std::string_view imap_id_log);

}  // namespace postern::imapd
