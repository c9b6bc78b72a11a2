#!/usr/bin/env python3
"""How many deliveries at a time a destination gets: what a server sees with each setting of the queue manager must be what Debian's Postfix
shows it.  Needs Postfix, and root.

The server is the clock: a delivery ends when the test lets it, one after another, and the next only when the queue manager has said what
it makes of the one before (destination_concurrency_feedback_debug) and as many are under way as there shall be (Model).  So the numbers are
exact, however fast the machine is."""
import concurrent.futures
import os
import re
import shutil
import smtplib
import tempfile
import threading
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import PATIENCE, Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
FIRST = BASE + 200
MESSAGES = 60
ANCHOR = 15     # deliveries, after which it is waited whether there are more under way than there shall be
SETTLE = 0.7    # seconds: for that
IN_VAIN = 60 * PATIENCE   # seconds, after which nobody comes any more

# name -> parameters of the transport, and after how many connections the server turns everybody away
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
    "gone-forgiven-slowly": ({"destination_concurrency_negative_feedback": "1/concurrency", "destination_concurrency_failed_cohort_limit": "2"}, 12),
    "gone-alternating": ({"destination_concurrency_failed_cohort_limit": "2"}, 20),   # old ones succeed while new ones are turned away
}
PORTS = {name: FIRST + i for i, name in enumerate(CASES)}
MAIN = postfix_peer.RELAYS + """
transport_maps = inline:{%s}
smtpd_recipient_limit = 1000
smtp_connection_cache_on_demand = no
initial_destination_concurrency = 5
in_flow_delay = 0
destination_concurrency_feedback_debug = yes
""" % ", ".join("%s.example=s%d:[127.0.0.1]:%d" % (name, i, PORTS[name]) for i, name in enumerate(CASES))
for number, (parameters, _) in enumerate(CASES.values()):
    MAIN += "".join("s%d_%s = %s\n" % (number, name, value) for name, value in parameters.items())
MASTER = "".join("s%d unix - - n - 50 smtp\n" % number for number in range(len(CASES)))


class Model:
    """What the queue manager shall do: how many deliveries are under way, after each that ended."""

    def __init__(self, parameters):
        self.initial = int(parameters.get("initial_destination_concurrency", "5"))
        self.limit = int(parameters.get("destination_concurrency_limit", "20"))
        self.cohorts = int(parameters.get("destination_concurrency_failed_cohort_limit", "1"))
        self.positive = parameters.get("destination_concurrency_positive_feedback", "1")
        self.negative = parameters.get("destination_concurrency_negative_feedback", "1")
        self.window, self.success, self.failure, self.failed_cohorts, self.closed = min(self.initial, self.limit), 0.0, 0.0, 0.0, False
        self.under_way, self.waiting = 0, MESSAGES
        self.start()

    def feedback(self, text):
        number, _, divisor = text.partition("/")
        return float(number) / {"": 1, "concurrency": self.window}[divisor]

    def start(self):
        more = max(0, min(self.window - self.under_way, self.waiting))
        self.under_way += more
        self.waiting -= more

    def ended(self, well):
        if well:
            self.succeeded()
        else:
            self.failed()
        self.under_way -= 1
        self.start()

    def succeeded(self):
        self.failed_cohorts = 0
        if self.closed or self.window >= self.limit or self.window >= self.under_way + self.initial:
            return
        feedback = self.feedback(self.positive)
        self.success += feedback
        while self.success + feedback / 2 >= 1:
            self.window, self.success, self.failure = self.window + 1, self.success - 1, 0.0

    def failed(self):
        if self.closed:
            return
        self.failed_cohorts += 1 / self.window
        if self.failed_cohorts >= self.cohorts:   # the rest is put off
            self.closed, self.waiting = True, 0
            return
        feedback = self.feedback(self.negative)
        self.failure -= feedback
        while self.failure - feedback / 2 < 0:   # at the beginning of a cycle, not at its end
            self.window, self.failure, self.success = self.window - 1, self.failure + 1, 0.0
        self.window = max(1, self.window)


class Words:
    """What an instance's queue manager says about the windows of its destinations, as its log grows."""

    def __init__(self, instance):
        self.lock, self.said, self.rest = threading.Lock(), {name: [] for name in CASES}, ""
        self.names = {str(port): name for name, port in PORTS.items()}
        self.file = open(instance.dir + "/log", errors="replace")

    def of(self, name):
        with self.lock:
            *lines, self.rest = (self.rest + self.file.read()).split("\n")
            for line in lines:
                found = re.search(r": (qmgr_queue_(?:un)?throttle): queue \[127\.0\.0\.1\]:(\d+): (limit .*)", line)
                if found:
                    self.said[self.names[found[2]]].append(found[1] + " " + found[3])
            return list(self.said[name])


