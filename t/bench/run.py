#!/usr/bin/env python3
"""make bench: Postern against Debian's Postfix and Dovecot, on loopback, alternating, in the same minutes.

    run.py [--rounds N] [--only smtp,sendmail,login,imap,memory,syscalls] [--json FILE]

Needs root and the packages postfix, dovecot-imapd, dovecot-pop3d and strace.  Figures are medians over the rounds; the ratio is
peer divided by Postern, so that above 1 is better here.  Data is put on a journalled file system of its own when one can be
mounted.
"""
import argparse
import contextlib
import email.utils
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from servers import PASSWORD, USERS, VMAIL, Dovecot, Postern, Postfix  # noqa: E402
from ext4_disk import Ext4Disk  # noqa: E402

PORT = 26000
RESULTS = {}      # (measure, unit, better) -> {server: [values]}


def note(measure, unit, server, value):
    RESULTS.setdefault((measure, unit), {}).setdefault(server.name, []).append(value)
    if sys.stderr.isatty():
        sys.stderr.write("  %-46s %-8s %10.3f %s\n" % (measure, server.name, value, unit))


# --- SMTP -------------------------------------------------------------------------------------------------------

def smtp_burst(server, sessions, messages, size=4000):
    """One connection for each message, by Postfix's load generator; returns when all are in mailboxes."""
    before, cpu, begin = server.delivered(), server.cpu(), time.monotonic()
    subprocess.run(["smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(size), "-f", "s@example.net", "-t",
                    "user0@example.org", "127.0.0.1:%d" % server.smtp], check=True)
    while server.delivered() < before + messages:
        if time.monotonic() - begin > 180:
            raise RuntimeError("%s delivered %d of %d" % (server.name, server.delivered() - before, messages))
        time.sleep(0.02)
    return messages / (time.monotonic() - begin), (server.cpu() - cpu) * 1000 / messages


def bench_smtp(servers, rounds):
    for sessions, messages in ((1, 500), (20, 2000), (100, 2000)):
        for server in servers:
            smtp_burst(server, sessions, 200)
            server.empty_mail()
        for _ in range(rounds):
            for server in servers:
                rate, cpu = smtp_burst(server, sessions, messages)
                note("SMTP to Maildir, %d sessions" % sessions, "messages/s", server, rate)
                note("SMTP to Maildir, %d sessions, CPU" % sessions, "ms/message", server, cpu)
                server.empty_mail()


def bench_sendmail(servers, rounds):
    text = b"Subject: x\n\n" + b"y" * 1000 + b"\n"
    count = 100
    for _ in range(rounds):
        for server in servers:
            before, begin, cpu = server.delivered(), time.monotonic(), server.cpu()
            own = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(count):
                subprocess.run(server.sendmail + ["-f", "s@example.net", "user0@example.org"], input=text, check=True,
                               env=server.environment)
            note("sendmail(1) calls", "calls/s", server, count / (time.monotonic() - begin))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            while server.delivered() < before + count and time.monotonic() - begin < 120:
                time.sleep(0.05)
            spent = server.cpu() - cpu + after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
            note("sendmail(1) call, CPU with delivery", "ms", server, spent * 1000 / count)
            server.empty_mail()


def traced(server, work):
    """System calls of all processes of the server while `work` runs."""
    with tempfile.NamedTemporaryFile("r") as table:
        words = ["strace", "-f", "-c", "-U", "name,calls", "-o", table.name]
        for pid in server.tree():
            words += ["-p", str(pid)]
        tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(2)
        work()
        time.sleep(0.5)
        tracer.terminate()
        tracer.wait(30)
        calls = {}
        for line in table.read().split("\n"):
            words = line.split()
            if len(words) == 2 and words[1].isdigit() and words[0] != "total":
                calls[words[0]] = int(words[1])
        return calls


def note_calls(label, server, messages, calls):
    """System calls for one of so many messages, all and those that wait for the disk; prints the most frequent."""
    note(label, "calls/message", server, sum(calls.values()) / messages)
    note("- fsync and fdatasync", "calls/message", server, (calls.get("fsync", 0) + calls.get("fdatasync", 0)) / messages)
    top = sorted(calls.items(), key=lambda item: -item[1])[:14]
    print("%s: %s" % (server.name, ", ".join("%s %.1f" % (name, count / messages) for name, count in top)))


