#!/usr/bin/env python3
"""DANE (RFC 7672) end to end: zones with real signatures, a validating resolver, servers with good, other and expired certificates;
the same destinations as Postfix's smtp(8) and posttls-finger see them, where they are installed.  Needs root."""
import glob
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postfix_peer  # noqa: E402
from dns_world import World  # noqa: E402
from signed_zones import Authority, Signer, tlsa  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import BIN, Suite  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 700
MAIN = """
smtp_tls_security_level = dane
smtp_dns_support_level = dnssec
dnssec_trust_anchor_files = /does/not/exist {where}/anchors.key
smtp_tls_policy_maps = inline:{{ {{ only.dane.zz = dane-only }}, {{ onlynone.dane.zz = dane-only }}, {{ onlyplain.zz = dane-only }},
    {{ mayhalf.zz = may }}, {{ anchored.plain.zz = secure match=mx-ta.dane.zz tafile={where}/ca.pem }},
    {{ otheranchor.plain.zz = secure match=mx-ok.dane.zz tafile={where}/ca.pem }},
    {{ unread.plain.zz = secure tafile={where}/no.pem }} }}
tls_policy_trust_anchor_files = {where}/ca.pem
smtp_requiretls_policy = inline:{{ {{ unusable.dane.zz = opportunistic+starttls }}, {{ only.dane.zz = opportunistic }},
    {{ alias.dane.zz = disable }}, {{ .zz = enforce }} }}
smtp_tls_loglevel = 1
smtp_tls_CAfile =
smtp_helo_timeout = 5s
smtp_starttls_timeout = 5s
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""
MASTER = "smtp unix - - n - 1 smtp\n"
ADDRESSES = ["192.0.2.%d" % i for i in range(10, 30)]
HOSTS = ("ok", "wrong", "ta", "taname", "unusable", "none", "expired", "bogus", "clear", "agile", "weak", "mixed")

# Destination: what the log line about the delivery ends with, and what that about TLS says.
NOT_SENT = r"dsn=4\.7\.5, status=deferred \(%s\)"
CASES = {
    "ok.dane.zz": ("status=sent", "Verified"),
    "only.dane.zz": ("status=sent", "Verified"),
    "ta.dane.zz": ("status=sent", "Verified"),
    "expired.dane.zz": ("status=sent", "Verified"),          # DANE-EE: neither name nor dates count
    "mixed.dane.zz": ("status=sent", "Verified"),            # an unusable record beside a good one
    "alias.dane.zz": ("status=sent", "Verified"),            # the MX host is an alias; the records are at its target
    "half.zz": ("status=sent", "Trusted"),                   # an MX record that is not signed
    "second.dane.zz": ("status=sent", "Verified"),           # the better MX host has a wrong certificate
    "wrong.dane.zz": (NOT_SENT % "Server certificate not verified", "Untrusted"),
    "taname.dane.zz": (NOT_SENT % "Server certificate not verified", "Untrusted"),
    "agile.dane.zz": (NOT_SENT % "Server certificate not verified", "Untrusted"),   # the best digest counts alone
    "weak.dane.zz": ("status=sent", "Verified"),
    "unusable.dane.zz": ("status=sent", "Untrusted"),
    "none.dane.zz": ("status=sent", "Untrusted"),
    "plain.zz": ("status=sent", "Untrusted"),                # TLSA records that are not signed
    "clear.dane.zz": (r"dsn=4\.7\.4, status=deferred \(TLS is required, but was not offered by host mx-clear\.dane\.zz", None),
    "bogus.dane.zz": (NOT_SENT % r"TLSA lookup error for mx-bogus\.dane\.zz:25", None),
    "bogus.zz": (r"dsn=4\.4\.3, status=deferred .*type=MX: Host not found, try again", None),
    "onlynone.dane.zz": (NOT_SENT % "no TLSA records found", None),
    "onlyplain.zz": (NOT_SENT % "non DNSSEC destination", None),
    "anchored.plain.zz": ("status=sent", "Verified"),        # smtp_tls_policy_maps: tafile=
    "otheranchor.plain.zz": (NOT_SENT % "Server certificate not verified", "Untrusted"),
    "unread.plain.zz": (NOT_SENT % "client TLS configuration problem", None),
}


POSTFIX = """
smtp_tls_loglevel = 1
default_destination_concurrency_limit = 20
"""


def verdict(log, domain):
    """What became of the mail: the host, the code, the reason; and what was last said about that host's TLS."""
    line = re.search(r"to=<same@%s>, relay=(\S+), .*dsn=([\d.]+), status=(\w+) \((.*)\)" % re.escape(domain), log)
    if not line:
        return None
    relay, dsn, status, reason = line.groups()
    tls = re.findall(r": (\w+) TLS connection (?:established|reused) to %s" % re.escape(relay), log[:line.start()])
    return relay, dsn, status, "" if status == "sent" else reason, tls[-1] if tls else None


