#!/usr/bin/env python3
"""Settings of the log, of commands and of the mail store, in the running suite: postern logrotate, modes of log files, mailboxes that
are made at log-in, special uses, keywords' length, tables that are missing at first, settings of one transport that are refused, how long
one program waits for another, and the windows of connections."""
import gzip
import glob
import imaplib
import os
import re
import smtplib
import socket
import stat
import struct
import sys
import time
import unittest

from smtp_peer import Peer
from suite import PASSWORD, PATIENCE, Suite

PEER = int(os.environ.get("POSTERN_TEST_PORT", "23000")) + 20

LOG = """
maillog_file_permissions = 0640
maillog_file_rotate_suffix = old-%Y
syslog_name = house
delay_logging_resolution_limit = 4
"""
STORE = r"""
mailbox_auto = Drafts=subscribe, Sent Items=create
mailbox_special_use = Drafts=\Drafts, Sent Items=\Sent
mail_max_keyword_length = 10
imap_tls_wrappermode = no
"""


class Log(unittest.TestCase):
    def lines(self, mail, path, pattern):
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rt") as file:
            return [line for line in file if re.search(pattern, line)]

    def send(self, mail, subject):
        client = mail.smtp()
        client.sendmail("x@c.example", ["fred@example.org"], "Subject: %s\n\nb\n" % subject)
        client.quit()

    def test_the_log_is_rotated_without_losing_a_line(self):
        with Suite(extra=LOG) as mail:
            log = mail.path("log")
            self.assertEqual(stat.S_IMODE(os.stat(log).st_mode), 0o640)
            sent = 0
            for number in range(5):
                self.send(mail, "before %d" % number)
                sent += 1
            mail.wait_empty()
            done = mail.control("logrotate")
            self.assertEqual((done.returncode, b"rotated " + log.encode() in done.stdout), (0, True), done.stdout)
            mail.wait_for(mail.listening, 10, "the services listen again")
            for number in range(5):
                self.send(mail, "after %d" % number)
                sent += 1
            mail.wait_empty()
            packed = log + ".old-" + time.strftime("%Y") + ".gz"
            self.assertEqual(sorted(glob.glob(log + "*")), [log, packed])
            self.assertEqual(stat.S_IMODE(os.stat(log).st_mode), 0o640)
            delivered = [self.lines(mail, path, r"house/virtual\[\d+\]: .* status=sent") for path in (packed, log)]
            self.assertEqual([len(lines) for lines in delivered], [5, 5], delivered)
            self.assertEqual(sum(len(lines) for lines in delivered), sent)
            delays = re.findall(r"delays?=([0-9./]+)", "".join(delivered[0] + delivered[1]))
            self.assertTrue(any(re.search(r"0\.0\d{2,3}\b", delay) for delay in delays), delays)
            again = mail.control("logrotate")
            self.assertNotEqual(again.returncode, 0)   # the same name, this year: nothing is overwritten
            self.assertIn(b"logfile rotation failed: ", again.stdout)
            self.assertEqual(len(self.lines(mail, packed, "status=sent")), 5)
            self.assertEqual(len(self.lines(mail, packed[:-3], "status=sent")), 5)

    def test_a_file_that_cannot_be_rotated_is_said(self):
        mail = Suite(extra="maillog_file =\n")
        self.addCleanup(mail.stop)
        done = mail.control("logrotate")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"maillog_file is empty", done.stdout)
        for value, what in (("maillog_file = /elsewhere/log", b"maillog_file_prefixes"), ("syslog_facility = post", b"local7"),
                            ("maillog_file_permissions = 0666", b"0644"), ("socketmap_max_reply_size = x", b"a number")):
            with open(mail.path("etc/main.cf")) as file:
                text = file.read()
            with open(mail.path("etc/main.cf"), "a") as file:
                file.write(value + "\n")
            line = text.count("\n") + 1
            checked = mail.control("check")
            self.assertNotEqual(checked.returncode, 0, value)
            self.assertIn(what, checked.stdout)
            self.assertRegex(checked.stdout.decode(), r"main\.cf[:, line]+%d: %s" % (line, re.escape(value.split(" ")[0])))
            mail.write("etc/main.cf", text)

    def test_mail_waits_for_a_table_that_is_missing_at_first(self):
        with Suite() as mail:
            with open(mail.path("etc/main.cf"), "a") as file:
                file.write("virtual_alias_maps = texthash:%s\nservice_throttle_time = 1s\n" % mail.path("later"))
            mail.control("reload", check=True)
            mail.wait_for(lambda: "error: " in mail.log() and mail.path("later") in mail.log(), 15, "the missing table is logged")
            client = mail.smtp()
            client.mail("x@c.example")
            refused = client.rcpt("fred@example.org")
            if refused[0] == 250:
                refused = client.data("Subject: x\n\nb\n")
            self.assertEqual(refused[0], 451, refused)
            client.quit()
            mail.write("later", "fred@example.org wilma@example.org\n")

            def accepted():
                client = mail.smtp()
                taken = client.mail("x@c.example")[0] == 250 and client.rcpt("fred@example.org")[0] == 250 and \
                    client.data("Subject: x\n\nb\n")[0] == 250
                client.quit()
                return taken
            mail.wait_for(accepted, 20, "the table is found")
            mail.wait_for(lambda: mail.mailbox("wilma"), 15, "the alias counts")
            self.assertEqual(mail.mailbox("fred"), [])


