#!/usr/bin/env python3
"""Notices while the queue's disk is full: mail that fails then is told about when there is room again, by itself and once; what
could not be queued is not tried in a hurry; the postmaster hears of each session that was refused at most once.

Needs root, to mount a small file system of its own.
"""
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from smtp_peer import Peer  # noqa: E402
from test_full_disk import fill, send, small_disk  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
MESSAGES, REFUSED, SECONDS = 12, 20, 8
EXTRA = """
notify_classes = bounce, 2bounce, delay, policy, protocol, resource, software
bounce_notice_recipient = postmaster@example.org
2bounce_notice_recipient = postmaster@example.org
delay_notice_recipient = postmaster@example.org
error_notice_recipient = postmaster@example.org
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
transport_maps = inline:{{sink.example=smtp:[127.0.0.1]:%d}}
smtp_tls_security_level = none
minimal_backoff_time = 2s
maximal_backoff_time = 2s
queue_run_delay = 2s
""" % (PORT + 60)


def told(mail):
    """How often each recipient is in a notice to the sender."""
    counts = {}
    for text in mail.messages("sender"):
        for number in re.findall(r"(?m)^Final-Recipient: rfc822; late(\d+)@", text):
            counts[int(number)] = counts.get(int(number), 0) + 1
    return counts


def processor_seconds(mail):
    total = 0
    for pids in mail.pids().values():
        for pid in pids:
            with open("/proc/%d/stat" % pid) as file:
                words = file.read().rsplit(")", 1)[1].split()
            total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def submit(mail, number):
    with mail.smtp() as client:
        client.ehlo("c.example")
        client.sendmail("sender@example.org", ["late%d@sink.example" % number], "Subject: late\r\n\r\n%s\r\n" % ("x" * 70 + "\r\n") * 10)


def check(mail, where, verdict):
    for number in range(MESSAGES):
        submit(mail, number)
    mail.wait_for(lambda: mail.log().count("450 4.7.1 not yet") >= MESSAGES and len(mail.queued()) == MESSAGES, 20, "all wait")
    ballast = fill(os.path.join(where, "ballast"))
    verdict["late"] = "550 5.7.1 not any more"
    mark = len(mail.log())
    codes = {send(mail, 100 + number) for number in range(REFUSED)}
    before = processor_seconds(mail)
    time.sleep(SECONDS)
    used = processor_seconds(mail) - before
    log = mail.log()[mark:]
    tries = [log.count(kind) for kind in ("status=bounced", "bounce service:", "cannot queue", "warning:")]
    print("replies while full: %s; in %d s: %d bounces, %d notices that could not be queued, %d warnings; %.2f s of processor" %
          (sorted(codes), SECONDS, tries[0], tries[1], tries[3], used))
    assert codes <= {451, 452}, codes
    assert not told(mail), "notices, though nothing can be queued"
    assert tries[0] == MESSAGES, "a recipient that has failed is tried again"
    assert 0 < tries[1] <= MESSAGES * (SECONDS / 2 + 2), "notices are tried in a hurry, or not at all"
    assert used < SECONDS / 4
    assert len(mail.queued()) >= MESSAGES
    os.unlink(ballast)
    mail.wait_empty(30)
    mail.wait_for(lambda: len(told(mail)) == MESSAGES, 10, "a notice about each")
    transcripts = sum("Transcript of session follows" in text for text in mail.messages("postmaster"))
    copies = sum("late" in text and "multipart/report" in text for text in mail.messages("postmaster"))
    print("with room again: told %s, postmaster's copies %d, transcripts %d" % (sorted(set(told(mail).values())), copies, transcripts))
    assert set(told(mail).values()) == {1}
    assert copies == MESSAGES and transcripts <= REFUSED
    size = len(mail.log())
    time.sleep(3)
    assert "notification" not in mail.log()[size:] and not mail.queued()
    return 0


def main():
    verdict = {"late": "450 4.7.1 not yet"}
    peer = Peer(PORT + 60, replies={"RCPT": lambda _: verdict["late"]})
    with small_disk(EXTRA, "smtp unix - - n - 4 smtp\n", ("fred", "sender", "postmaster")) as there:
        result = check(*there, verdict) if there else 77
    peer.close()
    return result


if __name__ == "__main__":
    sys.exit(main())
