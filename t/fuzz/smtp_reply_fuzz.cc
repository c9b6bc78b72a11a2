/// A hostile server: everything it says to a client with a message for two recipients.  Each must get exactly one answer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "t/smtp_dialogue.h"

/// The cache's sweeper is asleep when the program ends, as it is when the service does.
extern "C" const char* __lsan_default_suppressions() {
    return "leak:postern::smtp::SessionCache::\n";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::smtp;
    const bool lmtp = size % 2 == 1;
    static DeliveryDialogue smtp_mail("smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\n"
                                      "smtp_sasl_password_maps = inline:{ 192.0.2.1=user:pass }\n");
    static DeliveryDialogue lmtp_mail("lmtp_tls_security_level = none\n", Protocol::lmtp);
    DeliveryDialogue& mail = lmtp ? lmtp_mail : smtp_mail;
    mail.fates.fates.clear();
    mail.fates.doubles = 0;
    mail.net->tried.clear();
    mail.net->servers["192.0.2.1"] = {};
    mail.net->servers["192.0.2.1"].scripts = {std::string(reinterpret_cast<const char*>(data), size)};
    mail.deliver("[192.0.2.1]", {"a@x", "b@x"});
    mail.client().cache().clear();
    mail.forget_log();
    if (mail.fates.fates.size() != 2 || mail.fates.doubles != 0) {
        std::abort();
    }
    return 0;
}
