#!/usr/bin/env python3
"""Tables whose server is slow or hangs delay only those who ask it: smtpd, cleanup, qmgr, virtual and proxymap serve others in the
same process meanwhile (every service has one process here).  Who asks in vain gets a temporary error, and the next one at once.
Runs as an ordinary user (as "nobody" when run by root)."""
import os
import select
import socket
import threading
import unittest

from suite import MASTER_CF, Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
SOCKETMAP, TCP, DEAD, ACCESS, PROXIED, DEAD_PORT = range(BASE + 20, BASE + 26)
SETTINGS = """
smtpd_recipient_restrictions = permit_mynetworks, reject
sender_bcc_maps = socketmap:inet:127.0.0.1:%(map)d:bcc
transport_maps = tcp:127.0.0.1:%(tcp)d
virtual_mailbox_maps = socketmap:inet:127.0.0.1:%(map)d:mailbox
proxy_read_maps = proxy:socketmap:inet:127.0.0.1:%(map)d:senders, proxy:tcp:127.0.0.1:%(dead)d
""" % {"map": SOCKETMAP, "tcp": TCP, "dead": DEAD}
MASTER = "".join("127.0.0.1:%d inet n - n - 1 smtpd -o smtpd_recipient_restrictions=%s,permit_mynetworks,reject\n" % row for row in (
    (ACCESS, "check_recipient_access,socketmap:inet:127.0.0.1:%d:access" % SOCKETMAP),
    (PROXIED, "check_sender_access,proxy:socketmap:inet:127.0.0.1:%d:senders" % SOCKETMAP),
    (DEAD_PORT, "check_recipient_access,proxy:tcp:127.0.0.1:%d" % DEAD)))


class TableServer:
    """Answers on `port`, a thread for each connection.  Keys in `held` wait until release(); those in `hung` for ever."""

    def __init__(self, port):
        self.changed = threading.Condition()
        self.held, self.hung, self.asked = set(), set(), []
        self.clients = []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=100)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self.clients.append(client)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, client.makefile("rb") as file:
            try:
                while (question := self.question(file)) is not None:
                    with self.changed:
                        self.asked.append(question)
                        self.changed.wait_for(lambda: not any(key in question for key in self.held | self.hung))
                    client.sendall(self.reply(question))
            except OSError:
                pass

    def wait_asked(self, text):
        wait_until(lambda: any(text in question for question in self.asked), "asked for " + text)

    def release(self):
        with self.changed:
            self.held.clear()
            self.changed.notify_all()

    def close(self):
        self.listener.close()
        with self.changed:
            self.held.clear()
            self.hung.clear()
            self.changed.notify_all()


class SocketMap(TableServer):
    def question(self, file):
        digits = b""
        while (byte := file.read(1)) not in (b":", b""):
            digits += byte
        return file.read(int(digits) + 1)[:-1].decode() if byte else None

    def reply(self, question):
        name, key = question.split(" ", 1)
        text = "OK %s/" % key.split("@")[0] if name == "mailbox" and "@example.org" in key and key[0] != "@" else "NOTFOUND "
        return b"%d:%s," % (len(text), text.encode())


class TcpMap(TableServer):
    def question(self, file):
        line = file.readline().decode()
        return line.rstrip("\n") or None

    def reply(self, question):
        return b"500 not here\n"


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 50)
        self.file = self.socket.makefile("rb")
        self.reply()
        self.say("EHLO client.example")

    def send(self, text):
        self.socket.sendall(text.encode() + b"\r\n")

    def reply(self):
        while True:
            line = self.file.readline().decode().rstrip("\r\n")
            if line[3:4] != "-":
                return line

    def say(self, text):
        self.send(text)
        return self.reply()

    def has_reply(self):
        return bool(select.select([self.socket], [], [], 0)[0])

    def close(self):
        self.file.close()
        self.socket.close()


