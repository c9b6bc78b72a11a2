#!/usr/bin/env python3
"""IMAP end to end: a private instance, real clients, and imaptest's scripts.

Needs build/bin/{postern,postern-master,auth,imapd,imapd-session}.  Clients that are not installed and a corpus that
is not there are skipped with a notice.
"""
import glob
import imaplib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import imaptest_runner                                                     # noqa: E402
from imap_instance import PASSWORD, USER, Instance                         # noqa: E402
from suite import CORPUS, PATIENCE, any_certificate                                  # noqa: E402

MESSAGE = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: one\r\n\r\nbody\r\n"

# Scripts of imaptest that do not pass, and why that is as it should be.  (Scripts for capabilities that are not
# announced are skipped by the runner.)
EXPECTED_FAILURES = {
    "append-binary": "content that line-based storage cannot keep is refused with NO [UNKNOWN-CTE], as RFC 3516 "
                     "section 4.4 asks; the script wants it re-encoded",
}


class ImapTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.instance = Instance().start()
        cls.port, cls.tls_port = cls.instance.port, cls.instance.tls_port

    @classmethod
    def tearDownClass(cls):
        cls.instance.stop()

    def setUp(self):
        client = self.login()
        for line in client.list()[1]:
            name = line.decode().rsplit(" ", 1)[1]
            if name != "INBOX":
                client.delete(name)
        client.select()
        client.store("1:*", "+FLAGS.SILENT", "\\Deleted")
        client.expunge()
        client.logout()

    def login(self):
        client = imaplib.IMAP4("127.0.0.1", self.port)
        client.login(USER, PASSWORD)
        return client

    def talk(self, *lines):
        """Sends raw lines in one write; all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            client.sendall("".join(line + "\r\n" for line in lines).encode())
            out = b""
            while True:
                piece = client.recv(65536)
                if not piece:
                    return out.decode("latin-1")
                out += piece

    def test_a_pipelined_session_from_the_first_byte(self):
        answer = self.talk("a LOGIN %s {%d+}" % (USER, len(PASSWORD)), PASSWORD, "b SELECT INBOX", "c LOGOUT")
        self.assertRegex(answer, r"(?s)^\* OK \[CAPABILITY .*a OK \[CAPABILITY .*b OK \[READ-WRITE\].*\* BYE.*c OK")

    def test_before_login(self):
        answer = self.talk("a CAPABILITY", "b NOOP", "c ID NIL", "d SELECT INBOX", "e FOO", "f LOGIN x", "+",
                           "g AUTHENTICATE NOSUCH", "h STARTTLS x", "i LOGOUT")
        for part in ("* CAPABILITY IMAP4rev1 ", "b OK", "* ID (", "d BAD", "e BAD", "f BAD", "* BAD", "g NO", "h BAD",
                     "* BYE", "i OK"):
            self.assertIn(part, answer)

    def test_wrong_passwords(self):
        answer = self.talk("a LOGIN %s wrong" % USER, "b LOGIN nobody x", "c LOGOUT")
        self.assertIn("a NO [AUTHENTICATIONFAILED]", answer)
        self.assertIn("b NO [AUTHENTICATIONFAILED]", answer)

    def test_too_many_bad_commands(self):
        self.assertIn("* BYE Too many", self.talk(*["x%d FOO" % n for n in range(30)]))

    def test_long_lines_and_literals_before_login(self):
        answer = self.talk("a NOOP " + "x" * 100000, "b LOGOUT")
        self.assertIn("\r\na BAD [LIMIT]", answer)
        self.assertIn("\r\nb OK", answer)
        self.assertIn("a BAD", self.talk("a LOGIN {99999999}", "b LOGOUT"))
        self.assertIn("BYE", self.talk("a LOGIN {999999999999+}"))

    def test_authenticate(self):
        plain = "AGZyZWQAc2UgY3JldA=="
        self.assertIn("a OK", self.talk("a AUTHENTICATE PLAIN " + plain, "b LOGOUT"))
        self.assertRegex(self.talk("a AUTHENTICATE PLAIN", plain, "b LOGOUT"), r"(?s)\r\n\+ ?\r\na OK")
        self.assertIn("a BAD", self.talk("a AUTHENTICATE PLAIN", "*", "b LOGOUT"))
        self.assertIn("a BAD", self.talk("a AUTHENTICATE PLAIN !!!", "b LOGOUT"))

    def test_starttls_drops_what_was_pipelined(self):
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.sendall(b"a STARTTLS\r\nb NOOP\r\n")
        text = b""
        while b"a OK" not in text or not text.endswith(b"\r\n"):
            text += client.recv(4096)
        tls = any_certificate().wrap_socket(client)
        tls.sendall(b"c NOOP\r\n")
        self.assertEqual(tls.recv(4096)[:4], b"c OK")
        tls.close()

    def test_sessions_over_tls(self):
        for client in (imaplib.IMAP4_SSL("127.0.0.1", self.tls_port, ssl_context=any_certificate()),
                       imaplib.IMAP4("127.0.0.1", self.port)):
            if client.port == self.port:
                client.starttls(any_certificate())
            self.assertNotIn("STARTTLS", client.capabilities)
            client.login(USER, PASSWORD)
            client.select()
            big = MESSAGE + b"0123456789" * 100000 + b"\r\n"
            self.assertEqual(client.append("INBOX", None, None, big)[0], "OK")
            number = client.search(None, "ALL")[1][0].split()[-1]
            self.assertEqual(client.fetch(number, "(BODY.PEEK[])")[1][0][1], big)
            client.logout()
        self.assertIn("TLS", self.instance.log())

    def test_flags_and_expunge_between_two_sessions(self):
        one, two = self.login(), self.login()
        one.append("INBOX", None, None, MESSAGE)
        one.select()
        two.select()
        one.store("1", "+FLAGS", "(\\Flagged custom)")
        two.noop()
        self.assertIn(b"custom", two.fetch("1", "(FLAGS)")[1][0])
        one.store("1", "+FLAGS", "\\Deleted")
        one.expunge()
        two.noop()
        self.assertEqual(two.untagged_responses.get("EXPUNGE"), [b"1"])
        one.logout()
        two.logout()

    def test_idle_hears_of_mail_that_another_program_delivers(self):
        client = self.login()
        client.select()
        client.send(b"i IDLE\r\n")
        self.assertIn(b"+ idling", client.readline())
        maildir = self.instance.path("home/Maildir")
        path = os.path.join(maildir, "tmp", "1234.M1.host")
        with open(path, "wb") as file:
            file.write(MESSAGE.replace(b"\r\n", b"\n"))
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        started = time.monotonic()
        os.rename(path, os.path.join(maildir, "new", "1234.M1.host"))
        self.assertIn(b"EXISTS", client.readline())
        self.assertLess(time.monotonic() - started, 2 * PATIENCE)
        client.send(b"DONE\r\n")
        while not client.readline().startswith(b"i OK"):
            pass
        client.logout()

    def test_one_process_serves_all_connections_of_a_user(self):
        clients = [self.login() for _ in range(5)]
        pids = set(re.findall(r"mpid=(\d+)", self.instance.log()))
        for client in clients:
            client.logout()
        self.assertLessEqual(len(pids), 2)

    def test_a_client_that_does_not_read_does_not_hold_old_index_pages(self):
        client = self.login()
        client.select()
        for size in (100, 8 << 20):
            text = MESSAGE + (b"x" * 70 + b"\r\n") * (size // 72)
            self.assertEqual(client.append("INBOX", None, None, text)[0], "OK")
        for items in ("BODY.PEEK[]", "BODY.PEEK[TEXT]", "BINARY.PEEK[1]"):
            stalled = socket.socket()
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.settimeout(60)
            stalled.connect(("127.0.0.1", self.port))
            stalled.sendall(b'a LOGIN %s "%s"\r\nb SELECT INBOX\r\nc FETCH 1:2 (FLAGS %s)\r\n' %
                            (USER.encode(), PASSWORD.encode(), items.encode()))
            seen = b""
            while b"* 2 FETCH" not in seen:
                seen += stalled.recv(100)
            before = self.index_size()
            for turn in range(300):
                client.store("1", "-+"[turn % 2] + "FLAGS.SILENT", "\\Flagged")
            self.assertLess(self.index_size() - before, 300 << 10, items)
            stalled.close()
        client.logout()

    def index_size(self):
        files = glob.glob(self.instance.path("home/Maildir/postern.index/*"))
        self.assertTrue(files)
        return sum(os.stat(name).st_size for name in files)

    def test_many_sessions_at_once(self):
        failures = []

        def work(number):
            try:
                client = self.login()
                box = "box%d" % number
                client.create(box)
                for _ in range(10):
                    if client.append(box, "\\Seen", None, MESSAGE)[0] != "OK":
                        raise AssertionError("append")
                client.select(box)
                if client.search(None, "SUBJECT", "one")[1][0].split() != [b"%d" % n for n in range(1, 11)]:
                    raise AssertionError("search")
                client.copy("1:5", "INBOX")
                client.logout()
            except Exception as error:                                      # pylint: disable=broad-except
                failures.append(repr(error))
        threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        client = self.login()
        self.assertEqual(client.select()[1], [b"60"])
        client.logout()

    def test_curl(self):
        if shutil.which("curl") is None:
            self.skipTest("curl is not installed")
        url = "imap://127.0.0.1:%d/INBOX" % self.port
        auth = ["curl", "-sS", "--max-time", "20", "-u", "%s:%s" % (USER, PASSWORD)]
        path = self.instance.path("message")
        with open(path, "wb") as file:
            file.write(MESSAGE)
        subprocess.run(auth + ["-T", path, url], check=True)
        got = subprocess.run(auth + [url + ";MAILINDEX=1"], check=True, stdout=subprocess.PIPE).stdout
        self.assertEqual(got, MESSAGE)
        got = subprocess.run(auth + ["-k", "imaps://127.0.0.1:%d/INBOX?SUBJECT%%20one" % self.tls_port], check=True,
                             stdout=subprocess.PIPE).stdout
        self.assertEqual(got.strip(), b"* SEARCH 1")

    def test_mbsync(self):
        if shutil.which("mbsync") is None:
            self.skipTest("mbsync is not installed")
        client = self.login()
        for n in range(20):
            client.append("INBOX", None, None, MESSAGE.replace(b"one", b"number %d" % n))
        client.create("Work.Sub")
        client.append("Work.Sub", "\\Seen", None, MESSAGE)
        client.logout()
        home = self.instance.path("mbsync")
        os.mkdir(home)
        with open(home + "/rc", "w") as file:
            file.write("IMAPStore far\nHost 127.0.0.1\nPort %d\nUser %s\nPass \"%s\"\nSSLType None\n\n"
                       "MaildirStore near\nPath %s/\nInbox %s/INBOX\nSubFolders Verbatim\n\n"
                       "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
                       % (self.port, USER, PASSWORD, home, home))
        run = ["mbsync", "-c", home + "/rc", "-a"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        files = glob.glob(home + "/INBOX/[cn][ue][rw]/*")
        self.assertEqual(len(files), 20)
        self.assertEqual(len(glob.glob(home + "/Work/Sub/[cn][ue][rw]/*")), 1)
        for path in files[:5]:
            os.rename(path, home + "/INBOX/cur/" + re.sub(":2,.*", "", os.path.basename(path)) + ":2,FS")
        os.unlink(files[5])
        with open(home + "/INBOX/new/999.new.host", "wb") as file:
            file.write(MESSAGE.replace(b"\r\n", b"\n"))
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        client = self.login()
        self.assertEqual(client.select()[1], [b"20"])
        self.assertEqual(len(client.search(None, "FLAGGED", "SEEN")[1][0].split()), 5)
        client.logout()

    def test_messages_of_the_corpus_come_back_byte_for_byte(self):
        paths = sorted(glob.glob(os.path.join(CORPUS, "messages", "*", "*.eml")))[::7]
        if not paths:
            self.skipTest("no corpus")
        client = self.login()
        client.select()
        for path in paths:
            with open(path, "rb") as file:
                text = re.sub(rb"\r?\n", b"\r\n", file.read())
            if not text:
                continue
            tag = client._new_tag()
            client.send(tag + b" APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
            while True:
                line = client.readline()
                if line.startswith(tag):
                    break
            self.assertIn(b"OK", line, path)
            with self.subTest(path=path):
                answer = client.fetch("*", "(RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])")[1]
                body = answer[-2][1] if isinstance(answer[-2], tuple) else answer[0][1]
                self.assertEqual(body, text.replace(b"\0", b"\x80"))
        client.logout()

    def test_imaptest_scripts(self):
        directory = os.path.join(CORPUS, "imap", "imaptest")
        if not os.path.isdir(directory):
            self.skipTest("no corpus")
        results = imaptest_runner.run_scripts("127.0.0.1", self.port, USER, PASSWORD, directory)
        passed = sorted(name for name, result in results.items() if result is None)
        failed = {name: result for name, result in results.items() if result and not result.startswith("skipped")}
        print("imaptest: %d passed, %d skipped, %d failed as expected" %
              (len(passed), len(results) - len(passed) - len(failed), len(EXPECTED_FAILURES)))
        self.assertEqual({name: result for name, result in failed.items() if name not in EXPECTED_FAILURES}, {})
        self.assertGreaterEqual(len(passed), 59)


class RunnerTest(unittest.TestCase):
    """The runner itself: a script that asks for the wrong thing must fail."""

    def match(self, expected, got, **variables):
        matcher = imaptest_runner.Matcher(variables)
        return matcher.reply(imaptest_runner.tokens(expected, False), imaptest_runner.tokens(got, True), {})

    def test_matching(self):
        for expected, got in (("1 fetch (uid 5)", "1 FETCH (FLAGS () UID 5)"), ("search 1 2", "SEARCH 1 2"),
                              ("1 fetch (flags (\\seen))", "1 FETCH (FLAGS (\\Recent \\Seen))"),
                              ("list () \".\" a", "LIST (\\HasNoChildren) \".\" a"),
                              ("esearch (tag t) all 1:3", "ESEARCH (TAG \"t\") ALL 1:3"),
                              ("ok [uidnext $x]", "OK [UIDNEXT 5] more")):
            self.assertTrue(self.match(expected, got), (expected, got))
        for expected, got in (("1 fetch (uid 5)", "1 FETCH (UID 6)"), ("1 fetch (uid 5)", "2 FETCH (UID 5)"),
                              ("search 1 2", "SEARCH 1 2 3"), ("search 1 2", "SEARCH 2 1"),
                              ("1 fetch (flags (\\seen))", "1 FETCH (FLAGS (\\Seen \\Draft))"),
                              ("1 fetch (flags (\\seen))", "1 FETCH (FLAGS ())"),
                              ("1 fetch (body[] \"abc\")", "1 FETCH (BODY[] {4}\r\nabcd)"),
                              ("list (\\noselect) \".\" a", "LIST () \".\" a"), ("status a (messages 1)", "STATUS a (MESSAGES 2)"),
                              ("thread (1)(2)", "THREAD (1 2)"), ("esearch (tag t) all 1:3", "ESEARCH (TAG \"t\") ALL 1:2")):
            self.assertFalse(self.match(expected, got), (expected, got))
        self.assertFalse(self.match("1 fetch (uid $u)", "1 FETCH (UID 6)", u="5"))


if __name__ == "__main__":
    unittest.main()
