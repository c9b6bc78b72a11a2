#!/usr/bin/env python3
"""Limits for SMTP clients, counted by anvil over several smtpd processes: connections, rates, exceptions; what happens when an
smtpd or anvil is killed, and when there is no anvil.  Runs as an ordinary user (as "nobody" when run by root)."""
import os
import re
import signal
import smtplib
import socket
import ssl
import time
import unittest

from suite import PATIENCE, Suite

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
# services with limits of their own, two clients to a process
SERVICES = {
    "count": "smtpd_client_connection_count_limit=6",
    "other": "smtpd_client_connection_count_limit=6",
    "connects": "smtpd_client_connection_rate_limit=5",
    "messages": "smtpd_client_message_rate_limit=3",
    "recipients": "smtpd_client_recipient_rate_limit=4",
    "logins": "smtpd_client_auth_rate_limit=2",
    "handshakes": "smtpd_client_new_tls_session_rate_limit=2",
    "wrapped": "smtpd_client_new_tls_session_rate_limit=2 -o smtpd_tls_wrappermode=yes",
    "filtered": "smtpd_sasl_mechanism_filter=!plain,inline:{login=x}",
    "exempt": "smtpd_client_connection_count_limit=1 -o smtpd_client_event_limit_exceptions=127.0.0.0/8",
}
PORT = {name: BASE + 20 + i for i, name in enumerate(SERVICES)}
MASTER = "".join("127.0.0.1:%d inet n - n - 8 smtpd -o process_session_limit=2 -o %s\n" % (PORT[name], option)
                 for name, option in SERVICES.items())
SETTINGS = "smtpd_client_event_limit_exceptions =\nsmtpd_client_connection_count_limit = 0\nanvil_status_update_time = 1s\n"


