#!/usr/bin/env python3
"""A full disk: 4xx while there is no room, nothing accepted is lost, and all goes on by itself when there is room again.

Needs root, to mount a small file system of its own.
"""
import contextlib
import os
import re
import smtplib
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import NOBODY, Suite  # noqa: E402


def fill(path):
    """Takes all the room there is; returns the file's name."""
    with open(path, "wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        except OSError:
            pass
        try:
            while True:
                os.write(file.fileno(), b"\0" * 512)
        except OSError:
            pass
    return path


def send(mail, number, size=20000):
    """The reply code for one message."""
    client = mail.smtp()
    try:
        client.ehlo("c.example")
        client.sendmail("s@c.example", ["fred@example.org"], "Subject: id=%d\r\n\r\n%s\r\n" % (number, "x" * 70 + "\r\n" * (size // 72)))
        return 250
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    except smtplib.SMTPRecipientsRefused as refused:
        return list(refused.recipients.values())[0][0]
    finally:
        client.close()


def delivered(mail):
    return sorted(int(number) for text in mail.messages("fred") for number in re.findall(r"^Subject: id=(\d+)$", text, re.M))


def check(mail, where):
    accepted = []
    for number in range(5):
        code = send(mail, number)
        if code != 250:
            raise AssertionError("with room: %d" % code)
        accepted.append(number)
    mail.wait_empty()
    ballast = fill(os.path.join(where, "ballast"))
    codes = []
    for number in range(100, 120):
        codes.append(send(mail, number))
        if codes[-1] == 250:
            accepted.append(number)
    print("replies while full: %s" % sorted(set(codes)))
    if not any(code in (451, 452) for code in codes) or any(code >= 500 for code in codes):
        raise AssertionError("a full disk was answered with %s" % codes)
    failed = mail.run("sendmail", "-f", "s@c.example", "fred@example.org", stdin=b"Subject: id=200\n\n" + b"z" * 30000)
    if failed.returncode == 0:
        accepted.append(200)
    print("sendmail while full: exit %d" % failed.returncode)
    os.unlink(ballast)
    for number in range(300, 305):
        mail.wait_for(lambda: send(mail, number) == 250, 20, "mail is taken when there is room again")
        accepted.append(number)
    mail.wait_empty(60)
    found = delivered(mail)
    lost = [number for number in accepted if number not in found]
    twice = len(found) - len(set(found))
    print("accepted %d, delivered %d, lost %d, duplicates %d" % (len(accepted), len(found), len(lost), twice))
    return 1 if lost or twice else 0


@contextlib.contextmanager
def small_disk(extra="", master="", users=("fred", "wilma")):
    """An instance whose queue and mailboxes are on a file system of 3 MB, and where that is; None where there cannot be one."""
    if os.geteuid() != 0:
        print("notice: mounting a file system needs root")
        yield None
        return
    where = tempfile.mkdtemp(prefix="postern-full-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs", where])
    if mounted.returncode != 0:
        print("notice: cannot mount a tmpfs here")
        yield None
        return
    try:
        # Programs and log live elsewhere; queue and mailboxes on the small file system.
        for name in ["queue", "mail"] + ["mail/" + user for user in users]:
            os.makedirs(os.path.join(where, name), exist_ok=True)
            os.chown(os.path.join(where, name), NOBODY, NOBODY)
        suite = Suite("queue_directory = %s/queue\nvirtual_mailbox_base = %s/mail\nmessage_size_limit = 1000000\n%s" % (where, where, extra),
                      master, users=users)
        for user in suite.users:
            os.rmdir(suite.path("mail/" + user))
        for name in ("mail", "queue"):
            os.rmdir(suite.path(name))
            os.symlink(os.path.join(where, name), suite.path(name))
        with suite as mail:
            yield mail, where
    finally:
        subprocess.run(["umount", where])
        os.rmdir(where)


def main():
    with small_disk() as there:
        return check(*there) if there else 77


if __name__ == "__main__":
    sys.exit(main())
