#!/usr/bin/env python3
"""How the SMTP and LMTP client keeps and ends connections: servers that stall at QUIT and RSET, limits of uses and of time, and where
connections come from in IPv6.  What each server sees must be what Debian's Postfix shows it with the same parameters.  Needs Postfix, and root
for a network namespace with a second IPv6 address.

How fast the machine is must not matter.  A message is sent when the log says what became of the one before.  What is kept is kept for LONG
unless the time is what is tested, so that a connection that shall be ended and one that shall be kept are told apart by whether it is open
at the end; and a time limit that is tested is measured again, with all services started anew, when a measurement is out of its bounds: who
waits for the wrong time does so always.  Other differences count at once."""
import concurrent.futures
import copy
import math
import os
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import PATIENCE, Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
FIRST = BASE + 100
SECOND_ADDRESS = "fd00:7:7::7"
LONG = 1000          # seconds: of what is not to end, and of limits that are not to be reached
SHORT = 3 * PATIENCE   # seconds: of a limit that is tested
CACHE = "-o smtp_connection_cache_destinations=static:all -o smtp_connection_cache_time_limit=%d"
LMTP_CACHE = "-o lmtp_connection_cache_destinations=static:all -o lmtp_connection_cache_time_limit=%d"
LISTED = "-o smtp_connection_cache_on_demand=no -o smtp_connection_cache_destinations=%%s -o smtp_connection_cache_time_limit=%d" % LONG
CLOSED = "closed"    # instead of a pause: the next message is sent when no connection is open

OPEN = math.inf
ONE, TWO, THREE = ("HLO" + n * " MAIL RCPT DATA" for n in (1, 2, 3))
GIVEN_UP = "( QUIT)?"   # Postfix's scache says nothing when it gives up a connection


class Case:
    """`options` of the service, in which {port} is the server's, and `server` of the peer; `pauses`: a message each, after so many seconds since the last one was done
    with; `talks`: of each connection what is said, as a regular expression without the E or L of (EH|LH)LO, and after how many seconds
    it is closed, counted from the last word but QUIT; `theirs`: that of Postfix, where there is a reason to do otherwise; `haste`:
    seconds from the beginning until the second message is done with, or the case proves nothing."""

    def __init__(self, options, server, talks, pauses=(0,), theirs=None, haste=math.inf):
        self.lmtp = options.startswith("lmtp")
        self.options, self.server, self.pauses, self.haste = options[4:] if self.lmtp else options, dict(server, lmtp=self.lmtp), pauses, haste
        self.talks, self.theirs = talks, theirs or talks


