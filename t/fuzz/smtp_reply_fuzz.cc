/// A hostile server: everything it says to a client with a message for two recipients.  Each must get exactly one answer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "t/smtp_dialogue.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace postern::smtp;
    const bool lmtp = size % 2 == 1;
    // Without kept connections, whose sweeper would still sleep at the end.
    static DeliveryDialogue smtp_mail("smtp_connection_cache_on_demand = no\nsmtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\n"
                                      "smtp_sasl_password_maps = inline:{ 192.0.2.1=user:pass }\n");
    static DeliveryDialogue lmtp_mail("lmtp_connection_cache_on_demand = no\nlmtp_tls_security_level = none\n", Protocol::lmtp);
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
