#!/usr/bin/env python3
"""Nothing accepted is lost when the power fails: the disk that has queue and mailboxes is shut down while mail comes in, the processes
are killed, the file system is mounted again and recovered by its journal, and Postern starts on it.

The rounds differ in how many send, how large messages are, and the moment.  Every message that was answered with 250, or exit status
0, before the power failed must arrive, byte for byte, at each of its recipients: in a Maildir, or at a server of the test's own,
which survives.  A Maildir has one copy.  The server may see a second one only of what it had taken in the last AGE seconds before a
power failure, when the file system's own commit, every five seconds, may not have come.  Messages that wait, on hold or for a
recipient who is deferred, are in the queue after each failure.  POWER_SEED.

Needs root, to mount a file system of its own.
"""
import dataclasses
import os
import random
import re
import smtplib
import sys
import threading
import time
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ext4_disk import hide_mounts  # noqa: E402
from killing import Sender, choose_seed, log_kept, start_sendmail, while_sending  # noqa: E402
from power_suite import power_suite  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import wait_until  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
AGE = 10.0      # seconds after which a delivery must not be forgotten
SMALL, LARGE = 2000, 100000

EXTRA = """
smtpd_error_sleep_time = 0
service_throttle_time = 1s
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{held.example=HOLD}}, permit
transport_maps = inline:{{sink.example=smtp:[127.0.0.1]:%(sink)d},{late.example=smtp:[127.0.0.1]:%(sink)d},
 {wait.example=retry:4.3.0 not yet},{held.example=smtp:[127.0.0.1]:%(sink)d}}
smtp_tls_security_level = none
minimal_backoff_time = 3s
maximal_backoff_time = 10s
queue_run_delay = 1s
""" % {"sink": PORT + 60}
MASTER = "smtp unix - - n - 4 smtp\n"

AT_ONCE = (("fred@example.org",), ("fred@example.org",), ("wilma@example.org",), ("r1@sink.example",), ("r1@sink.example", "r2@sink.example"),
           ("fred@example.org", "r1@sink.example"))
LATER = (("fred@example.org", "r1@sink.example", "r1@late.example"), ("wilma@example.org", "r1@sink.example", "r1@wait.example"),
         ("r1@late.example", "r1@wait.example"), ("fred@example.org", "r1@held.example"), ("r1@sink.example", "r1@held.example"))
LATER_SHARE = 0.1


@dataclasses.dataclass
class Round:
    sessions: int            # that send at the same time
    large_share: float = 0   # of the messages
    rest: bool = False       # after a first batch nobody sends for so long that what was delivered counts as old
    more: bool = True        # then they send again, until the power fails
    linger: float = 0        # seconds that the processes live without their disk


ROUNDS = (Round(20), Round(1), Round(20, large_share=0.3, rest=True), Round(20, large_share=0.3, linger=0.7),
          Round(20, large_share=0.1, rest=True, more=False), Round(1, large_share=0.3), Round(20, large_share=0.1))


