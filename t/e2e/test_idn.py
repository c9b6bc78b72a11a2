#!/usr/bin/env python3
"""Domains in UTF-8 from end to end, in a small internet of the test's own: looked up and certified by their xn-- form, named in RCPT as the
sender wrote them, and reported readably when a server does not know SMTPUTF8.  Debian's Postfix does the same beside it.  Needs root."""
import os
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
import unittest

import postfix_peer
from dns_world import World
from smtp_peer import Peer
from suite import Suite, texts

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
BOOKS, SAFE, OTHER, OLD = "192.0.2.31", "192.0.2.32", "192.0.2.33", "192.0.2.34"
RECORDS = ["xn--bcher-kva.example. MX 10 mx.xn--bcher-kva.example.", "mx.xn--bcher-kva.example. A " + BOOKS,
           "xn--sicher-7ya.example. A " + SAFE, "xn--fremd-lva.example. A " + OTHER, "xn--alt-joa.example. A " + OLD,
           "fass.example. A " + BOOKS, "xn--fa-hia.example. A " + OTHER]
MAIN = """
smtp_tls_CAfile = %(where)s/cert.pem
smtp_tls_security_level = may
smtp_tls_loglevel = 1
smtp_tls_policy_maps = inline:{sich\u00e9r.example=secure, fr\u00e9md.example=secure}
mynetworks = 127.0.0.0/8
relay_domains =
transport_maps = inline:{fa\u00df.example=old:}
smtpd_relay_restrictions = permit_mynetworks, reject
notify_classes =
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""
MASTER = "old unix - - n - 1 smtp -o enable_idna2003_compatibility=yes\n"
UTF8 = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


def a_label(name):
    return name.encode("idna").decode()


class Idn(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if not postfix_peer.available():
            print("needs root and Debian's postfix: skipped")
            sys.exit(77)
        cls.where = tempfile.mkdtemp(prefix="postern-idn-")
        os.chmod(cls.where, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        records = [record.replace("xn--sicher-7ya", a_label("sich\u00e9r")).replace("xn--fremd-lva", a_label("fr\u00e9md"))
                   .replace("xn--alt-joa", a_label("\u00e4lt")) for record in RECORDS]
        try:
            cls.world = World(cls.where, [BOOKS, SAFE, OTHER, OLD], ["example."], records)
        except RuntimeError as why:
            print("%s: skipped" % why)
            sys.exit(77)
        cls.addClassCleanup(cls.world.close)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=books", "-addext",
                        "subjectAltName=DNS:%s" % a_label("sich\u00e9r.example"), "-keyout", cls.where + "/key.pem", "-out", cls.where + "/cert.pem"],
                       check=True, stderr=subprocess.DEVNULL)
        os.chmod(cls.where + "/key.pem", 0o644)
        tls = (cls.where + "/cert.pem", cls.where + "/key.pem")
        cls.ours = cls.run_one(tls, None)
        cls.theirs = cls.run_one(tls, PORT + 50)

    @classmethod
    def run_one(cls, tls, postfix_port):
        """What four servers got, what the log says, and the notices that fred got: of Postern, or of Postfix."""
        peers = {at: Peer(port=25, address=at, tls=tls if at != OLD else None, features=UTF8 if at != OLD else UTF8[:2]) for at in (BOOKS, SAFE, OTHER, OLD)}
        main = MAIN % {"where": cls.where}
        if postfix_port:
            mail = postfix_peer.Postfix(tempfile.mkdtemp(dir=cls.where), postfix_port, main, MASTER)
            mail.__enter__()
            port, end, notices = postfix_port, mail.__exit__, lambda: texts(mail.mailbox("fred"))
        else:
            mail = Suite(main, MASTER + "smtp unix - - n - 2 smtp\n")
            mail.start()
            port, end, notices = mail.port["smtp"], mail.stop, lambda: texts(mail.mailbox("fred"))
        try:
            for to in ("j\u00f6rg@b\u00fccher.example", "info@b\u00fccher.example", "info@B\u00dcCHER.Example", "a@sich\u00e9r.example", "a@fr\u00e9md.example",
                       "old@\u00e4lt.example", "j\u00f6rg@\u00e4lt.example", "a@fa\u00df.example", "a@n\u00efrgends.example"):
                with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
                    client.ehlo("c.example")
                    client.sendmail("fred@example.org", [to], "Subject: x\r\n\r\ntext\r\n", ["SMTPUTF8", "BODY=8BITMIME"])
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and (len(notices()) < 3 or len(fates(mail.log())) < 9):
                time.sleep(0.1)
            with peers[BOOKS].lock:
                return {"got": {at: sorted((m["recipients"][0], m["sender"].replace("SIZE=%s" % size(m), "SIZE=n"), m["tls"]) for m in peer.messages)
                                for at, peer in peers.items()}, "fates": fates(mail.log()), "notices": sorted(map(report, notices())), "log": mail.log()}
        finally:
            end() if not postfix_port else end(None, None, None)
            for peer in peers.values():
                peer.close()

    def test_by_mx_and_the_name_as_it_was_written(self):
        self.assertEqual([to.split(" ")[1] for to, _, _ in self.ours["got"][BOOKS]],
                         ["TO:<a@fa\u00df.example>", "TO:<info@B\u00dcCHER.Example>", "TO:<info@b\u00fccher.example>", "TO:<j\u00f6rg@b\u00fccher.example>"])
        # Postfix adds an ORCPT of its own making, of type rfc822, which RFC 6533 section 3 reserves for ASCII.
        theirs = {at: [(re.sub(r" ORCPT=rfc822;\S*\+[89A-F]\S*", "", to), sender, tls) for to, sender, tls in got] for at, got in self.theirs["got"].items()}
        self.assertEqual(self.ours["got"], theirs)

    def test_fates(self):
        self.assertEqual(self.ours["fates"], self.theirs["fates"])

    def test_certificates_are_held_against_the_xn_form(self):
        for run in (self.ours, self.theirs):
            self.assertRegex(run["log"], r"Verified TLS connection established to \S+\[%s\]:25" % SAFE)
            self.assertIn("sent", run["fates"]["a@sich\u00e9r.example"])
            self.assertIn("deferred", run["fates"]["a@fr\u00e9md.example"])

    def test_notices_are_readable(self):
        self.assertEqual(len(self.ours["notices"]), 3)
        self.assertIn("final-recipient: utf-8; j\u00f6rg@\u00e4lt.example", " ".join(self.ours["notices"]).lower())
        # Postfix takes an ORCPT of its own making for an rfc822 address, which RFC 6533 section 3 reserves for ASCII.
        theirs = [re.sub(r"Original-Recipient: rfc822;(?=.*[^\x00-\x7f])", "Original-Recipient: utf-8;", one) for one in self.theirs["notices"]]
        self.assertEqual([one.replace("X-Postern", "X-Postfix") for one in self.ours["notices"]], theirs)


def size(message):
    return re.search(r"SIZE=(\d+)|$", message["sender"]).group(1)


def fates(log):
    """recipient -> (relay without the host's own words, dsn, status, reason)"""
    out = {}
    for to, relay, dsn, status, text in re.findall(r"smtp\[\d+\]: \w+: to=<([^>]*)>.*, relay=([^,]*),.* dsn=([^,]*), status=(\w+) \((.*)\)", log):
        out[to] = (relay, dsn, status, re.sub(r"queued as \w+", "queued", text))
    return out


def report(text):
    """The lines of a notice that name people, hosts and types."""
    wanted = r"(?im)^(?:Content-Type: (?!multipart/report).*|(?:Final|Original)-Recipient:.*|Action:.*|Status:.*|Diagnostic-Code:.*(?:\n[ \t].*)*|<.*)$"
    return "\n".join(line for line in re.findall(wanted, text.replace("\r", "")) if "boundary" not in line)


if __name__ == "__main__":
    unittest.main(verbosity=2)
