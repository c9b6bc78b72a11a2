#!/usr/bin/env python3
"""How many deliveries at a time a destination gets: what a server sees with each setting of the queue manager must be what Debian's Postfix
shows it.  Needs Postfix, and root."""
import os
import shutil
import smtplib
import tempfile
import threading
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import Suite

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
FIRST = BASE + 200
MESSAGES, MANY = 36, 200   # MANY where the server will not take them all: deliveries that are under way and succeed give it new chances for a while
LATE = 10      # messages, by which the two may differ: they finish at about the same time, in any order
BUSY = 0.3   # seconds that a message takes

# name -> parameters of the transport, and from which message on the server turns everybody away
CASES = {
    "usual": ({}, None),
    "limit": ({"destination_concurrency_limit": "3"}, None),
    "one": ({"destination_concurrency_limit": "1"}, None),
    "slow-start": ({"initial_destination_concurrency": "1", "destination_concurrency_limit": "4"}, None),
    "timid": ({"initial_destination_concurrency": "2", "destination_concurrency_positive_feedback": "1/concurrency", "destination_concurrency_limit": "10"}, None),
    "more-timid": ({"initial_destination_concurrency": "2", "destination_concurrency_positive_feedback": "0.2/concurrency"}, None),
    "fixed": ({"initial_destination_concurrency": "2", "destination_concurrency_positive_feedback": "0"}, None),
    "gone": ({}, 12),
    "gone-slowly": ({"destination_concurrency_failed_cohort_limit": "3"}, 12),
    "gone-forgiven": ({"destination_concurrency_negative_feedback": "1/concurrency"}, 12),
}
PORTS = {name: FIRST + i for i, name in enumerate(CASES)}
MAIN = postfix_peer.RELAYS + """
transport_maps = inline:{%s}
smtpd_recipient_limit = 1000
smtp_connection_cache_on_demand = no
initial_destination_concurrency = 5
in_flow_delay = 0
""" % ", ".join("%s.example=s%d:[127.0.0.1]:%d" % (name, i, PORTS[name]) for i, name in enumerate(CASES))
for number, (parameters, _) in enumerate(CASES.values()):
    MAIN += "".join("s%d_%s = %s\n" % (number, name, value) for name, value in parameters.items())
MASTER = "".join("s%d unix - - n - 50 smtp\n" % number for number in range(len(CASES)))


class Gauge:
    """Counts the transactions that a server has at a time."""

    def __init__(self, turns_away_from):
        self.lock, self.now, self.history, self.away, self.limit = threading.Lock(), 0, [], 0, turns_away_from

    def greet(self, _):
        with self.lock:
            if self.limit is not None and len(self.history) >= self.limit:
                self.away += 1
                return "421 4.3.2 not now"
        return ""

    def enter(self, _):
        with self.lock:
            self.now += 1
            self.history.append(self.now)
        return ""

    def leave(self, _):
        time.sleep(BUSY)
        with self.lock:
            self.now -= 1
        return ""


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class Feedback(unittest.TestCase):
    maxDiff = None

    def run_all(self, port):
        gauges = {name: Gauge(away) for name, (_, away) in CASES.items()}
        peers = [Peer(PORTS[name], replies={"CONNECT": gauge.greet, "MAIL": gauge.enter, ".": gauge.leave}) for name, gauge in gauges.items()]

        def fill(name):
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                for i in range(MESSAGES if CASES[name][1] is None else MANY):
                    client.sendmail("fred@example.org", ["%d@%s.example" % (i, name)], "Subject: x\r\n\r\nx\r\n")
        senders = [threading.Thread(target=fill, args=(name,)) for name in CASES]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        deadline = time.monotonic() + 25
        while time.monotonic() < deadline and any(len(gauge.history) < MESSAGES for gauge in gauges.values() if gauge.limit is None):
            time.sleep(0.1)
        for peer in peers:
            peer.close()
        return {name: {"peak": max(gauge.history), "served": len(gauge.history), "away": gauge.away,
                       "reached": {n: gauge.history.index(n) for n in range(1, max(gauge.history) + 1)}} for name, gauge in gauges.items()}

    def test_each(self):
        where = tempfile.mkdtemp(prefix="postern-feedback-")
        self.addCleanup(shutil.rmtree, where, True)
        with postfix_peer.Postfix(where, BASE + 50, MAIN, MASTER):
            theirs = self.run_all(BASE + 50)
        mail = Suite(MAIN, MASTER)
        self.addCleanup(mail.stop)
        mail.start()
        ours = self.run_all(mail.port["smtp"])
        for name in CASES:
            with self.subTest(name):
                self.compare(CASES[name][1], ours[name], theirs[name])

    def compare(self, turns_away_from, mine, others):
        if turns_away_from is not None:   # both see soon that the destination is gone, and leave the rest of the mail alone
            for one in (mine, others):
                self.assertGreater(one["away"], 0)
                self.assertLess(one["served"] + one["away"], MANY - 10)
            return
        self.assertEqual((mine["served"], others["served"]), (MESSAGES, MESSAGES))
        self.assertAlmostEqual(mine["peak"], others["peak"], delta=0 if others["peak"] <= 4 else 3)   # the last ones begin when the first of all have left
        for number, at in others["reached"].items():   # after how many messages there were so many at a time
            self.assertAlmostEqual(mine["reached"].get(number, MESSAGES), at, delta=LATE)


if __name__ == "__main__":
    unittest.main(verbosity=2)
