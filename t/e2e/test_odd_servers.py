#!/usr/bin/env python3
"""Servers that answer wrongly: too little, too much, in the wrong order, garbage, without end.  Each case is played to Postern
and, where it is installed and the test runs as root, to Debian's Postfix, which must say the same in the log."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postfix_peer  # noqa: E402
from suite import Suite, wait_listening, wait_until  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
COMMON = """
transport_maps = regexp:{dir}/transport
smtp_helo_timeout = 2s
smtp_mail_timeout = 2s
smtp_rcpt_timeout = 2s
smtp_data_init_timeout = 2s
smtp_data_xfer_timeout = 2s
smtp_data_done_timeout = 2s
smtp_tls_security_level = none
smtp_connection_cache_on_demand = no
minimal_backoff_time = 600s
maximal_backoff_time = 600s
mynetworks = 127.0.0.0/8
notify_classes =
"""
HELLO = b"250-odd.example\r\n250 PIPELINING\r\n"
SOFT, HARD = "deferred", "bounced"

# What the server says after its greeting and its reply to EHLO, and then: "close" or "wait" -> dsn, status, text.
# The client's group is MAIL, RCPT a@, RCPT b@, DATA; what is told is of a@.
PEER = r"127\.0\.0\.1\[127\.0\.0\.1\]"
CASES = {
    "too few, then the end": ((b"250 ok\r\n", "close"), "4.4.2", SOFT, "lost connection with %s while sending RCPT TO" % PEER),
    "too few, then silence": ((b"250 ok\r\n", "wait"), "4.4.2", SOFT, "conversation with %s timed out while sending RCPT TO" % PEER),
    "too many": ((b"250 1\r\n250 2\r\n250 3\r\n250 4\r\n354 go\r\n250 5\r\n", "wait"), None, SOFT, None),
    "in the wrong order": ((b"354 go\r\n250 ok\r\n250 ok\r\n250 ok\r\n", "wait"), None, None, None),
    "nothing at all": ((b"", "close"), "4.4.2", SOFT, "lost connection with %s while sending MAIL FROM" % PEER),
    "half a line": ((b"250 o", "close"), "4.4.2", SOFT, "lost connection with %s while sending MAIL FROM" % PEER),
    "421 to MAIL": ((b"421 4.3.2 going down\r\n", "close"), "4.3.2", SOFT, r"host %s said: 421 4\.3\.2 going down \(in reply to MAIL FROM command\)" % PEER),
    "421 to RCPT": ((b"250 ok\r\n421 4.3.2 going down\r\n", "close"), "4.3.2", SOFT,
                    r"host %s said: 421 4\.3\.2 going down \(in reply to RCPT TO command\)" % PEER),
    "two codes in one reply": ((b"250-one\r\n550 5.7.1 two\r\n503 x\r\n503 x\r\n503 x\r\n", "wait"), "5.7.1", HARD, None),
    "no text": ((b"250\r\n550\r\n250\r\n354\r\n250\r\n", "wait"), "5.0.0", HARD, r"host %s said: 550 \(in reply to RCPT TO command\)" % PEER),
    "enhanced code of another class": ((b"250 ok\r\n550 4.1.1 hm\r\n250 ok\r\n354 go\r\n250 ok\r\n", "wait"), None, HARD, None),
    "control characters": ((b"250 ok\r\n550 5.1.1 a\x01b\x1b[31mc\x00d\r\n250 ok\r\n354 go\r\n250 ok\r\n", "wait"), "5.1.1", HARD, None),
    "eight bits": ((b"250 ok\r\n550 5.1.1 \xff\xfe\xe4\r\n250 ok\r\n354 go\r\n250 ok\r\n", "wait"), "5.1.1", HARD, None),
    "bare LF": ((b"250 ok\n550 5.1.1 no\n250 ok\n354 go\n250 ok\n", "wait"), "5.1.1", HARD, r"host %s said: 550 5\.1\.1 no \(in reply to RCPT TO command\)" % PEER),
    "a long reply": ((b"250 ok\r\n" + b"550-5.1.1 line\r\n" * 50 + b"550 5.1.1 end\r\n250 ok\r\n354 go\r\n250 ok\r\n", "wait"), "5.1.1", HARD, None),
    "garbage": ((b"what do you want?\r\n", "wait"), None, SOFT, None),
    "binary": ((bytes(range(256)) * 4 + b"\r\n", "close"), None, SOFT, None),
    "a line without end": ((b"250 " + b"x" * 300000, "wait"), None, SOFT, None),
    "a reply without end": ((b"250-more\r\n" * 30000, "wait"), None, SOFT, None),
    "DATA is refused": ((b"250 ok\r\n250 ok\r\n250 ok\r\n451 4.3.0 no room\r\n", "wait"), "4.3.0", SOFT,
                        r"host %s said: 451 4\.3\.0 no room \(in reply to DATA command\)" % PEER),
    "DATA is refused for good": ((b"250 ok\r\n250 ok\r\n250 ok\r\n554 5.3.0 never\r\n", "wait"), "5.3.0", HARD,
                                 r"host %s said: 554 5\.3\.0 never \(in reply to DATA command\)" % PEER),
    "354 to the dot": ((b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n354 more\r\n", "wait"), None, SOFT, None),
    "the end after the dot": ((b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "close"), "4.4.2", SOFT,
                              r"lost connection with %s while sending end of data -- message may be sent more than once" % PEER),
    "everything at once": ((b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 taken\r\n221 bye\r\n", "wait"), "4.5.0", SOFT,
                           r"host %s answered commands that were not sent" % PEER),
}
# smtp-sink, told to refuse, to hang up or to be slow at each stage.
STAGES = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT")
SINKS = [(option, stage) for option in ("-f", "-r", "-q", "-Q") for stage in STAGES] + [("-W", stage + ":4") for stage in STAGES[1:]]
SINK_PORT = PORT + 60

# Where this is not what Postfix makes of it: ours, theirs.
DIFFERENT = {
    # A reply that does not fit is the server's mistake or ours, not the sender's: the mail is kept.
    "too many": (("4.5.0", SOFT), ("5.5.0", HARD)),
    "in the wrong order": (("4.5.0", SOFT), ("5.5.0", HARD)),
    "354 to the dot": (("4.5.0", SOFT), ("5.5.0", HARD)),
    # What was said before the message was sent says nothing about it.
    "everything at once": (("4.5.0", SOFT), ("2.0.0", "sent")),
    # Who answers in another language will not be understood later either: we do not wait for the time limit.
    "garbage": (("4.5.0", SOFT), ("4.4.2", SOFT)),
    "binary": (("4.5.0", SOFT), ("4.4.2", SOFT)),
    "a line without end": (("4.5.0", SOFT), ("4.4.2", SOFT)),
    "a reply without end": (("4.5.0", SOFT), ("4.4.2", SOFT)),
    # Postfix drops what follows a NUL.
    "control characters": (("5.1.1", HARD), ("5.1.1", HARD)),
}


class Odd:
    """Plays one case to every client; what it reads it forgets."""

    def __init__(self, port, script, ending):
        self.script, self.ending = script, ending
        self.listener = socket.create_server(("127.0.0.1", port), backlog=20)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client:
                client.settimeout(15)
                client.sendall(b"220 odd.example ESMTP\r\n")
                client.recv(1000)
                client.sendall(HELLO)
                client.recv(4000)
                client.sendall(self.script)
                if self.ending == "close":
                    if b"354" in self.script:
                        client.recv(65536)
                    return
                while client.recv(65536):
                    pass
        except OSError:
            pass


class Postfix:
    """Debian's, for what its client says."""

    def __init__(self, where, port):
        self.dir, self.port = where, port
        postfix_peer.lay_out(where, "mydestination =\ninet_interfaces = loopback-only\n" + COMMON.format(dir=where + "/etc"),
                             "127.0.0.1:%d inet n - n - - smtpd\n" % port)

    def start(self):
        done = postfix_peer.control(self.dir, "start")
        if done.returncode != 0:
            raise AssertionError(done.stdout.decode())
        wait_listening(self.port)

    def stop(self):
        postfix_peer.control(self.dir, "stop")
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        with open(self.dir + "/log", errors="replace") as file:
            return file.read()


