#!/usr/bin/env python3
"""make bench: mail that only passes through, Postern against Debian's Postfix, alternating, in the same minutes.

    relay.py [--rounds N] [--only throughput,slow,syscalls] [--json FILE]

smtp-source sends to smtpd, and smtp hands all to smtp-sink, both from Postfix.  Needs root, Debian's postfix and strace.
Figures are medians over the rounds; the ratio is peer divided by Postern, so that above 1 is better here.
"""
import argparse
import json
import os
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run  # noqa: E402
from servers import Postern, Postfix  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "26100"))
SINK, SLOW = PORT + 60, PORT + 61
SESSIONS = 1000

# The same for both: as many connections to one destination as the measurement asks for, from the first message on.
BOTH = """
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
transport_maps = inline:{{slow.example=smtp:[127.0.0.1]:{slow}}}
smtp_destination_concurrency_limit = {limit}
initial_destination_concurrency = {limit}
smtp_data_done_timeout = 600
default_process_limit = {processes}
"""


class Relay:
    """What a server needs to relay, added to its ordinary configuration."""

    def relay(self, limit):
        with open(self.dir + "/etc/main.cf", "a") as file:
            file.write(BOTH.format(sink=SINK, slow=SLOW, limit=limit, processes=limit + 200))
        self.position = 0
        self.sent = 0

    def delivered(self):
        """Recipients with status=sent, from the log as far as it has been written."""
        with open(self.dir + "/log", "rb") as log:
            log.seek(self.position)
            text = log.read()
        end = text.rfind(b"\n") + 1
        self.position += end
        self.sent += text[:end].count(b"status=sent")
        return self.sent

    def empty_mail(self):
        os.makedirs(self.mail, exist_ok=True)


class PosternRelay(Relay, Postern):
    def relay(self, limit):
        super().relay(limit)
        with open(self.dir + "/etc/master.cf", "a") as file:
            file.write("smtp unix - - y - 4 smtp -o process_session_limit=1000\n")


class PostfixRelay(Relay, Postfix):
    def relay(self, limit):
        with open(self.dir + "/etc/main.cf") as file:
            text = file.read().replace("default_process_limit = 300\n", "")   # BOTH has it
        with open(self.dir + "/etc/main.cf", "w") as file:
            file.write(text)
        super().relay(limit)


def burst(server, sessions, messages, domain="sink.example", size=4000, wait=True):
    before, cpu, begin = server.delivered(), server.cpu(), time.monotonic()
    subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(size), "-f", "s@example.net", "-t",
                    "user@" + domain, "127.0.0.1:%d" % server.smtp], check=True)
    while wait and server.delivered() < before + messages:
        if time.monotonic() - begin > 60:
            raise RuntimeError("%s relayed %d of %d" % (server.name, server.delivered() - before, messages))
        time.sleep(0.02)
    return messages / (time.monotonic() - begin), (server.cpu() - cpu) * 1000 / messages


def bench_throughput(servers, rounds, sessions, messages):
    for server in servers:
        burst(server, sessions, min(200, messages))
    for _ in range(rounds):
        for server in servers:
            rate, cpu = burst(server, sessions, messages)
            label = "relay, %d connection%s" % (sessions, "" if sessions == 1 else "s")
            run.note(label, "messages/s", server, rate)
            run.note(label + ", CPU", "ms/message", server, cpu)


def bench_syscalls(servers):
    messages = 400
    for server in servers:
        burst(server, 20, 200)
        time.sleep(3)     # kept connections are gone, as before any other burst
        run.note_calls("relay, 20 connections, system calls", server, messages, run.traced(server, lambda: burst(server, 20, messages)))