CASES = {
    "quit-wait": Case("-o smtp_skip_quit_response=no -o smtp_quit_timeout=%d" % SHORT, {"replies": {"QUIT": math.inf}}, [(ONE + " QUIT", SHORT)]),
    "quit-wait-longer": Case("-o smtp_skip_quit_response=no -o smtp_quit_timeout=%d" % (2 * SHORT), {"replies": {"QUIT": math.inf}},
                             [(ONE + " QUIT", 2 * SHORT)]),
    "quit-skip": Case("-o smtp_quit_timeout=%d" % LONG, {"replies": {"QUIT": math.inf}}, [(ONE + " QUIT", 0)]),
    "lmtp-quit-wait": Case("lmtp -o lmtp_quit_timeout=%d" % SHORT, {"replies": {"QUIT": math.inf}}, [(ONE + " QUIT", SHORT)]),
    "lmtp-quit-skip": Case("lmtp -o lmtp_skip_quit_response=yes -o lmtp_quit_timeout=%d" % LONG, {"replies": {"QUIT": math.inf}}, [(ONE + " QUIT", 0)]),
    "rset": Case(CACHE % LONG + " -o smtp_rset_timeout=%d" % SHORT, {"replies": {"RSET": math.inf}}, [(TWO, OPEN)], (0, 0),
                 [(ONE + " RSET", SHORT), (ONE, OPEN)]),
    "rset-refused": Case(CACHE % LONG, {"replies": {"RSET": "500 what"}}, [(TWO, OPEN)], (0, 0), [(ONE + " RSET", 0), (ONE, OPEN)]),
    "lmtp-rset": Case("lmtp " + LMTP_CACHE % LONG + " -o lmtp_rset_timeout=%d" % SHORT, {"replies": {"RSET": math.inf}}, [(TWO, OPEN)], (0, 0),
                      [(ONE + " RSET", SHORT), (ONE, OPEN)]),
    "uses": Case(CACHE % LONG + " -o smtp_connection_reuse_count_limit=2", {}, [(THREE + " QUIT", 0), (THREE + " QUIT", 0), (ONE, OPEN)], 7 * (0,)),
    "one-use": Case(CACHE % LONG + " -o smtp_connection_reuse_count_limit=1", {}, [(TWO + " QUIT", 0), (ONE, OPEN)], (0, 0, 0)),
    "lmtp-uses": Case("lmtp " + LMTP_CACHE % LONG + " -o lmtp_connection_reuse_count_limit=2", {}, [(THREE + " QUIT", 0), (ONE, OPEN)], (0, 0, 0, 0)),
    "age": Case(CACHE % LONG + " -o smtp_connection_reuse_time_limit=%d" % (2 * SHORT), {}, [(THREE + " QUIT", 0), (ONE, OPEN)],
                (0, SHORT, SHORT + 1.5, 0), haste=2 * SHORT),
    "lmtp-age": Case("lmtp " + LMTP_CACHE % LONG + " -o lmtp_connection_reuse_time_limit=%d" % (2 * SHORT), {}, [(THREE + " QUIT", 0), (ONE, OPEN)],
                     (0, SHORT, SHORT + 1.5, 0), haste=2 * SHORT),
    "idle": Case(CACHE % SHORT, {}, [(ONE + GIVEN_UP, SHORT), (ONE + GIVEN_UP, SHORT)], (0, CLOSED)),
    "idle-not": Case(CACHE % (2 * SHORT), {}, [(TWO + GIVEN_UP, 2 * SHORT)], (0, SHORT + 0.5), haste=2 * SHORT),
    "lmtp-idle": Case("lmtp " + LMTP_CACHE % SHORT, {}, [(ONE + GIVEN_UP, SHORT), (ONE + GIVEN_UP, SHORT)], (0, CLOSED)),
    # Two messages within smtp_connection_cache_time_limit are reason enough to wait for a third.
    "uncached": Case("-o smtp_connection_cache_time_limit=%d" % (2 * SHORT), {}, [(ONE + " QUIT", 0), (ONE + GIVEN_UP, 2 * SHORT)], (0, 0),
                     [(ONE + " QUIT", 0), (ONE + " QUIT", 0)], haste=2 * SHORT),
    "listed": Case(LISTED % "127.0.0.1", {}, [(TWO, OPEN)], (0, 0)),
    "listed-in-brackets": Case(LISTED % "[127.0.0.1]", {}, [(ONE + " QUIT", 0), (ONE + " QUIT", 0)], (0, 0)),
    "listed-with-port": Case(LISTED % "[127.0.0.1]:{port}", {}, [(ONE + " QUIT", 0), (ONE + " QUIT", 0)], (0, 0)),
    "not-listed": Case(LISTED % "other.example", {}, [(ONE + " QUIT", 0), (ONE + " QUIT", 0)], (0, 0)),
    "lmtp-listed": Case("lmtp " + LISTED.replace("smtp", "lmtp") % "127.0.0.1", {}, [(TWO, OPEN)], (0, 0)),
    "usual-time": Case("-o smtp_connection_cache_destinations=127.0.0.1", {}, [(ONE + GIVEN_UP, 2)]),
    # A server that has had enough of a kept connection says nothing about the message, which goes by another one at once.
    "hangs-up": Case(CACHE % LONG, {"replies": {"MAIL": ["", None, ""]}}, [(ONE + " MAIL", 0), (ONE, OPEN)], (0, 0), [(ONE + " MAIL", 0)]),
    "busy": Case(CACHE % LONG, {"replies": {"MAIL": ["", "421 4.3.2 enough", ""]}}, [(ONE + " MAIL", 0), (ONE, OPEN)], (0, 0), [(ONE + " MAIL", 0)]),
    "stall": Case(CACHE % LONG + " -o smtp_rset_timeout=%d -o smtp_mail_timeout=%d" % (SHORT, 2 * SHORT), {"replies": {"MAIL": ["", math.inf, ""]}},
                  [(ONE + " MAIL", SHORT), (ONE, OPEN)], (0, 0), [(ONE + " MAIL", 2 * SHORT)]),
    "bind6": Case("-o smtp_bind_address6=" + SECOND_ADDRESS, {"address": "::1"}, [(ONE + " QUIT", 0)]),
    "lmtp-bind6": Case("lmtp -o lmtp_bind_address6=" + SECOND_ADDRESS, {"address": "::1"}, [(ONE + " QUIT", 0)]),
    "bind6-for-v4": Case("-o smtp_bind_address6=" + SECOND_ADDRESS, {}, [(ONE + " QUIT", 0)]),
    "bind6-lost": Case("-o smtp_bind_address6=fd00:8::1", {"address": "::1"}, [(ONE + " QUIT", 0)]),
}
PORTS = {name: FIRST + i for i, name in enumerate(CASES)}


