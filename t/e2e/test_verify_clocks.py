#!/usr/bin/env python3
"""How long verify(8) believes what it found out, when it probes again, how long a client waits, and when the cache is cleaned: with
lifetimes of seconds, the same questions at the same times as Debian's Postfix gets.  Without Postfix, or not as root, what it is known to
do is still expected of ours."""
import concurrent.futures
import os
import re
import threading
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import PATIENCE, Suite, wait_until
from test_verify import ask

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
HERE, NOT_HERE, LATER = "250 2.1.5 here", "550 5.1.1 no such user here", "450 4.2.0 greylisted"
REFRESH, EXPIRE = 4, 10   # seconds
CLEANED = re.compile(r"cache \S+ full cleanup: retained=(\d+) dropped=(\d+) entries")

MAIN = """
transport_maps = inline:{remote.example=smtp:[127.0.0.1]:%d}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = reject_unverified_recipient, permit
unverified_recipient_reject_code = 550
address_verify_poll_delay = 1s
address_verify_positive_refresh_time = 4s
address_verify_positive_expire_time = 10s
address_verify_negative_refresh_time = 4s
address_verify_negative_expire_time = 10s
"""
NO_NEGATIVE = """address_verify_negative_cache = no
address_verify_poll_count = 1
address_verify_cache_cleanup_interval = 3s
"""
POLLS = "127.0.0.1:%d inet n - n - 4 smtpd -o address_verify_poll_count=%d\n"


class Side:
    """One mail system and the server that its probes reach."""

    def __init__(self, name, mail, port, peer_port):
        self.name, self.mail, self.port = name, mail, port
        self.replies, self.gate = {}, threading.Event()
        self.peer = Peer(peer_port, replies={"RCPT": self.rcpt})

    def rcpt(self, command):
        user = re.search(r"<([^@>]*)@", command).group(1)
        if user.startswith("slow"):
            self.gate.wait(60)
        return self.replies.get(user, HERE)

    def ask(self, user, port=0):
        reply = ask(self.port + port, "s@remote.example", user + "@remote.example")
        return reply[:9] + " in progress" if "verification in progress" in reply else reply[:9]

    def ask_all(self, users):
        """The replies, by user; all ask at the same time."""
        with concurrent.futures.ThreadPoolExecutor(len(users)) as pool:
            return dict(zip(users, pool.map(self.ask, users)))

    def probes(self, user):
        return sum("<%s@" % user in command for command in list(self.peer.commands) if command.startswith("RCPT"))

    def wait_probed(self, counts):
        """Until each user was probed so many times, and all these probes have come home."""
        def done():
            log = self.mail.log()
            return all(self.probes(user) >= count and
                       len(re.findall(r"to=<%s@remote.example>.*status=(?:un)?deliverable" % user, log)) >= count
                       for user, count in counts.items())
        wait_until(done, "%s: probes %s, of %s" % (self.name, {user: self.probes(user) for user in counts}, counts), 10)


def at(began, seconds):
    """Waits until the time has come."""
    time.sleep(max(0.0, began + seconds - time.monotonic()))


