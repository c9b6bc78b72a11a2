#!/usr/bin/env python3
"""The queue manager against Debian's Postfix, on loopback, in the same minutes: what mail that cannot be delivered costs, how long
a start with a long deferred queue takes, and whether one destination holds up another's mail.

    queue.py [--full] [--only requeue,start,fair] [--servers Postern,Postfix] [--json FILE]

A tenth of everything unless --full: 10,000 undeliverable messages, 100,000 deferred ones.  Needs root and Debian's postfix.
"""
import argparse
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from run import RESULTS, note, report, scratch  # noqa: E402
from servers import ROOT, Postern, Postfix  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "22000"))
FILL = os.environ.get("POSTERN_FILL", os.path.join(ROOT, "build", "bench", "fill_queue"))
POSTQUEUE = {"Postern": lambda s: [s.dir + "/bin/postqueue", "-c", s.dir + "/etc"], "Postfix": lambda s: ["postqueue", "-c", s.dir + "/etc"]}

COMMON = """
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_host_lookup = native
disable_dns_lookups = yes
transport_maps = texthash:{d}/etc/transport
smtpd_reject_unlisted_recipient = no
smtpd_client_message_rate_limit = 0
notify_classes =
"""


class Sink:
    """Takes mail and notes when each message with a given subject came."""

    def __init__(self, port, delay=0.0):
        self.delay, self.seen, self.count = delay, {}, 0
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(200)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client):
        try:
            stream = client.makefile("rwb")

            def say(line):
                stream.write(line)
                stream.flush()
            say(b"220 sink\r\n")
            for line in stream:
                verb = line[:4].upper()
                if verb == b"EHLO":
                    say(b"250-sink\r\n250 PIPELINING\r\n")
                elif verb == b"DATA":
                    say(b"354 go\r\n")
                    for text in stream:
                        if text.startswith(b"Subject: "):
                            self.seen[text[9:].strip().decode()] = time.monotonic()
                        if text == b".\r\n":
                            break
                    time.sleep(self.delay)
                    self.count += 1
                    say(b"250 ok\r\n")
                elif verb == b"QUIT":
                    say(b"221 bye\r\n")
                    return
                else:
                    say(b"250 ok\r\n")
        except (OSError, ValueError):
            pass
        finally:
            client.close()

    def close(self):
        self.socket.close()


