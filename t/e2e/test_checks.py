#!/usr/bin/env python3
"""header_checks, mime_header_checks, nested_header_checks and body_checks in cleanup, and their smtp_ kin in the SMTP client.
Where Postfix is installed (and the test runs as root) it must make the same of the same message."""
import os
import re
import smtplib
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import Suite

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
PEER = BASE + 20
MAIN = """
transport_maps = inline:{remote.example=smtp:[127.0.0.1]:%d}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
header_checks = regexp:{d}/etc/header
mime_header_checks = regexp:{d}/etc/mime
nested_header_checks = regexp:{d}/etc/nested
body_checks = regexp:{d}/etc/body
body_checks_size_limit = 60
smtp_header_checks = regexp:{d}/etc/smtp_header
smtp_mime_header_checks = regexp:{d}/etc/smtp_mime
smtp_nested_header_checks = regexp:{d}/etc/smtp_nested
smtp_body_checks = regexp:{d}/etc/smtp_body
""" % PEER
TABLES = {
    "header": "/^X-Drop:/ IGNORE\n/^X-Old: (.*)/ REPLACE X-New: $1\n/^X-Front:/ PREPEND X-Before: yes\n/^X-Bad:/ REJECT 5.7.9 no thanks\n"
              "/^X-Later:/ REJECT 4.7.8 come again\n/^Content-Type:.*evil/ REJECT never seen here\n/^X-Strip:/ STRIP why\n",
    "mime": "/^Content-Type:.*name=.*\\.exe/ REJECT no programs\n/^X-Part: (.*)/ REPLACE X-Section: $1\n/^Content-Description:/ IGNORE\n",
    "nested": "/^Subject: inner/ PREPEND X-Nested: yes\n/^X-Hide:/ IGNORE\n",
    "body": "/^secret/ IGNORE\n/^old line$/ REPLACE new line\n/^forbidden/ REJECT\n/^marked/ PREPEND before\n",
    "smtp_header": "/^User-Agent:/ IGNORE\n/^X-Out:/ REPLACE X-Gone: out\n/^Received:.*127\\.0\\.0\\.1/ IGNORE\n/^Message-ID:/ WARN seen\n",
    "smtp_mime": "/^X-Section:/ PREPEND X-Smtp-Part: here\n",
    "smtp_nested": "/^X-Nested:/ STRIP\n",
    "smtp_body": "/^new line/ REPLACE newest line\n",
}
MESSAGE = """From: s@example.org
To: x@remote.example
Subject: outer
Message-ID: <checks@example.org>
Date: Sun, 22 Nov 2026 10:00:00 +0000
X-Drop: me
X-Old: value
X-Front: here
X-Strip: it
User-Agent: secret/1.0
X-Out: here
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b1"

preamble
secret preamble
--b1
Content-Type: text/plain
Content-Description: goes away
X-Part: one

old line
secret
.dot
marked
0123456789012345678901234567890123456789012345678901234567890
secret but late
--b1
Content-Type: message/rfc822

Subject: inner
X-Hide: me
From: inner@example.org

old line
not forbidden: it begins otherwise
--b1--
secret epilogue
old line
"""
REFUSED = {
    "X-Bad: 1": "550 5.7.9 no thanks", "X-Later: 1": "451 4.7.8 come again", "Content-Type: application/x; name=a.exe": "550 5.7.1 no programs",
}


def tables(write):
    for name, text in TABLES.items():
        write("etc/" + name, text)


def send(port, message):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("c.example")
        client.mail("s@example.org")
        client.rcpt("x@remote.example")
        code, text = client.data(message.encode())
        return "%d %s" % (code, text.decode())


def bare(message):
    """Without what differs from host to host and time to time."""
    message = message.replace("\r\n", "\n")
    return re.sub(r"^Received: .*\n([ \t].*\n)*", "", message, flags=re.M)


class Checks(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.peer = Peer(PEER)
        cls.addClassCleanup(cls.peer.close)
        cls.mail = Suite("", "smtp unix - - n - 4 smtp\n")
        cls.addClassCleanup(cls.mail.stop)
        with open(cls.mail.path("etc/main.cf"), "a") as file:
            file.write(MAIN.replace("{d}", cls.mail.dir))
        tables(cls.mail.write)
        cls.mail.start()

    def delivered(self, port):
        before = len(self.peer.messages)
        reply = send(port, MESSAGE)
        self.assertEqual(reply[:3], "250", reply)
        self.mail.wait_for(lambda: len(self.peer.messages) > before, 20, "the message arrives")
        self.assertEqual(len(self.peer.messages), before + 1, self.mail.log()[-2000:])
        message = self.peer.messages[-1]
        message = message if isinstance(message, (str, bytes)) else message["content"]
        return bare(message.decode() if isinstance(message, bytes) else message)

    def refusals(self, port):
        return {field: send(port, field + "\n" + MESSAGE.split("MIME-Version")[0] + "\nx\n") for field in REFUSED}

    def test_what_is_sent(self):
        sent = self.delivered(self.mail.port["smtp"])
        for gone in ("X-Drop:", "X-Old:", "X-Strip:", "User-Agent:", "X-Out:", "Content-Description:", "X-Part:", "X-Hide:", "X-Nested:", "secret\n",
                     "secret preamble", "secret epilogue"):
            self.assertNotIn(gone, sent)
        for there in ("X-New: value\n", "X-Before: yes\nX-Front: here\n", "X-Gone: out\n", "X-Smtp-Part: here\nX-Section: one\n", "newest line\n",
                      "before\nmarked\n", "secret but late\n", "Subject: inner\n"):
            self.assertIn(there, sent)
        log = self.mail.log()
        self.assertRegex(log, r"smtp\[\d+\]: [0-9A-F]+: warning: header Message-ID: <checks@example.org>: seen\n")
        self.assertRegex(log, r"smtp\[\d+\]: [0-9A-F]+: strip: header X-Nested: yes\n")

    def test_refusals(self):
        said = self.refusals(self.mail.port["smtp"])
        for field, reply in REFUSED.items():
            self.assertIn(reply, said[field])

    def test_postfix_does_the_same(self):
        postfix = postfix_peer.beside(self, BASE + 50, MAIN)
        tables(postfix.write)
        with postfix:
            theirs = self.delivered(BASE + 50)
            their_refusals = self.refusals(BASE + 50)
        self.assertEqual(self.delivered(self.mail.port["smtp"]), theirs)
        self.assertEqual(self.refusals(self.mail.port["smtp"]), their_refusals)


if __name__ == "__main__":
    unittest.main(verbosity=2)
