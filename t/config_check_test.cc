/// "postern check": what is said about a configuration.
#include <catch2/catch.hpp>

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "lib/config/check.h"

using namespace postern;

namespace {

class Directory {
public:
    Directory(std::string_view main_cf, std::string_view master_cf) {
        char name[] = "/tmp/postern-check-XXXXXX";
        path_ = ::mkdtemp(name);
        std::ofstream(path_ + "/main.cf") << main_cf;
        std::ofstream(path_ + "/master.cf") << master_cf;
    }
    ~Directory() {
        ::unlink((path_ + "/main.cf").c_str());
        ::unlink((path_ + "/master.cf").c_str());
        ::rmdir(path_.c_str());
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    /// All findings, a line each, without the directory's name.
    std::string check() const {
        std::string all;
        for (const Finding& finding : check_configuration(path_)) {
            const char kind = finding.severity == Severity::error ? 'E' : finding.severity == Severity::warning ? 'W' : 'N';
            std::string text = finding.text;
            for (std::size_t at = text.find(path_ + "/"); at != std::string::npos; at = text.find(path_ + "/")) {
                text.erase(at, path_.size() + 1);
            }
            all += std::string(1, kind) + " " + text + "\n";
        }
        return all;
    }

private:
    std::string path_;
};

}  // namespace

TEST_CASE("a good configuration has no findings", "[config]") {
    CHECK(Directory("myhostname = mx.example.org\nmine = a\nmyorigin = ${mine?b}\nrelay_destination_rate_delay = 1s\n"
                    "smtpd_restriction_classes = strict\nstrict = reject\n",
                    "smtp inet n - n - - smtpd -o own=x -o smtpd_banner=$own\nrelay unix - - n - - smtp\n")
              .check()
              .empty());
}

TEST_CASE("all mistakes are reported with their place", "[config]") {
    const std::string all = Directory("append_at_myorigin = maybe\nsmtpd_timeout = 5x\nsmtpd_hello_required = yes\nappend_at_myorigin = no\n"
                                      "process_name = x\nmyorigin = $nothing\n",
                                      "smtp inet n - n - - smtpd -o smtpd_timeout=never -o smtpd_baner=x\n")
                                .check();
    CHECK(all ==
          "W main.cf:4: overriding earlier entry: append_at_myorigin = maybe (main.cf:1)\n"
          "E main.cf:2: smtpd_timeout = 5x: accepted: a time of at least 1s, with s, m, h, d or w (s without one)\n"
          "W main.cf:6: myorigin refers to \"nothing\", which has no value\n"
          "W main.cf:5: \"process_name\" is read-only: what is set here has no effect\n"
          "W main.cf:3: unknown parameter \"smtpd_hello_required\"; did you mean \"smtpd_helo_required\"?\n"
          "W master.cf:1: -o: unknown parameter \"smtpd_baner\"; did you mean \"smtpd_banner\"?\n"
          "E master.cf:1: -o: smtpd_timeout = never: accepted: a time of at least 1s, with s, m, h, d or w (s without one)\n");
}

TEST_CASE("concurrency feedback that is none is an error, for all transports, for one, and of -o", "[config]") {
    const std::string accepted = "accepted: a number from 0 to 1, which may be divided by a number, concurrency or sqrt_concurrency\n";
    const std::string all = Directory("default_destination_concurrency_positive_feedback = 2\nfast_destination_concurrency_positive_feedback = 1/8\n"
                                      "slow_destination_concurrency_negative_feedback = 1/conc\nmine = x\n"
                                      "fast_destination_concurrency_negative_feedback = $mine\n"
                                      "default_destination_concurrency_negative_feedback = 1/sqrt_concurrency\n",
                                      "slow unix - - n - - smtp\nfast unix - - n - - smtp\n"
                                      "qmgr unix n - n 300 1 qmgr -o slow_destination_concurrency_positive_feedback=\n")
                                .check();
    CHECK(all == "E main.cf:1: default_destination_concurrency_positive_feedback = 2: " + accepted +
                 "E main.cf:5: fast_destination_concurrency_negative_feedback = $mine (which is \"x\"): " + accepted +
                 "E main.cf:3: slow_destination_concurrency_negative_feedback = 1/conc: " + accepted +
                 "E master.cf:3: -o: slow_destination_concurrency_positive_feedback = : " + accepted);
}

TEST_CASE("syntax errors in both files are reported together", "[config]") {
    const std::string all = Directory("nonsense\n", "smtp inet\n").check();
    CHECK(all == "E main.cf:1: missing '=' after parameter name: \"nonsense\"\n"
                 "E master.cf:1: bad field count: 2 of 8 columns in \"smtp inet\"\n");
}

TEST_CASE("a parameter that is not in force yet is named", "[config]") {
    CHECK(Directory("qmqpd_timeout = 1s\n", "").check() ==
          "N main.cf:1: \"qmqpd_timeout\" is known but not in force yet: it has no effect\n");
}

TEST_CASE("what stands in the place of a parameter that has no effect is said", "[config]") {
    CHECK(Directory("smtp_sasl_type = cyrus\nsmtp_tls_per_site = hash:/x\nsmtpd_sasl_local_domain = example.org\n", "").check() ==
          "N main.cf:1: \"smtp_sasl_type\" has no effect here: The SASL client is built in: it knows SCRAM, CRAM-MD5, PLAIN, LOGIN, XOAUTH2 "
          "and OAUTHBEARER.\n"
          "N main.cf:2: \"smtp_tls_per_site\" has no effect here: Use smtp_tls_policy_maps, which Postfix has had in its place since 2.3.\n"
          "N main.cf:3: \"smtpd_sasl_local_domain\" has no effect here: Log-ins are always checked by auth(8); see auth_default_realm.\n");
}

TEST_CASE("a setting of a transport that is not in master.cf is reported", "[config]") {
    const std::string main_cf = "slow_destination_rate_delay = 1s\n";
    CHECK(Directory(main_cf, "slow unix - - n - - smtp\n").check().empty());
    CHECK(Directory(main_cf, "slower unix - - n - - smtp\n").check() ==
          "W main.cf:1: unknown parameter \"slow_destination_rate_delay\": master.cf has no service with the name that it begins with\n");
}

TEST_CASE("settings of a lookup table are no unknown parameters", "[config]") {
    CHECK(Directory("alias_maps = ldap:people\npeople_server_host = ldap.example.org\n", "").check().empty());
}

TEST_CASE("names from elsewhere lead to ours", "[config]") {
    CHECK(Directory("ssl_cert = /x\n", "").check() == "W main.cf:1: unknown parameter \"ssl_cert\"; did you mean \"ssl_cert_file\"?\n");
    CHECK(nearest_parameter("my_hostname") == "myhostname");
    CHECK(nearest_parameter("mynetwroks") == "mynetworks");
    CHECK(nearest_parameter("completely_unlike_anything").empty());
    CHECK(nearest_parameter("").empty());
}

TEST_CASE("a service that a setting wants is missed", "[config]") {
    const std::string smtp = "smtp unix - - y - 4 smtp\n", sts = "mta-sts unix - - y - 1 mta-sts\n";
    const std::string missed = "W master.cf: no service \"mta-sts\": destinations are treated as without MTA-STS policy "
                               "(smtp_tls_mta_sts_enable)\n";
    CHECK(Directory("smtp_tls_security_level = may\n", smtp).check() == missed);
    CHECK(Directory("smtp_tls_security_level = may\n", smtp + sts).check().empty());
    CHECK(Directory("smtp_tls_security_level = may\nsmtp_tls_mta_sts_enable = no\n", smtp).check().empty());
    CHECK(Directory("smtp_tls_security_level = encrypt\n", smtp).check().empty());
    CHECK(Directory("smtp_tls_security_level = may\n", "").check().empty());
    CHECK(Directory("smtpd_recipient_restrictions = reject_unverified_recipient\n", "smtp inet n - y - 4 smtpd\n").check() ==
          "W master.cf: no service \"verify\": reject_unverified_sender and reject_unverified_recipient refuse for now\n");
    CHECK(Directory("smtp_tlsrpt_enable = yes\n", smtp).check() ==
          "W master.cf: no service \"tlsrpt\": TLS sessions are not counted (smtp_tlsrpt_enable)\n");
}

TEST_CASE("references are found where expansion finds them", "[config]") {
    using Names = std::vector<std::string>;
    CHECK(referenced_names("$a ${b} $(c) ${d?x} ${e:{f}} $$g ${ h }") == Names{"a", "b", "c", "d", "e", "h"});
    CHECK(referenced_names("${{$a} == {b} ? {$c} : {d}}") == Names{"a", "c"});
    CHECK(referenced_names("${domain_to_ascii{$a}} $ $").size() == 1);
    CHECK(referenced_names("").empty());
}
