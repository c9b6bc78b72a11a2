#!/usr/bin/env python3
"""Nothing accepted is lost: daemons are killed with SIGKILL at random moments of a stream of deliveries.

In each round one daemon, chosen at random, or all of them, dies while messages come in by SMTP and by sendmail(1).  Every
message that was answered with 250, or exit status 0, must be in the mailbox in the end; copies are counted.  The number of
rounds is KILL_ROUNDS (default 60), the seed KILL_SEED.
"""
import os
import random
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import Suite, as_nobody  # noqa: E402

ROUNDS = int(os.environ.get("KILL_ROUNDS", "60"))
VICTIMS = ("smtpd", "cleanup", "qmgr", "virtual", "pickup", "master", "proxymap", "all")


class Sender(threading.Thread):
    """Sends messages one after another until told to stop, and notes which were accepted."""

    def __init__(self, mail, name):
        super().__init__()
        self.mail, self.label = mail, name
        self.accepted, self.failed, self.count, self.stopping = [], 0, 0, False

    def next_id(self):
        self.count += 1
        return "%s-%d" % (self.label, self.count)

    def run(self):
        while not self.stopping:
            self.burst()


class SmtpSender(Sender):
    def burst(self):
        try:
            client = self.mail.smtp(timeout=20)
            client.ehlo("c.example")
            for _ in range(random.randint(1, 5)):
                message = self.next_id()
                client.sendmail("s@c.example", ["fred@example.org"], "Subject: id=%s\r\n\r\n%s\r\n" % (message, "x" * 2000))
                self.accepted.append(message)
            client.quit()
        except (OSError, smtplib.SMTPException):
            self.failed += 1
            time.sleep(0.02)


class SendmailSender(Sender):
    def burst(self):
        message = self.next_id()
        text = "Subject: id=%s\n\n%s\n" % (message, "y" * 500)
        done = subprocess.run([self.mail.path("bin/sendmail"), "-f", "s@c.example", "fred@example.org"], input=text.encode(),
                              env=dict(os.environ, MAIL_CONFIG=self.mail.path("etc")), preexec_fn=as_nobody,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode == 0:
            self.accepted.append(message)
        else:
            self.failed += 1
        time.sleep(0.02)


def kill(mail, victim):
    """Ends one process of that kind, or all; True when there was one."""
    pids = mail.pids()
    if victim == "all":
        chosen = [pid for some in pids.values() for pid in some]
    else:
        chosen = pids.get("postern-master" if victim == "master" else victim, [])[:]
        random.shuffle(chosen)
        chosen = chosen[:1]
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return bool(chosen)


def restart(mail):
    """The master may be dead: its children end by themselves, then it starts again."""
    for _ in range(100):
        if mail.control("status").returncode == 0:
            return
        if mail.control("start").returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("the mail system does not start again\n" + mail.log()[-3000:])


def delivered(mail):
    found = {}
    for path in mail.mailbox("fred"):
        with open(path, errors="replace") as file:
            match = re.search(r"^Subject: id=(\S+)$", file.read(), re.M)
        if match:
            found[match.group(1)] = found.get(match.group(1), 0) + 1
    return found


def main():
    seed = int(os.environ.get("KILL_SEED", str(int(time.time()))))
    random.seed(seed)
    print("seed %d, %d rounds" % (seed, ROUNDS))
    with Suite("smtpd_error_sleep_time = 0\nservice_throttle_time = 1s\n") as mail:
        senders = [SmtpSender(mail, "s%d" % i) for i in range(4)] + [SendmailSender(mail, "m")]
        for sender in senders:
            sender.start()
        kills = {}
        try:
            for _ in range(ROUNDS):
                time.sleep(random.uniform(0.05, 0.6))
                victim = random.choice(VICTIMS)
                if kill(mail, victim):
                    kills[victim] = kills.get(victim, 0) + 1
                if victim in ("master", "all"):
                    restart(mail)
        finally:
            for sender in senders:
                sender.stopping = True
            for sender in senders:
                sender.join()
        restart(mail)
        mail.control("flush")
        mail.wait_empty(120)
        accepted = [message for sender in senders for message in sender.accepted]
        found = delivered(mail)
        lost = [message for message in accepted if message not in found]
        copies = {message: count for message, count in found.items() if count > 1}
        print("kills: %s" % ", ".join("%s %d" % item for item in sorted(kills.items())))
        print("accepted %d, refused or broken off %d, delivered %d, lost %d, duplicates %d" %
              (len(accepted), sum(sender.failed for sender in senders), sum(found.values()), len(lost),
               sum(count - 1 for count in copies.values())))
        if len(accepted) < ROUNDS:
            print("too few messages were accepted for this to prove anything")
            return 1
        if lost:
            print("lost: " + " ".join(lost[:20]))
        if copies:
            # A delivery to a Maildir finds its own file again, so not even one in flight may be doubled.
            print("twice: " + " ".join(list(copies)[:20]))
        return 1 if lost or copies else 0


if __name__ == "__main__":
    sys.exit(main())
