#!/usr/bin/env python3
"""smtpd_upstream_proxy_protocol = haproxy: what a proxy says, right and wrong, to us and to Debian's Postfix: the same replies, and the
same clients in the log.  Postfix's half is left out where there is none to be had."""
import os
import re
import socket
import ssl
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postfix_peer                                                        # noqa: E402
from suite import Suite, any_certificate                                   # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
SETTINGS = "smtpd_upstream_proxy_protocol = haproxy\nsmtpd_upstream_proxy_timeout = 2s\ninet_protocols = all\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IPV4 = socket.inet_aton("192.0.2.9") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 1234, 25)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::9") + socket.inet_pton(socket.AF_INET6, "2001:db8::2") + struct.pack("!HH", 1234, 25)


def second(command, protocol, body):
    """Version 2."""
    return SIGNATURE + struct.pack("!BBH", command, protocol, len(body)) + body


# What is said, and the client that is logged then; None: the proxy's own address, with 421 and the end.
CASES = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 25\r\n", "192.0.2.1"), (b"PROXY TCP6 2001:db8::1 2001:db8::2 1234 25\r\n", "2001:db8::1"),
    (b"PROXY TCP4 192.0.2.2 198.51.100.1 1234 25\n", "192.0.2.2"), (b"PROXY TCP4 192.0.2.3 198.51.100.1 1234 25 more\r\n", "192.0.2.3"),
    (b"PROXY  TCP4  192.0.2.4 198.51.100.1 0 25\r\n", "192.0.2.4"), (second(0x21, 0x11, IPV4), "192.0.2.9"),
    (second(0x21, 0x21, IPV6), "2001:db8::9"), (second(0x21, 0x11, IPV4 + b"\4\0\1x"), "192.0.2.9"), (second(0x20, 0, b""), "127.0.0.1"),
    (second(0x20, 0x11, IPV4), "127.0.0.1"), (b"PROXY tcp4 192.0.2.5 198.51.100.1 1234 25\r\n", "192.0.2.5"),
    (b"PROXY UNKNOWN\r\n", None), (b"PROXY TCP4 999.0.2.1 198.51.100.1 1234 25\r\n", None), (b"PROXY TCP4 192.0.2.1 198.51.100.1 70000 25\r\n", None),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 1234\r\n", None), (b"proxy TCP4 192.0.2.1 198.51.100.1 1234 25\r\n", None), (b"EHLO x\r\n", None), (b"", None),
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 01234 25\r\n", None), (b"PROXY TCP4 2001:db8::1 2001:db8::2 1234 25\r\n", None),
    (b"PROXY " + b"x" * 600 + b"\r\n", None), (second(0x21, 0x12, IPV4), None), (second(0x21, 0x31, b"x" * 216), None), (second(0x21, 0, b""), None),
    (second(0x21, 0x11, IPV4[:8]), None), (second(0x31, 0x11, IPV4), None), (second(0x22, 0x11, IPV4), None), (SIGNATURE[:8], None),
    (second(0x21, 0x11, IPV4)[:20], None)]


def replies(port, header):
    """Codes of the greeting and of QUIT."""
    with socket.create_connection(("127.0.0.1", port), 15) as client:
        client.sendall(header)
        lines = client.makefile("rb")
        heard = [lines.readline()[:9].decode()]
        if heard[0].startswith("220"):
            client.sendall(b"QUIT\r\n")
            heard.append(lines.readline()[:9].decode())
        try:
            heard.append(lines.readline().decode())
        except ConnectionResetError:                     # Postfix looks at a header without reading it
            heard.append("")
    return [heard[0][:3] if heard[0].startswith("220") else heard[0], *heard[1:]]


