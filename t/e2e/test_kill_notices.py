#!/usr/bin/env python3
"""Nobody whose mail failed stays without a notice: daemons are killed with SIGKILL at random moments, or replaced (reload), while
mail bounces and every class of trouble is told the postmaster (notify_classes).

First some messages without kills: exactly one notice about each recipient.  Then daemons die.  Every accepted recipient must be
delivered or be in a notice to its sender; where the sender cannot be told (the null sender, a sender who does not exist) the
postmaster must be.  A notice may come twice, when its last witness died between queueing it and writing that down: the count is
printed and bounded by the kills.  No notice may beget notices without end.  KILL_ROUNDS (default 40), KILL_SEED.
"""
import email
import os
import random
import re
import smtplib
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killing import Havoc, Sender, log_kept, restart, start_sendmail, while_sending  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import Suite, wait_until  # noqa: E402

ROUNDS = int(os.environ.get("KILL_ROUNDS", "40"))
PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
VICTIMS = ("bounce", "bounce", "qmgr", "qmgr", "cleanup", "cleanup", "smtpd", "smtp", "virtual", "error", "pickup", "master", "all", "reload",
           "reload")
# Notices under way when a process dies come again: qmgr asks for fifty at a time, most of which have been answered.  Nobody is unlucky
# for ever: a recipient that is in a notice after each retry would show.
REPEATS_OF_A_KILL, COPIES = 20, 8
CALM = 20     # messages of each sender before the first kill
TOLD = "sender+%s@example.org"
UNTOLD = ("", "no.where+%s@example.org")     # virtual has no mailbox for a name with a dot
RECIPIENTS = ("good.%s@sink.example", "bad.%s@sink.example", "late.%s@sink.example", "no.body.%s@example.org", "gone.%s@dead.example")
EXTRA = """
smtpd_error_sleep_time = 0
service_throttle_time = 1s
notify_classes = bounce, 2bounce, delay, policy, protocol, resource, software
bounce_notice_recipient = postmaster@example.org
2bounce_notice_recipient = postmaster@example.org
delay_notice_recipient = postmaster@example.org
error_notice_recipient = postmaster@example.org
smtpd_reject_unlisted_recipient = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
transport_maps = inline:{{sink.example=smtp:[127.0.0.1]:%d},{dead.example=error:5.1.0 nobody is left}}
smtp_tls_security_level = none
delay_warning_time = 2s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
""" % (PORT + 60)


def choose(label):
    """A sender and some recipients; every message has one that fails."""
    sender = TOLD if random.random() < 0.8 else random.choice(UNTOLD)
    recipients = set(random.sample(RECIPIENTS, random.randint(1, 3))) | {random.choice(RECIPIENTS[1:])}
    return sender % label if "%" in sender else sender, sorted(one % label for one in recipients)


class SmtpSender(Sender):
    def burst(self):
        try:
            with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=20) as client:
                client.ehlo("c.example")
                for _ in range(random.randint(1, 3)):
                    sender, recipients = choose(self.next_id())
                    client.sendmail(sender, recipients, "Subject: test\r\n\r\n%s\r\n" % ("x" * 2000))
                    self.accepted.append((sender, recipients))
                if random.random() < 0.2:
                    client.docmd("NONSENSE")
        except (OSError, smtplib.SMTPException):
            self.failed += 1
        time.sleep(0.03)


class SendmailSender(Sender):
    def burst(self):
        sender, recipients = choose(self.next_id())
        process = start_sendmail(self.mail, sender, *recipients)
        process.communicate(b"Subject: test\n\ny\n")
        if process.returncode == 0:
            self.accepted.append((sender, recipients))
        else:
            self.failed += 1
        time.sleep(0.05)


def notices(mail, user):
    """The failed recipients and the whole text of every failure notice in a mailbox."""
    for text in mail.messages(user):
        failed = re.findall(r"(?m)^Final-Recipient: rfc822; *(\S+)\n(?:Original-Recipient: .*\n)?Action: failed$", text.split("\n\n--", 1)[-1])
        yield failed, text


