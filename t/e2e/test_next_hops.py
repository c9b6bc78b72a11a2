#!/usr/bin/env python3
"""Which host mail goes to when settings change what the DNS says: reply filters, short names, SRV records, aliases, and mail for which
this host is the best MX.  In a small internet of the test's own; where Debian's Postfix has the setting it gets the same configuration
and must come to the same end.  Needs root."""
import os
import re
import shutil
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postfix_peer  # noqa: E402
from dns_world import World  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import PATIENCE, Suite  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
RECORDS = [
    "two.example. MX 10 a.example.", "two.example. MX 20 b.example.", "a.example. A 192.0.2.31", "b.example. A 192.0.2.32",
    "one.example. MX 10 a.example.", "host.corp.example. A 192.0.2.31", "deep.sub.corp.example. A 192.0.2.32",
    "alias.example. CNAME a.example.", "self.example. MX 10 me.example.", "me.example. A 127.0.0.1",
    "_submission._tcp.srv.example. SRV 20 0 587 b.example.", "_submission._tcp.srv.example. SRV 10 0 2587 a.example.",
    "_submission._tcp.nosrv.example. SRV 0 0 0 .", "mxonly.example. MX 10 b.example.", "_submissions._tcp.srv.example. SRV 10 0 465 b.example.",
    "broken.example. MX 10 b.example.",
]
# recipient domain -> (next hop, options of the transport, what the log says of it, does Debian's Postfix know the setting)
CASES = {
    "filter-mx.example": ("two.example", "smtp_dns_reply_filter=regexp:{dir}/filter",
                          r"relay=b\.example\[192\.0\.2\.32\]:25, .*dsn=2\.0\.0, status=sent", True),
    "filter-all.example": ("one.example", "smtp_dns_reply_filter=regexp:{dir}/filter",
                           r"relay=none, .*dsn=4\.7\.0, status=deferred \(Error looking up name=one\.example type=MX: DNS reply filter drops all results\)", True),
    "filter-a.example": ("[host.corp.example]", "smtp_dns_reply_filter=regexp:{dir}/addresses",
                         r"relay=none, .*dsn=4\.7\.0, status=deferred \(Error looking up name=host\.corp\.example type=A: DNS reply filter drops all results\)",
                         True),
    "filter-bad.example": ("two.example", "smtp_dns_reply_filter=static:DISCARD",
                           r"relay=none, .*dsn=4\.4\.3, status=deferred \(Error looking up name=two\.example type=MX: Invalid DNS reply filter syntax\)", True),
    "short.example": ("[host]", "smtp_dns_resolver_options=res_defnames", r"relay=host\[192\.0\.2\.31\]:25, .*status=sent", True),
    "no-short.example": ("[host]", "smtp_dns_resolver_options=",
                         r"relay=none, .*dsn=5\.4\.4, status=bounced \(Host or domain name not found\. Name service error for name=host type=A: Host not found\)",
                         True),
    "search.example": ("[deep.sub]", "smtp_dns_resolver_options=res_dnsrch,res_defnames", r"relay=deep\.sub\[192\.0\.2\.32\]:25, .*status=sent", True),
    "no-search.example": ("[deep.sub]", "smtp_dns_resolver_options=res_defnames", r"relay=none, .*dsn=5\.4\.4, status=bounced \(Host or domain name not found", True),
    "cname.example": ("[alias.example]", "smtp_cname_overrides_servername=yes", r"relay=a\.example\[192\.0\.2\.31\]:25, .*status=sent", True),
    "no-cname.example": ("[alias.example]", "smtp_cname_overrides_servername=no", r"relay=alias\.example\[192\.0\.2\.31\]:25, .*status=sent", True),
    "best-mx.example": ("self.example", "best_mx_transport=discard:passed", r"relay=none, .*dsn=2\.0\.0, status=sent \(passed\)", True),
    "no-best-mx.example": ("self.example", "best_mx_transport=", r"relay=none, .*dsn=5\.4\.6, status=bounced \(mail for self\.example loops back to myself\)", True),
    "srv.example": ("srv.example:submission", "use_srv_lookup=submission", r"relay=a\.example\[192\.0\.2\.31\]:2587, .*status=sent", False),
    "srv-plain.example": ("[a.example]:2587", "use_srv_lookup=submission", r"relay=a\.example\[192\.0\.2\.31\]:2587, .*status=sent", False),
    "srvs.example": ("srv.example:submissions", "use_srv_lookup=submission,submissions", r"relay=b\.example\[192\.0\.2\.32\]:465, .*status=sent", False),
    "srv-null.example": ("nosrv.example:submission", "use_srv_lookup=submission",
                         r"relay=none, .*dsn=5\.1\.0, status=bounced \(Domain _submission\._tcp\.nosrv\.example does not support SRV requests\)", False),
    "srv-none.example": ("mxonly.example:submission", "use_srv_lookup=submission",
                         r"relay=none, .*dsn=5\.4\.4, status=bounced \(Host or domain name not found\. Name service error for "
                         r"name=_submission\._tcp\.mxonly\.example type=SRV: Host not found\)", False),
    "srv-back.example": ("mxonly.example:submission", "use_srv_lookup=submission -o allow_srv_lookup_fallback=yes",
                         r"relay=b\.example\[192\.0\.2\.32\]:587, .*status=sent", False),
    "srv-fails.example": ("x.servfail.zz:submission", "use_srv_lookup=submission",
                          r"relay=none, .*dsn=4\.4\.3, status=deferred \(.*name=_submission\._tcp\.x\.servfail\.zz type=SRV: Host not found, try again\)", False),
    "srv-ignored.example": ("x.servfail.zz:submission", "use_srv_lookup=submission -o ignore_srv_lookup_error=yes",
                            r"relay=none, .*dsn=4\.4\.3, status=deferred \(.*name=x\.servfail\.zz type=MX: Host not found, try again\)", False),
    "silent.example": ("x.silent.zz", "smtp_dns_reply_filter=", r"relay=none, .*dsn=4\.4\.3, status=deferred \(.*name=x\.silent\.zz type=MX: Host not found, try again\)",
                       True),
}
MAIN = """
minimal_backoff_time = 600s
maximal_backoff_time = 600s
smtp_connect_timeout = 5s
smtp_tls_security_level = none
"""


