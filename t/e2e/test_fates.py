#!/usr/bin/env python3
"""What becomes of a recipient by configuration alone: transports that are no programs, deferred transports, mail on hold, people who have
moved, several next hops, warnings of a delay and their end.  The same mail goes to Debian's Postfix with the same main.cf; log lines and
notices must be the same.  Needs Postfix, and root."""
import os
import re
import shutil
import smtplib
import tempfile
import time
import unittest

import postfix_peer
import test_notice_forms as forms
from smtp_peer import Peer
from suite import Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
GOOD, SOFT, HARD, DEAD, SLOW = (BASE + 30 + i for i in range(5))
MAIN = """
mail_name = Postfix
transport_maps = inline:{{error.example=error:5.7.1 go away},{error4.example=error:4.7.1 not now},{noerror.example=error:},{retry.example=retry:4.4.9 come again},
 {retry5.example=retry:5.4.9 hard},{discard.example=discard:thrown away},{nodiscard.example=discard:},{slow.example=held:[127.0.0.1]:25},
 {two.example=smtp:[127.0.0.1]:%(dead)d\\,[127.0.0.1]:%(good)d},{soft.example=smtp:[127.0.0.1]:%(soft)d\\,[127.0.0.1]:%(good)d},
 {hard.example=smtp:[127.0.0.1]:%(hard)d\\,[127.0.0.1]:%(good)d},{fall.example=falling:[127.0.0.1]:%(dead)d},{nobody.example=smtp:[127.0.0.1]:%(dead)d},
 {late.example=smtp:[127.0.0.1]:%(slow)d},{unknown.example=nothere:}}
sender_dependent_default_transport_maps = inline:{{anna@example.org=error:5.1.9 anna may not}}
sender_dependent_relayhost_maps = inline:{{bert@example.org=[127.0.0.1]:%(good)d}}
default_transport = smtp
relayhost = [127.0.0.1]:%(hard)d
relocated_maps = inline:{{gone@example.org=new@far.example},{left@example.org=the moon}}
defer_transports = held
relay_domains =
smtpd_relay_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
smtpd_reject_unlisted_recipient = no
smtpd_recipient_restrictions = check_recipient_access inline:{{hold@example.org=HOLD because},{discard@example.org=DISCARD silently},{redirect@example.org=REDIRECT fred@example.org}}, permit
header_checks = regexp:{{/^Subject: hold/ HOLD by its subject},{/^Subject: drop/ DISCARD by its subject}}
notify_classes =
smtp_tls_security_level = none
delay_warning_time = 1s
confirm_delay_cleared = yes
smtp_connect_timeout = 3s
""".replace("\\\\,", ", ") % {"good": GOOD, "soft": SOFT, "hard": HARD, "dead": DEAD, "slow": SLOW}
MAIN = MAIN.replace("\\,", ", ")
ROWS = "falling unix - - n - - smtp -o smtp_fallback_relay=[127.0.0.1]:%d,[127.0.0.1]:%d\nheld unix - - n - - smtp\n" % (DEAD, GOOD)
OURS = "smtp unix - - n - 4 smtp\n"
RECIPIENTS = ["x@%s.example" % name for name in ("error", "error4", "noerror", "retry", "retry5", "discard", "nodiscard", "slow", "two", "soft", "hard", "fall",
                                                 "nobody", "unknown", "relayed")] + ["gone@example.org", "left@example.org"]
MESSAGES = [forms.Event("first-%d" % i, [(recipient, ())]) for i, recipient in enumerate(RECIPIENTS)] + [
    forms.Event("anna", [("y@anywhere.example", ())], sender="anna@example.org"),
    forms.Event("bert", [("z@anywhere.example", ())], sender="bert@example.org"),
    forms.Event("hold", [("fred@example.org", ())]),
    forms.Event("drop", [("fred@example.org", ())]),
    forms.Event("access-hold", [("hold@example.org", ())]),
    forms.Event("access-discard", [("discard@example.org", ())]),
    forms.Event("access-redirect", [("redirect@example.org", ())]),
    forms.Event("late", [("x@late.example", ())]),
]


def fates(log):
    """Each recipient's first attempt, and the last of x@late.example; what was put on hold and thrown away."""
    found = {}
    for to, relay, dsn, status, text in re.findall(r"to=<(\S+?)>,.* relay=(\S+), .*dsn=([\d.]+), status=(\w+) \((.*)\)", log):
        if to not in ("wilma@example.org", "anna@example.org"):     # notices
            key = to + (" again" if to == "x@late.example" and status == "sent" else "")
            found.setdefault(key, (relay, dsn, status, re.sub(r"queued as \w+", "queued", text)))
    actions = re.findall(r"(?:smtpd|cleanup)\[\d+\]: \w+: ((?:hold|discard|redirect): .*)", log)
    return found, sorted(actions), log.count("(queue active)") > 10


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class Fates(unittest.TestCase):
    maxDiff = None

    @staticmethod
    def submit(port, message):
        """What was said to the recipient and at the end."""
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("c.example")
            client.mail(message.sender)
            code, text = client.rcpt(message.recipients[0][0])
            if code != 250:
                return code, text
            return client.data(b"From: wilma@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\nx\r\n"
                               % (message.name.encode(), message.name.encode()))[0], text

    def play(self, port, log, mailbox):
        """The same mail to the same servers."""
        late = ["450 4.2.1 not yet"] * 2 + ["250 2.1.5 fine"]
        peers = [Peer(GOOD), Peer(SOFT, replies={"CONNECT": "421 4.3.2 busy"}), Peer(HARD, replies={"RCPT": "550 5.1.1 no"}), Peer(SLOW, replies={"RCPT": late})]
        replies = {message.name: self.submit(port, message) for message in MESSAGES}
        wait_until(lambda: set(RECIPIENTS) | {"x@late.example again", "fred@example.org"} <= set(fates(log())[0]) and
                   len(forms.collect(mailbox("wilma")).get("late", ())) == 2, "all outcomes", 25)
        for peer in peers:
            peer.close()
        time.sleep(1)     # for what should not come
        return fates(log()), forms.collect(mailbox("wilma")), replies

    def test_both(self):
        where = tempfile.mkdtemp(prefix="postern-fates-")
        self.addCleanup(shutil.rmtree, where, True)
        postfix = postfix_peer.Postfix(where, BASE + 50, MAIN, ROWS)
        with postfix:
            theirs = self.play(BASE + 50, postfix.log, postfix.mailbox)
        mail = Suite(MAIN, OURS + ROWS)
        self.addCleanup(mail.stop)
        mail.start()
        ours = self.play(mail.port["smtp"], mail.log, mail.mailbox)
        for recipient in sorted(set(ours[0][0]) | set(theirs[0][0])):
            with self.subTest(recipient):
                self.assertEqual(ours[0][0].get(recipient), theirs[0][0].get(recipient))
        self.assertEqual(ours[0][1:], theirs[0][1:])
        self.assertEqual(ours[2], theirs[2])
        for name in sorted(set(ours[1]) | set(theirs[1])):
            with self.subTest(name):
                self.assertEqual(ours[1].get(name), theirs[1].get(name))


if __name__ == "__main__":
    unittest.main(verbosity=2)
