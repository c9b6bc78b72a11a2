#!/usr/bin/env python3
"""Delivery agents in a running instance: local with aliases, .forward, commands and files; virtual; pipe; error, retry and
discard; lookups through proxymap.  Runs as an ordinary user (as "nobody" when run by root)."""
import os
import pwd
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import Suite, NOBODY  # noqa: E402

USER = pwd.getpwuid(NOBODY if os.geteuid() == 0 else os.geteuid()).pw_name
PORT = int(os.environ.get("POSTERN_TEST_PORT", "21200"))

EXTRA = """
mydestination = localhost, mail.example.org
alias_maps = lmdb:{dir}/etc/aliases
alias_database = lmdb:{dir}/etc/aliases
local_recipient_maps = proxy:unix:passwd.byname $alias_maps inline:{{passed=x, lost=x}}
fallback_transport_maps = inline:{{ {{passed = sink:}} }}
mail_spool_directory = {dir}/spool
forward_path = {dir}/forward/$user${{recipient_delimiter}}${{extension}}, {dir}/forward/$user
recipient_delimiter = +
virtual_mailbox_maps = proxy:inline:{{ fred@example.org=fred/, wilma@example.org=box }}
transport_maps = inline:{{ {{pipe.example = sink:}}, {{closed.example = error:5.1.2 closed down}},
  {{later.example = retry:4.7.0 on Monday}}, {{gone.example = discard:}} }}
relay_domains = pipe.example, closed.example, later.example, gone.example
"""
MASTER = "sink unix - n n - - pipe flags=DRX user={user} argv={dir}/etc/sink {dir} ${{sender}} ${{user}} ${{extension?+$extension}}\n"
ALIASES = """
# comment
list: fred@example.org, wilma@example.org
owner-list: %(user)s
cmd: "|cat > %(dir)s/spool/cmd; test $EXTENSION = ok || exit 75"
file: %(dir)s/spool/file
included: :include:%(dir)s/etc/people
circle: elcric
elcric: circle
"""
SINK = """#!/bin/sh
# directory sender user extension
cat > $1/spool/sink
echo "args: $2 $3 $4" >> $1/spool/sink
test "$3" = refuse && { echo "5.7.1 not wanted"; exit 1; }
exit 0
"""


