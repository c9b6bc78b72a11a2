#!/usr/bin/env python3
"""The four templates of bounce_template_file, with the same file beside Postfix's: what postconf -b prints, and the notices about a
failure, a delay, a delivery and a question (sendmail -bv), for the sender and for the postmaster.  And soft_bounce, with every delivery
agent.  Needs Debian's Postfix, and root."""
import os
import re
import shutil
import tempfile
import unittest

import postfix_peer
import test_notice_forms as forms
from smtp_peer import Peer
from suite import Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
TEMPLATES = """
# A comment.
failure_template = <<END
Charset: iso-8859-15
From: Der Postbote <postbote@example.org>
Subject: =?utf-8?Q?R=C3=BCckl=C3=A4ufer?=
Postmaster-Subject: Postmaster: failed

Failed at $myhostname, domain ${mydomain}, not $$escaped.  F\u00fcr Sie.
  an indented line
END

delay_template = <<EOT
Charset: utf-8
From: MAILER-DAEMON (Delay)
Subject: Waiting
Postmaster-Subject: Postmaster: waiting

Warned after $delay_warning_time_seconds seconds, $delay_warning_time_minutes minutes.
We try for $maximal_queue_lifetime_days days or $maximal_queue_lifetime_weeks weeks,
that is $maximal_queue_lifetime_hours hours.  Gr\u00fc\u00dfe.
EOT
success_template = <<EOS
Charset: us-ascii
From: MAILER-DAEMON (Success)
Subject: It arrived

All is well at ${myhostname}.
EOS
verify_template = <<EOV
Charset: us-ascii
From: MAILER-DAEMON (Verify)
Subject: You asked

Here is what would happen.
EOV
"""
EVENTS = [
    forms.Event("failed", [(forms.BAD, ())]),
    forms.Event("delayed", [("later@slow.example", ())]),
    forms.Event("delivered", [("fred@example.org", ("NOTIFY=SUCCESS",))]),
]
COPIES = {"failed": 2, "delayed": 2, "delivered": 1, "question": 1}
# soft_bounce: one recipient for each agent; all wait.
AGENTS = """
soft_bounce = yes
notify_classes =
virtual_alias_maps =
virtual_alias_domains = nothing.example
transport_maps = inline:{{smtp.example=smtp:[127.0.0.1]:%d},{lmtp.example=lmtp:inet:[127.0.0.1]:%d},{error.example=error:5.7.1 never},
 {pipe.example=refuse:},{retry.example=retry:4.7.1 later}}
relay_domains = smtp.example lmtp.example error.example pipe.example retry.example
""" % (BASE + 30, BASE + 31)
PIPE = "refuse unix - n n - - pipe flags=q user=nobody argv=/bin/sh -c {printf 5.7.9\\\\040not\\\\040here;exit 77}\n"
SOFT = ["bad@smtp.example", "bad@lmtp.example", "x@error.example", "x@pipe.example", "x@retry.example", "nobody.here@example.org"]


def collect(paths):
    """The notices, also the one about a question, which has no message to tell it by."""
    found = forms.collect(paths)
    for path in paths:
        with open(path, errors="surrogateescape") as file:
            text = file.read()
        if "Subject: You asked" in text:
            found.setdefault("question", []).append(dict(forms.described(text), returned=""))
    return found


def outcomes(log):
    """What the log says of each recipient's first attempt, without names of places and times."""
    found = {}
    for to, dsn, status, text in re.findall(r"to=<(\S+?)>, .*dsn=([\d.]+), status=(\w+) \((.*)\)", log):
        found.setdefault(to, (dsn, status, text))
    return found


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class Templates(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        for peer in (Peer(forms.PEER, replies={"RCPT": forms.refuse}), Peer(forms.SLOW, replies={"RCPT": "450 4.2.1 not now"})):
            cls.addClassCleanup(peer.close)
        where = tempfile.mkdtemp(prefix="postern-templates-")
        cls.addClassCleanup(shutil.rmtree, where, True)
        os.chmod(where, 0o755)
        cls.file = where + "/bounce.cf"
        with open(cls.file, "w") as file:
            file.write(TEMPLATES)
        main = forms.MAIN + "bounce_template_file = %s\n" % cls.file
        cls.mail = Suite(main, "smtp unix - - n - 4 smtp\n")
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        cls.postfix = postfix_peer.Postfix(where, BASE + 50, main)
        with cls.postfix:
            for event in EVENTS:
                event.send(BASE + 50)
                event.send(cls.mail.port["smtp"])
            for run in (cls.postfix.run, cls.mail.run):
                run("sendmail", "-bv", "-f", "wilma@example.org", forms.BAD, "fred@example.org")

            def all_there():
                cls.theirs, cls.ours = (collect(mailbox("fred") + mailbox("wilma")) for mailbox in (cls.postfix.mailbox, cls.mail.mailbox))
                return all(len(found.get(name, ())) >= count for name, count in COPIES.items() for found in (cls.theirs, cls.ours))
            wait_until(all_there, "all notices")

    def test_notices(self):
        for found in (self.theirs, self.ours):
            self.assertEqual({name: len(notices) for name, notices in found.items()}, COPIES)
        for name in COPIES:
            for ours, theirs in zip(self.ours[name], self.theirs[name]):
                with self.subTest(name):
                    self.assertEqual(ours, forms.allowed(theirs))

    def test_preview(self):
        theirs = self.postfix.run("postconf", "-b", self.file).stdout   # with a warning about a time that is 0 weeks
        self.assertIn(b"please reduce time unit", theirs)
        self.assertEqual(self.mail.run("postconf", "-b", self.file).stdout, theirs.replace(b"postfix/bounce: warning: ", b"postconf: warning: "))


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class SoftBounce(unittest.TestCase):
    maxDiff = None

    def test_every_agent_defers(self):
        for peer in (Peer(BASE + 30, replies={"RCPT": "550 5.1.1 nobody here"}), Peer(BASE + 31, lmtp=True, replies={"RCPT": "550 5.1.1 nobody here"})):
            self.addCleanup(peer.close)
        where = tempfile.mkdtemp(prefix="postern-soft-")
        self.addCleanup(shutil.rmtree, where, True)
        mail = Suite(forms.MAIN.split("transport_maps")[0] + "smtpd_reject_unlisted_recipient = no\n" + AGENTS,
                     "smtp unix - - n - 4 smtp\nlmtp unix - - n - 4 lmtp\n" + PIPE)
        self.addCleanup(mail.stop)
        mail.start()
        postfix = postfix_peer.Postfix(where, BASE + 50, "smtpd_reject_unlisted_recipient = no\n" + AGENTS, PIPE)
        with postfix:
            logs = []
            for port, log in ((BASE + 50, postfix.log), (mail.port["smtp"], mail.log)):
                forms.Event("soft", [(one, ()) for one in SOFT]).send(port)
                wait_until(lambda: set(SOFT) <= set(outcomes(log())), "all outcomes")
                logs.append(outcomes(log()))
        theirs, ours = logs
        self.assertEqual(ours, theirs)
        self.assertEqual({dsn[0] for dsn, _, _ in ours.values()}, {"4"})
        self.assertEqual(mail.mailbox("wilma"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