class Limits(unittest.TestCase):
    def test_bad_feedback_of_one_transport_is_refused_and_what_runs_goes_on(self):
        with Suite(extra="transport_maps = inline:{remote.example=slow:[127.0.0.1]:%d}\n" % PEER, master_extra="slow unix - - n - 4 smtp\n") as mail:
            peer = Peer(PEER)
            self.addCleanup(peer.close)

            def deliver(number):
                client = mail.smtp()
                client.sendmail("fred@example.org", ["x@remote.example"], "Subject: %d\n\nb\n" % number)
                client.quit()
                mail.wait_for(lambda: len(peer.messages) == number, 20, "message %d arrives" % number)
            deliver(1)   # who starts from now on would read the bad value
            with open(mail.path("etc/main.cf"), "a") as file:
                file.write("slow_destination_concurrency_negative_feedback = 1/conc\n")
            said = r"main\.cf[:, line]+\d+: slow_destination_concurrency_negative_feedback = 1/conc: accepted: a number from 0 to 1"
            qmgr = mail.pids()["qmgr"]
            for word in ("check", "reload"):
                done = mail.control(word)
                self.assertNotEqual(done.returncode, 0, word)
                self.assertRegex(done.stdout.decode(), said)
            deliver(2)
            self.assertEqual(mail.pids()["qmgr"], qmgr)
            mail.control("stop")
            done = mail.control("start")
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stdout.decode(), said)

    def deaf(self, path):
        """A service at `path` that takes connections and says nothing."""
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen(10)
        return listener

    def test_who_waits_for_a_program_that_says_nothing_gives_up_after_ipc_timeout(self):
        with Suite(extra="ipc_timeout = 2s\nmailbox_transport = deaf\n", master_extra="127.0.0.1:%d inet n - n - 1 smtpd -o cleanup_service_name=deaf\n" % PEER) as mail:
            self.deaf(mail.path("queue/public/deaf"))
            self.deaf(mail.path("queue/private/deaf"))
            client = smtplib.SMTP("127.0.0.1", PEER, timeout=20 * PATIENCE)   # without the limit: an hour
            self.assertEqual((client.mail("x@c.example")[0], client.rcpt("fred@example.org")[0]), (250, 250))
            began = time.monotonic()
            self.assertEqual(client.data("Subject: x\n\nb\n")[0], 451)
            self.assertGreater(time.monotonic() - began, 1.9)
            client.close()
            client = mail.smtp()
            client.sendmail("x@c.example", ["user@localhost"], "Subject: x\n\nb\n")   # local asks the other
            client.quit()
            delay = mail.wait_log(r"to=<user@localhost>, .*delay=([0-9.]+), .*status=deferred \(mail transport deaf: ").group(1)
            self.assertGreater(float(delay), 1.9)

    def test_who_wakes_a_service_that_takes_no_connection_gives_up_after_trigger_timeout(self):
        with Suite(extra="trigger_timeout = 1s\npickup_service_name = deaf\n") as mail:
            listener = self.deaf(mail.path("queue/public/deaf"))
            listener.listen(0)
            waiting = []
            while True:   # until its backlog is full
                one = socket.socket(socket.AF_UNIX)
                self.addCleanup(one.close)
                one.setblocking(False)
                try:
                    one.connect(mail.path("queue/public/deaf"))
                except BlockingIOError:
                    break
                waiting.append(one)
            self.assertLess(len(waiting), 10)
            began = time.monotonic()
            mail.run("postqueue", "-f", check=True)
            seconds = time.monotonic() - began
            self.assertTrue(0.9 < seconds < 8 * PATIENCE, seconds)   # without the limit: ten

    def test_connections_of_the_client_have_the_window_that_is_set(self):
        def window(client):   # of the other side, in TCP_INFO of Linux 5.4 and later
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
            return struct.unpack_from("I", info, 228)[0] if len(info) >= 232 else None

        def told(service, size):
            """What the client of `service` lets us send it."""
            with socket.create_server(("127.0.0.1", PEER + 1 + service)) as listener:
                listener.settimeout(20 * PATIENCE)
                client = mail.smtp()
                client.sendmail("fred@example.org", ["x@%s.example" % size], "Subject: x\n\nb\n")
                client.quit()
                connection, _ = listener.accept()
                with connection:
                    return window(connection)

        sizes = ("small", "usual")
        maps = ", ".join("%s.example=%s:[127.0.0.1]:%d" % (size, size, PEER + 1 + i) for i, size in enumerate(sizes))
        with Suite(extra="transport_maps = inline:{%s}\n" % maps,
                   master_extra="small unix - - n - 4 smtp -o tcp_windowsize=6000\nusual unix - - n - 4 smtp\n") as mail:
            small, usual = (told(i, size) for i, size in enumerate(sizes))
            if usual is None:
                self.skipTest("this kernel does not tell the other side's window")
            self.assertLess(small, 12001)   # the kernel doubles what it is told
            self.assertGreater(usual, 20000)