class Gate:
    """Keeps a server's clients waiting: at the greeting those that will be turned away, all others at the end of their message."""

    def __init__(self, turns_away_after):
        self.change, self.limit = threading.Condition(), turns_away_after
        self.connections, self.kept, self.mine = 0, {}, threading.local()

    def wait(self):
        leave = threading.Event()
        with self.change:
            self.kept[self.mine.number] = leave
            self.change.notify_all()
        leave.wait()

    def welcome(self, number):
        return self.limit is None or number <= self.limit

    def greet(self, _):
        with self.change:
            self.connections += 1
            self.mine.number = self.connections
        if self.welcome(self.mine.number):
            return ""
        self.wait()
        return "421 4.3.2 not now"

    def end(self, _):
        self.wait()
        return ""

    def expect(self, number, settle):
        """Until so many are kept, and, in a while, no more; how many there are then."""
        with self.change:
            self.change.wait_for(lambda: len(self.kept) >= number, IN_VAIN)
            if settle:
                self.change.wait_for(lambda: len(self.kept) > number, SETTLE)
            return len(self.kept)

    def let_go(self, newest):
        """One of those that are kept; whether its message was taken."""
        with self.change:
            number = max(self.kept) if newest else min(self.kept)
            self.kept.pop(number).set()
        return self.welcome(number)

    def open(self):
        with self.change:
            for leave in self.kept.values():
                leave.set()


def play(name, port, gate, words):
    """Fills the queue and lets one delivery after another end.  Returns how many were under way before each end, how many had to be, and
    what was said about it until the destination was given up."""
    parameters, away = CASES[name]
    with smtplib.SMTP("127.0.0.1", port, timeout=60 * PATIENCE) as client:
        for i in range(MESSAGES):
            client.sendmail("fred@example.org", ["%d@%s.example" % (i, name)], "Subject: x\r\n\r\nx\r\n")
    model, seen, right, ends = Model(parameters), [], [], 0
    while model.under_way > 0 and seen == right:
        right.append(model.under_way)
        seen.append(gate.expect(model.under_way, len(seen) % ANCHOR == 0))
        if seen != right:
            break
        ends += 0 if model.closed else 1
        model.ended(gate.let_go(newest=name == "gone-alternating" and len(seen) % 2 == 1))
        wait_until(lambda: len(words.of(name)) >= ends, "%s: end %d is noticed" % (name, ends), 60)
    right.append(0)
    seen.append(gate.expect(0, True))
    return seen, right, words.of(name)[:ends]


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class Feedback(unittest.TestCase):
    maxDiff = None

    def run_all(self, port, instance):
        words = Words(instance)
        gates = {name: Gate(away) for name, (_, away) in CASES.items()}
        peers = [Peer(PORTS[name], replies={"CONNECT": gate.greet, ".": gate.end}) for name, gate in gates.items()]
        with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
            started = {name: pool.submit(play, name, port, gate, words) for name, gate in gates.items()}
        for peer in peers:
            peer.close()
        for gate in gates.values():
            gate.open()
        words.file.close()
        return {name: (*started[name].result(), gate.connections) for name, gate in gates.items()}

    def test_each(self):
        where = tempfile.mkdtemp(prefix="postern-feedback-")
        self.addCleanup(shutil.rmtree, where, True)
        with postfix_peer.Postfix(where, BASE + 50, MAIN, MASTER) as postfix:
            theirs = self.run_all(BASE + 50, postfix)
        mail = Suite(MAIN, MASTER)
        self.addCleanup(mail.stop)
        mail.start()
        ours = self.run_all(mail.port["smtp"], mail)
        for name, (_, away) in CASES.items():
            with self.subTest(name):
                for seen, right, words, connections in theirs[name], ours[name]:
                    self.assertEqual(seen, right)
                    self.assertEqual(connections, len(right) - 1)   # and nobody is tried again
                    self.assertEqual(connections < MESSAGES, away is not None)
                    self.assertEqual(words, theirs[name][2])


if __name__ == "__main__":
    unittest.main(verbosity=2)
