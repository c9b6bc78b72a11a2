#!/usr/bin/env python3
"""No second delivery after a completed one: smtp, lmtp, qmgr, master or all are killed with SIGKILL at random moments of a
stream of messages to a server of the test's own that counts copies.

A delivery is complete when the client has read the server's 250 and noted it.  It has when it goes on with another command.
When the connection ends instead, the server judges: a client that was killed before it read leaves the 250 unread in its socket,
or gets it after its socket is gone, and then the kernel answers with RST; one that was killed in the instant between reading and
noting ends with FIN as an idle one does, but soon after the 250.  Such copies (by LMTP all of the message, since nobody can say how
many replies were read) may be followed by another one, no others.  KILL_ROUNDS (default 40), KILL_SEED.
"""
import os
import random
import re
import smtplib
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from killing import Havoc, Sender, keep_log, restart, while_sending  # noqa: E402
from suite import Suite  # noqa: E402

ROUNDS = int(os.environ.get("KILL_ROUNDS", "40"))
PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
VICTIMS = ("smtp", "smtp", "lmtp", "qmgr", "qmgr", "master", "all")
ESTABLISHED, CLOSE_WAIT = 1, 8     # states of TCP in the kernel's numbers
INSTANT = 0.25     # seconds in which a client that is not killed has read a 250 and noted it, even where others want the processor
RST_COMES = 0.05   # seconds


class Sink:
    """Takes messages for any number of recipients, and notes for each copy whether its 250 was read."""

    def __init__(self, port, lmtp):
        self.lmtp, self.lock = lmtp, threading.Lock()
        self.heard, self.unheard = {}, {}     # (message, recipient) -> copies
        self.listener = socket.create_server(("127.0.0.1", port), backlog=200)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    @staticmethod
    def state(client):
        return struct.unpack("B", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0]

    def was_read(self, client, sent):
        """The client has closed: had it taken note of the reply sent at this time?"""
        soon = time.monotonic() - sent < INSTANT
        time.sleep(RST_COMES)   # the RST for a reply that came too late is under way: end of file hides it
        return not soon and self.state(client) == CLOSE_WAIT

    def serve(self, client):
        last, recipients = [], []     # copies whose 250 was sent and whose fate is not known
        sent = 0.0
        try:
            with client, client.makefile("rb") as stream:
                client.sendall(b"220 sink.example ESMTP\r\n")
                for line in iter(stream.readline, b""):
                    verb = line.split(b" ")[0].strip().upper()
                    self.settle(self.heard, last)     # it goes on, so it has read what came before
                    if verb in (b"MAIL", b"RSET"):
                        recipients = []
                    if verb in (b"EHLO", b"LHLO"):
                        client.sendall(b"250-sink.example\r\n250 PIPELINING\r\n")
                    elif verb == b"DATA":
                        client.sendall(b"354 go\r\n")
                        content = b""
                        for line in iter(stream.readline, b".\r\n"):
                            if not line:
                                return
                            content += line
                        time.sleep(random.uniform(0, 0.01))
                        whole = self.conclude(client, content, recipients, last)
                        sent = time.monotonic()
                        if not whole:
                            while client.recv(65536):
                                pass
                            break
                    elif verb == b"QUIT":
                        client.sendall(b"221 bye\r\n")
                    else:
                        if verb == b"RCPT":
                            recipients.append(line.split(b"<")[1].split(b">")[0].decode())
                        client.sendall(b"250 ok\r\n")
                self.settle(self.heard if self.was_read(client, sent) else self.unheard, last)
        except OSError:
            self.settle(self.unheard, last)

    def conclude(self, client, content, recipients, last):
        """Takes the message, unless the client has gone; by LMTP with an answer for each recipient."""
        message = re.search(rb"^Subject: id=(\S+)\r$", content, re.M).group(1).decode()
        for group in ([[one] for one in recipients] if self.lmtp else [recipients]):
            if self.state(client) != ESTABLISHED:
                return False
            client.sendall(b"250 2.0.0 taken\r\n")
            last.extend((message, one) for one in group)
            time.sleep(random.uniform(0, 0.01) if self.lmtp else 0)
        return True

    def settle(self, where, copies):
        with self.lock:
            for copy in copies:
                where[copy] = where.get(copy, 0) + 1
        copies.clear()


class SmtpSender(Sender):
    def burst(self):
        try:
            client = self.mail.smtp(timeout=20)
            client.ehlo("c.example")
            for _ in range(random.randint(1, 5)):
                message = self.next_id()
                domain = random.choice(["sink.example", "sink.example", "lmtp.example"])
                recipients = ["r%d@%s" % (i, domain) for i in range(random.randint(1, 3))]
                client.sendmail("s@c.example", recipients, "Subject: id=%s\r\n\r\n%s\r\n" % (message, "x" * 2000))
                self.accepted += [(message, recipient) for recipient in recipients]
            client.quit()
        except (OSError, smtplib.SMTPException):
            self.failed += 1
            time.sleep(0.02)


EXTRA = """
smtpd_error_sleep_time = 0
service_throttle_time = 1s
relayhost = [127.0.0.1]:%d
transport_maps = inline:{{lmtp.example=lmtp:inet:[127.0.0.1]:%d}}
smtp_tls_security_level = none
initial_destination_concurrency = 20
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
""" % (PORT + 60, PORT + 61)
MASTER = """
smtp unix - - n - 3 smtp -o process_session_limit=8
lmtp unix - - n - 3 lmtp -o process_session_limit=8
"""


def main():
    havoc = Havoc(VICTIMS, ROUNDS, (0.1, 0.7))
    sinks = [Sink(PORT + 60, False), Sink(PORT + 61, True)]
    with Suite(EXTRA, MASTER, port=PORT) as mail:
        senders = [SmtpSender(mail, "s%d" % i) for i in range(3)]
        accepted = while_sending(senders, lambda: havoc.wreak(mail))
        restart(mail)
        mail.control("flush")
        mail.wait_empty(120)
        time.sleep(3)     # kept connections end, which settles their last copies
        heard, unheard = {}, {}
        for sink in sinks:
            with sink.lock:
                heard.update(sink.heard)
                unheard.update(sink.unheard)
        lost = [copy for copy in accepted if copy not in heard and copy not in unheard]
        twice = [copy for copy, count in heard.items() if count > 1]
        havoc.show()
        print("accepted %d recipients, broken off %d, copies read %d, copies whose 250 nobody read %d, known from before %d, lost %d, twice %d"
              % (len(accepted), sum(sender.failed for sender in senders), sum(heard.values()), sum(unheard.values()),
                 mail.log().count("delivered before to"), len(lost), len(twice)))
        keep_log(mail)
        for label, copies in (("lost", lost), ("twice", twice)):
            if copies:
                print("%s: %s" % (label, copies[:10]))
        if len(accepted) < ROUNDS:
            print("too few messages were accepted for this to prove anything")
            return 1
        return 1 if lost or twice else 0


if __name__ == "__main__":
    sys.exit(main())
