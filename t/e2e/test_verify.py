#!/usr/bin/env python3
"""Address verification: reject_unverified_recipient and _sender, their cache, probes that leave no traces, sendmail -bv.  Where
Postfix is installed (and the test runs as root) it gets the same questions and must give the same replies."""
import os
import re
import socket
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import PATIENCE, Suite

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
PEER = BASE + 20
NOBODY_HERE = "550 5.1.1 no such user here"


def rcpt_reply(argument):
    address = re.search(r"<([^>]*)>", argument).group(1)
    if address.startswith("bad"):
        return NOBODY_HERE
    if address.startswith("later"):
        return "450 4.2.0 greylisted"
    return "250 2.1.5 here"


MAIN = """
transport_maps = inline:{remote.example=smtp:[127.0.0.1]:%d, dead.example=smtp:[127.0.0.1]:%d, { refused.example = error:5.1.2 nobody } }
address_verify_poll_delay = 1s
unverified_recipient_reject_reason =
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_delay_reject = yes
""" % (PEER, PEER + 9)
RESTRICTIONS = "-o smtpd_recipient_restrictions="


def rows(base):
    """smtpd services with one restriction list each."""
    lists = ["reject_unverified_recipient,permit",
             "reject_unverified_recipient,permit -o unverified_recipient_reject_code=550",
             "reject_unverified_recipient,permit -o unverified_recipient_reject_code=550 -o unverified_recipient_defer_code=451 "
             "-o { unverified_recipient_reject_reason=go away }",
             "reject_unverified_sender,permit -o unverified_sender_reject_code=550 -o unverified_sender_defer_code=250",
             "reject_unverified_recipient,reject -o unverified_recipient_tempfail_action=defer"]
    return "".join("127.0.0.1:%d inet n - n - 1 smtpd %s%s\n" % (base + i, RESTRICTIONS, text) for i, text in enumerate(lists))


OURS = "smtp unix - - n - 4 smtp\n"


# service -> (sender, recipient)
QUESTIONS = [
    (0, "s@remote.example", "good@remote.example"), (0, "s@remote.example", "bad@remote.example"), (0, "s@remote.example", "later@remote.example"),
    (0, "s@remote.example", "x@refused.example"), (0, "s@remote.example", "x@dead.example"), (0, "s@remote.example", "fred@example.org"),
    (0, "s@remote.example", "not.there@example.org"),
    (1, "s@remote.example", "bad@remote.example"), (1, "s@remote.example", "later@remote.example"), (1, "s@remote.example", "x@refused.example"),
    (2, "s@remote.example", "bad@remote.example"), (2, "s@remote.example", "later@remote.example"), (2, "s@remote.example", "good@remote.example"),
    (3, "bad2@remote.example", "fred@example.org"), (3, "", "fred@example.org"), (3, "good2@remote.example", "fred@example.org"),
    (3, "later2@remote.example", "fred@example.org"), (3, "later3@remote.example", "fred@example.org"),
    (4, "s@remote.example", "later@remote.example"), (4, "s@remote.example", "bad@remote.example"),
]


def ask(port, sender, recipient):
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        file = client.makefile("rb")
        file.readline()
        for line in ("HELO c.example", "MAIL FROM:<%s>" % sender, "RCPT TO:<%s>" % recipient):
            client.sendall(line.encode() + b"\r\n")
            reply = file.readline().decode().strip()
        client.sendall(b"QUIT\r\n")
        return reply


