#!/usr/bin/env python3
"""Mail that goes out: smtp and lmtp against servers that behave, and servers that do not.  Runs as an ordinary user."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from smtp_peer import Peer  # noqa: E402
from suite import PATIENCE, Suite, wait_listening  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000"))
EXTRA = """
transport_maps = regexp:{dir}/etc/transport
relay_domains =
smtp_connection_cache_time_limit = 1s
smtp_helo_timeout = 3s
smtp_mail_timeout = 3s
smtp_rcpt_timeout = 3s
smtp_data_init_timeout = 3s
smtp_data_done_timeout = 3s
smtp_connect_timeout = 3s
smtp_tls_security_level = none
lmtp_data_done_timeout = 3s
mynetworks = 127.0.0.0/8
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""
MASTER = """
smtp unix - - n - 2 smtp
relay unix - - n - 2 smtp
lmtp unix - - n - 2 lmtp
never unix - - n - 2 smtp -o smtp_never_send_ehlo=yes
strict unix - - n - 2 smtp -o smtp_per_request_deadline=yes
few unix - - n - 2 smtp -o process_session_limit=1
"""


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import tempfile
        directory = tempfile.mkdtemp(prefix="postern-smtp-")
        cls.mail = Suite(extra=EXTRA.format(dir=directory), master_extra=MASTER, port=PORT, directory=directory)
        # u25010.example goes to port 25010 of this host, by SMTP; l25010.example by LMTP.
        rows = ""
        for port in range(PORT + 100, PORT + 200):
            for kind, transport in (("u", "smtp:"), ("l", "lmtp:inet:"), ("n", "never:"), ("s", "strict:")):
                rows += "/@%s%d\\.example$/ %s[127.0.0.1]:%d\n" % (kind, port, transport, port)
            rows += "/@few%d-[0-9]+\\.example$/ few:[127.0.0.1]:%d\n" % (port, port)
            rows += "".join("/@two%d-%d\\.example$/ smtp:[127.0.0.1]:%d,[127.0.0.1]:%d\n" % (port, port + i, port, port + i) for i in (1, 2, 3))
        cls.mail.write("etc/transport", rows + r"""
/@unix\.example$/ lmtp:unix:{dir}/lmtp-socket
/@bad\.example$/ smtp:[127.0.0.1
""".replace("{dir}", directory))
        cls.next_port = PORT + 100
        cls.mail.start()

    @classmethod
    def tearDownClass(cls):
        cls.mail.stop()

    def peer(self, **options):
        """A server, and the domain whose mail goes there."""
        Client.next_port += 1
        peer = Peer(port=Client.next_port, **options)
        self.addCleanup(peer.close)
        return peer, "%s%d.example" % ("l" if options.get("lmtp") else "u", Client.next_port)

    def send(self, *recipients, text="Subject: hi\n\nbody\n", sender="fred@example.org", mail_options=(), rcpt_options=()):
        with self.mail.smtp() as smtp:
            smtp.ehlo()
            if isinstance(text, str):
                text = text.encode()
            smtp.sendmail(sender, list(recipients), text.replace(b"\n", b"\r\n"), mail_options, rcpt_options)

    def test_a_message_is_delivered_as_it_was(self):
        peer, domain = self.peer()
        text = b"Subject: dots\n\n.\n..two\n.one\nlast line\n"
        self.send("a@" + domain, text=text)
        self.mail.wait_log(r"to=<a@%s>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, "
                    r"dsn=2\.0\.0, status=sent \(250 2\.0\.0 Ok: queued as 1\)" % re.escape(domain))
        message = peer.messages[0]
        self.assertTrue(message["content"].endswith(b"\r\n\r\n.\r\n..two\r\n.one\r\nlast line\r\n"), message["content"])
        self.assertRegex(message["sender"], r"^MAIL FROM:<fred@example\.org> SIZE=\d+$")
        self.assertEqual(peer.commands[0], "EHLO mail.example.org")

    def test_a_stray_cr_smuggles_nothing(self):
        text = b"Subject: cr\n\na\r.\rMAIL FROM:<x@example.org>\rb\n\r.\nend\n"
        for features, kept in ((["PIPELINING"], False), (["PIPELINING", "CHUNKING"], True)):
            peer, domain = self.peer(features=features)
            self.send("a@" + domain, text=text)
            self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
            body = text.split(b"\n\n", 1)[1].replace(b"\n", b"\r\n")
            if not kept:   # where the end of the content is a line of its own
                body = body.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n")
            self.assertTrue(peer.messages[0]["content"].endswith(b"\r\n\r\n" + body), peer.messages[0]["content"])

    def test_the_envelope_leaves_in_one_piece(self):
        peer, domain = self.peer()
        self.send("a@" + domain, "b@" + domain, "c@" + domain)
        self.mail.wait_log(r"to=<c@%s>.*status=sent" % domain)
        self.mail.wait_for(lambda: "QUIT" in peer.verbs(), 5, "QUIT")
        self.assertEqual(peer.verbs(), ["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA", "QUIT"])
        self.assertEqual(len(peer.messages[0]["recipients"]), 3)

    def test_more_deliveries_than_smtp_processes_take_at_once(self):
        """They take turns; none waits for a connection of qmgr's that nobody uses, and none fails."""
        peer, domain = self.peer(replies={".": 0.05})
        other, _ = self.peer(replies={".": 0.05})
        number = re.search(r"\d+", domain).group(0)
        for count in range(40):
            self.send("a%d@few%s-1.example" % (count, number if count % 2 else int(number) + 1))
        started = time.monotonic()
        self.mail.wait_for(lambda: len(peer.messages) + len(other.messages) >= 40, 15, "all arrive")
        self.assertLess(time.monotonic() - started, 8 * PATIENCE)
        self.mail.wait_for(lambda: len(re.findall(r"to=<a\d+@few.*status=sent", self.mail.log())) >= 40, 15, "all are logged")
        self.assertEqual(re.findall(r"to=<a\d+@few.*status=deferred|connect to transport private/few", self.mail.log()), [])

    def test_without_pipelining(self):
        peer, domain = self.peer(features=["8BITMIME"])
        self.send("a@" + domain, "b@" + domain)
        self.mail.wait_log(r"to=<b@%s>.*status=sent" % domain)
        self.assertEqual(peer.messages[0]["sender"], "MAIL FROM:<fred@example.org>")

    def test_helo_when_ehlo_is_not_known(self):
        peer, domain = self.peer(replies={"EHLO": "500 5.5.2 what?"})
        self.send("a@" + domain)
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.assertEqual(peer.verbs()[:2], ["EHLO", "HELO"])

    def test_one_recipient_is_refused(self):
        refuse = lambda command: "550 5.1.1 <x> unknown\n" .strip() if "<b@" in command else ""
        peer, domain = self.peer(replies={"RCPT": refuse})
        self.send("a@" + domain, "b@" + domain)
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.mail.wait_log(r"to=<b@%s>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, .*dsn=5\.1\.1, status=bounced \(host "
                    r"127\.0\.0\.1\[127\.0\.0\.1\] said: 550 5\.1\.1 <x> unknown \(in reply to RCPT TO command\)\)" % domain)
        bounce = self.mail.wait_for(lambda: [text for text in self.mail.messages("fred") if "<b@%s>: host" % domain in text], 20, "the bounce")[0]
        self.assertIn("Diagnostic-Code: smtp; 550 5.1.1 <x> unknown", bounce)
        self.assertIn("Remote-MTA: dns; 127.0.0.1", bounce)

    def test_all_recipients_are_refused_and_data_went_along(self):
        peer, domain = self.peer(replies={"RCPT": "450 4.2.1 later", "DATA": "354 go on"})
        self.send("a@" + domain)
        self.mail.wait_log(r"to=<a@%s>.*dsn=4\.2\.1, status=deferred \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 450 4\.2\.1 later" % domain)
        self.mail.wait_for(lambda: "QUIT" in peer.verbs(), 5, "QUIT")
        self.assertEqual(peer.messages[0]["content"] if peer.messages else b"", b"")

    def test_refusals_at_each_stage(self):
        cases = {
            "CONNECT": (r"refused to talk to me: %s", True), "MAIL": (r"said: %s \(in reply to MAIL FROM command\)", False),
            "RCPT": (r"said: %s \(in reply to RCPT TO command\)", False), "DATA": (r"said: %s \(in reply to DATA command\)", False),
            ".": (r"said: %s \(in reply to end of DATA command\)", False)}
        wanted = []
        for verb, (text, softened) in cases.items():
            for reply in ("451 4.5.7 not now", "554 5.5.7 never"):
                peer, domain = self.peer(replies={verb: reply})
                self.send("a@" + domain, sender="wilma@example.org")
                hard = reply[0] == "5" and not softened
                wanted.append(r"to=<a@%s>.*dsn=%s.5.7, status=%s \(host 127\.0\.0\.1\[127\.0\.0\.1\] %s\)"
                              % (domain, "5" if hard else "4", "bounced" if hard else "deferred", text % reply))
        for pattern in wanted:
            self.mail.wait_log(pattern)

    def test_lost_connections_at_each_stage(self):
        cases = {"CONNECT": "receiving the initial server greeting", "EHLO": "performing the EHLO handshake",
                 "MAIL": "sending MAIL FROM", "RCPT": "sending RCPT TO", "DATA": "sending DATA command",
                 ".": "sending end of data -- message may be sent more than once"}
        wanted = []
        for verb, doing in cases.items():
            peer, domain = self.peer(replies={verb: None})
            self.send("a@" + domain)
            wanted.append(r"to=<a@%s>.*dsn=4\.4\.2, status=deferred \(lost connection with 127\.0\.0\.1\[127\.0\.0\.1\] while %s\)"
                          % (domain, doing))
        for pattern in wanted:
            self.mail.wait_log(pattern)

    def test_silence_at_each_stage(self):
        wanted = []
        for verb, doing in {"CONNECT": "receiving the initial", "EHLO": "performing the EHLO", "MAIL": "sending MAIL FROM",
                            "RCPT": "sending RCPT TO", "DATA": "sending DATA", ".": "sending end of data"}.items():
            peer, domain = self.peer(replies={verb: 8})
            self.send("a@" + domain)
            wanted.append(r"to=<a@%s>.*dsn=4\.4\.2, status=deferred \(conversation with 127\.0\.0\.1\[127\.0\.0\.1\] timed out while %s"
                          % (domain, doing))
        for pattern in wanted:
            self.mail.wait_log(pattern)

    def test_nobody_listens(self):
        Client.next_port += 1
        domain = "u%d.example" % Client.next_port
        self.send("a@" + domain)
        self.mail.wait_log(r"connect to 127\.0\.0\.1\[127\.0\.0\.1\]:%d: Connection refused" % Client.next_port)
        self.mail.wait_log(r"to=<a@%s>, relay=none, .*dsn=4\.4\.1, status=deferred \(connect to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: "
                    r"Connection refused\)" % domain)

    def test_the_next_server_is_asked_after_soft_failures(self):
        Client.next_port += 1
        peer, domain = self.peer()
        dead = Client.next_port - 1
        self.send("a@two%d-%d.example" % (dead, Client.next_port))
        self.mail.wait_log(r"to=<a@two%d-.*status=sent" % dead)
        soft, _ = self.peer(replies={"RCPT": lambda command: "450 4.1.1 no" if "<b@" in command else ""})
        first = Client.next_port
        good, _ = self.peer()
        self.send("a@two%d-%d.example" % (first, Client.next_port), "b@two%d-%d.example" % (first, Client.next_port))
        self.mail.wait_log(r"to=<b@two%d-.*relay=127\.0\.0\.1\[127\.0\.0\.1\]:%d, .*status=sent" % (first, Client.next_port))
        self.assertEqual([len(p.messages) for p in (soft, good)], [1, 1])

    def test_wrong_answers_to_pipelined_commands(self):
        peer, domain = self.peer(replies={"RCPT": "this is no reply"})
        self.send("a@" + domain)
        self.mail.wait_log(r"non-ESMTP response from 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: this is no reply")
        self.mail.wait_log(r"to=<a@%s>.*dsn=4\.5\.0, status=deferred" % domain)

    def test_long_lines_are_folded(self):
        peer, domain = self.peer()
        self.send("a@" + domain, text="Subject: long\n\n" + "x" * 2500 + "\n")
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        lines = peer.messages[0]["content"].split(b"\r\n\r\n", 1)[1].split(b"\r\n")
        self.assertEqual(lines[:3], [b"x" * 998, b" " + b"x" * 997, b" " + b"x" * 505])
        self.mail.wait_log(r"breaking line > 998 bytes with <CR><LF>SPACE")

    def test_a_large_message(self):
        peer, domain = self.peer()
        body = b"".join(b"%06d .dot\n.%06d\n" % (i, i) for i in range(60000))
        self.send("a@" + domain, text=b"Subject: large\n\n" + body)
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain, 30)
        self.assertEqual(peer.messages[0]["content"].split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n"), body)

    def test_a_server_that_trickles(self):
        """One line of its reply every second keeps within smtp_helo_timeout, unless that counts for the whole reply."""
        Client.next_port += 1
        listener = socket.create_server(("127.0.0.1", Client.next_port))
        self.addCleanup(listener.close)

        def trickle(client):
            with client:
                try:
                    client.sendall(b"220 slow.example ESMTP\r\n")
                    client.recv(1000)
                    for line in (b"250-slow.example\r\n",) * 5 + (b"250 slow\r\n",):
                        client.sendall(line)
                        time.sleep(1)
                    client.recv(1000)
                    client.sendall(b"554 5.5.0 enough\r\n")
                except OSError:
                    pass

        def accept():
            for _ in range(2):
                threading.Thread(target=trickle, args=(listener.accept()[0],), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        port = Client.next_port
        self.send("a@u%d.example" % port)
        self.send("a@s%d.example" % port)
        self.mail.wait_log(r"to=<a@s%d\.example>.*dsn=4\.4\.2, status=deferred \(conversation with .* timed out while performing the EHLO handshake" % port)
        self.mail.wait_log(r"to=<a@u%d\.example>.*dsn=5\.5\.0, status=bounced" % port)

    def test_chunks(self):
        features = ["PIPELINING", "CHUNKING", "8BITMIME"]
        peer, domain = self.peer(features=features)
        self.send("a@" + domain, text=b"Subject: dots\n\n.\n..two\nlast line\n")
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.mail.wait_for(lambda: "QUIT" in peer.verbs(), 5, "QUIT")
        self.assertEqual(peer.verbs(), ["EHLO", "MAIL", "RCPT", "BDAT", "QUIT"])
        self.assertTrue(peer.messages[0]["content"].endswith(b"\r\n\r\n.\r\n..two\r\nlast line\r\n"), peer.messages[0]["content"])
        body = b"".join(b"%06d .dot\n.%06d\n" % (i, i) for i in range(60000))
        for lmtp in (False, True):
            peer, domain = self.peer(features=features, lmtp=lmtp)
            self.send("a@" + domain, "b@" + domain, text=b"Subject: large\n\n" + body)
            self.mail.wait_log(r"to=<b@%s>.*status=sent" % domain, 30)
            self.assertEqual(peer.messages[0]["content"].split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n"), body)
            self.assertGreater(peer.verbs().count("BDAT"), 3)

    def test_chunks_by_lmtp_have_an_answer_for_each_recipient(self):
        refuse = lambda command: "552 5.2.2 over quota" if "<c@" in command else ""
        unknown = lambda command: "550 5.1.1 unknown" if "<b@" in command else ""
        peer, domain = self.peer(lmtp=True, features=["PIPELINING", "CHUNKING"], replies={".": refuse, "RCPT": unknown})
        self.send("a@" + domain, "b@" + domain, "c@" + domain)
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.mail.wait_log(r"to=<b@%s>.*dsn=5\.1\.1, status=bounced \(.*in reply to RCPT TO command" % domain)
        self.mail.wait_log(r"to=<c@%s>.*dsn=5\.2\.2, status=bounced \(.*in reply to BDAT command" % domain)

    def test_a_chunk_is_refused(self):
        for reply, dsn, status in (("552 5.3.4 too big", "5.3.4", "bounced"), ("452 4.3.1 no room", "4.3.1", "deferred")):
            peer, domain = self.peer(features=["PIPELINING", "CHUNKING"], replies={"BDAT": reply})
            self.send("a@" + domain, text="Subject: x\n\n" + "y" * 70 + "\n" + ("z" * 70 + "\n") * 60000)
            self.mail.wait_log(r"to=<a@%s>.*dsn=%s, status=%s \(host .* said: %s \(in reply to BDAT command\)\)" % (domain, dsn, status, reply))
            self.assertEqual(peer.messages, [])

    def test_the_connection_ends_between_chunks(self):
        peer, domain = self.peer(features=["PIPELINING", "CHUNKING"], replies={"BDAT": None})
        self.send("a@" + domain, text="Subject: x\n\n" + ("z" * 70 + "\n") * 60000)
        self.mail.wait_log(r"to=<a@%s>.*dsn=4\.4\.2, status=deferred \(lost connection with .* while sending message body\)" % domain)

    def test_size_is_known_before_it_is_sent(self):
        peer, domain = self.peer(features=["SIZE 1000", "PIPELINING"])
        self.send("a@" + domain, text="Subject: x\n\n" + "y\n" * 2000)
        self.mail.wait_log(r"to=<a@%s>.*dsn=5\.3\.4, status=bounced \(message size \d+ exceeds size limit 1000 of server "
                    r"127\.0\.0\.1\[127\.0\.0\.1\]\)" % domain)
        self.assertNotIn("MAIL", peer.verbs())

    def test_dsn_requests_are_passed_on(self):
        peer, domain = self.peer()
        self.send("a@" + domain, mail_options=["RET=HDRS", "ENVID=abc+2B"], rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;o+2Bx@y"])
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.assertRegex(peer.messages[0]["sender"], r" RET=HDRS ENVID=abc\+2B$")
        self.assertEqual(peer.messages[0]["recipients"], ["RCPT TO:<a@%s> ORCPT=rfc822;o+2Bx@y NOTIFY=SUCCESS,FAILURE" % domain])

    def test_smtputf8_is_needed_and_missing(self):
        peer, domain = self.peer()
        with self.mail.smtp() as smtp:
            smtp.ehlo()
            smtp.sendmail("fred@example.org", ["dön@" + domain], "Subject: ü\n\nx\n".encode(), ["SMTPUTF8", "BODY=8BITMIME"])
        self.mail.wait_log(r"to=<.*@%s>.*dsn=5\.6\.7, status=bounced \(SMTPUTF8 is required, but was not offered by host" % domain)

    def test_connections_are_used_again(self):
        peer, domain = self.peer()
        for _ in range(8):
            self.send("a@" + domain)
        self.mail.wait_for(lambda: len(peer.messages) == 8, 15, "eight messages")
        self.mail.wait_log(r"to=<a@%s>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+, conn_use=\d+, .*status=sent" % domain)
        self.assertLess(peer.sessions, 8)
        self.mail.wait_for(lambda: peer.verbs().count("QUIT") == peer.sessions, 5, "QUIT for each")

    def test_a_connection_that_went_stale_is_no_failure(self):
        peer, domain = self.peer(replies={"MAIL": ["", "", None, "", "421 4.4.2 idle too long", ""]})
        before = self.mail.log().count(": removed")
        for number in range(1, 9):     # one after another, so that each finds the connection of the one before
            self.send("a@" + domain)
            self.mail.wait_for(lambda: self.mail.log().count(": removed") == before + number, 15, "message %d" % number)
        self.assertEqual(len(peer.messages), 8)
        self.assertNotRegex(self.mail.log(), r"to=<a@%s>.*status=deferred" % domain)

    def test_lmtp_answers_for_each_recipient(self):
        refuse = lambda command: "552 5.2.2 over quota" if "<b@" in command else "451 4.3.0 later" if "<c@" in command else ""
        peer, domain = self.peer(lmtp=True, replies={".": refuse})
        self.send("a@" + domain, "b@" + domain, "c@" + domain)
        self.mail.wait_log(r"postern/lmtp\[\d+\]: \w+: to=<a@%s>.*status=sent|postfix/lmtp\[\d+\]: \w+: to=<a@%s>.*status=sent" % (domain, domain))
        self.mail.wait_log(r"to=<b@%s>.*dsn=5\.2\.2, status=bounced \(host .* said: 552 5\.2\.2 over quota \(in reply to end of DATA command\)\)" % domain)
        self.mail.wait_log(r"to=<c@%s>.*dsn=4\.3\.0, status=deferred" % domain)
        self.assertEqual(peer.commands[0], "LHLO mail.example.org")

    def test_lmtp_over_a_unix_socket(self):
        peer = Peer(path=self.mail.path("lmtp-socket"), lmtp=True)
        self.addCleanup(peer.close)
        self.send("a@unix.example", "b@unix.example")
        self.mail.wait_log(r"to=<b@unix\.example>, relay=mail\.example\.org\[%s\], .*status=sent" % re.escape(self.mail.path("lmtp-socket")))
        self.assertEqual(len(peer.messages), 1)

    def test_a_bad_next_hop_is_a_mistake_of_ours(self):
        self.send("a@bad.example")
        self.mail.wait_log(r"to=<a@bad\.example>, relay=none, .*dsn=4\.3\.5, status=deferred")

    def test_eight_bit_content_for_a_seven_bit_server(self):
        peer, domain = self.peer(features=["PIPELINING"])
        self.send("a@" + domain, text="Subject: x\n\nd\u00f6n\n".encode(), mail_options=["BODY=8BITMIME"])
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.assertIn(b"\r\nContent-Transfer-Encoding: quoted-printable\r\n", peer.messages[0]["content"])
        self.assertTrue(peer.messages[0]["content"].endswith(b"\r\n\r\nd=C3=B6n\r\n"))

    def kill(self, program):
        for pid in self.mail.pids().get(program, []):
            os.kill(pid, signal.SIGKILL)

    def test_no_second_copy_when_the_queue_manager_dies_before_it_hears(self):
        taken = threading.Event()

        def taken_slowly(_):
            taken.set()
            return 1.5
        peer, domain = self.peer(replies={".": taken_slowly})
        self.send("a@" + domain)
        self.assertTrue(taken.wait(30))
        self.kill("qmgr")
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        queue_id = re.search(r"(\w+): to=<a@%s>" % domain, self.mail.log()).group(1)
        self.mail.wait_log(r"qmgr\[\d+\]: %s: removed" % queue_id, 30)
        self.assertEqual(len(peer.messages), 1)

    def test_no_copy_from_a_delivery_that_nobody_waits_for(self):
        peer, domain = self.peer(replies={"DATA": [1.5, ""]})
        self.send("a@" + domain)
        self.mail.wait_for(lambda: "DATA" in peer.verbs(), 10, "DATA")
        self.kill("qmgr")
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain, 30)
        time.sleep(1)
        self.assertEqual(len(peer.messages), 1)

    def test_no_second_copy_when_the_agent_dies_after_its_answer(self):
        refuse = lambda command: 1.5 if "<b@" in command else ""
        peer, domain = self.peer(lmtp=True, replies={".": refuse})
        self.send("a@" + domain, "b@" + domain)
        self.mail.wait_log(r"to=<a@%s>.*status=sent" % domain)
        self.kill("lmtp")
        self.mail.wait_log(r"to=<b@%s>.*status=sent" % domain, 30)
        self.assertEqual(len(re.findall(r"to=<a@%s>.*status=sent" % domain, self.mail.log())), 1)
        self.assertTrue(all("<a@" not in recipient for message in peer.messages[1:] for recipient in message["recipients"]))

    @unittest.skipUnless(shutil.which("smtp-sink"), "smtp-sink is not installed")
    def test_smtp_sink(self):
        for i, options in enumerate((["-8", "-p"], ["-e"], ["-N", "-F"], ["-L"])):
            Client.next_port += 1
            user = [] if os.geteuid() else ["-u", "nobody"]
            sink = subprocess.Popen(["smtp-sink", *user, *options, "127.0.0.1:%d" % Client.next_port, "100"])
            self.addCleanup(sink.kill)
            wait_listening(Client.next_port)
            domain = "%s%d.example" % ("l" if options == ["-L"] else "u", Client.next_port)
            self.send("a@" + domain, "b@" + domain)
            self.mail.wait_log(r"to=<b@%s>.*status=sent" % domain)
            sink.kill()
            sink.wait()


if __name__ == "__main__":
    unittest.main(verbosity=1)