class DeadPort:
    """Connections to it hang: its backlog is full."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(0)
        self.fill = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self.fill.append(filler)
        time.sleep(0.2)

    def close(self):
        for one in self.fill + [self.socket]:
            one.close()


def configure(server, sinks):
    with open(server.dir + "/etc/main.cf", "a") as file:
        file.write(COMMON.format(d=server.dir))
    with open(server.dir + "/etc/transport", "w") as file:
        file.write("undeliverable.example retry:4.4.1 nobody there\n")
        for name, port in sinks.items():
            file.write("%s.example smtp:[127.0.0.1]:%d\n" % (name, port))
    if server.name == "Postern":
        with open(server.dir + "/etc/master.cf", "a") as file:
            file.write("smtp unix - - n - 100 smtp\n")


def lines_with(server, text, state={}):
    """How many lines of the log so far have `text`; each is read once."""
    key = (server.dir, text)
    offset, count = state.get(key, (0, 0))
    with open(server.dir + "/log", "rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    count += data[:end].count(text.encode())
    state[key] = (offset + end, count)
    return count


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("waited %d s for %s" % (seconds, what))
        time.sleep(0.02)


def empty_queue(server):
    for name in ("incoming", "active", "deferred", "defer", "bounce", "hold"):
        subprocess.run(["find", "%s/queue/%s" % (server.dir, name), "-type", "f", "-delete"], stderr=subprocess.DEVNULL)


def source(server, count, recipient, recipients=1, sessions=20, size=2000):
    subprocess.run(["smtp-source", "-d", "-s", str(sessions), "-m", str(count), "-r", str(recipients), "-l", str(size), "-f", "s@example.net",
                    "-t", recipient, "127.0.0.1:%d" % server.smtp], check=True, stdout=subprocess.DEVNULL)


def restarted(server, prepare=lambda: None):
    server.stop()
    wait_until(lambda: not server.alive(), 60, "the end of " + server.name)
    prepare()
    server.start()


# --- mail that cannot be delivered --------------------------------------------------------------------------------

def bench_requeue(servers, full):
    count = 100000 if full else 10000
    label = "%d undeliverable messages" % count
    for server in servers:
        before, begin, cpu = lines_with(server, "status=deferred"), time.monotonic(), server.cpu()
        source(server, count, "u@undeliverable.example")
        wait_until(lambda: lines_with(server, "status=deferred") >= before + count, 1200, "deferrals")
        note(label + ", queued and deferred", "messages/s", server, count / (time.monotonic() - begin))
        note(label + ", queued and deferred, CPU", "ms/message", server, (server.cpu() - cpu) * 1000 / count)
        time.sleep(1)
        for _ in range(3):
            before, begin, cpu = lines_with(server, "status=deferred"), time.monotonic(), server.cpu()
            subprocess.run(POSTQUEUE[server.name](server) + ["-f"], check=True)
            wait_until(lambda: lines_with(server, "status=deferred") >= before + count, 1200, "deferrals")
            note(label + ", tried again (flush)", "messages/s", server, count / (time.monotonic() - begin))
            note(label + ", tried again, CPU", "ms/message", server, (server.cpu() - cpu) * 1000 / count)
            time.sleep(1)
        for option in ("-p", "-j"):
            listing(server, count, option)
        restarted(server, lambda: empty_queue(server))


def listing(server, count, option="-p"):
    """`postqueue -p` (two lines a message at least) or `-j` (one)."""
    begin, cpu = time.monotonic(), server.cpu()
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(POSTQUEUE[server.name](server) + [option], stdout=subprocess.PIPE) as program:
        program.stdout.readline()
        first = time.monotonic() - begin
        lines = 1 + sum(piece.count(b"\n") for piece in iter(lambda: program.stdout.read(1 << 20), b""))
    total = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if lines < (count if option == "-j" else 2 * count):
        raise RuntimeError("%s listed %d lines" % (server.name, lines))
    note("postqueue %s of %d, first line" % (option, count), "s", server, first)
    note("postqueue %s of %d, all" % (option, count), "s", server, total)
    note("postqueue %s of %d, CPU" % (option, count), "s", server,
         server.cpu() - cpu + after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime)


# --- a start with a long queue -------------------------------------------------------------------------------------

def forget_cache():
    subprocess.run(["sync"])
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3\n")
        return True
    except OSError:
        return False


def fill(server, count, model):
    words = [FILL, server.dir + "/queue", str(count)]
    if server.name == "Postfix":
        for digit in "0123456789ABCDEF":
            for name in ("deferred", "defer"):
                os.makedirs("%s/queue/%s/%s" % (server.dir, name, digit), exist_ok=True)
                shutil.chown("%s/queue/%s/%s" % (server.dir, name, digit), "postfix")
        words += ["--clone", model[0], "--log", model[1]]
    subprocess.run(words, check=True, user="postfix", group="postfix", extra_groups=[])


def model_of(server, where):
    """A deferred message of Postfix, and its log in defer/, to be copied."""
    source(server, 1, "u@undeliverable.example", sessions=1)
    found = []
    for name in ("deferred", "defer"):
        path = []

        def there():
            path[:] = subprocess.run(["find", "%s/queue/%s" % (server.dir, name), "-type", "f"], stdout=subprocess.PIPE, text=True).stdout.split()
            return path
        wait_until(there, 20, "a deferred message")
        shutil.copy(path[0], where + "/model." + name)
        os.chmod(where + "/model." + name, 0o644)
        found.append(where + "/model." + name)
    return found


def probe_once(server, sink, numbers=itertools.count()):
    """Seconds from the start of an SMTP session until the message has arrived at the sink."""
    name = "%s-%d-%d" % (server.name, os.getpid(), next(numbers))
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.smtp), 60) as client:
        stream = client.makefile("rwb")
        stream.readline()
        for command in (b"HELO c.example", b"MAIL FROM:<p@example.net>", b"RCPT TO:<p@probe.example>", b"DATA"):
            stream.write(command + b"\r\n")
            stream.flush()
            stream.readline()
        stream.write(b"Subject: " + name.encode() + b"\r\n\r\nx\r\n.\r\n")
        stream.flush()
        stream.readline()
        stream.write(b"QUIT\r\n")
        stream.flush()
    wait_until(lambda: name in sink.seen, 300, "a probe")
    return sink.seen[name] - begin


def idle(server):
    """When qmgr has come to rest, in seconds before now; its CPU time is watched."""
    last, since = -1.0, time.monotonic()
    while time.monotonic() - since < 3:
        now = server.cpu_of("qmgr")
        if now > last + 0.02:
            last, since = now, time.monotonic()
        time.sleep(0.1)
    return since


def bench_start(servers, full, where, sink):
    count = 1000000 if full else 100000
    for server in servers:
        model = model_of(server, where) if server.name == "Postfix" else None
        server.stop()
        wait_until(lambda: not server.alive(), 60, "the end")
        empty_queue(server)
        fill(server, count, model)
        for cache in ("cold", "warm"):
            if cache == "cold" and not forget_cache():
                print("%s: the page cache cannot be dropped here, no cold start" % server.name)
                continue
            known = lines_with(server, "the queue was read in") if server.name == "Postern" else 0
            begin = time.monotonic()
            server.start()
            probe_once(server, sink)
            note("start with %d deferred (%s cache) until new mail is delivered" % (count, cache), "s", server, time.monotonic() - begin)
            worst = None
            if server.name == "Postern":
                while lines_with(server, "the queue was read in") == known:
                    worst = max(worst or 0.0, probe_once(server, sink))
                    time.sleep(0.2)
                end = time.monotonic()
            else:
                end = idle(server)
            note("start with %d deferred (%s cache) until all are known" % (count, cache), "s", server, end - begin)
            if worst is not None:
                note("slowest new message while %d are read (%s cache)" % (count, cache), "s", server, worst)
            note("memory of qmgr with %d deferred" % count, "MiB", server, server.memory_of("qmgr") / 1024)
            if cache == "cold":
                server.stop()
                wait_until(lambda: not server.alive(), 60, "the end")
        listing(server, count)
        server.stop()       # the last of all: to remove a million files takes longer than to list them
        wait_until(lambda: not server.alive(), 60, "the end")


# --- fairness --------------------------------------------------------------------------------------------------------

def probes(server, sink, label, count=20):
    times = []
    for _ in range(count):
        times.append(probe_once(server, sink) * 1000)
        time.sleep(0.25)
    note("probe, median: " + label, "ms", server, statistics.median(times))
    note("probe, slowest: " + label, "ms", server, max(times))


def bench_fair(servers, full, sinks):
    backlog = 10000 if full else 1000
    for server in servers:
        probes(server, sinks["probe"], "nothing else to do")
    for server in servers:
        source(server, backlog, "u@dead.example")
        # Long enough to see the first connections time out, after 30 seconds, and all the others be deferred.
        probes(server, sinks["probe"], "%d messages for a dead destination" % backlog, 160)
        restarted(server, lambda: empty_queue(server))
    for server in servers:
        source(server, backlog, "u@slow.example")
        probes(server, sinks["probe"], "%d messages for a slow destination" % backlog)
        restarted(server, lambda: empty_queue(server))
    for server in servers:
        messages = 100 if full else 10
        mailing = threading.Thread(target=source, args=(server, messages, "u@bulk.example", 1000, 10))
        mailing.start()
        time.sleep(0.3)
        probes(server, sinks["probe"], "a mailing of %d recipients" % (messages * 1000))
        mailing.join()
        restarted(server, lambda: empty_queue(server))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="requeue,start,fair")
    parser.add_argument("--servers", default="Postern,Postfix")
    parser.add_argument("--json")
    options = parser.parse_known_args()[0]
    if os.geteuid() != 0 or not shutil.which("postfix"):
        sys.exit("the queue's bench needs root and Debian's postfix")
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))     # with what has been measured so far
    with scratch(20, 4000000) if options.full else scratch() as where:   # Postfix has two files for a message
        bench(options, where)


def bench(options, where):
    wanted = options.only.split(",")
    dead = DeadPort(PORT + 40)
    sinks = {"probe": Sink(PORT + 41), "slow": Sink(PORT + 42, delay=1.0), "bulk": Sink(PORT + 43)}
    servers = [make(where, port) for make, port in ((Postern, PORT), (Postfix, PORT + 10)) if make.name in options.servers.split(",")]
    try:
        for server in servers:
            configure(server, {"dead": PORT + 40, "probe": PORT + 41, "slow": PORT + 42, "bulk": PORT + 43})
            server.start()
        if "fair" in wanted:
            bench_fair(servers, options.full, sinks)
        if "requeue" in wanted:
            bench_requeue(servers, options.full)
        if "start" in wanted:
            bench_start(servers, options.full, where, sinks["probe"])
    finally:
        report()
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"%s [%s]" % key: values for key, values in RESULTS.items()}, file, indent=1)
        for server in servers:
            server.stop()
        dead.close()


if __name__ == "__main__":
    main()