def service(number):
    return "hop%d" % number


def rows(where, ours):
    return "".join("%s unix - - n - 1 smtp -o %s\n" % (service(number), case[1].format(dir=where))
                   for number, case in enumerate(CASES.values()) if ours or case[3])


def routes(ours):
    return "transport_maps = inline:{" + ", ".join("{%s=%s:%s}" % (domain, service(number), case[0])
                                                   for number, (domain, case) in enumerate(CASES.items()) if ours or case[3]) + "}\n"


class NextHops(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            print("needs root: skipped")
            sys.exit(77)
        cls.where = tempfile.mkdtemp(prefix="postern-next-hops-")
        os.chmod(cls.where, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        try:
            cls.world = World(cls.where, ["192.0.2.31", "192.0.2.32"], ["example.", "host.", "sub."], RECORDS)
        except RuntimeError as why:
            print("%s: skipped" % why)
            sys.exit(77)
        cls.addClassCleanup(cls.world.close)
        with open(cls.where + "/resolv.conf", "a") as file:   # is /etc/resolv.conf here
            file.write("search corp.example\n")
        with open(cls.where + "/filter", "w") as file:
            file.write("/^(one|two)\\.example\\. [0-9]+ in mx 10 a\\.example\\.$/ ignore\n")
        with open(cls.where + "/addresses", "w") as file:
            file.write("/^\\S+\\s+\\S+\\s+IN\\s+A\\s+192\\.0\\.2\\.31$/ IGNORE and say why\n")
        cls.peers = [Peer(port=port, address=address) for address in ("192.0.2.31", "192.0.2.32") for port in (25, 465, 587, 2587)]
        for peer in cls.peers:
            cls.addClassCleanup(peer.close)

    def check(self, log, send, ours):
        wanted = {domain: case for domain, case in CASES.items() if ours or case[3]}
        start, pending, took = {}, dict(wanted), {}
        for domain in wanted:
            start[domain] = time.monotonic()
            send("a@" + domain)
        end = time.monotonic() + 25 * PATIENCE
        while pending and time.monotonic() < end:
            time.sleep(0.1)
            text = log()
            for domain in list(pending):
                found = re.search(r"to=<a@%s>, .*" % re.escape(domain), text)
                if found:
                    took[domain] = time.monotonic() - start[domain]
                    self.assertRegex(found.group(0), "to=<a@%s>, %s" % (re.escape(domain), pending.pop(domain)[2]))
        self.assertFalse(pending, log()[-3000:])
        return took

    def test_mail_goes_where_the_settings_say(self):
        with Suite(MAIN + routes(True), rows(self.where, True), port=PORT) as mail:
            def send(recipient):
                with mail.smtp() as smtp:
                    smtp.sendmail("fred@example.org", [recipient], b"Subject: x\r\n\r\nx\r\n")
            took = self.check(mail.log, send, True)
            self.assertLess(took["silent.example"], 8 * PATIENCE, "resolv.conf says timeout:1 attempts:2")
            self.assertRegex(mail.log(), r"ignoring DNS RR: two\.example\. \d+ IN MX 10 a\.example\.\n")
            self.assertRegex(mail.log(), r'warning: smtp_dns_reply_filter: unknown DNS filter action: "DISCARD"')
            self.assertRegex(mail.log(), r"skipping SRV lookup for _submission\._tcp\.mxonly\.example: Host or domain name not found\.")
            self.assertRegex(mail.log(), r"/discard\[\d+\]: .*to=<a@best-mx\.example>")

    def test_postfix_sends_it_there_too(self):
        if not postfix_peer.available():
            self.skipTest("Debian's Postfix is not installed")
        with postfix_peer.Postfix(self.where, PORT + 50, MAIN + routes(False), rows(self.where, False)) as postfix:
            self.check(postfix.log, lambda recipient: postfix.run("/usr/sbin/sendmail", "-f", "fred@example.org", recipient, stdin=b"Subject: x\n\nx\n"), False)

    def test_bad_options_are_named(self):
        mail = Suite(MAIN, "bad unix - - n - 1 smtp -o smtp_dns_resolver_options=res_nonsense\n", port=PORT)
        self.addCleanup(mail.stop)
        refused = mail.control("start")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(b"smtp_dns_resolver_options = res_nonsense: accepted: a list of res_defnames, res_dnsrch", refused.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=1)