def bench_syscalls(servers, _rounds):
    """Counted by strace -f -c over all processes of the server, in a run of its own."""
    messages = 200
    for server in servers:
        smtp_burst(server, 20, 200)
        server.empty_mail()
        calls = traced(server, lambda: smtp_burst(server, 20, messages))
        note_calls("system calls, SMTP to Maildir, 20 sessions", server, messages, calls)
        server.empty_mail()


# --- IMAP and POP3 ------------------------------------------------------------------------------------------------

class Imap:
    """The least that speaks IMAP: it must not cost more than the server."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wait(b"\n")

    def wait(self, end):
        data = b""
        total = 0
        while True:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise RuntimeError("connection closed: %r" % data[-200:])
            total += len(piece)
            data = (data + piece)[-4096:]
            if end in data and data.endswith(b"\n"):
                return total

    def command(self, text):
        self.socket.sendall(b"a " + text.encode() + b"\r\n")
        total = self.wait_tagged()
        return total

    def wait_tagged(self):
        data, total = b"", 0
        while True:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise RuntimeError("connection closed: %r" % data[-200:])
            total += len(piece)
            data = (data + piece)[-4096:]
            if data.endswith(b"\r\n"):
                last = data[:-2].rsplit(b"\r\n", 1)[-1]
                if last.startswith(b"a "):
                    if not last.startswith(b"a OK"):
                        raise RuntimeError(last.decode())
                    return total

    def login(self, user):
        self.command("LOGIN %s %s" % (user, PASSWORD))
        return self

    def close(self):
        self.socket.close()


def login_once(server, user):
    client = Imap(server.imap)
    client.login(user)
    client.socket.sendall(b"a LOGOUT\r\n")
    while client.socket.recv(65536):
        pass
    client.close()


def bench_login(servers, rounds):
    for parallel, count in ((1, 200), (20, 600)):
        for _ in range(rounds):
            for server in servers:
                login_once(server, USERS[-1])
                begin, cpu = time.monotonic(), server.cpu()

                def work(number):
                    for _ in range(count // parallel):
                        login_once(server, USERS[-1 - number % 10])
                threads = [threading.Thread(target=work, args=(i,)) for i in range(parallel)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                seconds = time.monotonic() - begin
                time.sleep(0.2)
                note("IMAP log-in and log-out, %d at a time" % parallel, "1/s", server, count / seconds)
                note("IMAP log-in and log-out, %d at a time, CPU" % parallel, "ms", server, (server.cpu() - cpu) * 1000 / count)


def fill_maildir(where, count):
    """Messages like a user's: text, some with parts; 15 KB on average."""
    for name in ("cur", "new", "tmp"):
        os.makedirs(where + "/" + name, exist_ok=True)
    for number in range(count):
        head = ("Return-Path: <s%d@example.net>\nReceived: from a.example by b.example; %s\nMessage-ID: <%d@example.net>\n"
                "Date: %s\nFrom: \"Sender %d\" <s%d@example.net>\nTo: user0@example.org, Other <o@example.org>\n"
                "Subject: Message number %d about something\nMIME-Version: 1.0\n") % (
                    number, email.utils.formatdate(1700000000 + number), number, email.utils.formatdate(1700000000 + number), number,
                    number, number)
        line = "The quick brown fox jumps over the lazy dog, %06d times in a row.\n" % number
        if number % 3 == 0:
            body = ("Content-Type: multipart/mixed; boundary=\"b%d\"\n\n--b%d\nContent-Type: text/plain; charset=utf-8\n\n%s\n--b%d\n"
                    "Content-Type: application/octet-stream; name=\"f.bin\"\nContent-Transfer-Encoding: base64\n\n%s\n--b%d--\n") % (
                        number, number, line * 20, number, ("QUJD" * 18 + "\n") * 500, number)
        else:
            body = "Content-Type: text/plain; charset=utf-8\n\n" + line * (50 + number % 120)
        with open("%s/cur/%d.M%dP1.bench:2,%s" % (where, 1700000000 + number, number, "S" if number % 2 else ""), "w") as file:
            file.write(head + body)
    for folder, _, names in os.walk(where):
        for path in [folder] + [os.path.join(folder, name) for name in names]:
            os.chown(path, VMAIL, VMAIL)


def timed(server, label, work):
    cpu, begin = server.cpu(), time.monotonic()
    work()
    wall = time.monotonic() - begin
    time.sleep(0.05)
    note(label, "s", server, wall)
    note(label + ", CPU", "s", server, server.cpu() - cpu)