class Delivery(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import tempfile
        directory = tempfile.mkdtemp(prefix="postern-delivery-")
        cls.mail = Suite(extra=EXTRA.format(dir=directory), master_extra=MASTER.format(user=USER, dir=directory), port=PORT,
                         directory=directory)
        cls.mail.write("etc/aliases", ALIASES % {"user": USER, "dir": directory})
        cls.mail.write("etc/people", "fred@example.org\nwilma@example.org\n")
        cls.mail.write("etc/sink", SINK)
        os.chmod(cls.mail.path("etc/sink"), 0o755)
        for name in ("spool", "forward"):
            os.mkdir(cls.mail.path(name))
            os.chmod(cls.mail.path(name), 0o1777)
        cls.mail.run("newaliases", check=True)
        cls.mail.start()

    @classmethod
    def tearDownClass(cls):
        cls.mail.stop()

    def send(self, *recipients, text="Subject: hi\n\nbody\n", sender="sender@example.org"):
        """Over SMTP; returns the refusals."""
        with self.mail.smtp() as smtp:
            try:
                return smtp.sendmail(sender, list(recipients), text)
            except __import__("smtplib").SMTPRecipientsRefused as refused:
                return refused.recipients

    def read(self, name):
        with open(self.mail.path(name)) as file:
            return file.read()

    def test_mailbox_of_a_system_user(self):
        self.assertEqual(self.send(USER + "+x@localhost"), {})
        self.mail.wait_log(r"to=<%s\+x@localhost>, relay=local, delay=[\d.]+, delays=\S+, dsn=2.0.0, status=sent \(delivered to mailbox\)"
                    % USER)
        box = self.read("spool/" + USER)
        self.assertRegex(box, r"(?m)^From sender@example\.org  \w")
        self.assertIn("Delivered-To: %s+x@localhost\n" % USER, box)

    def test_unknown_users_are_refused_in_the_session(self):
        code, text = self.send("nobody-here@localhost")["nobody-here@localhost"]
        self.assertEqual(code, 550)
        self.assertIn(b"User unknown in local recipient table", text)
        code, text = self.send("nobody@example.org")["nobody@example.org"]
        self.assertIn(b"User unknown in virtual mailbox table", text)

    def test_alias_with_owner(self):
        self.assertEqual(self.send("list@localhost", text="Subject: to the list\n\nx\n"), {})
        self.mail.wait_log(r"to=<list@localhost>, relay=local, .*status=sent \(forwarded as [0-9A-F]+\)")
        self.mail.wait_for(lambda: any("to the list" in m for m in self.mail.messages("fred")), 15, "fred has it")
        message = [m for m in self.mail.messages("fred") if "to the list" in m][0]
        self.assertRegex(message, r"^Return-Path: <owner-list@")
        self.assertEqual(message.count("Delivered-To:"), 2)
        self.mail.wait_for(lambda: os.path.exists(self.mail.path("mail/box")) and "to the list" in self.read("mail/box"), 15, "wilma has it")

    def test_commands_and_files(self):
        self.assertEqual(self.send("cmd+ok@localhost"), {})
        self.mail.wait_log(r"to=<cmd\+ok@localhost>, .*status=sent \(delivered to command: cat > ")
        self.assertIn("\nSubject: hi\n", self.read("spool/cmd"))
        self.assertEqual(self.send("cmd+bad@localhost"), {})
        self.mail.wait_log(r"to=<cmd\+bad@localhost>, .*dsn=4.3.0, status=deferred \(temporary failure\)")
        self.assertEqual(self.send("file@localhost"), {})
        self.mail.wait_log(r"to=<file@localhost>, .*status=sent \(delivered to file: ")
        self.assertIn("\nSubject: hi\n", self.read("spool/file"))

    def test_include(self):
        self.assertEqual(self.send("included@localhost", text="Subject: included\n\nx\n"), {})
        self.mail.wait_for(lambda: any("Subject: included" in m for m in self.mail.messages("fred")), 15, "fred has it")

    def test_aliases_in_a_circle_are_returned(self):
        self.assertEqual(self.send("circle@localhost", sender="fred@example.org"), {})
        self.mail.wait_log(r"to=<circle@localhost>, .*dsn=5.4.6, status=bounced \(alias database loop for")
        self.mail.wait_for(lambda: any("loop" in m and "Undelivered Mail" in m for m in self.mail.messages("fred")), 15, "the bounce")

    def test_forward_file(self):
        with open(self.mail.path("forward/%s+fwd" % USER), "w") as file:
            file.write("fred@example.org\n")
        if os.geteuid() == 0:
            os.chown(file.name, NOBODY, NOBODY)
        self.assertEqual(self.send(USER + "+fwd@localhost", text="Subject: forwarded\n\nx\n"), {})
        self.mail.wait_for(lambda: any("Subject: forwarded" in m for m in self.mail.messages("fred")), 15, "fred has it")

    def test_pipe(self):
        self.assertEqual(self.send("a+b@pipe.example", text="Subject: piped\n\nFrom x\n"), {})
        self.mail.wait_log(r"to=<a\+b@pipe.example>, relay=sink, .*dsn=2.0.0, status=sent \(delivered via sink service\)")
        text = self.read("spool/sink")
        self.assertTrue(text.startswith("Return-Path: <sender@example.org>\nDelivered-To: a+b@pipe.example\n"), text)
        self.assertTrue(text.endswith("\n\nFrom x\nargs: sender@example.org a +b\n"), text)
        self.assertEqual(self.send("refuse@pipe.example", sender=""), {})
        self.mail.wait_log(r"to=<refuse@pipe.example>, relay=sink, .*dsn=5.7.1, status=bounced \(not wanted\)")

    def test_unknown_users_may_be_passed_to_another_agent(self):
        self.assertEqual(self.send("passed@localhost", text="Subject: passed\n\nx\n"), {})
        self.mail.wait_log(r"to=<passed@localhost>, relay=sink, .*status=sent \(delivered via sink service\)")
        self.assertEqual(len(re.findall(r"to=<passed@localhost>", self.mail.log())), 1)
        self.assertEqual(self.send("lost@localhost", sender=""), {})
        self.mail.wait_log(r'to=<lost@localhost>, relay=local, .*dsn=5.1.1, status=bounced \(unknown user: "lost"\)')

    def test_error_retry_discard(self):
        code, _ = self.send("x@closed.example").get("x@closed.example", (0, b""))
        self.assertEqual(code, 550)   # smtpd knows
        code, text = self.send("x@later.example")["x@later.example"]
        self.assertEqual((code, text), (450, b"4.7.0 <x@later.example>: Recipient address rejected: on Monday"))
        self.mail.run("sendmail", "-f", "sender@example.org", "x@later.example", stdin=b"Subject: later\n\nx\n", check=True)
        self.mail.wait_log(r"to=<x@later.example>, relay=none, .*dsn=4.7.0, status=deferred \(on Monday\)")
        self.assertEqual(self.send("x@gone.example"), {})
        self.mail.wait_log(r"to=<x@gone.example>, relay=none, .*dsn=2.0.0, status=sent \(gone.example\)")


if __name__ == "__main__":
    unittest.main(verbosity=2)
