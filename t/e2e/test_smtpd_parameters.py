#!/usr/bin/env python3
"""Parameters of smtpd and cleanup one by one, each at a service of its own: commands that do nothing, filters of commands, footers
of refusals, limits, strictness about 8-bit text, deadlines, what is logged.  Where Postfix is installed (and the test runs as root)
it must answer every line the same, and log the same."""
import concurrent.futures
import os
import re
import select
import shutil
import socket
import tempfile
import time
import unittest

import postfix_peer
from suite import Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
PERMITS = ("-o smtpd_log_access_permit_actions=static:all -o smtpd_relay_restrictions=permit_mynetworks,reject "
           "-o {smtpd_client_restrictions=check_client_access inline:{127.0.0.1=OK}} "
           "-o {smtpd_helo_restrictions=check_helo_access inline:{c.example=permit_mynetworks}} "
           "-o {smtpd_sender_restrictions=check_sender_access inline:{b.example=123456}} "
           "-o {smtpd_recipient_restrictions=check_recipient_access inline:{fred@example.org=permit}} "
           "-o {smtpd_data_restrictions=permit}")
SERVICES = {
    "noop": "-o smtpd_noop_commands=xnoop,help",
    "filter": "-o smtpd_command_filter=regexp:{{/^PING/ noop},{/^BAD/ WORSE}}",
    "footer": "-o {smtpd_reject_footer = \\c. For help call $client_name, $client_address, $server_name.}",
    "lines": "-o {smtpd_reject_footer = $sender from $helo_name\\nSecond ${client_address?{line}:{none}}}",
    "maps": "-o {smtpd_reject_footer = 4.1.1 For help.} -o smtpd_reject_footer_maps=regexp:{{/nope/ {see map}}}",
    "censored": "-o smtpd_expansion_filter=abcmx\\56 -o {smtpd_reject_footer = $client_address $client_name}",
    "overshoot": "-o smtpd_recipient_limit=2 -o smtpd_recipient_overshoot_limit=1 -o smtpd_hard_error_limit=3",
    "permits": PERMITS,
    "some": "-o smtpd_log_access_permit_actions=permit_auth_destination -o smtpd_relay_restrictions=permit_auth_destination,reject "
            "-o smtpd_recipient_restrictions=permit_mynetworks,reject",
    "sender": "-o smtpd_reject_unlisted_sender=yes",
    "early": "-o smtpd_reject_unlisted_sender=yes -o smtpd_delay_reject=no",
    "seven": "-o cleanup_service_name=seven_cleanup",
    "eight": "-o cleanup_service_name=eight_cleanup",
    "body": "-o cleanup_service_name=body_cleanup",
    "domain": "-o cleanup_service_name=domain_cleanup",
    "utf8": "-o strict_smtputf8=yes",
    "loose": "-o strict_smtputf8=no",
    "internal": "-o info_log_address_format=internal",
    "external": "-o info_log_address_format=external",
    "drip": "-o smtpd_timeout=2s -o smtpd_per_request_deadline=no",
    "slow": "-o smtpd_timeout=2s -o smtpd_per_request_deadline=yes -o smtpd_min_data_rate=100",
}
CLEANUPS = {"seven": "strict_7bit_headers", "eight": "strict_8bitmime", "body": "strict_8bitmime_body", "domain": "strict_mime_encoding_domain"}
MAIN = """
mynetworks = 127.0.0.0/8
virtual_mailbox_maps = inline:{fred@example.org=fred/, wilma@example.org=wilma/}
smtpd_error_sleep_time = 0
smtpd_tls_security_level = none
smtpd_sasl_auth_enable = no
"""
MAIL, RCPT = "MAIL FROM:<a@b.example>", "RCPT TO:<fred@example.org>"


