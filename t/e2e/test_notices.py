#!/usr/bin/env python3
"""Notices about mail: failed, delayed, delivered, relayed; templates, VERP.  Where Postfix is installed (and the test runs as root) its
notices about the same events must have the same fields."""
import email
import os
import re
import shutil
import smtplib
import subprocess
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import Suite, texts

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
PEER, BARE = BASE + 20, BASE + 21
MAIN = """
transport_maps = inline:{remote.example=smtp:[127.0.0.1]:%d, bare.example=smtp:[127.0.0.1]:%d}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_reject_unlisted_recipient = no
smtpd_authorized_verp_clients = $mynetworks
""" % (PEER, BARE)
TEMPLATES = """failure_template = <<EOF
Charset: us-ascii
Subject: Sorry
Postmaster-Subject: Sorry, postmaster

Host $myhostname gives up.
EOF
"""


def refuse(argument):
    return "550 5.1.1 nobody here" if "bad" in argument else "250 2.1.5 fine"


class Event:
    """One message: options of MAIL, recipients with options of RCPT."""

    def __init__(self, name, recipients, mail=(), sender="wilma@example.org"):
        self.name, self.recipients, self.mail, self.sender = name, recipients, list(mail), sender

    def send(self, port):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("c.example")
            code, text = client.mail(self.sender, self.mail)
            assert code == 250, text
            for recipient, options in self.recipients:
                code, text = client.rcpt(recipient, options)
                assert code == 250, text
            code, text = client.data(b"From: wilma@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\ntext of it\r\n"
                                     % (self.name.encode(), self.name.encode()))
            assert code == 250, text


EVENTS = [
    Event("failed", [("bad@remote.example", ())]),
    Event("headers", [("bad@remote.example", ("NOTIFY=FAILURE", "ORCPT=rfc822;first+40one.example"))], ("RET=HDRS", "ENVID=abc+2Bd")),
    Event("delivered", [("fred@example.org", ("NOTIFY=SUCCESS",))], ("ENVID=QQ1",)),
    Event("relayed", [("good@bare.example", ("NOTIFY=SUCCESS",))]),
    Event("unknown", [("nobody.here@example.org", ())]),
]


def shape(text):
    """The fields of a notice, without what names this queue or this moment."""
    message = email.message_from_string(text)
    parts = message.get_payload()
    fields = re.findall(r"^([A-Z][A-Za-z-]*): *(.*)$", parts[1].as_string(), flags=re.M)
    gone = ("Arrival-Date", "X-Postfix-Queue-ID", "Content-Description", "Content-Type")
    return {"subject": message["Subject"], "to": message["To"], "from": message["From"], "auto": message["Auto-Submitted"],
            "type": message.get_content_type(), "report": message.get_param("report-type"),
            "parts": [(part.get_content_type(), part["Content-Description"]) for part in parts],
            "status": sorted((name, re.sub(r"queued as \d+", "queued", value)) for name, value in fields if name not in gone)}


