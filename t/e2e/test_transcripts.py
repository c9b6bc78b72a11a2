#!/usr/bin/env python3
"""Transcripts for the postmaster (notify_classes): which sessions of the SMTP server and of the SMTP client lead to one, to whom it
goes, what it says, and that no password is ever in one.  Where Postfix is installed (and the test runs as root) its notices about
the same dialogues must be the same."""
import base64
import email
import os
import re
import socket
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import PASSWORD, Suite, texts, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))

# What servers answer instead of what they should, by name.
SERVERS = {
    "m500": dict(replies={"MAIL": "500 5.5.2 what?"}, features=("PIPELINING",)),
    "m550": dict(replies={"MAIL": "550 5.7.1 go away"}),
    "data250": dict(replies={"DATA": "250 2.0.0 strange"}, features=()),
    "dot501": dict(replies={".": "501 5.5.0 bad content"}, features=()),
    "r555": dict(replies={"RCPT": lambda a: "555 5.5.4 no such option" if "bad" in a else ""}, features=()),
    "hello": dict(replies={"EHLO": "502 no", "HELO": "501 nor this"}),
    "garbage": dict(replies={"RCPT": "hello there"}),
    "gone": dict(replies={"DATA": None}, features=()),
    "long": dict(replies={"MAIL": "501-" + "many words about it " * 10 + "\n501 " + "x" * 90}, features=("PIPELINING",)),
}
ALL = "bounce, 2bounce, data, delay, policy, protocol, resource, software"
MAIN = """
mail_name = Postfix
transport_maps = inline:{%s}
notify_classes = %s
error_notice_recipient = fred@example.org
bounce_notice_recipient = wilma@example.org
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{no@example.org=REJECT policy says no},{soft@example.org=DEFER later},{odd@example.org=no_such_rule},{lost@example.org=failing}}
smtpd_restriction_classes = failing
failing = check_recipient_access fail:broken
smtpd_sasl_auth_enable = no
message_size_limit = 20000
smtpd_hard_error_limit = 4
smtpd_soft_error_limit = 100
smtpd_banner = $myhostname ESMTP
disable_vrfy_command = yes
smtp_tls_security_level = none
maximal_queue_lifetime = 2m
minimal_backoff_time = 60s
""" % (", ".join("{%s.example=smtp:[127.0.0.1]:%d}" % (name, BASE + 20 + i) for i, name in enumerate(SERVERS)), ALL)

LONG = ["x" * 9000] * 3
# What a client says, by the name it gives in EHLO; lists are content.
DIALOGUES = {
    "protocol": ["NONSENSE", "MAIL FROM:<a@b.example> FOO=BAR", "QUIT"],
    "policy": ["MAIL FROM:<a@b.example>", "RCPT TO:<no@example.org>", "QUIT"],
    "bounce": ["MAIL FROM:<a@b.example>", "RCPT TO:<nobody.here@example.org>", "QUIT"],
    "software": ["MAIL FROM:<a@b.example>", "RCPT TO:<odd@example.org>", "QUIT"],
    "data": ["MAIL FROM:<a@b.example>", "RCPT TO:<lost@example.org>", "QUIT"],
    "declared": ["MAIL FROM:<a@b.example> SIZE=1000000", "QUIT"],
    "big": ["MAIL FROM:<a@b.example>", "RCPT TO:<fred@example.org>", "DATA", LONG, "QUIT"],
    "quiet": ["MAIL FROM:<a@b.example>", "RCPT TO:<fred@example.org>", "DATA", ["Subject: quiet", "", "x"], "QUIT"],
    "vanishes": ["MAIL FROM:<a@b.example>", "RCPT TO:<soft@example.org>", "RCPT TO:<fred@example.org>", "DATA", ["hi"], "NONSENSE"],
    "wrapped": ["NONSENSE " + "long words of it " * 20, "RSET", "QUIT"],
    "vrfy": ["VRFY fred", "QUIT"],
    "errors": ["NONSENSE"] * 4,
}