class Clocks(unittest.TestCase):
    maxDiff = None

    def sides(self, number, main, rows):
        """Ours, and Postfix where it is.  `rows` has master.cf's rows for the port that it is given."""
        base = BASE + 60 * number
        ours = Suite(MAIN % (base + 20) + main, "smtp unix - - n - 4 smtp\n" + rows(base + 31), port=base)
        self.addCleanup(ours.stop)
        ours.start()
        found = [Side("ours", ours, ours.port["smtp"], base + 20)]
        if postfix_peer.available():
            theirs = postfix_peer.beside(self, base + 50, MAIN % (base + 40) + main, rows(base + 51))
            theirs.__enter__()
            self.addCleanup(theirs.__exit__)
            found.append(Side("Postfix", theirs, base + 50, base + 40))
        for side in found:
            self.addCleanup(side.peer.close)
        return found

    def round(self, sides, expected):
        """Asks for the users; each gets the reply, and has then been probed so many times, on all sides."""
        with concurrent.futures.ThreadPoolExecutor(len(sides)) as pool:
            answers = list(pool.map(lambda side: side.ask_all(list(expected)), sides))
        for side, answer in zip(sides, answers):
            self.assertEqual(answer, {user: reply for user, (reply, _) in expected.items()}, side.name)
            side.wait_probed({user: count for user, (_, count) in expected.items()})
            self.assertEqual({user: side.probes(user) for user in expected}, {user: count for user, (_, count) in expected.items()}, side.name)

    def test_refreshed_and_forgotten(self):
        sides = self.sides(0, "", lambda port: "")
        for side in sides:
            side.replies.update({"bad": NOT_HERE, "heals": NOT_HERE, "forgiven": NOT_HERE, "later": LATER})
            side.gate.set()
        good, bad, later = "250 2.1.5", "550 5.1.1", "450 4.1.1"
        first = {"good": good, "lost": good, "goes": good, "slow": good, "bad": bad, "heals": bad, "forgiven": bad, "later": later}
        began = time.monotonic()
        self.round(sides, {user: (reply, 1) for user, reply in first.items()})
        self.round(sides, {user: (reply, 1) for user, reply in first.items()})   # what is fresh is not probed
        self.assertLess(time.monotonic() - began, REFRESH, "too slow a machine: what was fresh is not any more")
        for side in sides:
            side.replies.update({"lost": NOT_HERE, "goes": NOT_HERE, "slow": NOT_HERE, "heals": HERE, "forgiven": HERE})
            side.gate.clear()
        asked = time.monotonic()
        at(asked, REFRESH + 1.1)   # the old answer, and a probe for the next who asks
        self.assertEqual([side.ask("slow") for side in sides], [good] * len(sides))
        self.round(sides, {"good": (good, 2), "lost": (good, 2), "bad": (bad, 2), "heals": (bad, 2), "later": (later, 2)})
        self.round(sides, {"good": (good, 2), "lost": (good, 2), "bad": (bad, 2), "heals": (good, 2), "later": (later, 2)})
        at(asked, EXPIRE + 1.1)    # nobody has asked for the first two: they are as good as new
        self.round(sides, {"goes": (bad, 2), "forgiven": (good, 2), "lost": (good, 2)})   # a refresh that failed is not repeated at once
        for side in sides:
            side.gate.set()
            side.wait_probed({"slow": 2})
        self.round(sides, {"slow": (good, 2)})   # nor does it end what it was to refresh, however late it comes

    def test_without_negative_cache(self):
        """Only what was found good is kept, and what is being probed for the first time is not noted: each question has it probed."""
        sides = self.sides(1, NO_NEGATIVE, lambda port: "")
        for side in sides:
            side.replies["bad"] = NOT_HERE
        good, unknown = "250 2.1.5", "450 4.1.1 in progress"
        self.round(sides, {"good": (unknown, 1), "goes": (unknown, 1), "bad": (unknown, 1)})
        asked = time.monotonic()
        self.round(sides, {"good": (good, 1), "goes": (good, 1), "bad": (unknown, 2)})
        self.round(sides, {"bad": (unknown, 3)})
        for side in sides:
            side.replies["goes"] = NOT_HERE
        at(asked, REFRESH + 1.1)
        self.round(sides, {"good": (good, 2), "goes": (good, 2)})
        for side in sides:   # of "goes" a probe counts as under way for long yet, since it failed
            def dropped(log=side.mail.log):
                return sum(int(count) for _, count in CLEANED.findall(log())) == 1
            wait_until(dropped, side.name + ": what is old is removed from the cache", EXPIRE + 10)
            self.assertEqual(CLEANED.findall(side.mail.log())[-1][0], "1", side.name)
        self.round(sides, {"good": (unknown, 3), "goes": (good, 2)})

    def test_how_long_a_client_waits(self):
        polls = (1, 2, 4)
        sides = self.sides(2, "", lambda port: "".join(POLLS % (port + i, count) for i, count in enumerate(polls)))
        def timed(side, number, user):
            began = time.monotonic()
            reply = side.ask(user, (31 if side.name == "ours" else 1) + number)
            return reply, time.monotonic() - began
        for side in sides:
            with concurrent.futures.ThreadPoolExecutor(len(polls)) as pool:
                waited = list(pool.map(lambda number, one=side: timed(one, number, "slow%d" % number), range(len(polls))))
            for count, (reply, seconds) in zip(polls, waited):
                self.assertEqual(reply, "450 4.1.1 in progress", (side.name, count))
                self.assertGreater(seconds, count - 1.1, (side.name, count))
                self.assertLess(seconds, (count - 0.3) * PATIENCE, (side.name, count))
            side.gate.set()
            self.assertEqual(timed(side, 2, "slow3")[0], "250 2.1.5", side.name)
            side.wait_probed({"slow%d" % number: 1 for number in range(4)})
            self.assertEqual([side.probes("slow%d" % number) for number in range(4)], [1] * 4, side.name)   # polling does not probe again


if __name__ == "__main__":
    unittest.main(verbosity=2)
