#!/usr/bin/env python3
"""A message whose notice to qmgr is lost, because qmgr is killed, is the successor's first business: it is taken up while the queue is
read, before anything that comes from time to time could have found it.  Twice: qmgr had the notice and had not read it; or there was
no qmgr.  Each message is delivered once.
"""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killing import delivered, send_signal  # noqa: E402
from suite import Suite  # noqa: E402

ROUNDS = 3


def submit(mail, name):
    """Yields the queue id."""
    with mail.smtp() as client:
        client.helo("c.example")
        client.mail("s@c.example")
        client.rcpt("fred@example.org")
        code, text = client.data("Subject: id=%s\r\n\r\nx\r\n" % name)
        assert code == 250, text
        return re.search(r"queued as (\w+)", text.decode()).group(1)


def unread(mail, name):
    """qmgr dies with the notice in its socket."""
    old = mail.pids()["qmgr"]
    send_signal(old, signal.SIGSTOP)
    queue_id = submit(mail, name)
    send_signal(old, signal.SIGKILL)
    return old, queue_id


def untold(mail, name):
    """Nobody is there when the message comes, and master is slow to see to it."""
    pids = mail.pids()
    send_signal(pids["postern-master"], signal.SIGSTOP)
    send_signal(pids["qmgr"], signal.SIGKILL)
    queue_id = submit(mail, name)
    send_signal(pids["postern-master"], signal.SIGCONT)
    return pids["qmgr"], queue_id


def main():
    failures = []
    with Suite("service_throttle_time = 1s\n") as mail:
        submit(mail, "before")     # cleanup has its connection to qmgr
        mail.wait_empty()
        for number in range(ROUNDS):
            for lose in (unread, untold):
                name = "%s-%d" % (lose.__name__, number)
                old, queue_id = lose(mail, name)
                mail.wait_log(r"qmgr\[\d+\]: %s: removed" % queue_id)
                started = [match for match in re.finditer(r"qmgr\[(\d+)\]: \d+ messages wait, .* the queue was read in", mail.log())
                           if int(match.group(1)) not in old]
                taken_up = re.search(r"qmgr\[(\d+)\]: %s: from=.* \(queue active\)" % queue_id, mail.log())
                in_time = [line for line in started if line.group(1) == taken_up.group(1) and taken_up.start() < line.start()]
                print("%s: %s" % (name, "taken up at once" if in_time else "had to wait"))
                failures += [] if in_time else [name]
        found = delivered(mail)
    wanted = ["before"] + ["%s-%d" % (lose.__name__, number) for number in range(ROUNDS) for lose in (unread, untold)]
    failures += [name for name in wanted if found.get(name) != 1]
    print("wrong: %s" % failures if failures else "%d messages, each once" % len(wanted))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
