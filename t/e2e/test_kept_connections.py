#!/usr/bin/env python3
"""How the SMTP and LMTP client keeps and ends connections: servers that stall at QUIT and RSET, limits of uses and of time, and where
connections come from in IPv6.  What each server sees must be what Debian's Postfix shows it with the same parameters.  Needs Postfix, and root
for a network namespace with a second IPv6 address."""
import copy
import math
import os
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
from suite import Suite

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
FIRST = BASE + 100
SECOND_ADDRESS = "fd00:7:7::7"
CACHE = "-o smtp_connection_cache_destinations=static:all -o smtp_connection_cache_time_limit=%s"
LMTP_CACHE = "-o lmtp_connection_cache_destinations=static:all -o lmtp_connection_cache_time_limit=%s"

# name -> options of the service, of the server, and the seconds at which messages are sent
CASES = {
    "quit-wait": ("-o smtp_skip_quit_response=no -o smtp_quit_timeout=2s", {"replies": {"QUIT": math.inf}}, (0,)),
    "quit-skip": ("-o smtp_quit_timeout=20s", {"replies": {"QUIT": math.inf}}, (0,)),
    "lmtp-quit-wait": ("lmtp -o lmtp_quit_timeout=2s", {"lmtp": True, "replies": {"QUIT": math.inf}}, (0,)),
    "lmtp-quit-skip": ("lmtp -o lmtp_skip_quit_response=yes -o lmtp_quit_timeout=20s", {"lmtp": True, "replies": {"QUIT": math.inf}}, (0,)),
    "rset": (CACHE % "4s" + " -o smtp_rset_timeout=1s", {"replies": {"RSET": math.inf}}, (0, 1)),
    "rset-refused": (CACHE % "4s", {"replies": {"RSET": "500 what"}}, (0, 1)),
    "lmtp-rset": ("lmtp " + LMTP_CACHE % "4s" + " -o lmtp_rset_timeout=1s", {"lmtp": True, "replies": {"RSET": math.inf}}, (0, 1)),
    "uses": (CACHE % "4s" + " -o smtp_connection_reuse_count_limit=2", {}, (0, 1, 2, 3, 4)),
    "one-use": (CACHE % "4s" + " -o smtp_connection_reuse_count_limit=1", {}, (0, 1)),
    "lmtp-uses": ("lmtp " + LMTP_CACHE % "4s" + " -o lmtp_connection_reuse_count_limit=2", {"lmtp": True}, (0, 1, 2)),
    "age": (CACHE % "4s" + " -o smtp_connection_reuse_time_limit=2s", {}, (0, 1, 3.5, 4.5)),
    "lmtp-age": ("lmtp " + LMTP_CACHE % "4s" + " -o lmtp_connection_reuse_time_limit=2s", {"lmtp": True}, (0, 1, 3.5, 4.5)),
    "idle": (CACHE % "1s", {}, (0, 3)),
    "idle-not": (CACHE % "4s", {}, (0, 3)),
    "uncached": ("", {}, (0, 1)),
    "listed": ("-o smtp_connection_cache_on_demand=no -o smtp_connection_cache_destinations=[127.0.0.1]", {}, (0, 1)),
    "not-listed": ("-o smtp_connection_cache_on_demand=no -o smtp_connection_cache_destinations=other.example", {}, (0, 1)),
    "hangs-up": (CACHE % "4s", {"replies": {"MAIL": ["", None, ""]}}, (0, 1)),
    "busy": (CACHE % "4s", {"replies": {"MAIL": ["", "421 4.3.2 enough", ""]}}, (0, 1)),
    "stall": (CACHE % "4s" + " -o smtp_rset_timeout=1s -o smtp_mail_timeout=3s", {"replies": {"MAIL": ["", math.inf, ""]}}, (0, 1)),
    "bind6": ("-o smtp_bind_address6=" + SECOND_ADDRESS, {"address": "::1"}, (0,)),
    "lmtp-bind6": ("lmtp -o lmtp_bind_address6=" + SECOND_ADDRESS, {"lmtp": True, "address": "::1"}, (0,)),
    "bind6-for-v4": ("-o smtp_bind_address6=" + SECOND_ADDRESS, {}, (0,)),
    "bind6-lost": ("-o smtp_bind_address6=fd00:8::1", {"address": "::1"}, (0,)),
}
PORTS = {name: FIRST + i for i, name in enumerate(CASES)}


def route(i, name):
    options, server, _ = CASES[name]
    host = "[IPv6:::1]" if server.get("address") else "[127.0.0.1]"
    return "%s.example=s%d:%s%s:%d" % (name, i, "inet:" if options.startswith("lmtp") else "", host, PORTS[name])


MAIN = postfix_peer.RELAYS + """
transport_maps = inline:{%s}
connection_cache_ttl_limit = 10s
""" % ",".join(route(i, name) for i, name in enumerate(CASES))