class Verify(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.peer = Peer(PEER, replies={"RCPT": rcpt_reply})
        cls.addClassCleanup(cls.peer.close)
        cls.mail = Suite(MAIN, OURS + rows(BASE + 30))
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        try:
            cls.answers = [ask(BASE + 30 + service, sender, recipient) for service, sender, recipient in QUESTIONS]
        except OSError as error:
            raise AssertionError(cls.mail.log()[-4000:]) from error

    def answer(self, service, sender, recipient):
        return self.answers[QUESTIONS.index((service, sender, recipient))]

    def test_replies(self):
        s = "s@remote.example"
        said = "host 127.0.0.1[127.0.0.1] said: 550 5.1.1 no such user here (in reply to RCPT TO command)"
        self.assertEqual(self.answer(0, s, "good@remote.example"), "250 2.1.5 Ok")
        self.assertEqual(self.answer(0, s, "bad@remote.example"),
                         "450 4.1.1 <bad@remote.example>: Recipient address rejected: unverified address: " + said)
        self.assertEqual(self.answer(1, s, "bad@remote.example"),
                         "550 5.1.1 <bad@remote.example>: Recipient address rejected: undeliverable address: " + said)
        self.assertEqual(self.answer(2, s, "bad@remote.example"),
                         "550 5.1.1 <bad@remote.example>: Recipient address rejected: undeliverable address: go away")
        self.assertEqual(self.answer(2, s, "later@remote.example"),
                         "451 4.1.1 <later@remote.example>: Recipient address rejected: unverified address: go away")
        self.assertEqual(self.answer(3, "bad2@remote.example", "fred@example.org")[:9], "550 5.1.7")

    def test_postfix_gives_the_same_replies(self):
        with postfix_peer.beside(self, BASE + 50, MAIN, rows(BASE + 51)):
            theirs = [ask(BASE + 51 + service, sender, recipient) for service, sender, recipient in QUESTIONS]
        self.assertEqual(list(zip(QUESTIONS, self.answers)), list(zip(QUESTIONS, theirs)))

    def test_probes_leave_no_traces(self):
        self.assertEqual(self.peer.messages, [])
        self.assertNotIn("DATA", self.peer.verbs())
        self.mail.wait_empty(10)
        self.assertEqual(self.mail.mailbox("fred"), [])
        log = self.mail.log()
        self.assertRegex(log, r"to=<good@remote.example>, relay=127.0.0.1\[127.0.0.1\]:%d, .*status=deliverable \(250 2.1.5 here\)" % PEER)
        self.assertRegex(log, r"to=<bad@remote.example>, .*dsn=5.1.1, status=undeliverable \(host 127.0.0.1")
        self.assertRegex(log, r"to=<x@dead.example>, relay=none, .*dsn=4.4.1, status=undeliverable \(connect to")
        self.assertRegex(log, r"to=<fred@example.org>, relay=virtual, .*status=deliverable \(delivers to maildir\)")
        self.assertNotIn("non-delivery notification", log)
        self.assertNotIn("status=bounced", log)

    def test_an_address_is_probed_once(self):
        port = BASE + 30
        before = len(self.peer.commands)
        for _ in range(3):
            self.assertEqual(ask(port, "s@remote.example", "fresh@remote.example")[:3], "250")
        asked = [command for command in self.peer.commands[before:] if "fresh@" in command]
        self.assertEqual(len(asked), 1, asked)
        senders = {command for command in self.peer.commands if command.startswith("MAIL")}
        self.assertEqual({re.match(r"MAIL FROM:<([^>]*)>", command).group(1) for command in senders}, {"double-bounce@mail.example.org"})

    def test_the_cache_survives_a_kill(self):
        port = BASE + 30
        self.assertEqual(ask(port, "s@remote.example", "kept@remote.example")[:3], "250")
        time.sleep(1.5 * PATIENCE)   # written a moment later
        for pid in self.mail.pids().get("verify", []):
            os.kill(pid, 9)
        before = len(self.peer.commands)
        self.mail.wait_for(lambda: ask(port, "s@remote.example", "kept@remote.example")[:3] == "250", 20, "verify is back")
        self.assertEqual([command for command in self.peer.commands[before:] if "kept@" in command], [])
        self.assertTrue(os.path.exists(self.mail.path("data/verify_cache.lmdb")))

    def test_our_own_probe_sender_is_good(self):
        """Another host that probes the sender of our probes; the message itself goes nowhere."""
        self.assertEqual(ask(BASE + 30, "s@remote.example", "double-bounce@mail.example.org"), "250 2.1.5 Ok")

    def test_report_of_sendmail_bv(self):
        done = self.mail.run("sendmail", "-bv", "-f", "wilma@example.org", "good@remote.example", "bad@remote.example", "fred@example.org")
        self.assertEqual((done.returncode, done.stdout), (0, b"Mail Delivery Status Report will be mailed to <wilma@example.org>.\n"))
        text = self.mail.wait_for(lambda: self.mail.messages("wilma"), 20, "the report")[0]
        self.assertIn("Subject: Mail Delivery Status Report\n", text)
        found = dict(re.findall(r"Final-Recipient: rfc822; (\S+)\n(?:[^\n]+\n)*?Action: (\S+)\n", text))
        self.assertEqual(found, {"good@remote.example": "deliverable", "bad@remote.example": "undeliverable", "fred@example.org": "deliverable"})
        self.assertEqual(self.peer.messages, [])
        self.assertEqual(self.mail.mailbox("fred"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