def master(base, options=""):
    rows = "".join("127.0.0.1:%d inet n - n - 4 smtpd %s\n" % (base + i, SERVICES[name]) for i, name in enumerate(SERVICES))
    return rows + "".join("%s_cleanup unix n - n - 0 cleanup -o %s=yes %s\n" % (name, parameter, options)
                          for name, parameter in CLEANUPS.items())


def message(*lines):
    return "\r\n".join(lines) + "\r\n."


MIME = ("Subject: x", "MIME-Version: 1.0")
MESSAGES = [
    message("Subject: \u00e4", "", "body"),
    message("Subject: x", "", "b\u00e4"),
    message(*MIME, "Content-Type: text/plain", "Content-Transfer-Encoding: 8bit", "", "b\u00e4"),
    message(*MIME, "Content-Type: text/plain", "Content-Transfer-Encoding: 7bit", "", "b\u00e4"),
    message(*MIME, "Content-Type: text/plain", "Content-Transfer-Encoding: quoted-printable", "", "b=C3=A4"),
    message(*MIME, "Content-Type: multipart/mixed; boundary=x", "Content-Transfer-Encoding: base64", "", "--x", "", "b\u00e4", "--x--"),
    message(*MIME, "Content-Type: multipart/mixed; boundary=x", "", "--x", "Content-Type: message/rfc822",
            "Content-Transfer-Encoding: quoted-printable", "", "Subject: y", "", "b", "--x--"),
    message(*MIME, "Content-Type: multipart/mixed; boundary=x", "", "--x", "Content-Type: text/plain", "Content-Transfer-Encoding: binary", "",
            "b\u00e4", "--x", "Content-Type: message/rfc822", "", "Subject: \u00e4", "", "plain", "--x--"),
    message(*MIME, "Content-Type: multipart/mixed; boundary=x", "Content-Transfer-Encoding: 8bit", "", "--x",
            "Content-Disposition: attachment; filename=\u00e4", "", "plain", "--x", "Content-Type: text/plain", "", "b\u00e4", "--x--"),
]
TRY = [MAIL, "RCPT TO:<nope@example.org>", "RCPT TO:<x@y", "BAD", "NOOP", "DATA"]
DIALOGUES = {
    "noop": ["XNOOP foo", "HELP", "NOOP", "xnoop", "BAD", "QUIT"],
    "filter": ["PING x", "ping x", "BAD", "NOOP", "QUIT"],
    "footer": TRY, "lines": TRY, "maps": TRY, "censored": TRY,
    "overshoot": [MAIL] + [RCPT] * 6 + ["NOOP"],
    "permits": [MAIL, RCPT, "DATA", message("Subject: x", "")],
    "some": [MAIL, RCPT, "QUIT"],
    "sender": ["MAIL FROM:<nobody@example.org>", RCPT, "RCPT TO:<nope@example.org>", "RSET", "MAIL FROM:<wilma@example.org>", RCPT, "RSET",
               MAIL, "RCPT TO:<nope@example.org>", "QUIT"],
    "early": ["MAIL FROM:<nobody@example.org>", "MAIL FROM:<wilma@example.org>", RCPT, "QUIT"],
    "utf8": ["MAIL FROM:<\u00e4@b.example>", "MAIL FROM:<\u00e4@b.example> SMTPUTF8", RCPT, "RCPT TO:<\u00e4@example.org>", "RSET", MAIL,
             "RCPT TO:<\u00e4@example.org>", "VRFY \u00e4@example.org", "VRFY \u00e4@example.org SMTPUTF8"],
    "loose": ["MAIL FROM:<\u00e4@b.example>", "RCPT TO:<\u00e4@example.org>", RCPT, "DATA", message("Subject: x", ""), "VRFY \u00e4@example.org"],
    "internal": ['MAIL FROM:<"a b"@b.example>', 'RCPT TO:<"c d"@example.org>'],
    "external": ['MAIL FROM:<"a b"@b.example>', 'RCPT TO:<"c d"@example.org>'],
}
for _name in CLEANUPS:
    DIALOGUES[_name] = [step for body in MESSAGES for step in (MAIL, RCPT, "DATA", body)] + \
        [step for body in MESSAGES[:4] for step in (MAIL + " BODY=8BITMIME", RCPT, "DATA", body)] + \
        [MAIL + " SMTPUTF8", RCPT, "DATA", MESSAGES[0]]


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.socket.makefile("rb")
        self.file.readline()

    def reply(self):
        lines = []
        while True:
            line = self.file.readline().decode("utf-8", "replace").rstrip("\r\n")
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def say(self, text):
        self.socket.sendall(text.encode() + b"\r\n")
        return self.reply()

    def close(self):
        self.file.close()
        self.socket.close()


