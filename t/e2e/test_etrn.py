#!/usr/bin/env python3
"""ETRN (RFC 1985): the replies, which are Debian's Postfix's where that is installed, and that deferred mail for the site is tried
at once, and no other."""
import os
import re
import shutil
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postfix_peer  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import Suite, smtp_replies, wait_until  # noqa: E402

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
# SITE and OTHER are ports to which mail for the two sites goes, once somebody listens there
MAIN = """
relay_domains = site.example, other.example, third.example, queue
parent_domain_matches_subdomains = fast_flush_domains
transport_maps = inline:{site.example=smtp:[127.0.0.1]:SITE, sub.site.example=smtp:[127.0.0.1]:SITE, other.example=smtp:[127.0.0.1]:OTHER}
smtp_tls_security_level = none
minimal_backoff_time = 600s
maximal_backoff_time = 600s
queue_run_delay = 600s
smtpd_error_sleep_time = 0
smtpd_junk_command_limit = 5
smtpd_delay_reject = no
smtpd_etrn_restrictions = check_etrn_access inline:{denied.example=REJECT, later.example=DEFER}
relay_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
mynetworks = 127.0.0.0/8
"""


def settings(site):
    return MAIN.replace("SITE", str(site)).replace("OTHER", str(site + 1))


HELLO = ["EHLO c.example"]
# what a client says after connecting -> the last line of the last reply
DIALOGUES = [
    (["ETRN site.example"], "250 Queuing started"),
    (HELLO + ["ETRN"], "500 Syntax: ETRN domain"),
    (HELLO + ["ETRN  "], "500 Syntax: ETRN domain"),
    (HELLO + ["ETRN site.example other.example"], "500 Syntax: ETRN domain"),
    (HELLO + ["ETRN site.example"], "250 Queuing started"),
    (HELLO + ["etrn SITE.Example"], "250 Queuing started"),
    (["HELO c.example", "ETRN site.example"], "250 Queuing started"),
    (HELLO + ["ETRN sub.site.example"], "250 Queuing started"),
    (HELLO + ["ETRN third.example"], "250 Queuing started"),
    (HELLO + ["ETRN @site.example"], "250 Queuing started"),
    (HELLO + ["ETRN #queue"], "250 Queuing started"),
    (HELLO + ["ETRN #elsewhere"], "459 <elsewhere>: service unavailable"),
    (HELLO + ["ETRN elsewhere.example"], "459 <elsewhere.example>: service unavailable"),
    (HELLO + ["ETRN @elsewhere.example"], "459 <elsewhere.example>: service unavailable"),
    (HELLO + ["ETRN example"], "459 <example>: service unavailable"),
    (HELLO + ["ETRN [192.0.2.1]"], "459 <[192.0.2.1]>: service unavailable"),
    (HELLO + ["ETRN [IPv6:2001:db8::1]"], "459 <[IPv6:2001:db8::1]>: service unavailable"),
    (HELLO + ["ETRN [192.0.2.300]"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN 192.0.2.1"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN -site.example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN site..example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN .site.example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN site.example."], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN @"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN @@site.example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN <site.example>"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN fred@site.example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN s\u00eete.example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN " + "x" * 64 + ".example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN " + "x." * 130 + "example"], "501 Error: invalid parameter syntax"),
    (HELLO + ["ETRN denied.example"], "554 5.7.1 <denied.example>: Etrn command rejected: Access denied"),
    (HELLO + ["ETRN later.example"], "450 4.7.1 <later.example>: Etrn command rejected: Access denied"),
    (HELLO + ["MAIL FROM:<fred@example.org>", "ETRN site.example"], "503 Error: MAIL transaction in progress"),
    (HELLO + ["MAIL FROM:<fred@example.org>", "ETRN"], "503 Error: MAIL transaction in progress"),
    (HELLO + ["MAIL FROM:<fred@example.org>", "RSET", "ETRN site.example"], "250 Queuing started"),
    (HELLO + ["ETRN site.example"] * 3 + ["NOOP"] * 3 + ["MAIL FROM:<fred@example.org>"], "250 2.1.0 Ok"),
]


class Etrn(unittest.TestCase):
    maxDiff = None

    def check_replies(self, port):
        wrong = ["%s\n  got    %s\n  wanted %s" % (commands, reply, wanted) for commands, wanted in DIALOGUES
                 for reply in [smtp_replies(port, commands)[-1]] if reply != wanted]
        self.assertFalse(wrong, "\n" + "\n".join(wrong))

    def check_mail(self, port, site, send, log):
        """Mail waits for both sites; ETRN for one of them has that, and that only, tried at once."""
        for recipient in ("a@site.example", "b@sub.site.example", "c@other.example"):
            send(recipient)
        wait_until(lambda: len(re.findall(r"to=<[abc]@.*status=deferred \(connect to 127\.0\.0\.1", log())) == 3, "all three wait")
        with_mail = [Peer(port=site), Peer(port=site + 1)]
        try:
            self.assertEqual(smtp_replies(port, HELLO + ["ETRN site.example"])[-1], "250 Queuing started")
            wait_until(lambda: re.search(r"to=<a@site\.example>, .*status=sent", log()), "a has it")
            time.sleep(1)
            self.assertNotRegex(log(), r"to=<b@sub\.site\.example>, .*status=sent", "the site was asked for, not what is below it")
            self.assertEqual(smtp_replies(port, HELLO + ["ETRN @sub.site.example"])[-1], "250 Queuing started")
            wait_until(lambda: re.search(r"to=<b@sub\.site\.example>, .*status=sent", log()), "b has it")
            self.assertEqual(len(with_mail[0].messages), 2)
            self.assertEqual(with_mail[1].messages, [])
            self.assertEqual(len(re.findall(r"to=<c@other\.example>, ", log())), 1)
        finally:
            for peer in with_mail:
                peer.close()

    def check_command(self, run):
        """postqueue -s asks by the same list; `run` yields its status and what it said."""
        refused = 'postqueue: fatal: Flush service is not configured for destination "%s"\n'
        invalid = 'postqueue: fatal: Cannot flush mail queue - invalid destination: "%s"\n'
        wanted = {"site.example": (0, ""), "sub.site.example": (0, ""), "queue": (0, "")}
        wanted.update({site: (69, refused % site) for site in ("elsewhere.example", "[192.0.2.1]")})
        wanted.update({site: (69, invalid % site) for site in ("", "site..example", "a b")})
        wanted["x." * 60] = (69, invalid % ("x." * 50 + "..."))
        self.assertEqual({site: run(site) for site in wanted}, wanted)

    def test_replies_and_mail(self):
        with Suite(settings(BASE + 40), "smtp unix - - n - 2 smtp\nrelay unix - - n - 2 smtp\n", port=BASE) as mail:
            def send(recipient):
                with mail.smtp() as smtp:
                    smtp.sendmail("fred@example.org", [recipient], b"Subject: x\r\n\r\nx\r\n")
            self.check_mail(mail.port["smtp"], BASE + 40, send, mail.log)
            self.check_replies(mail.port["smtp"])

            def asked(site):
                done = mail.run("postqueue", "-s", site)
                return done.returncode, done.stdout.decode()
            self.check_command(asked)
            self.assertRegex(mail.log(), r"reject: ETRN from unknown\[127\.0\.0\.1\]: 554 5\.7\.1 <denied\.example>: Etrn command rejected: Access denied; ")

    def test_postfix_does_the_same(self):
        if not postfix_peer.available():
            self.skipTest("Debian's Postfix is not installed, or this is not root")
        where = tempfile.mkdtemp(prefix="postern-etrn-")
        self.addCleanup(shutil.rmtree, where, True)
        with postfix_peer.Postfix(where, BASE + 50, settings(BASE + 42)) as postfix:
            def send(recipient):
                postfix.run("/usr/sbin/sendmail", "-f", "fred@example.org", recipient, stdin=b"Subject: x\n\nx\n")
            self.check_mail(BASE + 50, BASE + 42, send, postfix.log)
            self.check_replies(BASE + 50)

            def asked(site):
                done = postfix.run("postqueue", "-s", site)
                return done.returncode, "".join(re.findall(r"(?m)^(?!postqueue: warning: ).*\n", done.stdout.decode()))
            self.check_command(asked)


if __name__ == "__main__":
    unittest.main(verbosity=1)
