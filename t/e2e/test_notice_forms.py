#!/usr/bin/env python3
"""Delivery status notifications of every kind, beside Postfix's about the same events: header fields, parts and their types, the fields
about the message and about each recipient, and the text for people must be the same, apart from names, dates and ids.  What differs on
purpose is in allowed(), with the reason.  Needs Debian's Postfix, and root."""
import email
import os
import re
import shutil
import smtplib
import tempfile
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
PEER, BARE, SLOW = BASE + 20, BASE + 21, BASE + 22
UTF8 = "jürgen@remote.example"
# local(8) expands where it runs as root only, so both deliver local addresses by virtual aliases, which cleanup expands.
MAIN = """
mail_name = Postfix
transport_maps = inline:{remote.example=smtp:[127.0.0.1]:%d, bare.example=smtp:[127.0.0.1]:%d, slow.example=smtp:[127.0.0.1]:%d}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_reject_unlisted_recipient = no
notify_classes = bounce, 2bounce, delay
bounce_notice_recipient = fred@example.org
2bounce_notice_recipient = fred@example.org
delay_notice_recipient = fred@example.org
delay_warning_time = 1s
bounce_size_limit = 3000
virtual_alias_domains = alias.example
virtual_alias_maps = inline:{{two@alias.example=bad@remote.example good@remote.example},{one@alias.example=bad@remote.example},
 {both@alias.example=fred@example.org wilma@example.org},{half@alias.example=both@alias.example bad@remote.example}}
smtp_tls_security_level = none
default_destination_recipient_limit = 1
""" % (PEER, BARE, SLOW)


class Event:
    def __init__(self, name, recipients, mail=(), sender="wilma@example.org", body=b"text of it\r\n"):
        self.name, self.recipients, self.mail, self.sender, self.body = name, recipients, list(mail), sender, body

    def send(self, port):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("c.example")
            client.command_encoding = "utf-8"
            client.putcmd("mail", "FROM:<%s> %s" % (self.sender, " ".join(self.mail)))
            answers = [client.getreply()]
            for recipient, options in self.recipients:
                client.putcmd("rcpt", "TO:<%s> %s" % (recipient, " ".join(options)))
                answers.append(client.getreply())
            answers.append(client.data(b"From: wilma@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\n%s"
                                       % (self.name.encode(), self.name.encode(), self.body)))
            assert all(code == 250 for code, _ in answers), (self.name, answers)