TRANSPORT = "".join("/@u%d\\.example$/ smtp:[127.0.0.1]:%d\n" % (port, port) for port in range(PORT + 30, SINK_PORT + len(SINKS)))


def submit(port, domain):
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        stream = client.makefile("rb")
        stream.readline()
        for command in ("HELO c.example", "MAIL FROM:<>", "RCPT TO:<a@%s>" % domain, "RCPT TO:<b@%s>" % domain, "DATA",
                        "Subject: x\r\n\r\nbody\r\n."):
            client.sendall(command.encode() + b"\r\n")
            reply = stream.readline()
            if reply[:1] not in b"23":
                raise AssertionError("%s: %s" % (command, reply))


class OddServers(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="postern-odd-")
        cls.mail = Suite(extra=COMMON.format(dir=directory + "/etc"), master_extra="smtp unix - - n - 2 smtp\n", port=PORT, directory=directory)
        cls.mail.write("etc/transport", TRANSPORT)
        cls.mail.start()
        cls.addClassCleanup(cls.mail.stop)
        cls.postfix = None
        if postfix_peer.available():
            cls.postfix = Postfix(tempfile.mkdtemp(prefix="postern-odd-postfix-"), PORT + 20)
            with open(cls.postfix.dir + "/etc/transport", "w") as file:
                file.write(TRANSPORT)
            cls.addClassCleanup(cls.postfix.stop)
            cls.postfix.start()

    @staticmethod
    def fate(log, domain):
        found = re.search(r"to=<a@%s>, relay=(\S+), .*dsn=(\S+), status=(\w+) \((.*)\)$" % re.escape(domain), log, re.M)
        return found and (re.sub(r":\d+$", "", found.group(1)), found.group(2), found.group(3), found.group(4))

    def what_postfix_says(self, domain):
        return wait_until(lambda: self.fate(self.postfix.log(), domain), "what becomes of mail for " + domain, 30)

    @unittest.skipUnless(shutil.which("smtp-sink"), "smtp-sink is not installed")
    def test_smtp_sink_misbehaves(self):
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        for number, case in enumerate(SINKS):
            sink = subprocess.Popen(["smtp-sink", *user, *case, "127.0.0.1:%d" % (SINK_PORT + number), "20"], stderr=subprocess.DEVNULL)
            self.addCleanup(sink.wait)
            self.addCleanup(sink.kill)
        wait_listening(*range(SINK_PORT, SINK_PORT + len(SINKS)))
        for number in range(len(SINKS)):
            for port in [self.mail.port["smtp"]] + ([self.postfix.port] if self.postfix else []):
                submit(port, "u%d.example" % (SINK_PORT + number))
        for number, (option, stage) in enumerate(SINKS):
            with self.subTest(option + " " + stage):
                domain = "u%d.example" % (SINK_PORT + number)
                mine = self.mail.wait_for(lambda: self.fate(self.mail.log(), domain), 30, stage)
                if stage.startswith("QUIT"):
                    wanted = "sent"     # too late to matter
                else:
                    wanted = HARD if option == "-f" and stage not in ("CONNECT", "EHLO") else SOFT
                if (option, stage) in (("-f", "EHLO"), ("-r", "EHLO")):
                    wanted = "sent"     # with HELO
                if option != "-W":     # what is slow may overtake what is not: smtp-sink's own idea of pipelining
                    self.assertEqual(mine[2], wanted, mine)
                if self.postfix:
                    self.assertEqual(mine, self.what_postfix_says(domain))

    def test_what_is_made_of_it(self):
        domains = {}
        for number, (name, (script, *_)) in enumerate(CASES.items()):
            odd = Odd(PORT + 30 + number, *script)
            self.addCleanup(odd.listener.close)
            domains[name] = "u%d.example" % (PORT + 30 + number)
        for domain in domains.values():
            submit(self.mail.port["smtp"], domain)
            if self.postfix:
                submit(self.postfix.port, domain)
        for name, domain in domains.items():
            with self.subTest(name):
                _, dsn, status, text = CASES[name]
                mine = self.mail.wait_for(lambda: self.fate(self.mail.log(), domain), 30, name)
                if dsn:
                    self.assertEqual(mine[1], dsn)
                if status:
                    self.assertEqual(mine[2], status)
                if text:
                    self.assertRegex(mine[3], "^" + text + "$")
                if self.postfix:
                    theirs = self.what_postfix_says(domain)
                    if name in DIFFERENT:
                        self.assertEqual((mine[1:3], theirs[1:3]), DIFFERENT[name])
                    else:
                        self.assertEqual(mine, theirs)


if __name__ == "__main__":
    unittest.main(verbosity=1)