def bench_imap(servers, rounds, source, messages):
    for number in range(rounds):
        user = USERS[number]      # a fresh one each time: nothing of an earlier round is remembered
        for server in servers:
            shutil.rmtree(server.mail + "/" + user)
            subprocess.run(["cp", "-a", source, server.mail + "/" + user], check=True)
            client = Imap(server.imap).login(user)
            timed(server, "first SELECT of %d messages" % messages, lambda: client.command("SELECT INBOX"))
            fetch = "FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
            timed(server, "FETCH of envelopes, first", lambda: client.command(fetch))
            client.close()
            client = Imap(server.imap).login(user)
            timed(server, "SELECT again", lambda: client.command("SELECT INBOX"))
            timed(server, "FETCH of envelopes, again", lambda: client.command(fetch))
            timed(server, "FETCH of flags", lambda: client.command("FETCH 1:* (FLAGS)"))
            timed(server, "FETCH of all bodies", lambda: client.command("FETCH 1:* (BODY.PEEK[])"))
            timed(server, "SEARCH HEADER SUBJECT", lambda: client.command("SEARCH HEADER SUBJECT \"number 77\""))
            timed(server, "STORE of a flag, all messages", lambda: client.command("STORE 1:* +FLAGS.SILENT (\\Flagged)"))
            client.command("CREATE Copy")
            timed(server, "COPY of all messages", lambda: client.command("COPY 1:* Copy"))
            client.close()
            pop3(server, user)


