#!/usr/bin/env python3
"""Nothing accepted is lost: daemons are killed with SIGKILL at random moments of a stream of deliveries.

In each round one daemon, chosen at random, or all of them, dies, or all are replaced (reload), while messages come in by SMTP and
by sendmail(1).  Every message that was answered with 250, or exit status 0, must be in the mailbox in the end; copies are counted.
The number of rounds is KILL_ROUNDS (default 60), the seed KILL_SEED.
"""
import os
import random
import smtplib
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killing import Havoc, Sender, delivered, restart, start_sendmail, while_sending  # noqa: E402
from suite import Suite  # noqa: E402

ROUNDS = int(os.environ.get("KILL_ROUNDS", "60"))
VICTIMS = ("smtpd", "cleanup", "qmgr", "virtual", "pickup", "master", "proxymap", "all", "reload")


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
        process = start_sendmail(self.mail, "s@c.example", "fred@example.org")
        process.communicate(text.encode())
        if process.returncode == 0:
            self.accepted.append(message)
        else:
            self.failed += 1
        time.sleep(0.02)


def main():
    havoc = Havoc(VICTIMS, ROUNDS, (0.05, 0.6))
    with Suite("smtpd_error_sleep_time = 0\nservice_throttle_time = 1s\n") as mail:
        senders = [SmtpSender(mail, "s%d" % i) for i in range(4)] + [SendmailSender(mail, "m")]
        accepted = while_sending(senders, lambda: havoc.wreak(mail))
        restart(mail)
        mail.control("flush")
        mail.wait_empty(120)
        found = delivered(mail)
        lost = [message for message in accepted if message not in found]
        copies = {message: count for message, count in found.items() if count > 1}
        havoc.show()
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
