/// A whole SMTP conversation from a hostile client, with a cleanup that takes everything.
#include <cstddef>
#include <cstdint>

#include "t/smtpd_dialogue.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    postern::smtpd::SmtpDialogue dialogue("smtpd_forbid_unauth_pipelining = no\nsmtpd_soft_error_limit = 100000\nsmtpd_hard_error_limit = 1000\nsmtpd_peername_lookup = no\n",
                                          size % 2 == 0 ? "10.1.1.1" : "192.0.2.1");
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    dialogue.client(bytes.substr(0, size / 2));
    dialogue.client(bytes.substr(size / 2));
    dialogue.hang_up();
    return 0;
}