def text_of(name):
    """The message of that name, which says how long it is; with lines that begin with dots."""
    size = int(name.rsplit("-", 1)[1])
    head = "From: s@c.example\nTo: r@c.example\nDate: Mon, 2 Jan 2023 03:04:05 +0000\nMessage-ID: <%s@c.example>\nSubject: id=%s\n\n" % (name, name)
    lines = size // 64
    return head + "".join("%s%06d %s\n" % ("." * (i % 3), i, (name + " ") * (50 // len(name))) for i in range(lines)) + name + "\n"


def name_in(content):
    """Of the message that somebody was given, when all of it is there."""
    found = re.search(rb"^Subject: id=(\S+)\n", content, re.M)
    name = found.group(1).decode() if found else ""
    return name if found and content.endswith(b"\n" + text_of(name).encode()) else None


@dataclasses.dataclass
class Accepted:
    name: str
    recipients: tuple
    queue_id: str      # empty: not known
    moment: float      # when the answer had been read

    def waits(self):
        """Whether it is in the queue until the test lets it go."""
        return bool(self.queue_id) and self.recipients in LATER


class PowerSender(Sender):
    """Sends while `pouring` is set."""

    def __init__(self, mail, label, large_share, pouring):
        super().__init__(mail, label)
        self.large_share, self.pouring = large_share, pouring

    def choose(self):
        size = LARGE if random.random() < self.large_share else random.randint(100, SMALL)
        return "%s-%d" % (self.next_id(), size)

    def took(self, name, recipients, queue_id=""):
        self.accepted.append(Accepted(name, recipients, queue_id, time.monotonic()))

    def burst(self):
        if not self.pouring.wait(0.05):
            return
        try:
            self.send()
        except (OSError, smtplib.SMTPException):
            self.failed += 1
            time.sleep(0.02)


class SmtpSender(PowerSender):
    def send(self):
        with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=20) as client:
            client.ehlo("c.example")
            while self.pouring.is_set():
                name = self.choose()
                recipients = random.choice(LATER if random.random() < LATER_SHARE else AT_ONCE)
                for code, _ in [client.mail("s@c.example")] + [client.rcpt(recipient) for recipient in recipients]:
                    if code != 250:
                        raise smtplib.SMTPException
                code, answer = client.data(text_of(name).replace("\n", "\r\n"))
                if code != 250:
                    raise smtplib.SMTPException
                self.took(name, recipients, answer.rsplit(b" ", 1)[1].decode())


class SendmailSender(PowerSender):
    def send(self):
        name, recipients = self.choose(), random.choice(AT_ONCE)
        process = start_sendmail(self.mail, "s@c.example", *recipients)
        process.communicate(text_of(name).encode())
        if process.returncode != 0:
            raise OSError
        self.took(name, recipients)


class Failures:
    """The rounds, and what was accepted and when the power failed in each."""

    def __init__(self, mail, peer):
        self.mail, self.peer = mail, peer
        self.accepted, self.refused = [], 0
        # Whose answer was read when the power had failed.  It may be wrong: an fsync(2) that is under way at that moment can return 0,
        # which nobody would see if the machine were dead.
        self.too_late = []
        self.moments = []     # in which it failed, and then the one when all was quiet
        self.gone = set()     # queue ids of messages that wait and are not in the queue

    def run(self, number, plan):
        pouring = threading.Event()
        senders = [SmtpSender(self.mail, "%d-%d" % (number, i), plan.large_share, pouring) for i in range(plan.sessions)]
        senders.append(SendmailSender(self.mail, "%d-m" % number, plan.large_share, pouring))
        accepted = while_sending(senders, lambda: self.pour(plan, pouring))
        moment, _ = self.moments[-1]
        self.accepted += [one for one in accepted if one.moment < moment]
        self.too_late += [one for one in accepted if one.moment >= moment]
        self.refused += sum(sender.failed for sender in senders)
        self.mail.come_back()
        self.look_for_waiting()
        print("round %d: %s, accepted %d" % (number, plan, len(accepted)), flush=True)

    def pour(self, plan, pouring):
        pouring.set()
        if plan.rest:
            time.sleep(random.uniform(0.5, 1.0))
            pouring.clear()
            time.sleep(AGE + 2)
        if plan.more:
            pouring.set()
            time.sleep(random.uniform(0.3, 1.5))
        moment = self.mail.lose_power(plan.linger)
        pouring.clear()
        wait_until(lambda: self.peer.open == 0, "the server has heard the last of those who were killed")
        self.moments.append((moment, time.monotonic()))

    def look_for_waiting(self):
        """What is not there is gone for good."""
        expected = {one.queue_id for one in self.accepted if one.waits()} - self.gone
        try:
            wait_until(lambda: expected <= set(self.mail.queued()), "what waits is in the queue", 20)
        except AssertionError:
            self.gone |= expected - set(self.mail.queued())

    def let_go(self):
        """Until all have what they wait for."""
        self.peer.replies.clear()
        with open(self.mail.path("etc/main.cf")) as file:
            text = file.read()
        self.mail.write("etc/main.cf", text.replace("retry:4.3.0 not yet", "smtp:[127.0.0.1]:%d" % (PORT + 60)))
        self.mail.control("reload", check=True)
        self.mail.run("postsuper", "-H", "ALL", check=True)
        deadline = time.monotonic() + 90
        while self.mail.queued() and time.monotonic() < deadline:
            self.mail.control("flush")
            time.sleep(0.5)
        self.mail.wait_empty(1)


class Verdict:
    """What became of everything.  Of what was lost after the power had failed, only the count is of interest."""

    def __init__(self, failures):
        self.failures = failures
        self.taken = {}           # (name, recipient) -> when the server took it
        self.kept = Counter()     # (name, recipient) -> copies in a Maildir
        self.torn = []            # what is not what was sent
        self.look_at_server(failures.peer)
        self.look_at_mailboxes(failures.mail)
        self.lost, self.lost_late = ([(one.name, recipient) for one in some for recipient in one.recipients
                                      if (one.name, recipient) not in self.taken and not self.kept[one.name, recipient]]
                                     for some in (failures.accepted, failures.too_late))
        self.repeats, self.forgotten = [], []     # second copies at the server: allowed, and not
        for copy, moments in self.taken.items():
            for earlier, later in zip(moments, moments[1:]):
                allowed = any(moment - AGE < earlier <= quiet < later for moment, quiet in failures.moments)
                (self.repeats if allowed else self.forgotten).append((copy, self.ages(earlier, later)))
        self.doubled = [copy for copy, count in self.kept.items() if count > 1]
        self.put_back = sum(int(number) for number in re.findall(r"put back into the queue from commit logs: (\d+)", failures.mail.log()))
        self.old = sum(any(moments[0] < moment - AGE for moment, _ in failures.moments) for moments in self.taken.values())
        # Accepted before a failure, given to the server after it: what only the disk knew.
        self.only_on_disk = sum(one.moment < moment < self.taken[one.name, recipient][0] for one in failures.accepted if not one.waits()
                                for recipient in one.recipients if (one.name, recipient) in self.taken for moment, _ in failures.moments)

    def look_at_server(self, peer):
        for message in sorted(peer.messages, key=lambda one: one["at"]):
            name = name_in(message["content"].replace(b"\r\n", b"\n"))
            recipients = [re.search("<(.*?)>", command).group(1) for command in message["recipients"]]
            if name is None:
                self.torn.append("%s at %.1f" % (recipients, message["at"]))
                continue
            for recipient in recipients:
                self.taken.setdefault((name, recipient), []).append(message["at"])

    def look_at_mailboxes(self, mail):
        for user in mail.users:
            for path in mail.mailbox(user):
                with open(path, "rb") as file:
                    name = name_in(file.read())
                if name is None:
                    self.torn.append("%s, %d bytes" % (path, os.path.getsize(path)))
                else:
                    self.kept[name, user + "@example.org"] += 1

    def ages(self, earlier, later):
        """How long before each failure between them the first copy came."""
        return ["%.1f s" % (moment - earlier) for moment, _ in self.failures.moments if moment < later][-1:]

    def show(self):
        failures = self.failures
        print("accepted %d messages, %d of them wait, refused or broken off %d; %d recipients at the server, %d in Maildirs; only on the disk"
              " %d; put back from commit logs %d" % (len(failures.accepted), sum(one.waits() for one in failures.accepted), failures.refused,
                                                     len(self.taken), len(self.kept), self.only_on_disk, self.put_back))
        print("lost %d, gone from the queue %d, torn %d, twice in a Maildir %d, twice at the server %d of the last %d s and %d of %d older; of"
              " %d answered after the power had failed, lost %d" % (len(self.lost), len(failures.gone), len(self.torn), len(self.doubled),
                                                                    len(self.repeats), AGE, len(self.forgotten), self.old,
                                                                    len(failures.too_late), len(self.lost_late)))
        for label, some in (("lost", self.lost), ("gone from the queue", sorted(failures.gone)), ("torn", self.torn),
                            ("twice in a Maildir", self.doubled), ("again", self.forgotten)):
            if some:
                print("%s: %s" % (label, some[:10]))

    def good(self):
        waiting = sum(one.waits() for one in self.failures.accepted)
        if len(self.failures.accepted) < 200 or self.old < 50 or self.only_on_disk < 10 or waiting < 20 or self.put_back < 5:
            print("too little happened for this to prove anything")
            return False
        return not (self.lost or self.failures.gone or self.torn or self.doubled or self.forgotten)


def main():
    hide_mounts()
    choose_seed("POWER_SEED", len(ROUNDS))
    # A pause, so that mail is always under way.
    peer = Peer(PORT + 60, replies={"RCPT": lambda argument: "450 4.7.1 not yet" if "@late.example" in argument else "", ".": 0.03})
    with power_suite(EXTRA, MASTER, port=PORT) as mail:
        if mail is None:
            return 77
        failures = Failures(mail, peer)
        with log_kept(mail):
            for number, plan in enumerate(ROUNDS):
                failures.run(number, plan)
            failures.let_go()
        verdict = Verdict(failures)
    peer.close()
    verdict.show()
    return 0 if verdict.good() else 1


if __name__ == "__main__":
    sys.exit(main())