BAD, GOOD = "bad@remote.example", "good@remote.example"
EVENTS = [
    Event("failed", [(BAD, ())]),
    Event("failed-long", [("bad.long@remote.example", ())]),
    Event("failed-hdrs", [(BAD, ("NOTIFY=FAILURE", "ORCPT=rfc822;first+40one.example"))], ("RET=HDRS", "ENVID=abc+2Bd")),
    Event("failed-full", [(BAD, ("NOTIFY=FAILURE,DELAY",))], ("RET=FULL", "ENVID=QQ314159")),
    Event("failed-big", [(BAD, ())], body=b"lines and lines of it\r\n" * 300),
    Event("failed-8bit", [(BAD, ())], ("BODY=8BITMIME",), body="zwölf\r\n".encode()),
    Event("failed-7bit", [(BAD, ())], ("BODY=7BIT",)),
    Event("failed-two", [(BAD, ()), ("bad.long@remote.example", ()), (GOOD, ())]),
    Event("failed-alias", [("one@alias.example", ())]),
    Event("failed-alias-orcpt", [("one@alias.example", ("ORCPT=rfc822;was@elsewhere.example",))]),
    Event("unknown", [("nobody.here@example.org", ())]),
    Event("refused", [("x.bad@bare.example", ())]),
    Event("delivered", [("fred@example.org", ("NOTIFY=SUCCESS",))], ("ENVID=QQ1",)),
    Event("relayed", [("good@bare.example", ("NOTIFY=SUCCESS",))]),
    Event("relayed-both", [("good@bare.example", ("NOTIFY=SUCCESS,FAILURE",)), ("fred@example.org", ("NOTIFY=SUCCESS",))]),
    Event("expanded", [("both@alias.example", ("NOTIFY=SUCCESS",))]),
    Event("expanded-orcpt", [("both@alias.example", ("NOTIFY=SUCCESS", "ORCPT=rfc822;was@elsewhere.example")), ("fred@example.org", ("NOTIFY=SUCCESS",))]),
    Event("expanded-failed", [("half@alias.example", ("NOTIFY=SUCCESS,FAILURE",))]),
    Event("delayed", [("later@slow.example", ())]),
    Event("delayed-dsn", [("later@slow.example", ("NOTIFY=DELAY", "ORCPT=rfc822;late@elsewhere.example"))], ("ENVID=slow",)),
    Event("failed-expanded", [("two@alias.example", ("NOTIFY=FAILURE",))]),
    Event("utf8", [("bad." + UTF8, ())], ("SMTPUTF8", "BODY=8BITMIME"), body="zwölf\r\n".encode()),
    Event("utf8-hdrs", [("bad." + UTF8, ("ORCPT=utf-8;j\\x{FC}rgen@elsewhere.example",))], ("SMTPUTF8", "RET=HDRS")),
    Event("utf8-ascii", [(BAD, ())], ("SMTPUTF8",)),
    Event("double", [("bad.double@remote.example", ())], sender=""),
    Event("never", [(BAD, ("NOTIFY=NEVER",))]),
    Event("never-two", [(BAD, ("NOTIFY=NEVER",)), ("bad.two@remote.example", ())]),
    Event("never-null", [(BAD, ("NOTIFY=NEVER",))], sender=""),
    Event("only-success", [(BAD, ("NOTIFY=SUCCESS",))]),
    Event("only-delay", [(BAD, ("NOTIFY=DELAY",))]),
    Event("delay-never", [("later@slow.example", ("NOTIFY=NEVER",))]),
    Event("delay-null", [("later@slow.example", ())], sender=""),
    Event("passed-on", [(GOOD, ("NOTIFY=SUCCESS",))]),     # the next host speaks DSN
    Event("null-success", [("fred@example.org", ("NOTIFY=SUCCESS",))], sender=""),
    Event("mixed", [(GOOD, ("NOTIFY=SUCCESS",)), ("good@bare.example", ("NOTIFY=SUCCESS",)), ("fred@example.org", ("NOTIFY=SUCCESS",)),
                    (BAD, ("NOTIFY=SUCCESS,FAILURE",))]),
]
# sendmail(1) asks for a report about each recipient: of the first attempt, or without a delivery.
COMMANDS = {"cmd-v": ["-v"], "cmd-v-never": ["-v", "-N", "never"]}
COMMAND_RECIPIENTS = [BAD, "good@bare.example", "fred@example.org", "later@slow.example", "both@alias.example", "nobody.here@example.org"]
# How many notices each leads to: the sender's, and the postmaster's copies.
COPIES = {event.name: 2 for event in EVENTS}
COPIES.update({"delivered": 1, "relayed": 1, "relayed-both": 1, "double": 1,
               "expanded": 1, "expanded-orcpt": 1, "expanded-failed": 3,
               "never": 1, "never-null": 1, "only-success": 1, "only-delay": 1, "delay-never": 1, "delay-null": 0, "passed-on": 0,
               "null-success": 1, "mixed": 3, "cmd-v": 5, "cmd-v-never": 3})

LONG = "550-5.7.1 the first line of a long and winding answer that nobody reads\n550 5.7.1 its second line, with the reason itself, at last"


def refuse(argument):
    if "long" in argument:
        return LONG
    return "550 5.1.1 nobody here" if "bad" in argument else "250 2.1.5 fine"


def described(text):
    """A notice without what names this queue or this moment."""
    text = re.sub(r"[0-9A-F]{8,}(?=\.\d+/)|\d{10}/", "ID/", text)
    text = re.sub(r"queued as \w+", "queued as ID", text)
    text = re.sub(r"\w{3}, +\d+ \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}( \(\w+\))?", "DATE", text)
    text = re.sub(r"Queue-ID: \w+", "Queue-ID: ID", text)
    message = email.message_from_string(text)
    parts = message.get_payload()
    wanted = [field for field in message.items() if field[0] not in ("Received", "Date", "Message-Id", "X-Original-To", "Delivered-To", "Content-Type")]
    out = {"fields": [(name, value) for name, value in wanted], "type": message.get_content_type(), "report": message.get_param("report-type"),
           "parts": [[(name, value.replace("\n", "")) for name, value in part.items()] for part in parts]}
    # Recipients are delivered to side by side: the order of their answers is anybody's.
    people = parts[0].get_payload().strip("\n").split("\n\n")
    first = next(i for i, block in enumerate(people) if block.startswith("<"))
    out["people"] = people[:first] + sorted(people[first:])
    blocks = parts[1].as_string().split("\n\n", 1)[1].strip().split("\n\n")
    out["status"] = [line for block in blocks[:1] + sorted(blocks[1:]) for line in block.split("\n") + [""]]
    returned = parts[2].as_string().split("\n\n", 1)[1]
    out["returned"] = re.sub(r"(?m)^Received: .*\n([ \t].*\n)*", "", returned).strip()
    return out