class Store(unittest.TestCase):
    def test_mailboxes_and_keywords_are_as_configured(self):
        with Suite(extra=STORE) as mail:
            client = imaplib.IMAP4("127.0.0.1", mail.port["imap"])
            client.login("fred", PASSWORD)
            listed = {re.search(rb'" "?([^"]+)"?$', line).group(1): line for line in client.list()[1]}
            self.assertEqual(set(listed), {b"INBOX", b"Drafts", b"Sent Items"})
            self.assertIn(b"\\Drafts", listed[b"Drafts"])
            self.assertIn(b"\\Sent", listed[b"Sent Items"])
            self.assertEqual([line.split(b" ")[-1].strip(b'"') for line in client.lsub()[1] if line], [b"Drafts"])
            self.assertEqual(client.delete("Drafts")[0], "OK")
            self.assertEqual(client.append("INBOX", "(TenLetters)", None, b"Subject: x\r\n\r\nb\r\n")[0], "OK")
            self.assertEqual(client.append("INBOX", "(ElevenChars)", None, b"Subject: x\r\n\r\nb\r\n"),
                             ("NO", [b"[LIMIT] Keyword is too long."]))
            self.assertEqual(client.select()[1], [b"1"])
            self.assertEqual(client.store("1", "+FLAGS", "(ElevenChars)"), ("NO", [b"[LIMIT] Keyword is too long."]))
            self.assertEqual(client.store("1", "+FLAGS", "(Short)")[0], "OK")
            client.logout()


if __name__ == "__main__":
    unittest.main(verbosity=2)
