#!/usr/bin/env python3
"""Mail to other people's servers, found by MX: Debian's Postfix, Exim, OpenSMTPD and Dovecot (LMTP), in a small internet of the
test's own.  Each hands what it accepts on to a server that keeps it, so that content and envelope can be compared with what was
sent.  Needs root."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import debian_tools  # noqa: E402
from dns_world import World  # noqa: E402
from receiving_hosts import Exim, OpenSmtpd, Postfix, add_users  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import Suite  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
HOSTS = {Postfix: "192.0.2.21", Exim: "192.0.2.22", OpenSmtpd: "192.0.2.23"}
DOMAINS = [host.domain for host in HOSTS]
ZONES = ["example."]
RECORDS = []
for Kind, where in HOSTS.items():
    RECORDS += ["%s. MX 10 mx.%s." % (Kind.domain, Kind.domain), "mx.%s. A %s" % (Kind.domain, where),
                "tls-%s. MX 10 mx.%s." % (Kind.domain, Kind.domain)]
RECORDS += [
    "two.example. MX 10 dead.example.", "two.example. MX 20 mx.exim.example.", "dead.example. A 192.0.2.99",
    "auth.example. A 192.0.2.22", "nullmx.example. MX 0 .", "implicit.example. A 192.0.2.22",
    "lost.example. MX 10 x.servfail.zz.", "half.example. MX 10 x.servfail.zz.", "half.example. MX 20 mx.exim.example.",
    "self.example. MX 10 mail.example.org.", "mail.example.org. A 127.0.0.1",
    "alias.example. CNAME exim.example.",
]
EXTRA = """
smtp_tls_security_level = may
smtp_tls_loglevel = 1
smtp_tls_policy_maps = inline:{{{{tls-postfix.example=encrypt}},{{tls-exim.example=encrypt}}}}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{{{{auth.example=fred:secret}}}}
smtp_sasl_security_options =
smtp_connect_timeout = 5s
minimal_backoff_time = 600s
maximal_backoff_time = 600s
message_size_limit = 60000000
smtpd_recipient_limit = 2000
smtp_destination_recipient_limit = 200
transport_maps = inline:{{{{lmtp.example=lmtp:unix:{dir}/dovecot/lmtp}},{{lmtptcp.example=lmtp:inet:[192.0.2.24]:24}},
  {{native@exim.example=native:[box.hosts.example]}},{{names@exim.example=smtp:[box.hosts.example]}}}}