def route(i, name):
    case = CASES[name]
    host = "[IPv6:::1]" if case.server.get("address") else "[127.0.0.1]"
    return "%s.example=s%d:%s%s:%d" % (name, i, "inet:" if case.lmtp else "", host, PORTS[name])


MAIN = postfix_peer.RELAYS + """
transport_maps = inline:{%s}
connection_cache_ttl_limit = %d
""" % (",".join(route(i, name) for i, name in enumerate(CASES)), LONG)


def master():
    return "".join("s%d unix - - n - 1 %s -o inet_protocols=all %s\n" % (i, "lmtp" if case.lmtp else "smtp", case.options.replace("{port}", str(PORTS[name])))
                   for i, (name, case) in enumerate(CASES.items()))


class Fates:
    """Of messages, from an instance's log as it grows."""

    def __init__(self, instance):
        self.lock, self.known, self.rest = threading.Lock(), set(), ""
        self.file = open(instance.dir + "/log", errors="replace")

    def known_of(self, queue_id):
        """Whether it was delivered, or will have to be tried again."""
        with self.lock:
            *lines, self.rest = (self.rest + self.file.read()).split("\n")
            for line in lines:
                found = re.search(r": (\w+): (?:removed$|to=.* status=deferred )", line)
                self.known.update(found.groups() if found else ())
            return queue_id in self.known