class Dane(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = tempfile.mkdtemp(prefix="postern-dane-")
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        os.chmod(cls.where, 0o755)
        signer, authority = Signer(cls.where), Authority(cls.where)
        address = dict(zip(HOSTS, ADDRESSES))
        good = {name: authority.self_signed("mx-%s.dane.zz" % name) for name in HOSTS}
        good["ta"] = authority.issue("mx-ta.dane.zz")
        good["taname"] = authority.issue("other.dane.zz")
        good["expired"] = authority.self_signed("other.zz", days=-1)
        wrong, ca = "3 1 1 " + "00" * 32, tlsa(2, 0, 1, authority.certificate)
        own = {name: tlsa(3, 1, 1, good[name][0]) for name in HOSTS}
        records = {
            "ok": [own["ok"]], "wrong": [wrong], "ta": [ca], "taname": [ca], "none": [], "expired": [tlsa(3, 0, 2, good["expired"][0])],
            "unusable": [tlsa(1, 1, 1, good["unusable"][0]), tlsa(0, 0, 1, authority.certificate), "3 2 1 " + "00" * 32, "3 1 0 0000"],
            "bogus": [own["bogus"]], "clear": [own["clear"]],
            "agile": [own["agile"], "3 1 2 " + "00" * 64], "weak": [tlsa(3, 1, 2, good["weak"][0]), wrong],
            "mixed": ["3 1 200 0011", own["mixed"]],
        }
        lines = []
        for name in HOSTS:
            lines += ["%s MX 10 mx-%s" % (name, name), "mx-%s A %s" % (name, address[name])]
            lines += ["_25._tcp.mx-%s TLSA %s" % (name, data) for data in records[name]]
        lines += ["only MX 10 mx-ok", "onlynone MX 10 mx-none", "second MX 10 mx-wrong", "second MX 20 mx-ok", "alias MX 10 mx-alias",
                  "mx-alias CNAME mx-ok"]
        digest = own["bogus"].split()[-1]
        plain = ["@ MX 10 mx", "mx A " + address["none"], "_25._tcp.mx TLSA " + wrong, "anchored A " + address["ta"],
                 "otheranchor A " + address["ok"], "unread A " + address["ok"]]
        files = {
            "dane.zz": signer.zone("dane.zz", lines, spoil=(digest, digest[::-1])),
            "bogus.zz": signer.zone("bogus.zz", ["@ MX 10 mx-ok.dane.zz."], spoil=("mx-ok.dane.zz", "mx-no.dane.zz")),
            "plain.zz": signer.zone("plain.zz", plain, signed=False),
            "half.zz": signer.zone("half.zz", ["@ MX 10 mx-ok.dane.zz."], signed=False),
            "onlyplain.zz": signer.zone("onlyplain.zz", ["@ MX 10 mx-ok.dane.zz."], signed=False),
        }
        cls.world = World(cls.where, ADDRESSES, [], [], files=files, anchors=signer.anchors())
        cls.addClassCleanup(cls.world.close)
        cls.peers = {name: Peer(port=25, address=address[name], name="mx-%s.dane.zz" % name,
                                tls=None if name == "clear" else good[name],
                                features=["PIPELINING", "8BITMIME"] + (["REQUIRETLS"] if name in ("ok", "none", "clear") else []))
                     for name in HOSTS}
        cls.mail = Suite(MAIN.format(where=cls.where), MASTER, port=PORT)
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()

    def send(self, recipient):
        with self.mail.smtp() as smtp:
            smtp.sendmail("fred@example.org", [recipient], "Subject: hi\r\n\r\nbody\r\n")

    def test_destinations(self):
        for domain in CASES:
            self.send("a@" + domain)
        for domain, (fate, word) in CASES.items():
            with self.subTest(domain=domain):
                line = self.mail.wait_log(r"to=<a@%s>.*" % re.escape(domain)).group(0)
                self.assertRegex(line, fate)
                process = re.search(r"smtp\[(\d+)\]: (\w+): to=<a@%s>" % re.escape(domain), self.mail.log())
                self.assertTrue(process)
                relay = re.search(r"relay=(\S+\]:25)", line)
                if word:
                    self.assertRegex(self.mail.log(), r": %s TLS connection established to %s: TLSv1\.3" % (word, re.escape(relay.group(1))))
        self.assertIn("Verified TLS connection established to mx-ok.dane.zz[192.0.2.10]:25", self.mail.log())
        self.assertNotIn("mx-alias.dane.zz", self.mail.log())   # a signed alias gives way to its target's name, as in Postfix
        self.assertEqual(self.peers["bogus"].commands, [])
        self.assertFalse([m for m in self.peers["wrong"].messages if "a@" in m["recipients"][0]])
        self.assertNotIn("MAIL", self.peers["clear"].verbs())
        self.assertTrue(all(message["tls"] for peer in self.peers.values() for message in peer.messages))

    def test_a_session_is_resumed_with_what_was_verified(self):
        self.send("one@expired.dane.zz")
        self.mail.wait_log(r"to=<one@expired\.dane\.zz>.*status=sent")
        self.send("two@expired.dane.zz")
        self.mail.wait_log(r"to=<two@expired\.dane\.zz>.*status=sent")
        self.mail.wait_log(r"Verified TLS connection reused to mx-expired\.dane\.zz")

    def test_requiretls(self):
        context = ssl._create_unverified_context()
        with self.mail.smtp() as smtp:
            smtp.ehlo()
            self.assertNotIn("requiretls", smtp.esmtp_features)
            self.assertEqual(smtp.docmd("MAIL", "FROM:<fred@example.org> REQUIRETLS")[0], 530)
            smtp.starttls(context=context)
            smtp.ehlo()
            self.assertIn("requiretls", smtp.esmtp_features)
            for name in ("ok", "mixed", "none", "clear"):
                smtp.sendmail("fred@example.org", ["secret@%s.dane.zz" % name], "Subject: hi\r\n\r\nsecret body\r\n", mail_options=["REQUIRETLS"])
        self.mail.wait_log(r"to=<secret@ok\.dane\.zz>.*status=sent")
        self.assertIn("REQUIRETLS", [m["sender"] for m in self.peers["ok"].messages if "secret@" in m["recipients"][0]][0])
        self.assertIn(b"Require-TLS-ESMTP: yes", [m["content"] for m in self.peers["ok"].messages if "secret@" in m["recipients"][0]][0])
        self.mail.wait_log(r"to=<secret@mixed\.dane\.zz>.*dsn=5\.7\.30, status=bounced \(REQUIRETLS support is required, but was not offered by host mx-mixed")
        self.mail.wait_log(r"to=<secret@none\.dane\.zz>.*dsn=5\.7\.10, status=bounced \(REQUIRETLS: Server certificate not verified\)")
        self.mail.wait_log(r"to=<secret@clear\.dane\.zz>.*dsn=5\.7\.10, status=bounced \(REQUIRETLS: TLS is required, but was not offered by host mx-clear")
        for name in ("mixed", "none", "clear"):
            self.assertFalse([m for m in self.peers[name].messages if "secret@" in m["recipients"][0]])
        bounces = self.mail.wait_for(lambda: self.notices("5.7.10", 2), 15, "two bounces")
        self.assertFalse([text for text in bounces if "secret body" in text])

    def test_requiretls_by_destination(self):
        with self.mail.smtp() as smtp:
            smtp.starttls(context=ssl._create_unverified_context())
            smtp.ehlo()
            for name in ("unusable", "only", "alias"):
                smtp.sendmail("fred@example.org", ["softly@%s.dane.zz" % name], "Subject: hi\r\n\r\nbody\r\n", mail_options=["REQUIRETLS"])
        for name in ("unusable", "only", "alias"):
            self.mail.wait_log(r"to=<softly@%s\.dane\.zz>.*status=sent" % name)
        said = {m["recipients"][0]: m["sender"] for peer in self.peers.values() for m in peer.messages if "softly@" in m["recipients"][0]}
        asked = {to.split("@")[1].split(".")[0]: "REQUIRETLS" in sender for to, sender in said.items()}
        self.assertEqual(asked, {"unusable": False, "only": True, "alias": False})

    def notices(self, code, count):
        found = []
        for folder in ("new", "cur"):
            for path in glob.glob(self.mail.path("mail/fred/%s/*" % folder)):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read()
                if "Status: " + code in text:
                    found.append(text)
        return found if len(found) >= count else None

    def test_tls_required_no(self):
        with self.mail.smtp() as smtp:
            smtp.sendmail("fred@example.org", ["public@wrong.dane.zz"], "TLS-Required: No\r\nSubject: hi\r\n\r\nbody\r\n")
        self.mail.wait_log(r"to=<public@wrong\.dane\.zz>.*status=sent")

    def trace(self, domain):
        return subprocess.run([BIN + "/postern", "-c", self.mail.path("etc"), "trace", "a@" + domain], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30).stdout.decode()

    def test_postern_trace_tells_the_policy_and_the_records(self):
        said = self.trace("mixed.dane.zz")
        self.assertRegex(said, r"(?m)^ +TLS policy +dane \(smtp_tls_security_level\)$")
        self.assertRegex(said, r"(?m)^ +DANE +_25\._tcp\.mx-mixed\.dane\.zz: TLSA 3 1 200 0011 \(unusable\)$")
        self.assertRegex(said, r"(?m)^ +DANE +_25\._tcp\.mx-mixed\.dane\.zz: TLSA 3 1 1 [0-9A-F]{64} \(usable\)$")
        self.assertRegex(said, r"(?m)^ +TLS +mx-mixed\.dane\.zz: dane, certificate for mx-mixed\.dane\.zz, mixed\.dane\.zz, vouched for by "
                               r"one of 1 TLSA records or trust anchors, SNI mx-mixed\.dane\.zz$")
        self.assertRegex(self.trace("none.dane.zz"), r"(?m)^ +DANE +no TLSA records found\n +TLS +mx-none\.dane\.zz: may$")
        said = self.trace("onlyplain.zz")
        self.assertRegex(said, r"(?m)^ +TLS policy +dane-only \(smtp_tls_policy_maps\)$")
        self.assertRegex(said, r"(?m)^ +TLS +mx-ok\.dane\.zz: not used: 4\.7\.5 non DNSSEC destination$")
        self.assertIn("not used: 4.7.5 TLSA lookup error for mx-bogus.dane.zz:25", self.trace("bogus.dane.zz"))

    def test_postfix_does_the_same(self):
        """Debian's smtp(8), with the same settings, name server and destinations."""
        if not postfix_peer.available():
            self.skipTest("Postfix is not installed")
        with postfix_peer.Postfix(self.where, PORT + 60, POSTFIX + MAIN.format(where=self.where).split("smtp_requiretls_policy")[0]) as postfix:
            for domain in CASES:   # one after the other, so that what is said of TLS is said of this delivery
                with self.subTest(domain=domain):
                    before = len(self.mail.log())
                    self.send("same@" + domain)
                    with smtplib.SMTP("127.0.0.1", PORT + 60) as smtp:
                        smtp.sendmail("fred@example.org", ["same@" + domain], "Subject: hi\r\n\r\nbody\r\n")
                    theirs = self.mail.wait_for(lambda: verdict(postfix.log(), domain), 30, domain)
                    ours = self.mail.wait_for(lambda: verdict(self.mail.log()[before:], domain), 20, domain)
                    if domain == "alias.dane.zz":   # postconf(5) says that a validated alias gives way to its target in the log; it does not
                        self.assertEqual(theirs[0], "mx-alias.dane.zz[192.0.2.10]:25")
                        theirs = ("mx-ok.dane.zz[192.0.2.10]:25",) + theirs[1:]
                    self.assertEqual(ours, theirs)

    def test_posttls_finger_says_the_same(self):
        if not shutil.which("posttls-finger"):
            self.skipTest("Postfix is not installed")
        for domain, (fate, word) in CASES.items():
            level = "dane-only" if domain.startswith("only") else "dane"
            if "anchor" in domain or domain.startswith(("unread", "second")) or not word:   # it asks one host only
                continue
            with self.subTest(domain=domain):
                said = subprocess.run(["posttls-finger", "-c", "-t", "5", "-T", "5", "-M", "dane", "-l", level, "-L", "summary", domain],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30).stdout.decode()
                self.assertRegex(said, "%s TLS connection established" % word)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("test_dane.py: needs root, for a network namespace")
        sys.exit(77)
    if not os.path.exists(BIN):
        sys.exit("build first")
    unittest.main()