def master():
    rows = ""
    for i, (options, _, _) in enumerate(CASES.values()):
        lmtp = options.startswith("lmtp")
        rows += "s%d unix - - n - 1 %s -o inet_protocols=all %s\n" % (i, "lmtp" if lmtp else "smtp", options[4:] if lmtp else options)
    return rows


def send(port, name, number):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("fred@example.org", ["%d@%s.example" % (number, name)], "Subject: %d\r\n\r\nx\r\n" % number)


LATE = 1.7   # seconds: who looks for old connections once a second is late by one, and the machine by the rest; what differs, differs by 2
NEXT = "EHLO MAIL RCPT DATA", 4
# Where there is a reason to do otherwise: (what is said, seconds it stays open) of each connection here, and those of Postfix.
DIFFERENT = {
    "rset": ([("EHLO MAIL RCPT DATA MAIL RCPT DATA", 4)], [("EHLO MAIL RCPT DATA", 1), NEXT]),
    "rset-refused": ([("EHLO MAIL RCPT DATA MAIL RCPT DATA", 4)], [("EHLO MAIL RCPT DATA", 0), NEXT]),
    "lmtp-rset": ([("LHLO MAIL RCPT DATA MAIL RCPT DATA", 4)], [("LHLO MAIL RCPT DATA", 1), ("LHLO MAIL RCPT DATA", 4)]),
    # A server that has had enough of a kept connection says nothing about the message, which goes by another one at once.
    "hangs-up": ([("EHLO MAIL RCPT DATA MAIL", 0), NEXT], [("EHLO MAIL RCPT DATA MAIL", 0)]),
    "busy": ([("EHLO MAIL RCPT DATA MAIL", 0), NEXT], [("EHLO MAIL RCPT DATA MAIL", 0)]),
    "stall": ([("EHLO MAIL RCPT DATA MAIL", 1), NEXT], [("EHLO MAIL RCPT DATA MAIL", 3)]),
    # Two messages within smtp_connection_cache_time_limit are reason enough to wait for a third.
    "uncached": ([("EHLO MAIL RCPT DATA QUIT", 0), ("EHLO MAIL RCPT DATA", 2)], [("EHLO MAIL RCPT DATA QUIT", 0), ("EHLO MAIL RCPT DATA QUIT", 0)]),
}


def story(peer):
    """Of each connection: what was said, from which address, and how long it stayed open after the last word.  The QUIT with which a
    connection is given up that was kept is left out, as Postfix leaves it out, and so is RSET: Postfix sends one to see whether a kept
    connection is alive, which costs a round trip, and here the next command tells."""
    out = []
    for talk in peer.conversations:
        words = [(at, command.split(" ")[0]) for at, command in talk["commands"]]
        if len(words) > 1 and words[-1][1] == "QUIT" and words[-1][0] - words[-2][0] > 0.6:
            words.pop()
        last = words[-1][0] if words else talk["began"]
        out.append((" ".join(word for _, word in words if word != "RSET"), (talk["ended"] or math.inf) - last))
    return {"talks": out, "from": sorted(peer.clients), "got": sorted(message["recipients"][0].split(">")[0] for message in peer.messages)}


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class KeptConnections(unittest.TestCase):
    maxDiff = None

    def run_all(self, port):
        peers = {name: Peer(PORTS[name], **copy.deepcopy(server)) for name, (_, server, _) in CASES.items()}
        begin = time.monotonic()
        moments = sorted((at, name, i) for name, (_, _, times) in CASES.items() for i, at in enumerate(times))
        senders = []
        for at, name, i in moments:
            time.sleep(max(0, begin + at - time.monotonic()))
            senders.append(threading.Thread(target=send, args=(port, name, i)))
            senders[-1].start()
        for sender in senders:
            sender.join()
        time.sleep(7.5)   # what is kept is given up
        out = {}
        for name, peer in peers.items():
            with peer.lock:
                out[name] = story(peer)
            peer.close()
        return out

    def test_each(self):
        where = tempfile.mkdtemp(prefix="postern-kept-")
        self.addCleanup(shutil.rmtree, where, True)
        with postfix_peer.Postfix(where, BASE + 50, MAIN, master()):
            theirs = self.run_all(BASE + 50)
        mail = Suite(MAIN, master())
        self.addCleanup(mail.stop)
        mail.start()
        ours = self.run_all(mail.port["smtp"])
        for name in CASES:
            with self.subTest(name):
                mine, others = ours[name].pop("talks"), theirs[name].pop("talks")
                if name in DIFFERENT:
                    self.compare(mine, DIFFERENT[name][0])
                    self.compare(others, DIFFERENT[name][1])
                    self.assertEqual(len(ours[name]["got"]), len(CASES[name][2]))
                else:
                    self.compare(mine, others)
                    self.assertEqual(ours[name], theirs[name])

    def compare(self, one, other):
        self.assertEqual([words for words, _ in one], [words for words, _ in other])
        for (words, first), (_, second) in zip(one, other):
            self.assertAlmostEqual(first, second, delta=LATE, msg=words)


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