def send(port, name, number):
    """The queue id that the message has."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo()
        client.mail("fred@example.org")
        client.rcpt("%d@%s.example" % (number, name))
        code, reply = client.data("Subject: %d\r\n\r\nx\r\n" % number)
    if code != 250:
        raise AssertionError("%s: %d %s" % (name, code, reply))
    return reply.decode().rsplit(" ", 1)[1]


def all_closed(peer, which=slice(None)):
    with peer.lock:
        return all(talk["ended"] for talk in peer.conversations[which])


def play(name, talks, port, peer, fates):
    """Sends a case's messages, and waits until what shall be closed is closed, or is not in a time that is much longer.  Returns what
    is wrong with the measurement."""
    case, begin, late = CASES[name], time.monotonic(), ""
    for number, pause in enumerate(case.pauses):
        if pause == CLOSED:
            wait_until(lambda: all_closed(peer), name + ": closed", 3 * SHORT)
        else:
            time.sleep(pause)
        queue_id = send(port, name, number)
        wait_until(lambda: fates.known_of(queue_id), "%s: what became of message %d" % (name, number), 60)
        if number == 1 and time.monotonic() - begin > case.haste:
            late = "the second message took %.1f s" % (time.monotonic() - begin)
    for i, (_, seconds) in enumerate(talks):
        if seconds != OPEN:
            deadline = time.monotonic() + seconds + 20 * PATIENCE
            while not all_closed(peer, slice(i, i + 1)) and time.monotonic() < deadline:
                time.sleep(0.05)
    return late


LATE = 1.7 * PATIENCE   # seconds: who looks for old connections once a second is late by one, and the machine by the rest
OURS_EARLY, THEIRS_EARLY = 0.3, 1.3   # what was heard is noted a little later; and Postfix counts in whole seconds of the clock
REMAIN = 3.5            # seconds that a connection that shall be kept stays when all is over: longer than the usual time limit of 2
ATTEMPTS = 6


def judge(talk, words, seconds, early):
    """What is wrong with a conversation: with what was said or whether it ended, and with the times."""
    heard = [(at, command.split(" ")[0]) for at, command in talk["commands"]]
    # Postfix says RSET to see whether a kept connection is alive, which costs a round trip; here the next command tells.
    heard = [(at, word) for i, (at, word) in enumerate(heard) if word != "RSET" or i == len(heard) - 1]
    said = " ".join(word for _, word in heard)
    if not re.fullmatch("[EL]" + words, said):
        return "said %r instead of %r" % (said, words), ""
    if (talk["ended"] is None) != (seconds == OPEN):
        return "%s: %s" % (said, "still open" if seconds != OPEN else "closed after %.1f s" % (talk["ended"] - heard[-1][0])), ""
    if seconds == OPEN:
        return "", ""
    took = talk["ended"] - [at for at, word in heard if word != "QUIT"][-1]
    return "", "" if seconds - early <= took <= seconds + LATE else "%s: closed after %.1f s instead of %s" % (said, took, seconds)


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class KeptConnections(unittest.TestCase):
    maxDiff = None

    def run_cases(self, names, instance, port, talks, early):
        """Of each case: what is wrong, what is late, and what the server has seen."""
        peers = {name: Peer(PORTS[name], **copy.deepcopy(CASES[name].server)) for name in names}
        fates = Fates(instance)
        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            started = {name: pool.submit(play, name, talks[name], port, peer, fates) for name, peer in peers.items()}
        time.sleep(REMAIN)
        out = {}
        for name, peer in peers.items():
            with peer.lock:
                wrong = [judge(talk, *expected, early) for talk, expected in zip(peer.conversations, talks[name])]
                problems = [problem for problem, _ in wrong if problem]
                if len(peer.conversations) != len(talks[name]):
                    problems.append("%d connections: %s" % (len(peer.conversations), [[word for _, word in talk["commands"]] for talk in peer.conversations]))
                late = [started[name].result()] + [lateness for _, lateness in wrong]
                out[name] = problems, [one for one in late if one], {
                    "from": sorted(peer.clients), "got": sorted(message["recipients"][0].split(">")[0] for message in peer.messages)}
            peer.close()
        fates.file.close()
        return out

    def until_measured(self, run):
        """What `run(names)` finds of each case, in as many runs as it takes."""
        out, names = {}, list(CASES)
        for attempt in range(ATTEMPTS):
            found = run(names)
            out.update(found)
            names = [name for name, (problems, late, _) in found.items() if late and (not problems or CASES[name].haste < OPEN)]
            if not names:
                break
            print("once more:", {name: found[name][1] for name in names})
        return out

    def theirs(self, names):
        where = tempfile.mkdtemp(prefix="postern-kept-")
        try:
            with postfix_peer.Postfix(where, BASE + 50, MAIN, master()) as postfix:
                return self.run_cases(names, postfix, BASE + 50, {name: case.theirs for name, case in CASES.items()}, THEIRS_EARLY)
        finally:
            shutil.rmtree(where, True)

    def ours(self, names):
        mail = Suite(MAIN, master())
        try:
            mail.start()
            return self.run_cases(names, mail, mail.port["smtp"], {name: case.talks for name, case in CASES.items()}, OURS_EARLY)
        finally:
            mail.stop()

    def test_each(self):
        theirs, ours = self.until_measured(self.theirs), self.until_measured(self.ours)
        for name, case in CASES.items():
            with self.subTest(name):
                self.assertEqual(theirs[name][:2], ([], []), "Postfix")
                self.assertEqual(ours[name][:2], ([], []))
                self.assertEqual(len(ours[name][2]["got"]), len(case.pauses))
                if case.theirs is case.talks:
                    self.assertEqual(ours[name][2], theirs[name][2])


if __name__ == "__main__":
    if postfix_peer.available() and not os.environ.get("POSTERN_KEPT_NET"):
        if not shutil.which("ip") or subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode != 0:
            print("notice: no network namespaces here")
            sys.exit(77)
        os.environ["POSTERN_KEPT_NET"] = "own"
        os.execvp("unshare", ["unshare", "--net", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    for words in ("link set lo up", "-6 addr add %s/128 dev lo nodad" % SECOND_ADDRESS) if postfix_peer.available() else ():
        subprocess.run(["ip", *words.split()], check=True)
    unittest.main(verbosity=2)
