#!/usr/bin/env python3
"""sendmail -bs: SMTP on standard input, from a pipe, from nothing at all, and queued for real."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import Suite  # noqa: E402

BATCH = b"HELO c.example\r\nMAIL FROM:<s@c.example>\r\nRCPT TO:<fred@example.org>\r\nDATA\r\nSubject: batch\r\n\r\nx\r\n.\r\nQUIT\r\n"


def expect(done, *words):
    if done.returncode != 0 or any(word not in done.stdout for word in words):
        raise AssertionError("exit %d: %r" % (done.returncode, done.stdout))


def main():
    with Suite() as mail:
        expect(mail.run("sendmail", "-bs", stdin=b"", timeout=20), b"220 ")
        expect(mail.run("sendmail", "-bs", stdin=b"EHLO c.example\r\n", timeout=20), b"220 ", b"250-mail.example.org")
        expect(mail.run("sendmail", "-bs", stdin=BATCH, timeout=20), b"250 2.0.0 Ok: queued as ", b"221 2.0.0 Bye")
        mail.wait_for(lambda: len(mail.mailbox("fred")) == 1, 20, "the message arrives")
        mail.wait_empty()
    print("3 conversations")


if __name__ == "__main__":
    sys.exit(main())
