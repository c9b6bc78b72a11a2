#!/usr/bin/env python3
"""A submission of sendmail(1) becomes one message, whoever dies while pickup hands it to cleanup.

In each round some messages are dropped at once, and a few milliseconds later pickup, cleanup and qmgr are killed together; or
cleanup is stopped in the middle of its work, its pickup and qmgr are killed and come back, and then cleanup goes on, or is
killed after all.  In the end each message is in the mailbox exactly once.  The number of rounds is HANDOVER_ROUNDS (default
40), the seed HANDOVER_SEED.
"""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killing import choose_seed, delivered, send_signal, start_sendmail  # noqa: E402
from suite import Suite  # noqa: E402

ROUNDS = int(os.environ.get("HANDOVER_ROUNDS", "40"))
BURST = 6


def drop(mail, name):
    """Starts one sendmail(1)."""
    process = start_sendmail(mail, "s@c.example", "fred@example.org")
    process.stdin.write(("Subject: id=%s\n\n%s\n" % (name, "y" * random.choice((100, 3000, 400000)))).encode())
    process.stdin.close()
    return process


def kill_together(mail, drops):
    pids = mail.pids()
    send_signal([pid for name in ("pickup", "qmgr", "cleanup") for pid in pids.get(name, [])], signal.SIGKILL)


def orphan_a_cleanup(mail, drops):
    pids = mail.pids()
    stopped = pids.get("cleanup", [])
    send_signal(stopped, signal.SIGSTOP)
    send_signal(pids.get("pickup", []), signal.SIGKILL)
    time.sleep(1.1)                          # service_throttle_time
    name = next(iter(drops)) + "-wake"
    drops[name] = drop(mail, name)           # wakes a new pickup, which finds what the orphan has in hand
    time.sleep(random.uniform(0.1, 0.4))
    send_signal(stopped, signal.SIGCONT)
    for _ in range(random.randint(1, 2)):    # one that has delivered the orphan's message, and its successor
        time.sleep(random.uniform(0, 0.03))
        send_signal(mail.pids().get("qmgr", []), signal.SIGKILL)
    if random.random() < 0.3:
        send_signal(stopped, signal.SIGKILL)


def main():
    choose_seed("HANDOVER_SEED", ROUNDS)
    accepted = []
    with Suite("service_throttle_time = 1s\n") as mail:
        for number in range(ROUNDS):
            drops = {"%d-%d" % (number, i): None for i in range(BURST)}
            for name in drops:
                drops[name] = drop(mail, name)
            time.sleep(random.uniform(0, 0.08))
            random.choice((kill_together, orphan_a_cleanup))(mail, drops)
            accepted += [name for name, process in drops.items() if process.wait(60) == 0]
        for _ in range(100):
            mail.control("flush")
            if len(delivered(mail)) >= len(accepted) and not os.listdir(mail.path("queue/maildrop")):
                break
            time.sleep(0.5)
        mail.wait_empty(120)
        found = delivered(mail)
    lost = [name for name in accepted if name not in found]
    twice = [name for name, count in found.items() if count > 1]
    print("accepted %d, delivered %d, lost %d, twice %d" % (len(accepted), sum(found.values()), len(lost), len(twice)))
    if len(accepted) < ROUNDS * BURST // 2:
        print("too few messages were accepted for this to prove anything")
        return 1
    if lost or twice:
        print("lost: %s; twice: %s" % (" ".join(lost[:20]), " ".join(twice[:20])))
    return 1 if lost or twice else 0


if __name__ == "__main__":
    sys.exit(main())