def collect(paths, extra=()):
    """All notices among these messages, by the name of what they are about and the subject."""
    found = {}
    for path in list(paths) + list(extra):
        try:
            with open(path, errors="surrogateescape") as file:
                text = file.read()
        except FileNotFoundError:
            continue
        name = re.search(r"(?mi)^Message-ID: <([a-z0-9-]+)@example\.org>", text)
        if "multipart/report" in text and name:
            found.setdefault(name.group(1), []).append(described(text))
    return {name: sorted(notices, key=lambda one: str(one["fields"])) for name, notices in found.items()}


def allowed(theirs):
    """Postfix's notice with what Postern says in other words."""
    # RFC 6522 section 3: report-type is the subtype of the second part; Postfix leaves "delivery-status" there for RFC 6533's.
    if ("Content-Type", "message/global-delivery-status") in theirs["parts"][1]:
        theirs = dict(theirs, report="global-delivery-status")
    # RFC 6533 section 4: an address that is not ASCII has the type utf-8; Postfix knows that for the final one only.
    theirs = dict(theirs, status=[re.sub(r"^Original-Recipient: rfc822;(?=.*[^\0-\x7f])", "Original-Recipient: utf-8;", line) for line in theirs["status"]])
    return theirs


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class Forms(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        for peer in (Peer(PEER, replies={"RCPT": refuse}, features=("PIPELINING", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES")),
                     Peer(BARE, replies={"RCPT": refuse}, features=("PIPELINING",)),
                     Peer(SLOW, replies={"RCPT": "450 4.2.1 not now, perhaps later"})):
            cls.addClassCleanup(peer.close)
        cls.mail = Suite(MAIN, "smtp unix - - n - 4 smtp\n")
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        where = tempfile.mkdtemp(prefix="postern-forms-")
        cls.addClassCleanup(shutil.rmtree, where, True)
        cls.postfix = postfix_peer.Postfix(where, BASE + 50, MAIN)
        with cls.postfix:
            for event in EVENTS:
                event.send(BASE + 50)
                event.send(cls.mail.port["smtp"])
            for name, words in COMMANDS.items():
                for run in (cls.postfix.run, cls.mail.run):
                    run("sendmail", "-f", "wilma@example.org", *words, *COMMAND_RECIPIENTS, stdin=b"From: wilma@example.org\nSubject: "
                        b"x\nMessage-ID: <%s@example.org>\n\nx\n" % name.encode())
            cls.theirs = cls.wait(cls.postfix.mailbox)
            cls.ours = cls.wait(cls.mail.mailbox)

    @staticmethod
    def wait(mailbox):
        def all_there():
            found = collect(mailbox("fred") + mailbox("wilma"))
            return all(len(found.get(name, ())) >= count for name, count in COPIES.items())
        wait_until(all_there, "all notices", 20)
        time.sleep(3)     # for what should not come
        return collect(mailbox("fred") + mailbox("wilma"))

    def test_all_are_there(self):
        self.assertEqual({name: len(notices) for name, notices in self.ours.items()}, {name: len(notices) for name, notices in self.theirs.items()})
        self.assertEqual({name: len(notices) for name, notices in self.ours.items()}, {name: count for name, count in COPIES.items() if count})

    def test_each_is_as_postfix_has_it(self):
        for event in COPIES:
            with self.subTest(event):
                for ours, theirs in zip(self.ours.get(event, []), self.theirs.get(event, [])):
                    for what, value in allowed(theirs).items():
                        self.assertEqual(ours[what], value, what)


if __name__ == "__main__":
    unittest.main(verbosity=2)
