#!/usr/bin/env python3
"""POP3 from the client's end: pop3d, auth, pop3d-session and a Maildir, with Python's poplib and plain sockets."""
import base64
import glob
import os
import poplib
import re
import shutil
import socket
import sys

import imap_instance
from imap_instance import PASSWORD, USER, Instance
from suite import CORPUS, any_certificate

PORT = int(os.environ.get("POSTERN_POP3_TEST_PORT", "21110"))
POP3_MASTER_CF = """
127.0.0.1:{port} inet n - n - 1 pop3d
127.0.0.1:{tls_port} inet n - n - 1 pop3d -o pop3_tls_wrappermode=yes
auth unix - - n - 1 auth
pop3-session unix - n n - 1 pop3d-session
"""
poplib._MAXLINE = 1 << 20


class Pop3Instance(Instance):
    def __init__(self, extra="", port=PORT):
        super().__init__(extra, port)
        for name in ("pop3d", "pop3d-session"):
            shutil.copy(os.path.join(imap_instance.BIN, name), self.bin)
        self.write("etc/master.cf", POP3_MASTER_CF.format(port=self.port, tls_port=self.tls_port))
        self.give_away()

    def deliver(self, messages):
        new = self.path("home/Maildir/new")
        for folder in ("new", "cur", "tmp"):
            os.makedirs(self.path("home/Maildir/" + folder), exist_ok=True)
        for number, text in enumerate(messages):
            with open(os.path.join(new, "17000000%05d.M1P1.host" % number), "wb") as file:
                file.write(text)
        self.give_away()

    def login(self, tls=False):
        if tls:
            client = poplib.POP3_SSL("127.0.0.1", self.tls_port, timeout=20, context=any_certificate())
        else:
            client = poplib.POP3("127.0.0.1", self.port, timeout=20)
        client.user(USER)
        client.pass_(PASSWORD)
        return client

    def raw(self, text, until=b"", wait=5):
        """Says everything at once, and reads until the other end closes or `until` has come."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            client.settimeout(wait)
            client.sendall(text)
            got = b""
            try:
                while until == b"" or until not in got:
                    piece = client.recv(65536)
                    if not piece:
                        break
                    got += piece
            except socket.timeout:
                pass
            return got


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def corpus_messages():
    found = []
    for path in sorted(glob.glob(os.path.join(CORPUS, "messages", "mail-parser", "**", "*.eml"), recursive=True)):
        with open(path, "rb") as file:
            found.append(file.read())
    return found


def crlf(text):
    text = re.sub(rb"\r?\n", b"\r\n", text)
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def test_logins(mail):
    client = mail.login()
    check(client.stat() == (2, 55), client.stat())
    check(client.capa().get("UIDL") == [], "CAPA after login")
    client.quit()
    client = mail.login(tls=True)
    check(client.stat()[0] == 2, "TLS")
    client.quit()
    client = poplib.POP3("127.0.0.1", mail.port, timeout=20)
    check("STLS" in client.capa(), "STLS offered")
    client.stls(any_certificate())
    check("STLS" not in client.capa(), "STLS no more offered")
    client.user(USER)
    client.pass_(PASSWORD)
    check(len(client.list()[1]) == 2, "LIST after STLS")
    client.quit()
    token = base64.b64encode(("\0%s\0%s" % (USER, PASSWORD)).encode()).decode()
    for script in ("AUTH PLAIN %s\r\n" % token, "AUTH PLAIN\r\n%s\r\n" % token):
        got = mail.raw((script + "STAT\r\nQUIT\r\n").encode())
        check(b"+OK Logged in.\r\n+OK 2 55\r\n+OK Logging out.\r\n" in got, got)
    check(mail.wait_log(r"pop3-login: Login: user=<fred>, method=PLAIN, rip=127\.0\.0\.1, lip=127\.0\.0\.1, mpid=\d+, TLS, session=<"),
          "Login line: " + mail.log())
    mail.wait_log(r"pop3\(fred\)<\d+><[^>]+>: Disconnected: Logged out top=0/0, retr=0/0, del=0/2, size=55")


def test_refusals(mail):
    got = mail.raw(b"USER fred\r\nPASS wrong\r\nUSER nobody\r\nPASS \r\nAUTH PLAIN AA==\r\nAUTH FOO\r\nSTAT\r\nQUIT\r\n")
    lines = got.split(b"\r\n")
    check([line[:11] for line in lines[1:5]] == [b"+OK", b"-ERR [AUTH]", b"+OK", b"-ERR [AUTH]"], got)
    check(all(line.startswith(b"-ERR") for line in lines[5:8]), got)
    check(lines[8] == b"+OK Logging out", got)
    mail.wait_log(r"pop3-login: Aborted login \(auth failed, \d attempts in \d+ secs\): user=<")
    got = mail.raw(b"STLS\r\nUSER fred\r\n", until=b"TLS negotiation now.\r\n")
    check(b"+OK Begin TLS" in got and b"USER" not in got, got)


def test_pipelined(mail):
    script = "CAPA\r\nUSER %s\r\nPASS %s\r\nSTAT\r\nRETR 1\r\nTOP 2 0\r\nUIDL\r\nFOO\r\nNOOP\r\nQUIT\r\n" % (USER, PASSWORD)
    got = mail.raw(script.encode())
    check(b"+OK Logged in.\r\n+OK 2 55\r\n+OK 28 octets\r\nSubject: one\r\n\r\n..dot\r\nline\r\n.\r\n+OK\r\nSubject: two\r\n\r\n.\r\n" in got, got)
    check(got.endswith(b"-ERR Unknown command: FOO\r\n+OK\r\n+OK Logging out.\r\n"), got)


def test_delete(mail):
    first = mail.login()
    second = mail.login()
    ids = first.uidl()[1]
    first.dele(1)
    check(second.stat()[0] == 2, "marks are one session's")
    first.quit()
    check(second.stat()[0] == 2, "numbers stay")
    check(len(second.retr(2)[1]) > 0, "RETR of what is left")
    second.quit()
    third = mail.login()
    check(third.stat()[0] == 1, "deleted")
    check(third.uidl()[1] == [ids[1].replace(b"2 ", b"1 ", 1)], "ids stay")
    third.dele(1)
    ended = mail.log().count("Disconnected")
    third.close()
    mail.wait_for(lambda: mail.log().count("Disconnected") > ended, 20, "the session ends")
    fourth = mail.login()
    check(fourth.stat()[0] == 1, "no UPDATE without QUIT")
    fourth.quit()


def test_corpus(mail):
    messages = corpus_messages()
    if not messages:
        print("corpus is not there: round trip skipped")
        return
    shutil.rmtree(mail.path("home/Maildir"), ignore_errors=True)
    mail.deliver(messages)
    script = "USER %s\r\nPASS %s\r\n" % (USER, PASSWORD)
    script += "".join("RETR %d\r\n" % number for number in range(1, len(messages) + 1)) + "QUIT\r\n"
    rest = mail.raw(script.encode(), wait=30).split(b"+OK Logged in.\r\n", 1)[1]
    for number, text in enumerate(messages, 1):   # poplib takes CRs off lines, so here is our own client
        answer, rest = rest.split(b"\r\n", 1)
        body = b""
        while not rest.startswith(b".\r\n"):
            line, rest = rest.split(b"\r\n", 1)
            body += line[1 if line.startswith(b".") else 0:] + b"\r\n"
        rest = rest[3:]
        check(body == crlf(text), "message %d comes out changed" % number)
        promised = int(answer.split()[1])
        check(promised == len(body) - (0 if text.endswith(b"\n") else 2), "size of message %d" % number)
    check(rest == b"+OK Logging out.\r\n", rest[:100])
    print("%d messages came out byte for byte" % len(messages))


def main():
    mail = Pop3Instance()
    try:
        mail.deliver([b"Subject: one\n\n.dot\nline\n", b"Subject: two\n\nbody text\n"])
        mail.start()
        for test in (test_logins, test_refusals, test_pipelined, test_delete, test_corpus):
            test(mail)
            print("ok", test.__name__)
    except BaseException:
        sys.stdout.write(mail.log())
        raise
    finally:
        mail.stop()


if __name__ == "__main__":
    main()