def talk(port, lines):
    client = Client(port)
    client.say("EHLO c.example")
    replies = [(line, re.sub(r"queued as \w+", "queued", client.say(line))) for line in lines]
    client.close()
    return replies


def facts(log):
    """What the log says, without time, process and queue id.  A message that is wrong in two ways is refused for the first here, and
    Postfix logs both."""
    out, wrong = [], set()
    for line in log.splitlines():
        found = re.search(r"(smtpd|cleanup)\[\d+\]: (?:\w+: )?(permit: .*|replacing .*|too many errors .*|reject: (?!mime-error|END-OF-MESSAGE).*|.*unknown=.*)", line)
        mime = re.search(r"cleanup\[\d+\]: \w+: (reject: mime-error .* from unknown\[127\.0\.0\.1\])", line)
        if mime:
            wrong.add(mime.group(1))
        if found:
            text = re.sub(r"^unknown\[127\.0\.0\.1\]: ", "", found.group(2))
            out.append("%s: %s" % (found.group(1), text))
    return sorted(out) + sorted(wrong)


class Parameters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail = Suite(MAIN, master(BASE + 20))
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        cls.port = {name: BASE + 20 + i for i, name in enumerate(SERVICES)}

    def talk(self, name):
        return talk(self.port[name], DIALOGUES[name])

    def answers(self, name):
        return [reply for _, reply in self.talk(name)]

    def test_commands_that_do_nothing(self):
        self.assertEqual(self.answers("noop"), ["250 2.0.0 Ok"] * 4 + ["500 5.5.2 Error: command not recognized", "221 2.0.0 Bye"])
        self.mail.wait_for(lambda: "ehlo=1 noop=1 quit=1 unknown=0/1 commands=3/4" in self.mail.log(), 10, "the end of the session")

    def test_footers(self):
        self.assertEqual(self.answers("footer")[3], "500 5.5.2 Error: command not recognized. For help call unknown, 127.0.0.1, mail.example.org.")
        self.assertEqual(self.answers("lines")[3], "500-5.5.2 Error: command not recognized\n500-5.5.2 a@b.example from c.example\n500 5.5.2 Second line")
        self.assertEqual(self.answers("maps")[1].split("\n")[1], "550 5.1.1 {see map}")
        self.assertEqual(self.answers("maps")[0], "250 2.1.0 Ok")
        self.assertEqual(self.answers("censored")[3].split("\n")[1], "500 5.5.2 ___._._._ _______")

    def test_too_many_recipients(self):
        replies = self.answers("overshoot")
        self.assertEqual(replies[3:7], ["452 4.5.3 Error: too many recipients"] * 4)
        self.assertTrue(replies[6].startswith("452") or replies[6].startswith("421"))

    def test_strictness(self):
        def refused(name):
            return [i for i in range(len(MESSAGES)) if self.codes[name][i * 4 + 3] == "550"]
        self.codes = {name: [reply[:3] for reply in self.answers(name)] for name in CLEANUPS}
        self.assertEqual(refused("seven"), [0, 7, 8])
        self.assertEqual(refused("eight"), [0, 1, 3, 5, 7, 8])
        self.assertEqual(refused("body"), [1, 3, 5, 8])
        self.assertEqual(refused("domain"), [5, 6])
        self.assertEqual([self.codes[name][-1] for name in CLEANUPS], ["550", "550", "250", "250"])   # SMTPUTF8 makes no difference

    def dripped(self, port, text, pause):
        """The reply to a line whose bytes come one by one; "" when the server has heard enough before its end."""
        client = Client(port)
        try:
            for byte in text.encode() + b"\r\n":
                if select.select([client.socket], [], [], pause)[0]:
                    return ""
                client.socket.sendall(bytes([byte]))
            return client.reply()
        finally:
            client.close()

    def test_without_deadlines_a_line_may_come_slowly(self):
        ports = [self.port["drip"]]
        if postfix_peer.available():
            main = "".join(line + "\n" for line in MAIN.split("\n") if not line.startswith("virtual_"))
            base = BASE + 90
            ports.append(base)
            peer = postfix_peer.beside(self, base - 1, main, "127.0.0.1:%d inet n - n - 4 smtpd %s\n" % (base, SERVICES["drip"]))
            peer.__enter__()
            self.addCleanup(peer.__exit__)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            slow = pool.map(lambda port: self.dripped(port, "NOOP", 0.5), ports)        # three seconds for the line
            too_slow = pool.map(lambda port: self.dripped(port, "NOOP", 3), ports)      # each pause is longer than smtpd_timeout
            self.assertEqual([(reply[:9], late) for reply, late in zip(slow, too_slow)], [("250 2.0.0", "")] * len(ports))

    def test_deadlines(self):
        client = Client(self.port["slow"])
        for _ in range(100):   # no pause is as long as smtpd_timeout, which counts for the whole line
            client.socket.sendall(b"N")
            if select.select([client.socket], [], [], 0.4)[0]:
                break
        else:
            self.fail("a line may take as long as it likes")
        client.close()

        def content(rate):
            client = Client(self.port["slow"])
            for line in ("EHLO c.example", MAIL, RCPT, "DATA"):
                client.say(line)
            try:
                for _ in range(20):
                    client.socket.sendall(b"x" * (rate // 4 - 2) + b"\r\n")
                    time.sleep(0.25)
                answer = client.say(".")
            except OSError:
                answer = "lost"
            client.close()
            return answer
        self.assertTrue(content(400).startswith("250 "))   # five seconds, but at a good rate
        self.assertFalse(content(40).startswith("250 "))
        self.mail.wait_for(lambda: re.search(r"timeout after DATA \(\d+ bytes\) from unknown\[127\.0\.0\.1\]", self.mail.log()), 10, "a timeout")

    @unittest.skipUnless(postfix_peer.available(), "no Postfix to compare with (or not root)")
    def test_postfix_says_the_same(self):
        where = tempfile.mkdtemp(prefix="postern-postfix-")
        self.addCleanup(shutil.rmtree, where, True)
        main = "".join(line + "\n" for line in MAIN.split("\n") if not line.startswith("virtual_"))
        base = BASE + 60
        with postfix_peer.Postfix(where, base - 1, main, master(base)) as peer:
            theirs = {name: talk(base + i, DIALOGUES[name]) for i, name in enumerate(SERVICES) if name in DIALOGUES}
            wait_until(lambda: peer.log().count(": disconnect from ") >= len(theirs), "the end of all sessions in the log")
            their_facts = facts(peer.log())
        mark = len(self.mail.log())
        ours = {name: self.talk(name) for name in DIALOGUES}
        wait_until(lambda: self.mail.log()[mark:].count(": disconnect from ") >= len(ours), "the end of all sessions in the log")
        our_facts = facts(self.mail.log()[mark:])
        for name in DIALOGUES:
            with self.subTest(service=name):
                self.assertEqual(ours[name], theirs[name])
        self.maxDiff = None
        self.assertEqual(our_facts, their_facts)


if __name__ == "__main__":
    unittest.main()