class Verdict:
    """What became of all recipients."""

    def __init__(self, mail, peer, accepted):
        self.told, self.postmaster, self.transcripts = {}, {}, 0
        for failed, _ in notices(mail, "sender"):
            for recipient in failed:
                self.told[recipient] = self.told.get(recipient, 0) + 1
        doubles = ""
        for failed, text in notices(mail, "postmaster"):
            self.transcripts += "Transcript of session follows" in text
            for recipient in failed:
                self.postmaster[recipient] = self.postmaster.get(recipient, 0) + 1
            if email.message_from_string(text)["Subject"].startswith("Postmaster notify: undeliverable"):
                doubles += text
        arrived = {found for message in peer.messages for command in message["recipients"] for found in re.findall("<(.*?)>", command)}
        self.lost, self.silent, self.wrong, self.expected = [], [], [], 0
        for sender, recipients in accepted:
            for recipient in recipients:
                if recipient.startswith("good"):
                    self.lost += [] if recipient in arrived else [recipient]
                    self.wrong += [recipient] if recipient in self.told else []
                    continue
                self.expected += 1
                heard = recipient in self.told if sender.startswith("sender") else recipient in self.postmaster or recipient in doubles
                self.silent += [] if heard else [(sender, recipient)]
        self.repeats = sum(count - 1 for count in self.told.values())
        self.most = max(self.told.values())

    def show(self, label):
        print("%s: %d recipients to be told about, %d never were, %d notices twice, %d good ones lost, %d good ones called failed, %d to the"
              " postmaster, %d transcripts; most copies %d" % (label, self.expected, len(self.silent), self.repeats, len(self.lost),
                                                               len(self.wrong), sum(self.postmaster.values()), self.transcripts, self.most))


def stream(mail, names, during):
    """Mail from several senders while `during(senders)` goes on; returns what was accepted."""
    senders = [SmtpSender(mail, name) for name in names[1:]] + [SendmailSender(mail, names[0])]
    return while_sending(senders, lambda: during(senders))


def a_few_each(senders):
    wait_until(lambda: all(len(sender.accepted) >= CALM for sender in senders), "each sender has had %d messages accepted" % CALM, 60)


def settle(mail, peer_says):
    """Until nothing waits, and nothing new comes of itself."""
    restart(mail)
    peer_says["late"] = "550 5.7.1 not any more"
    deadline = time.monotonic() + 90
    while mail.queued() and time.monotonic() < deadline:
        mail.control("flush")
        time.sleep(1)
    mail.wait_empty(1)
    size = len(mail.log())
    time.sleep(3)
    grown = [line for line in mail.log()[size:].split("\n") if "notification" in line]
    assert not grown and not mail.queued(), "notices go on: %s" % grown[:5]


def main():
    havoc = Havoc(VICTIMS, ROUNDS, (0.05, 0.5))
    peer_says = {"late": "450 4.7.1 not yet"}

    def rcpt(argument):
        if "<late" in argument:
            return peer_says["late"]
        return "550 5.1.1 nobody here" if "<bad" in argument else "250 2.1.5 fine"
    peer = Peer(PORT + 60, replies={"RCPT": rcpt})
    with Suite(EXTRA, "smtp unix - - n - 4 smtp\n", users=("fred", "sender", "postmaster"), port=PORT) as mail, log_kept(mail):
        accepted = stream(mail, ["calm%d" % i for i in range(4)], a_few_each)
        settle(mail, peer_says)
        calm = Verdict(mail, peer, accepted)
        calm.show("without kills")
        peer_says["late"] = "450 4.7.1 not yet"
        accepted += stream(mail, ["kill%d" % i for i in range(4)], lambda _: havoc.wreak(mail))
        settle(mail, peer_says)
        verdict = Verdict(mail, peer, accepted)
        havoc.show()
        verdict.show("with kills")
        discarded = mail.log().count("undeliverable postmaster notification discarded")
    peer.close()
    bad = verdict.silent + verdict.lost + verdict.wrong
    if bad:
        print("wrong: %s" % bad[:10])
    if verdict.repeats > REPEATS_OF_A_KILL * sum(havoc.kills.values()) or verdict.most > COPIES or calm.repeats or discarded:
        print("repeats: %d, without kills %d; discarded notices: %d" % (verdict.repeats, calm.repeats, discarded))
        return 1
    if verdict.expected - calm.expected < ROUNDS or calm.expected < 20 or not verdict.transcripts:
        print("too little happened for this to prove anything")
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
