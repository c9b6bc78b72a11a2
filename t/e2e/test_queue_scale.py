#!/usr/bin/env python3
"""The queue manager with thousands of messages: it is killed while it reads the queue and while it tries all of it again, and
nothing is lost, nothing comes twice, and what is done stays done.  Postern queue shows what is there, up or down.

The queue is filled with real queue files by build/bench/fill_queue.  QUEUE_SCALE is the number of messages (default 3000).
"""
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import BIN, Suite, as_nobody  # noqa: E402

FILL = os.environ.get("POSTERN_FILL", os.path.join(os.path.dirname(BIN), "bench", "fill_queue"))
COUNT = int(os.environ.get("QUEUE_SCALE", "3000"))
SETTINGS = """
smtpd_reject_unlisted_recipient = no
transport_maps = inline:{{gone.example=retry:4.4.1 nobody there}}
smtpd_relay_restrictions = permit_mynetworks, reject
minimal_backoff_time = 300s
maximal_backoff_time = 300s
maximal_queue_lifetime = 5d
service_throttle_time = 1s
"""


def fill(mail, *options):
    subprocess.run(["mkdir", "-p", mail.path("queue/deferred")], check=True, preexec_fn=as_nobody)
    copy = mail.path("fill_queue")
    if not os.path.exists(copy):
        subprocess.run(["install", "-m", "755", FILL, copy], check=True)
    subprocess.run([copy, *options, mail.path("queue"), str(COUNT)], check=True, preexec_fn=as_nobody)


def kill_qmgr(mail, longest):
    """Lets it work for a moment first."""
    pids = mail.wait_for(lambda: mail.pids().get("qmgr"), 20, "qmgr")
    time.sleep(random.uniform(0, longest))
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def shape(mail, *words):
    return json.loads(mail.run("postern", "-c", mail.path("etc"), "queue", "--json", *words, check=True).stdout)


def numbers_in(mail, user):
    found = {}
    for text in mail.messages(user):
        number = re.search(r"^Subject: number (\d+)$", text, re.M).group(1)
        found[number] = found.get(number, 0) + 1
    return found


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def killed_during_the_scan(mail):
    """All messages are due: qmgr delivers while it still reads, and dies again and again."""
    for _ in range(12):
        kill_qmgr(mail, 0.6)
    left = len(mail.queued())
    mail.wait_empty(60)
    found = numbers_in(mail, "fred")
    check(len(found) == COUNT, "lost: %d of %d" % (COUNT - len(found), COUNT))
    check(max(found.values()) == 1, "delivered twice: %d" % sum(count > 1 for count in found.values()))
    print("killed during the scan: %d messages, %d were left after the last kill, none lost, none twice" % (COUNT, left))


def killed_during_a_requeue(mail, count):
    """Each message has a recipient who got it and one who cannot be reached."""
    client = mail.smtp()
    for number in range(count):
        client.sendmail("s@c.example", ["user%d@example.org" % number, "x%d@gone.example" % number],
                        "Subject: number %d\r\n\r\nx\r\n" % (100000 + number))
    client.quit()
    mail.wait_for(lambda: mail.log().count("status=deferred (nobody there)") >= count, 30, "the deferrals")
    mail.wait_for(lambda: len(os.listdir(mail.path("queue/deferred"))) == count, 10, "the deferred queue")
    sent = mail.log().count("status=sent")
    for _ in range(8):
        mail.run("postqueue", "-f")   # the service may be down for a moment
        kill_qmgr(mail, 0.2)
    mail.wait_for(lambda: mail.run("postqueue", "-f").returncode == 0, 20, "qmgr")
    mail.wait_for(lambda: len(os.listdir(mail.path("queue/deferred"))) == count, 40, "the deferred queue")
    check(mail.log().count("status=sent") == sent, "a recipient that was done has been tried again")
    check(len(mail.queued()) == count, "%d messages instead of %d" % (len(mail.queued()), count))
    check(sum(numbers_in(mail, "fred").values()) == COUNT + count, "copies in the mailbox")
    for line in mail.run("postqueue", "-j", check=True).stdout.splitlines():
        recipients = json.loads(line)["recipients"]
        check(len(recipients) == 1 and recipients[0]["address"].endswith("@gone.example"), "listed: %s" % recipients)
        check(recipients[0]["delay_reason"] == "nobody there", "reason: %s" % recipients)
    print("killed while everything was tried again: %d messages, nobody got one twice" % count)


def shown_as_a_table(mail, count):
    report = shape(mail)
    check(report["messages"] == count and report["total"]["total"] == count, str(report["total"]))
    row = report["domains"][0]
    check(row["domain"] == "gone.example" and row["total"] == count and row["reason"] == "nobody there", str(row))
    check(row["next_try"] > time.time() and report["manager"]["next_try"] > time.time(), str(row))
    check(report["manager"]["deferred"] == count and not report["manager"]["scanning"], str(report["manager"]))
    senders = shape(mail, "-s", "deferred")
    check(senders["domains"][0]["domain"] == "c.example", str(senders))
    check(shape(mail, "hold")["messages"] == 0, "hold")
    text = mail.run("postern", "-c", mail.path("etc"), "queue", "-r", check=True).stdout.decode()
    check("gone.example" in text and "(nobody there)" in text and "\x1b" not in text, text)
    wrong = mail.run("postern", "-c", mail.path("etc"), "queue", "nosuch")
    check(wrong.returncode == 64 and b"not one of" in wrong.stdout, str(wrong))
    mail.control("stop", check=True)
    down = shape(mail)
    check(down["messages"] == count and "error" in down["manager"], "while the system is down: %s" % down)
    print("postern queue: up and down")


def main():
    if not os.access(FILL, os.X_OK):
        print("skipped: %s is not built (make build/bench/fill_queue)" % FILL)
        sys.exit(77)
    mail = Suite(SETTINGS, users=("fred",))
    mail.write("etc/mailboxes", "/^user[0-9]+@example\\.org$/ fred/\n")
    fill(mail, "--to", "example.org", "--due", "-3600", "--spread", "0")
    with mail:
        killed_during_the_scan(mail)
        count = 200
        killed_during_a_requeue(mail, count)
        shown_as_a_table(mail, count)


if __name__ == "__main__":
    main()