class Notices(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.peer = Peer(PEER, replies={"RCPT": refuse})
        cls.bare = Peer(BARE, features=("PIPELINING",))
        cls.addClassCleanup(cls.peer.close)
        cls.addClassCleanup(cls.bare.close)
        cls.mail = Suite(MAIN + "mail_name = Postfix\nnotify_classes = policy, protocol\nerror_notice_recipient = fred@example.org\n", "smtp unix - - n - 4 smtp\n")
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        for event in EVENTS:
            event.send(cls.mail.port["smtp"])

    def notice(self, name, mailbox=None):
        """The notice to wilma about the message of that name."""
        mailbox = mailbox or self.mail.mailbox

        def found():
            return [text for text in texts(mailbox("wilma")) if "Message-ID: <%s@example.org>" % name in text and "multipart/report" in text]
        return self.mail.wait_for(found, 25, "a notice about " + name)[0]

    def test_notices_have_their_fields(self):
        actions = {event.name: re.search(r"^Action: (\S+)", self.notice(event.name), flags=re.M).group(1) for event in EVENTS}
        self.assertEqual(actions, {"failed": "failed", "headers": "failed", "delivered": "delivered", "relayed": "relayed", "unknown": "failed"})
        headers = self.notice("headers")
        self.assertIn("Original-Envelope-Id: abc+d\n", headers)
        self.assertIn("Original-Recipient: rfc822;first@one.example\n", headers)
        self.assertNotIn("text of it", headers)
        self.assertIn("text of it", self.notice("failed"))

    def test_postfix_notices_have_the_same_fields(self):
        postfix = postfix_peer.beside(self, BASE + 50, MAIN)
        with postfix:
            for event in EVENTS:
                event.send(BASE + 50)
            expected = {event.name: shape(self.notice(event.name, postfix.mailbox)) for event in EVENTS}
        self.assertEqual({event.name: shape(self.notice(event.name)) for event in EVENTS}, expected)

    def test_verp(self):
        Event("verp", [("good@remote.example", ()), ("bad@remote.example", ()), ("bad2@remote.example", ())], ("XVERP=-=",), "fred@example.org").send(
            self.mail.port["smtp"])
        self.mail.wait_for(lambda: any("fred-good=remote.example@example.org" in str(m["sender"]) for m in self.peer.messages), 20, "the VERP sender")
        for who in ("bad", "bad2"):
            self.mail.wait_for(lambda: "to=<fred-%s=remote.example@example.org>" % who in self.mail.log(), 20, "a bounce to each VERP sender")

    def test_sendmail_xv(self):
        done = self.mail.run("sendmail", "-XV", "-f", "list@example.org", "one@remote.example", "two@remote.example", stdin=b"Subject: x\n\nx\n")
        self.assertEqual(done.returncode, 0, done.stdout)
        for who in ("one", "two"):
            self.mail.wait_for(lambda: any("list+%s=remote.example@example.org" % who in str(m["sender"]) and len(m["recipients"]) == 1
                                           for m in self.peer.messages), 20, who)
        self.assertNotEqual(self.mail.run("sendmail", "-XVab", "-f", "list@example.org", "one@remote.example", stdin=b"x\n").returncode, 0)

    def test_transcripts_for_the_postmaster(self):
        """notify_classes = policy, protocol: what was said, at the end of a session in which something was refused."""
        def transcripts():
            return [text for text in self.mail.messages("fred") if "Transcript of session follows." in text]
        with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=30) as client:
            client.ehlo("quiet.example")
        with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=30) as client:
            client.ehlo("c.example")
            self.assertEqual(client.docmd("NONSENSE")[0], 500)
            self.assertEqual(client.docmd("AUTH", "PLAIN AHNlY3JldABzZWNyZXQ=")[0], 535)
        self.mail.wait_for(transcripts, 20, "the transcript")
        text = transcripts()[0]
        for line in ("Subject: Postfix SMTP server: errors from unknown[127.0.0.1]\n", " In:  NONSENSE\n", " Out: 500 5.5.2 Error: command not recognized\n",
                     " In:  AUTH PLAIN (not shown)\n", " In:  QUIT\n", "For other details, see the local mail logfile\n"):
            self.assertIn(line, text)
        self.assertNotIn("AHNlY3JldA", text)
        self.assertEqual(len(transcripts()), 1)
        self.assertNotIn("quiet.example", text)

    def test_postconf_templates(self):
        self.mail.write("etc/bounce.cf", TEMPLATES)
        shown = self.mail.run("postconf", "-b", self.mail.path("etc/bounce.cf")).stdout.decode()
        self.assertTrue(shown.startswith("expanded_failure_text = <<EOF\nHost mail.example.org gives up.\nEOF\n\nexpanded_delay_text"), shown)
        self.mail.write("etc/bad.cf", "failure_template = <<EOF\n\nx\n")
        bad = self.mail.run("postconf", "-b", self.mail.path("etc/bad.cf"))
        self.assertEqual((bad.returncode, b"line 3: missing end of template: EOF" in bad.stdout), (1, True), bad.stdout)
        if shutil.which("postconf"):
            theirs = subprocess.run(["postconf", "-t"], stdout=subprocess.PIPE, check=True).stdout.decode()
            self.assertEqual(self.mail.run("postconf", "-t").stdout.decode(), theirs)


class Templates(unittest.TestCase):
    def test_a_template_and_confirm_delay_cleared(self):
        """The failure text is the file's; who was warned of a delay hears of its end."""
        verdicts = ["450 4.2.1 not now"] * 2 + ["250 2.1.5 fine"]

        def rcpt(argument):
            if "bad" in argument:
                return "550 5.1.1 no"
            return verdicts.pop(0) if len(verdicts) > 1 else verdicts[0]
        peer = Peer(PEER + 2, replies={"RCPT": rcpt})
        self.addCleanup(peer.close)
        extra = MAIN.replace(":%d," % PEER, ":%d," % (PEER + 2)) + "confirm_delay_cleared = yes\ndelay_warning_time = 1s\n"
        mail = Suite(extra, "smtp unix - - n - 4 smtp\n", port=BASE + 40)
        self.addCleanup(mail.stop)
        mail.write("etc/bounce.cf", TEMPLATES)
        with open(mail.path("etc/main.cf"), "a") as file:
            file.write("bounce_template_file = %s\n" % mail.path("etc/bounce.cf"))
        mail.start()
        Event("late", [("later@remote.example", ())]).send(mail.port["smtp"])
        Event("failed", [("bad@remote.example", ())]).send(mail.port["smtp"])

        def subjects():
            return sorted(email.message_from_string(text)["Subject"] for text in mail.messages("wilma"))
        mail.wait_for(lambda: len(subjects()) >= 3, 40, "three notices")
        self.assertEqual(subjects(), ["Delayed Mail (still being retried)", "Sorry", "Successful Mail Delivery Report"])


class SoftBounce(unittest.TestCase):
    def test_what_fails_for_good_waits(self):
        peer = Peer(PEER + 3, replies={"RCPT": refuse})
        self.addCleanup(peer.close)
        mail = Suite(MAIN.replace(":%d," % PEER, ":%d," % (PEER + 3)) + "soft_bounce = yes\n", "smtp unix - - n - 4 smtp\n", port=BASE + 40)
        self.addCleanup(mail.stop)
        mail.start()
        Event("soft", [("bad@remote.example", ())]).send(mail.port["smtp"])
        mail.wait_for(lambda: re.search(r"to=<bad@remote.example>, .*dsn=4.1.1, status=SOFTBOUNCE \(host 127.0.0.1\[127.0.0.1\] said: 550 5.1.1", mail.log()),
                      20, "the line of a soft bounce")
        self.assertEqual(len(mail.queued()), 1)
        self.assertEqual(mail.mailbox("wilma"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