class Client:
    """One connection; `greeting` is the server's first line."""

    def __init__(self, service):
        self.socket = socket.create_connection(("127.0.0.1", PORT[service]), 20)
        self.file = self.socket.makefile("rb")
        self.greeting = self.line()

    def line(self):
        return self.file.readline().decode().rstrip("\r\n")

    def say(self, text):
        """A command; the last line of its reply."""
        self.socket.sendall(text.encode() + b"\r\n")
        while True:
            line = self.line()
            if line[3:4] != "-":
                return line

    def close(self):
        self.file.close()
        self.socket.close()


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail = Suite(SETTINGS, MASTER)
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()

    def setUp(self):
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            client.close()
        time.sleep(0.3 * PATIENCE)   # until anvil has heard of it

    def connect(self, service):
        client = Client(service)
        self.clients.append(client)
        return client

    def fill(self, service, number):
        return [self.connect(service) for _ in range(number)]

    def assert_refused(self, client, service, number):
        self.assertEqual(client.greeting, "421 4.7.0 mail.example.org Error: too many connections from 127.0.0.1")
        self.assertEqual(client.line(), "")
        self.assertIn("warning: Connection concurrency limit exceeded: %d from unknown[127.0.0.1] for service 127.0.0.1:%d"
                      % (number, PORT[service]), self.mail.log())

    def wait_until_accepted(self, service):
        """A place is free again once the server has seen a client go."""
        def attempt():
            client = self.connect(service)
            return client if client.greeting.startswith("220 ") else None
        return self.mail.wait_for(attempt, 10, "a place becomes free")

    def test_connections_are_counted_over_processes_and_per_service(self):
        clients = self.fill("count", 6)
        self.assertTrue(all(client.greeting.startswith("220 ") for client in clients), [c.greeting for c in clients])
        self.assertGreaterEqual(len(self.serving("count", clients)), 3)
        self.assert_refused(self.connect("count"), "count", 7)
        self.assertTrue(all(client.greeting.startswith("220 ") for client in self.fill("other", 6)))
        self.assertTrue(clients[0].say("QUIT").startswith("221 "))
        clients[0].close()
        self.wait_until_accepted("count")

    def test_a_killed_smtpd_gives_its_places_back(self):
        clients = self.fill("count", 6)
        self.assertTrue(all(client.greeting.startswith("220 ") for client in clients), [c.greeting for c in clients])
        serving = self.serving("count", clients)
        self.assertGreaterEqual(len(serving), 3)
        victim, lost = next(iter(serving.items()))
        os.kill(victim, signal.SIGKILL)
        for client in lost:
            self.assertEqual(client.line(), "")
        replaced = []
        for _ in lost:
            replaced.append(self.wait_until_accepted("count"))
        self.assertTrue(self.connect("count").greeting.startswith("421 "))

    def serving(self, service, clients):
        """Which process has which client, by the inodes of its sockets."""
        by_port = {client.socket.getsockname()[1]: client for client in clients}
        inodes = {}
        with open("/proc/net/tcp") as table:
            for line in list(table)[1:]:
                words = line.split()
                local, remote = int(words[1].split(":")[1], 16), int(words[2].split(":")[1], 16)
                if local == PORT[service] and remote in by_port:
                    inodes["socket:[%s]" % words[9]] = by_port[remote]
        found = {}
        for pid in self.mail.pids()["smtpd"]:
            for entry in os.listdir("/proc/%d/fd" % pid):
                try:
                    name = os.readlink("/proc/%d/fd/%s" % (pid, entry))
                except OSError:
                    continue
                if name in inodes:
                    found.setdefault(pid, []).append(inodes[name])
        return found

    def test_a_killed_anvil_learns_again_what_is_open(self):
        clients = self.fill("other", 6)
        self.assertTrue(all(client.greeting.startswith("220 ") for client in clients), [c.greeting for c in clients])
        anvil = self.mail.pids()["anvil"]
        self.assertEqual(len(anvil), 1)
        os.kill(anvil[0], signal.SIGKILL)
        self.mail.wait_for(lambda: self.mail.pids().get("anvil") not in (None, anvil), 10, "anvil is started again")
        self.mail.wait_for(lambda: self.connect("other").greeting.startswith("421 "), 10, "the new anvil refuses")
        clients[0].close()
        self.wait_until_accepted("other")

    def test_rate_of_connections(self):
        greetings = [self.connect("connects").greeting for _ in range(7)]
        self.assertEqual([greeting[:3] for greeting in greetings], ["220"] * 5 + ["421"] * 2)
        self.assertEqual(greetings[5], "421 4.7.0 mail.example.org Error: too many connections from 127.0.0.1")
        self.assertIn("warning: Connection rate limit exceeded: 6 from unknown[127.0.0.1] for service", self.mail.log())

    def test_rate_of_messages(self):
        clients = self.fill("messages", 4)
        replies = [client.say("EHLO c.example") and client.say("MAIL FROM:<s@c.example>") for client in clients]
        self.assertEqual(replies, ["250 2.1.0 Ok"] * 3 + ["450 4.7.1 Error: too much mail from 127.0.0.1"])
        self.assertIn("warning: Message delivery request rate limit exceeded: 4 from unknown[127.0.0.1] for service", self.mail.log())

    def test_rate_of_recipients(self):
        clients = self.fill("recipients", 3)
        replies = []
        for client in clients:
            client.say("EHLO c.example")
            client.say("MAIL FROM:<s@c.example>")
            replies += [client.say("RCPT TO:<fred@example.org>"), client.say("RCPT TO:<wilma@example.org>")]
        self.assertEqual(replies, ["250 2.1.5 Ok"] * 4 + ["450 4.7.1 Error: too many recipients from 127.0.0.1"] * 2)
        self.assertIn("warning: Recipient address rate limit exceeded: 5 from unknown[127.0.0.1] for service", self.mail.log())

    def test_rate_of_logins(self):
        replies = []
        for client in self.fill("logins", 3):
            client.say("EHLO c.example")
            replies.append(client.say("AUTH PLAIN AGZyZWQAd3Jvbmc="))
        self.assertEqual([reply[:3] for reply in replies], ["535", "535", "450"])
        self.assertEqual(replies[2], "450 4.7.1 Error: too many AUTH commands from 127.0.0.1")
        self.assertIn("warning: AUTH command rate limit exceeded: 3 from unknown[127.0.0.1] for service", self.mail.log())

    def starttls(self, service, context, session=None):
        """Yields the reply to STARTTLS, and that to EHLO under TLS."""
        client = self.connect(service)
        client.say("EHLO c.example")
        reply = client.say("STARTTLS")
        if not reply.startswith("220 "):
            return reply, ""
        secured = context.wrap_socket(client.socket, session=session)
        client.socket = secured
        client.file = secured.makefile("rb")
        after = client.say("EHLO c.example")
        self.session = secured.session
        return reply, after

    def test_rate_of_new_tls_sessions(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.assertTrue(self.starttls("handshakes", context)[1].startswith("250 "))
        session = self.session
        self.assertTrue(self.starttls("handshakes", context)[1].startswith("250 "))
        third = self.starttls("handshakes", context)
        self.assertEqual(third[1], "421 4.7.0 mail.example.org Error: too many new TLS sessions from unknown[127.0.0.1]")
        self.assertIn("warning: New TLS session rate limit exceeded: 3 from unknown[127.0.0.1] for service", self.mail.log())
        self.assertEqual(self.starttls("handshakes", context, session)[0],
                         "454 4.7.0 Error: too many new TLS sessions from unknown[127.0.0.1]")
        self.assertIn("warning: Refusing STARTTLS request from unknown[127.0.0.1] for service", self.mail.log())

    def test_rate_of_new_tls_sessions_in_wrapper_mode(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        greetings = []
        for _ in range(3):
            with smtplib.SMTP_SSL("127.0.0.1", PORT["wrapped"], context=context) if len(greetings) < 2 \
                    else socket.create_connection(("127.0.0.1", PORT["wrapped"]), 20) as client:
                if len(greetings) < 2:
                    greetings.append(client.noop()[0])
                else:
                    with context.wrap_socket(client) as secured:
                        greetings.append(secured.recv(200).decode())
        self.assertEqual(greetings, [250, 250, "421 4.7.0 mail.example.org Error: too many new TLS sessions from unknown[127.0.0.1]\r\n"])
        with self.assertRaises(OSError):
            context.wrap_socket(socket.create_connection(("127.0.0.1", PORT["wrapped"]), 20))
        self.assertIn("warning: Refusing TLS service request from unknown[127.0.0.1] for service", self.mail.log())

    def test_exceptions_are_not_limited(self):
        self.assertTrue(all(client.greeting.startswith("220 ") for client in self.fill("exempt", 4)))

    def test_mechanisms_are_filtered(self):
        client = self.connect("filtered")
        client.socket.sendall(b"EHLO c.example\r\n")
        lines = []
        while not lines or lines[-1][3:4] == "-":
            lines.append(client.line())
        self.assertIn("250-AUTH LOGIN", lines)
        self.assertTrue(client.say("AUTH PLAIN AGZyZWQAd3Jvbmc=").startswith("535 5.7.8 "), "PLAIN is not offered, so not taken")
        self.assertIn("SASL PLAIN authentication failed: Invalid authentication mechanism", self.mail.log())

    def test_statistics(self):
        self.connect("other")
        pattern = r"postfix/anvil\[\d+\]: statistics: max connection rate \d+/60s for \(127\.0\.0\.1:\d+:127\.0\.0\.1\) at \w{3} [ \d]\d \d\d:\d\d:\d\d\n"
        self.mail.wait_for(lambda: re.search(pattern, self.mail.log()), 10, "statistics are logged")
        for what in (r"max connection count \d+ for \(", r"max cache size \d+ at "):
            self.assertRegex(self.mail.log(), r"postfix/anvil\[\d+\]: statistics: " + what)


class WithoutAnvil(unittest.TestCase):
    def test_mail_is_taken_and_one_warning_logged(self):
        mail = Suite("smtpd_client_event_limit_exceptions =\nsmtpd_client_connection_count_limit = 1\nsmtpd_client_message_rate_limit = 1\n")
        with open(mail.path("etc/master.cf")) as file:
            lines = [line for line in file if not line.startswith("anvil ")]
        mail.write("etc/master.cf", "".join(lines))
        with mail:
            for number in range(3):
                with mail.smtp() as client, mail.smtp():
                    client.sendmail("s@c.example", ["fred@example.org"], "Subject: %d\n\nx\n" % number)
            mail.wait_for(lambda: len(mail.mailbox("fred")) == 3, 20, "the mail arrives")
            warnings = re.findall(r"smtpd\[(\d+)\]: warning: problem talking to service private/anvil: .*", mail.log())
            self.assertTrue(warnings)
            self.assertEqual(len(warnings), len(set(warnings)), "once for each process")


if __name__ == "__main__":
    unittest.main()