class SlowTables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.map, cls.tcp, cls.dead = SocketMap(SOCKETMAP), TcpMap(TCP), TcpMap(DEAD)
        cls.dead.hung.add("get ")
        for server in (cls.map, cls.tcp, cls.dead):
            cls.addClassCleanup(server.close)
        cls.mail = Suite(SETTINGS)
        cls.mail.write("etc/master.cf", MASTER_CF.format(**cls.mail.port).replace(" 4 ", " 1 ") + MASTER)
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()

    def setUp(self):
        self.clients = []
        self.addCleanup(lambda: [client.close() for client in self.clients])
        self.addCleanup(self.map.release)
        self.addCleanup(self.tcp.release)

    def connect(self, port=None):
        self.clients.append(Client(port or self.mail.port["smtp"]))
        return self.clients[-1]

    def ready_to_send(self, sender, recipient):
        client = self.connect()
        for command in ("MAIL FROM:<%s>" % sender, "RCPT TO:<%s>" % recipient, "DATA"):
            self.assertRegex(client.say(command), "^[23]")
        return client

    def sendmail(self, recipient, text):
        self.mail.run("sendmail", "-f", "someone@example.com", recipient, stdin=b"Subject: test\n\n%s\n" % text, check=True)

    def arrived(self, user):
        return self.mail.wait_for(lambda: self.mail.mailbox(user), 20, "mail for " + user)

    def test_smtpd_serves_others(self):
        self.map.held.add("access held1@example.org")
        first, second = self.connect(ACCESS), self.connect(ACCESS)
        first.say("MAIL FROM:<a@example.com>")
        first.send("RCPT TO:<held1@example.org>")
        self.map.wait_asked("access held1@example.org")
        self.assertRegex(second.say("MAIL FROM:<b@example.com>"), "^250")
        self.assertRegex(second.say("RCPT TO:<quick1@example.org>"), "^250")
        third = self.connect(ACCESS)   # a new connection as well
        self.assertRegex(third.say("NOOP"), "^250")
        self.assertFalse(first.has_reply())
        self.map.release()
        self.assertRegex(first.reply(), "^250")

    def test_client_that_leaves_while_it_waits(self):
        self.map.held.update(("access gone@example.org", "access reset@example.org"))
        pids = self.mail.pids()["smtpd"]
        for name in ("gone", "reset"):
            client = self.connect(ACCESS)
            client.say("MAIL FROM:<a@example.com>")
            client.send("RCPT TO:<%s@example.org>" % name)
            self.map.wait_asked("access %s@example.org" % name)
            if name == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        self.map.release()
        self.mail.wait_for(lambda: self.mail.log().count("lost connection after RCPT") >= 2, 20, "both are noticed")
        self.assertRegex(self.connect(ACCESS).say("NOOP"), "^250")
        self.assertTrue(set(pids) <= set(self.mail.pids()["smtpd"]), "the process is still the same")

    def test_server_that_goes_away_is_a_temporary_error(self):
        self.map.hung.add("access lost@example.org")
        client = self.connect(ACCESS)
        client.say("MAIL FROM:<a@example.com>")
        client.send("RCPT TO:<lost@example.org>")
        self.map.wait_asked("access lost@example.org")
        while not client.has_reply():
            for one in self.map.clients[:]:   # the second attempt, over a new connection, goes the same way
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            select.select([client.socket], [], [], 0.05)
        self.assertRegex(client.reply(), r"^451 4\.3\.5 <lost@example\.org>: Recipient address rejected: Server configuration error$")
        self.assertRegex(self.mail.log(), r"warning: .*socketmap:inet:127\.0\.0\.1:%d:access" % SOCKETMAP)

    def test_cleanup_takes_other_mail(self):
        self.map.held.add("bcc held3@example.com")
        first = self.ready_to_send("held3@example.com", "fred@example.org")
        second = self.ready_to_send("quick3@example.com", "wilma@example.org")
        first.send("Subject: one\r\n\r\n.")
        self.map.wait_asked("bcc held3@example.com")
        self.assertRegex(second.say("Subject: two\r\n\r\n."), "^250")
        self.assertFalse(first.has_reply())
        self.map.release()
        self.assertRegex(first.reply(), "^250")
        self.assertEqual(len(self.mail.pids()["cleanup"]), 1)

    def test_qmgr_and_virtual_deliver_other_mail(self):
        self.tcp.held.add("held4@example.org")
        self.map.held.add("mailbox held5@example.org")
        self.sendmail("held4@example.org", b"slow to route")
        self.tcp.wait_asked("held4@example.org")
        self.sendmail("held5@example.org", b"slow to deliver")
        self.map.wait_asked("mailbox held5@example.org")
        self.sendmail("quick4@example.org", b"not slow")
        self.arrived("quick4")
        self.assertEqual(self.mail.mailbox("held4") + self.mail.mailbox("held5"), [])
        self.tcp.release()
        self.arrived("held4")
        self.assertEqual(self.mail.mailbox("held5"), [])
        self.map.release()
        self.arrived("held5")
        self.mail.wait_empty()

    def test_message_is_removed_while_its_route_is_looked_up(self):
        self.tcp.held.add("held6@example.org")
        self.sendmail("held6@example.org", b"not wanted any more")
        self.tcp.wait_asked("held6@example.org")
        self.mail.run("postsuper", "-d", "ALL", check=True)
        self.tcp.release()
        self.mail.wait_empty()
        self.sendmail("quick6@example.org", b"wanted")
        self.arrived("quick6")
        self.assertEqual(self.mail.mailbox("held6"), [])

    def test_proxymap_serves_others_and_gives_up(self):
        self.map.hung.add("senders hung@example.com")
        waiting, dead, other = self.connect(PROXIED), self.connect(DEAD_PORT), self.connect(PROXIED)
        waiting.say("MAIL FROM:<hung@example.com>")
        dead.say("MAIL FROM:<a@example.com>")
        waiting.send("RCPT TO:<fred@example.org>")
        dead.send("RCPT TO:<one@example.org>")
        self.map.wait_asked("senders hung@example.com")
        self.dead.wait_asked("get one@example.org")
        other.say("MAIL FROM:<quick@example.com>")
        self.assertRegex(other.say("RCPT TO:<fred@example.org>"), "^250")
        self.assertFalse(waiting.has_reply() or dead.has_reply())
        self.assertEqual(len(self.mail.pids()["proxymap"]), 1)
        self.assertRegex(waiting.reply(), r"^451 4\.3\.5 <hung@example\.com>: Sender address rejected: Server configuration error$")
        self.assertRegex(dead.reply(), r"^451 4\.3\.5 <one@example\.org>: Recipient address rejected: Server configuration error$")
        # The server that has answered nobody is not asked again for a while; the one that has, is.
        self.assertRegex(dead.say("RCPT TO:<two@example.org>"), r"^451 4\.3\.5 <two@example\.org>: Recipient address rejected: Server configuration error$")
        self.assertEqual([one for one in self.dead.asked if "two@" in one], [])
        other.say("RSET")
        other.say("MAIL FROM:<quick7@example.com>")
        self.assertRegex(other.say("RCPT TO:<fred@example.org>"), "^250")
        self.assertRegex(self.mail.log(), r"warning: .*tcp:127\.0\.0\.1:%d: timeout" % DEAD)


if __name__ == "__main__":
    unittest.main(verbosity=2)