def talk(port, name, lines):
    """One session; its answers."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        file = client.makefile("rb")

        def hear():
            while True:
                line = file.readline()
                if not line or line[3:4] != b"-":
                    answers.append(line.decode().strip())
                    return
        hear()
        for line in ["EHLO %s.example" % name] + lines:
            if isinstance(line, list):
                client.sendall(b"".join(one.encode() + b"\r\n" for one in line + ["."]))
            else:
                client.sendall(line.encode() + b"\r\n")
            hear()
    return answers


def send(port, name):
    answers = talk(port, "c", ["MAIL FROM:<wilma@example.org>", "RCPT TO:<bad@%s.example>" % name, "DATA", ["Subject: to %s" % name, "", "x"], "QUIT"])
    assert answers[-2].startswith("250"), answers


def transcripts(paths):
    """The notices among these messages, by the session they are about: fields and text."""
    found = {}
    for message in map(email.message_from_string, texts(paths)):
        if "errors from" not in (message["Subject"] or ""):
            continue
        text = message.get_payload()
        about = re.search(r"EHLO (\w+)\.example|\[127\.0\.0\.1\]:(\d+)", message["Subject"] + text)
        name = about.group(1) or list(SERVERS)[int(about.group(2)) - BASE - 20]
        fields = {field: message[field] for field in ("Return-Path", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type")}
        found.setdefault(name, []).append((fields, plain(text)))
    return found


def plain(text):
    """Without what names this queue, this message's size or one product's list of features."""
    text = re.sub(r"queued as \w+", "queued as ID", text)
    text = re.sub(r"SIZE=\d+", "SIZE=N", text)
    # After a transaction that came to nothing Postfix keeps some connections for a moment where Postern closes them, and the other way
    # round; and it sends QUIT with the final dot where nobody was accepted.
    text = re.sub(r" Out: (QUIT|RSET(\n In:  250 2.0.0 Ok)?)\n", "", text)
    lines = [line for line in text.split("\n") if not re.match(r" Out: 250[- ](ETRN|VRFY|STARTTLS|CHUNKING|SMTPUTF8|DSN|8BITMIME|ENHANCED|REQUIRETLS)", line)]
    return "\n".join(lines)


def setUpModule():
    for i, options in enumerate(SERVERS.values()):
        unittest.addModuleCleanup(Peer(BASE + 20 + i, **options).close)


class Compared(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.mail = Suite(MAIN, "smtp unix - - n - 4 smtp\n")
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        cls.answers = cls.run_all(cls.mail.port["smtp"])

    @staticmethod
    def run_all(port):
        answers = {name: talk(port, name, lines) for name, lines in DIALOGUES.items()}
        for name in SERVERS:
            send(port, name)
        return answers

    def settled(self, mailbox, log, expected=len(DIALOGUES) - 1 + len(SERVERS) - 2):
        """All notices, when no more come."""
        def found():
            return {user: transcripts(mailbox(user)) for user in ("fred", "wilma")}
        try:
            wait_until(lambda: sum(len(notices) for of_user in found().values() for notices in of_user.values()) >= expected, "all notices", 25)
        except AssertionError:
            raise AssertionError("%s\n%s" % ({user: sorted(notices) for user, notices in found().items()}, log()[-3000:])) from None
        time.sleep(1)     # for what should not come
        return found()

    def test_who_hears_of_what(self):
        found = self.settled(self.mail.mailbox, self.mail.log)
        self.assertEqual(sorted(found["wilma"]), ["big", "bounce"])
        self.assertEqual(sorted(found["fred"]), sorted(["protocol", "policy", "software", "data", "declared", "vanishes", "wrapped", "vrfy", "errors",
                                                         "m500", "data250", "dot501", "r555", "hello", "garbage", "long"]))
        for notices in list(found["fred"].values()) + list(found["wilma"].values()):
            self.assertEqual(len(notices), 1)
        self.assertIn("Session aborted, reason: too many errors\n", found["fred"]["errors"][0][1])
        self.assertIn("Session aborted, reason: lost connection\n", found["fred"]["vanishes"][0][1])
        self.assertIn("Unexpected response from 127.0.0.1[127.0.0.1]:%d.\n" % (BASE + 20), found["fred"]["m500"][0][1])

    def test_as_postfix(self):
        postfix = postfix_peer.beside(self, BASE + 50, MAIN)
        with postfix:
            answers = self.run_all(BASE + 50)
            expected = self.settled(postfix.mailbox, postfix.log, len(DIALOGUES) - 1 + len(SERVERS) - 3)
        found = self.settled(self.mail.mailbox, self.mail.log)
        # Postfix skips what is no reply and waits for smtp_rcpt_timeout; Postern takes it for the end of the conversation.
        self.assertNotIn("garbage", expected["fred"])
        del found["fred"]["garbage"]
        for notices in expected["wilma"].values():   # in the header Postfix names error_notice_recipient even so
            notices[0][0]["To"] = "Postmaster <wilma@example.org>"
        for user in ("fred", "wilma"):
            self.assertEqual(sorted(found[user]), sorted(expected[user]))
            for name in expected[user]:
                self.assertEqual(found[user][name], expected[user][name], name)
        self.assertEqual(sorted(answers), sorted(self.answers))


class Secrets(unittest.TestCase):
    """Passwords come to neither notices nor the log, whichever side they are on and whatever goes wrong."""
    SECRET = "Xq7-open.sesame"

    def run_sessions(self, port):
        plain_text = base64.b64encode(("\0fred\0" + self.SECRET).encode()).decode()
        user, word = (base64.b64encode(text.encode()).decode() for text in ("fred", self.SECRET))
        right = base64.b64encode(("\0fred\0" + PASSWORD).encode()).decode()
        talk(port, "s1", ["AUTH PLAIN " + plain_text, "NOOP", "NONSENSE", "QUIT"])
        talk(port, "s2", ["AUTH LOGIN", user, word, "NONSENSE", "QUIT"])
        talk(port, "s3", ["AUTH " + plain_text, "AUTH PLAIN\t" + plain_text, "NONSENSE", "QUIT"])
        talk(port, "s4", ["AUTH NOSUCH", user, word, "NOOP", "NONSENSE after", "QUIT"])   # taken for commands
        talk(port, "s5", ["AUTH PLAIN", "*", "NONSENSE", "QUIT"])
        talk(port, "s6", ["AUTH PLAIN " + right, "NONSENSE seen", "QUIT"])
        with socket.create_connection(("127.0.0.1", port), 30) as client:   # without waiting
            client.sendall(("EHLO s7.example\r\nAUTH LOGIN\r\n%s\r\n%s\r\nQUIT\r\n" % (user, word)).encode())
            while client.recv(4096):
                pass
        return plain_text, word

    def test_of_clients(self):
        mail = Suite(MAIN.replace("smtpd_sasl_auth_enable = no", "").replace("smtpd_hard_error_limit = 4", ""), "")
        self.addCleanup(mail.stop)
        mail.start()
        secrets = self.run_sessions(mail.port["smtp"])
        mail.wait_for(lambda: len(transcripts(mail.mailbox("fred"))) >= 7, 20, "seven transcripts")
        found = {name: notices[0][1] for name, notices in transcripts(mail.mailbox("fred")).items()}
        everything = mail.log() + "".join(found.values())
        for secret in secrets + (self.SECRET, PASSWORD):
            self.assertNotIn(secret, everything)
        for name, lines in {"s1": [" In:  AUTH PLAIN (not shown)\n", " In:  NONSENSE\n"],
                            "s2": [" In:  AUTH LOGIN\n", " Out: 334 (not shown)\n", " In:  (not shown)\n", " Out: 535 5.7.8"],
                            "s3": [" In:  AUTH (not shown)\n", " In:  AUTH PLAIN (not shown)\n"],
                            "s4": [" In:  AUTH (not shown)\n", " In:  (not shown)\n", " In:  NONSENSE after\n"],
                            "s5": [" In:  AUTH PLAIN\n", " In:  *\n", " Out: 501 5.7.0 Authentication aborted\n"],
                            "s6": [" In:  AUTH PLAIN (not shown)\n", " Out: 235 2.7.0", " In:  NONSENSE seen\n"]}.items():
            for line in lines:
                self.assertIn(line, found[name])

    def test_of_ours(self):
        """A server that repeats what it hears, in a refusal of AUTH."""
        def auth(talk_, command):
            if "LOGIN" in command:
                talk_.say("334 " + base64.b64encode(b"Username:").decode())
                user = talk_.line().decode()
                talk_.say("334 " + base64.b64encode(b"Password:").decode())
                talk_.say("501 5.5.1 I do not understand %s, %s, or %s" % (user, talk_.line().decode(), self.SECRET))
            else:
                talk_.say("500 5.5.1 unrecognized command: " + command)
        ports = {"AUTH PLAIN": BASE + 40, "AUTH LOGIN": BASE + 41}
        for feature, port in ports.items():
            self.addCleanup(Peer(port, features=(feature,), auth=auth).close)
        mail = Suite(MAIN.replace("transport_maps =", "no_transport_maps_of_the_others =") +
                     "transport_maps = inline:{{plain.example=smtp:[127.0.0.1]:%d},{login.example=smtp:[127.0.0.1]:%d}}\n" % tuple(ports.values()) +
                     "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\nsmtp_sasl_auth_soft_bounce = no\n"
                     "smtp_sasl_password_maps = inline:{{127.0.0.1=me:%s}}\n" % self.SECRET, "smtp unix - - n - 4 smtp -v\n")
        self.addCleanup(mail.stop)
        mail.start()
        for name in ("plain", "login"):
            send(mail.port["smtp"], name)
        mail.wait_for(lambda: len(re.findall("errors from 127", "".join(mail.messages("fred")))) >= 2, 20, "two transcripts")
        mail.wait_for(lambda: len([text for text in mail.messages("wilma") if "multipart/report" in text]) >= 2, 20, "two bounces")
        everything = mail.log() + "".join(mail.messages("fred") + mail.messages("wilma"))
        for secret in (self.SECRET, base64.b64encode(self.SECRET.encode()).decode(),
                       base64.b64encode(("\0me\0" + self.SECRET).encode()).decode()):
            self.assertNotIn(secret, everything)
        self.assertIn("unrecognized command: AUTH PLAIN (not shown)", everything)
        notices = "".join(mail.messages("fred"))
        for line in (" Out: AUTH PLAIN (not shown)\n", " Out: AUTH LOGIN\n", " In:  334 (not shown)\n", " Out: (not shown)\n"):
            self.assertIn(line, notices)


class Bounds(unittest.TestCase):
    def test_long_sessions(self):
        """Some lines at a time, where a message begins anew (smtpd_history_flush_threshold), and never very many."""
        mail = Suite(MAIN.replace("smtpd_hard_error_limit = 4", "smtpd_hard_error_limit = 5000").replace("message_size_limit = 20000", "") + "smtpd_history_flush_threshold = 30\nsmtpd_error_sleep_time = 0\n")
        self.addCleanup(mail.stop)
        mail.start()
        talk(mail.port["smtp"], "long", (["NONSENSE"] * 20 + ["RSET"]) * 2 + ["NOOP " + "x" * 400] * 300 + ["NONSENSE last", "QUIT"])

        def parts():
            return [text for text in mail.messages("fred") if "Transcript of session follows." in text]
        mail.wait_for(lambda: len(parts()) >= 3, 20, "three parts")
        sizes = sorted(len(text) for text in parts())
        self.assertEqual(len(sizes), 3)
        last = [text for text in parts() if "NONSENSE last" in text]
        self.assertEqual(len(last), 1)
        self.assertIn(" [earlier lines were not kept]\n", last[0])
        self.assertLess(sizes[-1], 48 * 1024)

    def test_no_class_no_notice(self):
        mail = Suite(MAIN.replace("notify_classes = " + ALL, "notify_classes = resource, software"), "smtp unix - - n - 4 smtp\n")
        self.addCleanup(mail.stop)
        mail.start()
        Compared.run_all(mail.port["smtp"])
        mail.wait_for(lambda: transcripts(mail.mailbox("fred")), 20, "the transcript about the server's error")
        time.sleep(1)
        self.assertEqual(list(transcripts(mail.mailbox("fred"))), ["software"])
        self.assertEqual(transcripts(mail.mailbox("wilma")), {})


if __name__ == "__main__":
    unittest.main(verbosity=2)