class Haproxy(unittest.TestCase):
    def setUp(self):
        self.mail = Suite(SETTINGS, port=PORT)
        self.mail.start()
        self.addCleanup(self.mail.stop)
        # Who looked whether smtp and smtps listen is in the log too, and must not come among those that count.
        self.mail.wait_for(lambda: len(re.findall(r"smtpd\[\d+\]: connect from", self.mail.log())) >= 2, 20, "the first connections are logged")

    def test_the_client_is_whom_the_proxy_announces(self):
        peer = None
        if postfix_peer.available():
            where = tempfile.mkdtemp(prefix="postern-peer-")
            peer = self.enterContext(postfix_peer.Postfix(where, PORT + 20, SETTINGS))
        before = len(self.mail.log())
        for header, client in CASES:
            with self.subTest(header=header[:60]):
                ours = replies(self.mail.port["smtp"], header)
                self.assertEqual(ours, ["220", "221 2.0.0", ""] if client else ["421 4.3.0", ""])
                if peer:
                    self.assertEqual(ours, replies(peer.port, header))
        wanted = [client or "127.0.0.1" for _, client in CASES]
        for log in [self.mail.log] + ([peer.log] if peer else []):
            def found():
                return re.findall(r"smtpd\[\d+\]: connect from \S+\[(.*)\]", log())[-len(wanted):]
            try:   # the last line may come after its client was refused
                self.mail.wait_for(lambda: found() == wanted, 20, "all clients are logged")
            except AssertionError:
                self.assertEqual(found(), wanted)
        refused = [client for _, client in CASES].count(None)
        self.assertEqual(self.mail.log()[before:].count("warning: haproxy read: "), refused)

    def test_clients_of_a_protocol_that_is_not_spoken_are_refused(self):
        only4 = SETTINGS.replace("= all", "= ipv4")
        mail = Suite(only4, port=PORT + 60)
        self.addCleanup(mail.stop)
        mail.start()
        ports = [mail.port["smtp"]]
        if postfix_peer.available():
            where = tempfile.mkdtemp(prefix="postern-peer-")
            ports.append(self.enterContext(postfix_peer.Postfix(where, PORT + 20, only4)).port)
        mapped = b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 25\r\n"
        for header, wanted in ((CASES[0][0], "220"), (CASES[1][0], "421 4.3.0"), (mapped, "421 4.3.0"), (second(0x21, 0x11, IPV4), "220"),
                               (second(0x21, 0x21, IPV6), "421 4.3.0"), (second(0x20, 0x21, IPV6), "220")):
            for port in ports:
                with self.subTest(port=port, header=header[:60]):
                    self.assertEqual(replies(port, header)[0], wanted)

    def test_mail_names_the_client_and_tls_comes_after_the_announcement(self):
        with socket.create_connection(("127.0.0.1", self.mail.port["smtp"]), 30) as client:
            lines = client.makefile("rb")
            client.sendall(b"PROXY TCP4 192.0.2.77 198.51.100.1 1234 25\r\n")
            for command in (b"", b"HELO c.example", b"MAIL FROM:<a@c.example>", b"RCPT TO:<fred@example.org>", b"DATA", b"Subject: x\r\n\r\nx\r\n.", b"QUIT"):
                client.sendall(command + b"\r\n" if command else b"")
                self.assertIn(lines.readline()[:1], (b"2", b"3"), command)
        self.mail.wait_for(lambda: self.mail.mailbox("fred"), 20, "delivery")
        self.assertRegex(self.mail.messages("fred")[0], r"Received: from c\.example \(unknown \[192\.0\.2\.77\]\)")
        self.mail.wait_log(r"client=unknown\[192\.0\.2\.77\]")
        with socket.create_connection(("127.0.0.1", self.mail.port["smtps"]), 30) as client:
            client.sendall(b"PROXY TCP4 192.0.2.78 198.51.100.1 1234 25\r\n")
            with any_certificate().wrap_socket(client) as secured:
                self.assertEqual(secured.makefile("rb").readline()[:4], b"220 ")
        self.mail.wait_log(r"connect from unknown\[192\.0\.2\.78\]")

    def test_tls_that_comes_with_the_announcement(self):
        for number, header in ((79, b"PROXY TCP4 192.0.2.79 198.51.100.1 1234 25\r\n"), (9, second(0x21, 0x11, IPV4 + b"\4\0\x40" + b"x" * 64))):
            with self.subTest(header=header[:20]), socket.create_connection(("127.0.0.1", self.mail.port["smtps"]), 5) as client:
                theirs, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
                secured = any_certificate().wrap_bio(theirs, ours)
                with self.assertRaises(ssl.SSLWantReadError):
                    secured.do_handshake()
                client.sendall(header + ours.read())         # as one segment, as proxies do
                heard = b""
                while not heard:
                    theirs.write(client.recv(65536))
                    try:
                        secured.do_handshake()
                        heard = secured.read(1000)
                    except ssl.SSLWantReadError:
                        pass
                    client.sendall(ours.read())
                self.assertEqual(heard[:4], b"220 ")
                self.mail.wait_log(r"connect from unknown\[192\.0\.2\.%d\]" % number)

    def test_who_is_not_announced_is_told_so_in_the_clear(self):
        """Nobody is there to speak TLS with."""
        ports = [self.mail.port["smtps"]]
        if postfix_peer.available():
            where = tempfile.mkdtemp(prefix="postern-peer-")
            self.enterContext(postfix_peer.Postfix(where, PORT + 40, SETTINGS + "smtpd_tls_wrappermode = yes\n"))
            ports.append(PORT + 40)
        for port in ports:
            for header in (b"EHLO x\r\n", b""):
                with self.subTest(port=port, header=header):
                    self.assertEqual(replies(port, header), ["421 4.3.0", ""])

    def test_another_word_is_an_error(self):
        self.mail.run("postconf", "-c", self.mail.path("etc"), "-e", "smtpd_upstream_proxy_protocol = squid", check=True)
        done = self.mail.control("check")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("smtpd_upstream_proxy_protocol", done.stdout.decode())


if __name__ == "__main__":
    unittest.main(verbosity=1)