def append_all(server, sessions, messages):
    """Each session waits for its answer before it goes on, as clients do that upload a mailbox."""
    text = b"Subject: appended\r\n\r\n" + b"x" * 70 + b"\r\n" * 2000

    def work(user):
        client = Imap(server.imap).login(user)
        for _ in range(messages):
            client.socket.sendall(b"a APPEND INBOX {%d+}\r\n%s\r\n" % (len(text), text))
            client.wait_tagged()
        client.close()
    threads = [threading.Thread(target=work, args=(user,)) for user in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def bench_append(servers, rounds):
    for label, sessions, messages in (("1 session", USERS[-1:], 60), ("20 sessions of one user", USERS[-1:] * 20, 10),
                                      ("10 users at once", USERS[-10:], 20)):
        for _ in range(rounds):
            for server in servers:
                login_once(server, sessions[0])
                cpu, begin = server.cpu(), time.monotonic()
                append_all(server, sessions, messages)
                seconds, count = time.monotonic() - begin, len(sessions) * messages
                time.sleep(0.2)
                note("APPEND, " + label, "messages/s", server, count / seconds)
                note("APPEND, %s, CPU" % label, "ms/message", server, (server.cpu() - cpu) * 1000 / count)


def pop3(server, user):
    def listing():
        client = socket.create_connection(("127.0.0.1", server.pop3), 120)
        stream = client.makefile("rwb")
        stream.readline()
        for command in (b"USER " + user.encode(), b"PASS " + PASSWORD.encode(), b"STAT"):
            stream.write(command + b"\r\n")
            stream.flush()
            if not stream.readline().startswith(b"+OK"):
                raise RuntimeError("POP3 refused " + command.decode())
        for command in (b"UIDL", b"LIST"):
            stream.write(command + b"\r\n")
            stream.flush()
            while stream.readline() != b".\r\n":
                pass
        stream.write(b"QUIT\r\n")
        stream.flush()
        stream.readline()
        client.close()
    timed(server, "POP3 log-in, STAT, UIDL, LIST", listing)


# --- memory -------------------------------------------------------------------------------------------------------

def idle_smtp(server, count):
    clients = []
    for _ in range(count):
        client = socket.create_connection(("127.0.0.1", server.smtp), 60)
        client.recv(1000)
        client.sendall(b"EHLO c.example\r\n")
        client.recv(4000)
        clients.append(client)
    return clients


def idle_imap(server, count):
    clients = []
    for number in range(count):
        client = Imap(server.imap).login(USERS[10 + number % 10])
        client.command("SELECT INBOX")
        client.socket.sendall(b"a IDLE\r\n")
        client.wait(b"+")
        clients.append(client)
    return clients


def idle_pop3(server, count):
    clients = []
    for number in range(count):
        client = socket.create_connection(("127.0.0.1", server.pop3), 60)
        stream = client.makefile("rwb", buffering=0)
        stream.readline()
        # A POP3 mailbox has one session at a time, so these wait after the greeting and CAPA.
        stream.write(b"CAPA\r\n")
        while stream.readline() != b".\r\n":
            pass
        clients.append(client)
    return clients


def bench_memory(smtp_servers, mail_servers, _rounds):
    count = 200
    for label, servers, opener in (("idle SMTP connection", smtp_servers, idle_smtp), ("IMAP connection in IDLE", mail_servers, idle_imap),
                                   ("POP3 connection before log-in", mail_servers, idle_pop3)):
        for server in servers:
            for client in opener(server, 2):
                client.close()
            time.sleep(1)
            before = server.pss()
            clients = opener(server, count)
            time.sleep(1)
            note(label + ", PSS", "KiB", server, (server.pss() - before) / count)
            for client in clients:
                client.close()
            time.sleep(1)


# --- report -------------------------------------------------------------------------------------------------------

def report():
    print("\n| measure | unit | Postern | peer | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for (measure, unit), values in RESULTS.items():
        ours = values.get("Postern")
        peer = [name for name in values if name != "Postern"]
        if not ours or not peer:
            for name, some in values.items():
                print("| %s | %s | %s | %s | |" % (measure, unit, figure(statistics.median(some)) if name == "Postern" else "",
                                                   "" if name == "Postern" else "%s (%s)" % (figure(statistics.median(some)), name)))
            continue
        mine, theirs = statistics.median(ours), statistics.median(values[peer[0]])
        higher_is_better = unit.endswith("/s")
        ratio = (mine / theirs if higher_is_better else theirs / mine) if mine and theirs else float("nan")
        print("| %s | %s | %s | %s (%s) | %.1f |" % (measure, unit, figure(mine), figure(theirs), peer[0], ratio))
    print("\nratio: above 1 is better than the peer")


def figure(value):
    return "%.0f" % value if value >= 100 else "%.1f" % value if value >= 10 else "%.2f" % value if value >= 0.1 else "%.4f" % value


@contextlib.contextmanager
def scratch(gigabytes=4, files=262144):
    """A directory for as long as the block lasts, on an ext4 file system of its own where one can be mounted."""
    where = tempfile.mkdtemp(prefix="postern-bench-", dir="/var/tmp")
    os.chmod(where, 0o755)
    disk = Ext4Disk(where, gigabytes << 30, "-N", str(files))
    mounted = disk.make()
    try:
        yield where
    finally:
        time.sleep(1)     # servers that were told to stop write their last lines
        if mounted:
            disk.remove()
        shutil.rmtree(where, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=10000)
    parser.add_argument("--only", default="smtp,sendmail,syscalls,login,append,imap,memory")
    parser.add_argument("--json")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("postfix") or not shutil.which("dovecot"):
        sys.exit("make bench needs root, and Debian's postfix, dovecot-imapd, dovecot-pop3d and strace")
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    with scratch() as where:
        bench(options, where)


def bench(options, where):
    wanted = options.only.split(",")
    postern = Postern(where, PORT)
    postfix = Postfix(where, PORT + 10)
    dovecot = Dovecot(where, PORT + 20)
    servers = [postern, postfix, dovecot]
    try:
        for server in servers:
            server.start()
        if "memory" in wanted:      # first: heaps that a burst has grown would hide what a connection takes
            bench_memory([postern, postfix], [postern, dovecot], options.rounds)
        if "smtp" in wanted:
            bench_smtp([postern, postfix], options.rounds)
        if "sendmail" in wanted:
            bench_sendmail([postern, postfix], options.rounds)
        if "login" in wanted:
            bench_login([postern, dovecot], options.rounds)
        if "append" in wanted:
            bench_append([postern, dovecot], options.rounds)
        if "imap" in wanted:
            fill_maildir(where + "/source", options.messages)
            bench_imap([postern, dovecot], options.rounds, where + "/source", options.messages)
        if "syscalls" in wanted:
            bench_syscalls([postern, postfix], options.rounds)
        report()
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"%s [%s]" % key: values for key, values in RESULTS.items()}, file, indent=1)
    except Exception:
        with open(postern.dir + "/log") as log:
            sys.stderr.write(log.read()[-3000:])
        subprocess.run(["find", postern.dir + "/queue/incoming", postern.dir + "/queue/active", postern.dir + "/queue/deferred", "-type", "f"])
        raise
    finally:
        if sys.exc_info()[0] is not None:
            report()
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