class SlowSink:
    """Takes every command at once, and answers the final dot only when it is told to."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=2000)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.waiting, self.talks, self.released = 0, {}, False
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            for key, _ in self.selector.select(0.1):
                if key.fileobj is self.listener:
                    client, _ = self.listener.accept()
                    self.talks[client] = [b"", False]
                    self.selector.register(client, selectors.EVENT_READ)
                    client.sendall(b"220 slow.example ESMTP\r\n")
                else:
                    self.read(key.fileobj)
            if self.released:
                self.released = False
                for client in [client for client, talk in self.talks.items() if talk[1]]:
                    self.talks[client][1] = False
                    self.waiting -= 1
                    client.sendall(b"250 2.0.0 at last\r\n")
                    self.answer(client)

    def read(self, client):
        try:
            piece = client.recv(65536)
        except OSError:
            piece = b""
        if not piece:
            self.selector.unregister(client)
            self.waiting -= 1 if self.talks.pop(client)[1] else 0
            client.close()
            return
        self.talks[client][0] += piece
        self.answer(client)

    def answer(self, client):
        talk = self.talks[client]
        while b"\r\n" in talk[0] and not talk[1]:   # a QUIT that came with the dot waits too
            line, talk[0] = talk[0].split(b"\r\n", 1)
            if line == b".":
                talk[1] = True
                self.waiting += 1
            elif line.startswith(b"EHLO"):
                client.sendall(b"250-slow.example\r\n250 PIPELINING\r\n")
            elif line == b"DATA":
                client.sendall(b"354 go\r\n")
            elif line == b"QUIT":
                client.sendall(b"221 bye\r\n")
            elif line.startswith((b"MAIL", b"RCPT", b"RSET")):
                client.sendall(b"250 ok\r\n")

    def wait(self, count, seconds=180):
        end = time.monotonic() + seconds
        while self.waiting != count:
            if time.monotonic() > end:
                raise RuntimeError("%d sessions wait, not %d" % (self.waiting, count))
            time.sleep(0.1)


def bench_slow(servers):
    """Memory that SESSIONS servers take which keep us waiting, and the CPU to get there and to hold it."""
    sink = SlowSink(SLOW)
    for server in servers:
        burst(server, 1, 5)
        time.sleep(6)
        base, cpu = server.pss(), server.cpu()
        before = server.delivered()
        burst(server, 20, SESSIONS, "slow.example", wait=False)
        sink.wait(SESSIONS)
        time.sleep(2)
        label = "%d slow outgoing sessions" % SESSIONS
        run.note(label + ", PSS", "MiB", server, (server.pss() - base) / 1024)
        run.note(label + ", CPU to open", "s", server, server.cpu() - cpu)
        cpu = server.cpu()
        time.sleep(10)
        run.note(label + ", CPU while open", "ms/s", server, max(server.cpu() - cpu, 0.005) * 100)
        sink.released = True
        end = time.monotonic() + 120
        while server.delivered() < before + SESSIONS and time.monotonic() < end:
            time.sleep(0.1)
        if server.delivered() < before + SESSIONS:
            raise RuntimeError("%s: not all of the slow messages were delivered" % server.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", default="1,20,200")
    parser.add_argument("--only", default="throughput,slow,syscalls")
    parser.add_argument("--json")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("postfix") or not shutil.which("smtp-sink"):
        sys.exit("this benchmark needs root, and Debian's postfix and strace")
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    with run.scratch() as where:
        bench(options, where)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"%s [%s]" % key: values for key, values in run.RESULTS.items()}, file, indent=1)


def bench(options, where):
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", "-m", "2000", "127.0.0.1:%d" % SINK, "2000"], stdout=subprocess.DEVNULL)
    wanted = options.only.split(",")
    try:
        limits = [int(word) for word in options.connections.split(",")] if "throughput" in wanted else []
        for limit in limits:
            with_servers(where, limit, lambda servers: bench_throughput(servers, options.rounds, limit, 500 if limit == 1 else 3000))
        if "syscalls" in wanted:
            with_servers(where, 20, bench_syscalls)
        if "slow" in wanted:
            with_servers(where, SESSIONS, bench_slow)
    finally:
        run.report()
        sink.terminate()


def with_servers(where, limit, work):
    """Each measurement has servers of its own, whose limits fit it and whose heaps no other has grown."""
    here = tempfile.mkdtemp(dir=where)
    os.chmod(here, 0o755)
    servers = [PosternRelay(here, PORT), PostfixRelay(here, PORT + 10)]
    try:
        for server in servers:
            server.relay(limit)
            server.start()
        work(servers)
    except Exception:
        for server in servers:
            with open(server.dir + "/log") as log:
                sys.stderr.write(log.read()[-2000:])
        raise
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(here, ignore_errors=True)


if __name__ == "__main__":
    main()
