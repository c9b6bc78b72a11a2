#!/usr/bin/env python3
"""make bench: what the machine itself asks for a message.  A program that takes mail, keeps it as safely and passes it on, but does
nothing else (t/bench/floor.cc), as one process and as four that hand the message on, beside Postern and Debian's Postfix, alternating,
in the same minutes.

    floor.py [--rounds N] [--sessions N] [--messages N]

How many times Postfix's messages per CPU second the floor makes is about what a server can.  Needs root and Debian's postfix.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import relay  # noqa: E402
import run  # noqa: E402
from servers import ROOT, Postern, Postfix, Server, wait_listening  # noqa: E402

PORT = relay.PORT
PROGRAM = os.environ.get("POSTERN_FLOOR", os.path.join(ROOT, "build", "bench", "floor"))


class Floor(Server):
    def __init__(self, where, processes, port, sessions, sink=None):
        self.name = "floor %d" % processes
        self.dir, self.smtp = "%s/floor%d" % (where, processes), port
        self.mail = self.dir + "/mail"
        self.words = [PROGRAM, str(processes), str(port), str(sessions), self.dir] + ([str(sink)] if sink else [])
        os.makedirs(self.dir + "/queue")
        self.empty_mail()

    def empty_mail(self):
        super().empty_mail()
        for folder in ("tmp", "new", "cur"):
            os.mkdir("%s/user0/%s" % (self.mail, folder))

    def start(self):
        self.process = subprocess.Popen(self.words)
        self.master = self.process.pid
        wait_listening(self.smtp)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class RelayFloor(relay.Relay, Floor):
    def __init__(self, *arguments):
        Floor.__init__(self, *arguments)
        self.position = self.sent = 0


def measure(servers, rounds, burst):
    """ms of CPU for a message, of each server, medians."""
    for server in servers:
        server.start()
    try:
        for server in servers:
            burst(server, 200)
            server.empty_mail()
        spent = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                spent[server.name].append(burst(server, None)[1])
                server.empty_mail()
    finally:
        for server in servers:
            server.stop()
    return {name: statistics.median(values) for name, values in spent.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--messages", type=int, default=3000)
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("postfix"):
        sys.exit("this benchmark needs root, and Debian's postfix")
    with run.scratch() as where:
        bench(options, where)


def bench(options, where):
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", "-m", "2000", "127.0.0.1:%d" % relay.SINK, "2000"], stdout=subprocess.DEVNULL)
    try:
        results = {}
        count, many = options.sessions, options.messages
        here = where + "/maildir"
        os.makedirs(here)
        servers = [Postern(here, PORT), Postfix(here, PORT + 10)] + [Floor(here, n, PORT + 20 + n, count) for n in (1, 4)]
        results["SMTP to Maildir"] = measure(servers, options.rounds, lambda server, messages: run.smtp_burst(server, count, messages or many))
        here = where + "/relay"
        os.makedirs(here)
        servers = [relay.PosternRelay(here, PORT + 30), relay.PostfixRelay(here, PORT + 40)]
        for server in servers:
            server.relay(count)
        servers += [RelayFloor(here, n, PORT + 50 + n, count, relay.SINK) for n in (1, 4)]
        results["relay"] = measure(servers, options.rounds, lambda server, messages: relay.burst(server, count, messages or many))
        print("\n| %d sessions | CPU, ms/message | Postfix / it |\n| --- | ---: | ---: |" % count)
        for label, spent in results.items():
            for name in ("floor 1", "floor 4", "Postern", "Postfix"):
                print("| %s, %s | %.2f | %.1f |" % (label, name, spent[name], spent["Postfix"] / spent[name]))
    finally:
        sink.terminate()


if __name__ == "__main__":
    main()