"""
MASTER = """
smtp unix - - n - 2 smtp
relay unix - - n - 2 smtp
native unix - - n - 1 smtp -o smtp_host_lookup=native
lmtp unix - - n - 2 lmtp
"""
DOVECOT = """
base_dir = {d}/run
state_dir = {d}/run
log_path = {d}/log
protocols = lmtp
ssl = no
mail_location = maildir:{d}/mail/%u
first_valid_uid = 1
default_login_user = dovenull
default_internal_user = dovecot
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={d}/home/%u allow_all_users=no
}}
service lmtp {{
  executable = {lmtp}
  unix_listener {socket} {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 192.0.2.24
    port = 24
  }}
}}
"""


class Peers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not shutil.which("postfix") or not shutil.which("dovecot"):
            print("needs root, Debian's postfix and dovecot: skipped")
            sys.exit(77)
        cls.where = tempfile.mkdtemp(prefix="postern-peers-")
        os.chmod(cls.where, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        cls.unpacked = cls.where + "/debian"
        wanted = {package for kind in HOSTS for package in kind.packages} | {"dovecot-lmtpd"}
        if not debian_tools.fetch(cls.unpacked, *sorted(wanted)):
            print("Exim and OpenSMTPD cannot be fetched: skipped")
            sys.exit(77)
        cls.world = World(cls.where, list(HOSTS.values()) + ["192.0.2.24", "192.0.2.30"], ZONES, RECORDS)
        cls.addClassCleanup(cls.world.close)
        add_users(cls.where, ["Debian-exim", "opensmtpd", "opensmtpq"])
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=mx.example", "-keyout",
                        cls.where + "/key.pem", "-out", cls.where + "/cert.pem"], check=True, stderr=subprocess.DEVNULL)
        cls.sinks = {}
        for number, (kind, address) in enumerate(HOSTS.items()):
            cls.sinks[kind.domain] = Peer(port=PORT + 50 + number, features=["8BITMIME", "SMTPUTF8", "SIZE 99000000", "PIPELINING"])
            host = kind(cls.where, address, "127.0.0.1:%d" % (PORT + 50 + number), cls.where + "/cert.pem", cls.where + "/key.pem")
            cls.addClassCleanup(cls.sinks[kind.domain].close)
            cls.addClassCleanup(host.stop)
            host.start(cls.unpacked)
        directory = tempfile.mkdtemp(prefix="postern-peers-suite-")
        cls.mail = Suite(extra=EXTRA.format(dir=directory), master_extra=MASTER, port=PORT, directory=directory)
        cls.start_dovecot(directory + "/dovecot")
        with open(cls.where + "/hosts", "a") as file:    # is /etc/hosts here
            file.write("192.0.2.22 box.hosts.example\n")
        cls.mail.start()

    @classmethod
    def start_dovecot(cls, where):
        os.makedirs(where + "/mail")
        os.makedirs(where + "/home")
        for name in ("", "/mail", "/home"):
            shutil.chown(where + name, 65534, 65534)
        with open(where + "/conf", "w") as file:
            file.write(DOVECOT.format(d=where, lmtp=cls.unpacked + "/usr/lib/dovecot/lmtp", socket=where + "/lmtp"))
        dovecot = subprocess.Popen(["dovecot", "-F", "-c", where + "/conf"])
        cls.addClassCleanup(dovecot.wait)
        cls.addClassCleanup(dovecot.terminate)

    @classmethod
    def tearDownClass(cls):
        cls.mail.stop()

    def send(self, *recipients, content=b"Subject: hi\n\nbody\n", sender="fred@example.org", options=()):
        with self.mail.smtp() as smtp:
            smtp.ehlo()
            smtp.sendmail(sender, list(recipients), content.replace(b"\n", b"\r\n"), options)

    def arrived(self, domain, mark, seconds=20):
        """What came out at the other end of the host that serves `domain`."""
        sink = self.sinks[domain]
        found = self.mail.wait_for(lambda: [one for one in sink.messages if mark in one["content"]], seconds, "%r behind %s" % (mark, domain))
        return found[0]

    @staticmethod
    def body(message):
        return message["content"].split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n")

    def test_content_arrives_unchanged(self):
        for number, domain in enumerate(DOMAINS):
            with self.subTest(domain):
                text = b".\n..\n.dots\n\nlast %d" % number + b" \t\n"
                self.send("a@" + domain, content=b"Subject: plain %d\n\n" % number + text)
                self.assertEqual(self.body(self.arrived(domain, b"Subject: plain %d" % number)), text)
                self.mail.wait_log(r"to=<a@%s>, relay=mx\.%s\[%s\]:25, .*dsn=2\.\d\.\d, status=sent \(250[- ]" % (domain, domain, HOSTS_BY_DOMAIN[domain]))

    def test_starttls(self):
        for domain in ("postfix.example", "exim.example"):
            with self.subTest(domain):
                self.send("a@tls-" + domain)
                done = self.mail.wait_log(r"to=<a@tls-%s>, relay=mx\.%s\[[\d.]+\]:25, .*status=(\w+) .*" % (domain, domain))
                self.assertEqual(done.group(1), "sent", done.group(0))
                self.mail.wait_log(r"TLS connection established to mx\.%s\[[\d.]+\]:25: TLSv1\.[23] with cipher" % domain)

    def test_authentication(self):
        self.send("a@auth.example", content=b"Subject: let me in\n\nx\n")
        done = self.mail.wait_log(r"to=<a@auth\.example>, .*status=(\w+) .*")
        self.assertEqual(done.group(1), "sent", done.group(0))
        self.arrived("exim.example", b"Subject: let me in")

    def test_the_hosts_file_where_it_is_wanted(self):
        self.send("native@exim.example", content=b"Subject: by hosts file\n\nx\n")
        self.arrived("exim.example", b"Subject: by hosts file")
        self.mail.wait_log(r"to=<native@exim\.example>, relay=box\.hosts\.example\[192\.0\.2\.22\]:25, .*status=sent")
        self.send("names@exim.example")
        self.mail.wait_log(r"to=<names@exim\.example>, relay=none, .*dsn=5\.4\.4, status=bounced \(Host or domain name not found\. "
                    r"Name service error for name=box\.hosts\.example type=AA?A?A?: Host not found\)")

    def test_eight_bit(self):
        text = "Größe: ÄÖÜ\n".encode() + b"\xff\xfe\n"
        for domain in DOMAINS:
            with self.subTest(domain):
                self.send("a@" + domain, content=b"Subject: eight\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
                          b"Content-Transfer-Encoding: 8bit\n\n" + text, options=["BODY=8BITMIME"])
                got = self.arrived(domain, b"Subject: eight")
                if domain == "opensmtpd.example" and text != self.body(got):
                    self.assertIn(b"=FF=FE", self.body(got))   # no 8BITMIME there: converted
                else:
                    self.assertEqual(self.body(got), text)

    def test_smtputf8(self):
        for domain in DOMAINS:
            with self.subTest(domain), self.mail.smtp() as smtp:
                smtp.ehlo()
                smtp.sendmail("fred@example.org", ["dön@" + domain], "Subject: utf8 ü\r\n\r\nx\r\n".encode(), ["SMTPUTF8", "BODY=8BITMIME"])
                done = self.mail.wait_log(r"to=<dön@%s>, .*dsn=(\S+), status=(\w+) .*" % domain)
                if done.group(2) == "sent":
                    self.arrived(domain, "Subject: utf8 ü".encode())
                else:
                    self.assertEqual((domain, done.group(1), done.group(2)), ("opensmtpd.example", "5.6.7", "bounced"))

    def test_large_messages(self):
        text = b"".join(b"%07d.....................................................................\n" % i for i in range(120000))   # 9 MB
        for domain in DOMAINS:
            with self.subTest(domain):
                self.send("a@" + domain, content=b"Subject: large\n\n" + text)
                self.assertEqual(self.body(self.arrived(domain, b"Subject: large", 40)), text)

    def test_many_recipients(self):
        for domain in DOMAINS:
            with self.subTest(domain):
                names = ["n%d@%s" % (i, domain) for i in range(450)]
                self.send(*names, content=b"Subject: many\n\nx\n")
                self.mail.wait_for(lambda: len(re.findall(r"to=<n\d+@%s>, .*status=sent" % domain, self.mail.log())) == 450, 30, "all sent")
                self.mail.wait_for(lambda: sorted(names) == sorted(re.findall(r"<(n\d+@[^>]+)>", " ".join(
                    recipient for one in self.sinks[domain].messages for recipient in one["recipients"]))), 30, "each recipient once")

    def test_refused_recipients(self):
        self.send("bad@postfix.example", "slow@postfix.example", "good@postfix.example", content=b"Subject: mixed\n\nx\n")
        self.mail.wait_log(r"to=<bad@postfix\.example>, .*dsn=5\.1\.1, status=bounced \(host mx\.postfix\.example\[192\.0\.2\.21\] said: 550 5\.1\.1 .*"
                    r"no such user \(in reply to RCPT TO command\)\)")
        self.mail.wait_log(r"to=<slow@postfix\.example>, .*dsn=4\.2\.1, status=deferred \(host .* said: 450 4\.2\.1 .*\(in reply to RCPT TO command\)\)")
        self.mail.wait_log(r"to=<good@postfix\.example>, .*status=sent")
        self.send("bad@exim.example", "good@exim.example")
        self.mail.wait_log(r"to=<bad@exim\.example>, .*dsn=5\.0\.0, status=bounced \(host .* said: 550 no such user \(in reply to RCPT TO command\)\)")
        self.send("bad@opensmtpd.example", "good@opensmtpd.example")
        self.mail.wait_log(r"to=<bad@opensmtpd\.example>, .*dsn=5\.\d\.\d, status=bounced \(host .* said: 550 .*\(in reply to RCPT TO command\)\)")
        self.mail.wait_log(r"to=<good@opensmtpd\.example>, .*status=sent")

    def test_what_the_name_servers_say(self):
        wanted = {
            "two.example": r"relay=mx\.exim\.example\[192\.0\.2\.22\]:25, .*status=sent",
            "half.example": r"relay=mx\.exim\.example\[192\.0\.2\.22\]:25, .*status=sent",
            "implicit.example": r"relay=implicit\.example\[192\.0\.2\.22\]:25, .*status=sent",
            "alias.example": r"relay=\S+\[192\.0\.2\.22\]:25, .*status=sent",
            "nullmx.example": r"relay=none, .*dsn=5\.1\.10, status=bounced \(Domain nullmx\.example does not accept mail \(nullMX\)\)",
            "absent.example": r"relay=none, .*dsn=5\.4\.4, status=bounced \(Host or domain name not found\. Name service error for name="
                              r"absent\.example type=A+: Host not found\)",
            "lost.example": r"relay=none, .*dsn=4\.4\.3, status=deferred \(Host or domain name not found\. Name service error for name="
                            r"x\.servfail\.zz type=A+: Host not found, try again\)",
            "self.example": r"relay=none, .*dsn=5\.4\.6, status=bounced \(mail for self\.example loops back to myself\)",
        }
        for domain in wanted:
            self.send("a@" + domain, sender="wilma@example.org")
        for domain, pattern in wanted.items():
            with self.subTest(domain):
                self.mail.wait_log(r"to=<a@%s>, %s" % (re.escape(domain), pattern))

    def test_dovecot_by_lmtp(self):
        for domain, relay in (("lmtp.example", re.escape("mail.example.org[" + self.mail.path("dovecot/lmtp") + "]")),
                              ("lmtptcp.example", r"192\.0\.2\.24\[192\.0\.2\.24\]:24")):
            with self.subTest(domain):
                self.send("fred@" + domain, "wilma@" + domain, content=b"Subject: local\n\n.\nbody\n")
                for user in ("fred", "wilma"):
                    self.mail.wait_log(r"to=<%s@%s>, relay=%s, .*dsn=2\.\d\.\d, status=sent \(250 2\.0\.0 .* Saved\)" % (user, domain, relay))
                    folder = self.mail.path("dovecot/mail/%s@%s/new" % (user, domain))
                    with open(folder + "/" + os.listdir(folder)[0], "rb") as file:
                        self.assertTrue(file.read().replace(b"\r\n", b"\n").endswith(b"\n\n.\nbody\n"))


HOSTS_BY_DOMAIN = {kind.domain: address for kind, address in HOSTS.items()}

if __name__ == "__main__":
    unittest.main(verbosity=1)
