#!/usr/bin/env python3
"""sendmail, postdrop, pickup and cleanup together: exit codes, headers, and that nothing submitted is lost.

Starts a private instance without qmgr, as an ordinary user (as "nobody" when run by root), so that what was submitted
stays in incoming/ and can be looked at.  The header cases were compared with Postfix 3.7.11.
"""
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import threading
import time
import unittest

from suite import BIN, NOBODY, Scratch, as_nobody, wait_until

MAIN_CF = """
queue_directory = {dir}/queue
data_directory = {dir}/data
daemon_directory = {bin}
command_directory = {bin}
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
myhostname = mx.example.org
mydomain = example.org
myorigin = example.org
alias_maps =
compatibility_level = 3.8
message_size_limit = 2000000
inet_interfaces = loopback-only
service_throttle_time = 1s
master_stop_timeout = 2s
"""

MASTER_CF = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
"""

# name, arguments, input, header and body as Postfix makes them (QID, DATE and STAMP stand for what changes)
RECEIVED = "Received: by mx.example.org (Postern, from userid UID)\n\tid QID; DATE\n"
ID_DATE = "Message-Id: <STAMP.QID@mx.example.org>\nDate: DATE\n"
FROM = "From: Test User <user@example.org>\n"
HEADER_CASES = [
    ("addresses are completed", ["-t"], "To: a@b.example, c\nSubject: x\n\nhello\n",
     RECEIVED + "To: a@b.example, c@example.org\nSubject: x\n" + ID_DATE + FROM + "\nhello\n"),
    ("no header", ["bob"], "hello there\nline two\n", RECEIVED + ID_DATE + FROM + "\nhello there\nline two\n"),
    ("full name is quoted", ["-t", "-F", "J. Q. Public"], "To: <x>\nCc: John Doe <jd>\nReply-To: me\nErrors-To: e\n\nb\n",
     RECEIVED + "To: <x@example.org>\nCc: John Doe <jd@example.org>\nReply-To: me@example.org\n"
     "Errors-To: e@example.org\n" + ID_DATE + "From: \"J. Q. Public\" <user@example.org>\n\nb\n"),
    ("resent", ["-t"], "From: orig@x.example\nDate: d\nTo: first@x.example\nResent-To: second\nResent-Bcc: third\n"
     "Message-ID: <1@x>\n\nb\n",
     RECEIVED + "From: orig@x.example\nDate: d\nTo: first@x.example\nResent-To: second@example.org\nMessage-ID: <1@x>\n"
     "Resent-Message-Id: <STAMP.QID@mx.example.org>\nResent-Date: DATE\n"
     "Resent-From: Test User <user@example.org>\n\nb\n"),
    ("bcc is dropped", ["-t"], "To: a\nBcc: b\nReturn-Path: <x>\nContent-Length: 5\n\nb\n",
     RECEIVED + "To: a@example.org\n" + ID_DATE + FROM + "\nb\n"),
    ("null sender", ["-f", "<>", "bob"], "Subject: s\n\nb\n",
     RECEIVED + "Subject: s\n" + ID_DATE + "From: MAILER-DAEMON\n\nb\n"),
    ("junk ends the header", ["bob"], "Subject: s\njunk line\nTo: t\n\nb\n",
     RECEIVED + "Subject: s\n" + ID_DATE + FROM + "\njunk line\nTo: t\n\nb\n"),
    ("mbox From line", ["bob"], "From someone Mon Jan 1\nSubject: s\n\nb\n", RECEIVED + "Subject: s\n" + ID_DATE + FROM + "\nb\n"),
    ("folding stays", ["bob"], "Subject: a\n b\n\tc\nX-Y:z\nX Y: no\n\nb\n",
     RECEIVED + "Subject: a\n b\n\tc\nX-Y:z\n" + ID_DATE + FROM + "\nX Y: no\n\nb\n"),
    ("leading space", ["bob"], " leading space\nSubject: s\n\nb\n",
     RECEIVED + ID_DATE + FROM + "\n leading space\nSubject: s\n\nb\n"),
    ("empty", ["bob"], "", RECEIVED + ID_DATE + FROM),
    ("header only", ["bob"], "Subject: s\n", RECEIVED + "Subject: s\n" + ID_DATE + FROM),
    ("gateway", ["-G", "-t"], "To: bare\nFrom: me\n\nb\n", RECEIVED + "To: bare\nFrom: me\n\nb\n"),
    ("nothing is missing", ["bob"], "from: x@y\nDATE: d\nMessage-id: <1>\nto: z@y\n\nb\n",
     RECEIVED + "from: x@y\nDATE: d\nMessage-id: <1>\nto: z@y\n\nb\n"),
    ("comments and quotes stay", ["-t"], 'To: John (Q) Doe <j@d.example> (x), a@b.example (c (d) e), "quoted@at"@d.example,'
     " x@[192.0.2.1]\n\nb\n",
     RECEIVED + 'To: John (Q) Doe <j@d.example> (x), a@b.example (c (d) e), "quoted@at"@d.example, x@[192.0.2.1]\n' +
     ID_DATE + FROM + "\nb\n"),
    ("bang paths", ["-t"], "To: host!user, u@sub\n\nb\n", RECEIVED + "To: user@host, u@sub\n" + ID_DATE + FROM + "\nb\n"),
]


class Instance(Scratch):
    def __init__(self, queue_on=None):
        super().__init__("postern-submit-")
        for name in ("etc", "data", "queue"):
            os.mkdir(self.path(name))
        if queue_on:
            queue_on(self.path("queue"))
        for name in "maildrop incoming active deferred hold corrupt public private pid".split():
            os.mkdir(self.path("queue/" + name))
        self.write("etc/main.cf", MAIN_CF.format(dir=self.dir, bin=BIN))
        self.write("etc/master.cf", MASTER_CF)
        self.give_away()

    def run(self, program, arguments, data="", timeout=60):
        environment = dict(os.environ, MAIL_CONFIG=os.path.join(self.dir, "etc"), NAME="Test User")
        return subprocess.run([os.path.join(BIN, program), *arguments], input=data.encode(), capture_output=True,
                              env=environment, timeout=timeout, preexec_fn=as_nobody)

    def sendmail(self, arguments, data, sender="user"):
        if "-f" not in arguments:
            arguments = ["-f", sender] + arguments
        return self.run("sendmail", arguments, data)

    def control(self, word):
        return self.run("postern", ["-c", os.path.join(self.dir, "etc"), word])

    def files(self, queue):
        return sorted(name for name in os.listdir(os.path.join(self.dir, "queue", queue)) if not name.startswith("tmp."))

    def content(self, queue_id, queue="incoming"):
        """Header and body of a queue file, read by this test's own knowledge of the format."""
        with open(os.path.join(self.dir, "queue", queue, queue_id), "rb") as file:
            raw = file.read()
        assert raw[:8] == b"PosternQ"
        body, body_length, header, header_length = struct.unpack("<QQQQ", raw[16:48])
        text = raw[header:header + header_length] + raw[body:body + body_length]
        return text.decode("latin-1")

    def take_all(self):
        out = {name: self.content(name) for name in self.files("incoming")}
        for name in out:
            os.unlink(os.path.join(self.dir, "queue/incoming", name))
        return out

    def pids(self, program):
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if os.readlink("/proc/%s/cwd" % entry) == os.path.join(self.dir, "queue"):
                    with open("/proc/%s/comm" % entry) as file:
                        if file.read().strip() == program:
                            found.append(int(entry))
            except OSError:
                pass
        return found

    def close(self):
        self.control("stop")
        shutil.rmtree(self.dir, ignore_errors=True)


class SubmissionTest(unittest.TestCase):
    def setUp(self):
        self.instance = Instance()
        self.addCleanup(self.instance.close)

    def start(self):
        answer = self.instance.control("start")
        self.assertEqual(answer.returncode, 0, answer.stderr.decode() + answer.stdout.decode())

    def normal(self, text, queue_id):
        text = text.replace(queue_id, "QID").replace("userid %d" % self.instance.uid, "userid UID")
        text = re.sub(r"\w{3}, [ \d]\d \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4} \(\w+\)", "DATE", text)
        return re.sub(r"\d{14}\.QID", "STAMP.QID", text)

    def test_headers_are_as_postfix_makes_them(self):
        self.start()
        for name, arguments, data, expected in HEADER_CASES:
            with self.subTest(name):
                answer = self.instance.sendmail(arguments, data)
                self.assertEqual(answer.returncode, 0, answer.stderr)
                wait_until(lambda: len(self.instance.files("incoming")) == 1, name)
                (queue_id, text), = self.instance.take_all().items()
                self.assertEqual(self.normal(text, queue_id), expected)

    def test_it_works_while_the_daemons_are_down(self):
        for number in range(5):
            answer = self.instance.sendmail(["-i", "rcpt"], "Subject: %d\n\n.\n" % number)
            self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual(len(self.instance.files("maildrop")), 5)
        self.start()
        wait_until(lambda: len(self.instance.files("incoming")) == 5, "pickup's first scan")
        wait_until(lambda: not self.instance.files("maildrop"), "the maildrop files to go")
        wait_until(lambda: self.instance.log().count(": uid=") == 5, "the log")
        self.assertEqual(self.instance.log().count(": uid=%d from=<user>" % self.instance.uid), 5)

    def test_exit_codes(self):
        cases = [(["-t"], "Subject: nobody\n\n", 64), ([], "x\n", 64), (["-?"], "", 64),
                 (["rcpt"], "Subject: big\n\n" + "x" * 2100000 + "\n", 69), (["-B", "9BIT", "rcpt"], "", 64),
                 (["-C", "/nonexistent", "rcpt"], "", 78), (["-bH"], "", 0)]
        for arguments, data, status in cases:
            with self.subTest(arguments=arguments):
                answer = self.instance.sendmail(arguments, data)
                self.assertEqual(answer.returncode, status, answer.stderr)
                self.assertEqual(bool(answer.stderr), status != 0)
        self.assertEqual(os.listdir(os.path.join(self.instance.dir, "queue/maildrop")), [])

    def test_t_adds_to_the_recipients_on_the_command_line(self):
        answer = self.instance.sendmail(["-t", "-N", "maybe", "one@a.example", "two@a.example"], "To: three@a.example\n\n")
        self.assertEqual(answer.returncode, 0)
        self.assertIn(b"warning: bad -N option value", answer.stderr)
        queue_id, = os.listdir(os.path.join(self.instance.dir, "queue/maildrop"))
        shown = self.instance.run("postcat", ["-e", os.path.join(self.instance.dir, "queue/maildrop", queue_id)]).stdout.decode()
        self.assertEqual(re.findall(r"(?m)^recipient: (\S+)@", shown), ["one", "two", "three"])

    def test_an_empty_recipient_is_the_postmaster_and_half_an_address_a_name(self):
        self.start()
        for given, wanted in (("", "MAILER-DAEMON@example.org"), ("<>", "MAILER-DAEMON@example.org"), (" ", "MAILER-DAEMON@example.org"),
                              ("<", "<@example.org"), ("<a", "<a@example.org")):
            answer = self.instance.sendmail([given], "Subject: x\n\nb\n")
            self.assertEqual((answer.returncode, answer.stderr), (0, b""), given)
            wait_until(lambda: len(self.instance.files("incoming")) == 1, given)
            shown = self.instance.run("postcat", ["-e", "-q", *self.instance.files("incoming")]).stdout.decode()
            self.assertEqual(re.findall(r"(?m)^recipient: (.*)", shown), [wanted], given)
            self.instance.take_all()

    def test_authorized_submit_users(self):
        with open(os.path.join(self.instance.dir, "etc/main.cf"), "a") as file:
            file.write("authorized_submit_users = !nobody, !%s, static:all\n" % os.environ.get("USER", "nobody"))
        answer = self.instance.sendmail(["rcpt"], "x\n")
        if self.instance.uid != NOBODY:
            self.skipTest("needs root, to submit as nobody")
        self.assertEqual(answer.returncode, 77, answer.stderr)
        self.assertIn(b"is not allowed to submit mail", answer.stderr)

    def test_postdrop_takes_only_whole_submissions(self):
        def block(content):
            return struct.pack("<I", len(content)) + content
        recipient = bytes([1]) + block(b"rcpt")
        envelope = bytes([1]) + block(b"sender") + bytes([2]) + block(recipient) + bytes([14]) + block(b"filter:")
        good = block(b"Subject: x\n\nbody\n") + block(b"") + block(envelope)
        for length in range(len(good)):
            answer = self.instance.run("postdrop", ["-r"], good[:length].decode("latin-1"))
            self.assertNotEqual(answer.returncode, 0)
        self.assertEqual(os.listdir(os.path.join(self.instance.dir, "queue/maildrop")), [])
        answer = self.instance.run("postdrop", ["-r"], good.decode("latin-1"))
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.start()
        wait_until(lambda: len(self.instance.files("incoming")) == 1, "the message")
        shown = self.instance.run("postcat", ["-qe", self.instance.files("incoming")[0]]).stdout.decode()
        self.assertIn("sender: sender@example.org\n", shown)
        self.assertIn("original_recipient: rcpt\nrecipient: rcpt@example.org\n", shown)
        self.assertNotIn("content_filter", shown)   # not for users to say

    def test_postcat_shows_all_of_a_message(self):
        self.start()
        self.instance.sendmail(["-i", "rcpt"], "Subject: cat\n\nbody line\n")
        wait_until(lambda: self.instance.files("incoming"), "the message")
        queue_id = self.instance.files("incoming")[0]
        whole = self.instance.run("postcat", ["-q", queue_id])
        self.assertEqual(whole.returncode, 0)
        self.assertIn(b"*** ENVELOPE RECORDS incoming/", whole.stdout)
        self.assertIn(b"Subject: cat\n", whole.stdout)
        self.assertEqual(self.instance.run("postcat", ["-bq", queue_id]).stdout, b"\nbody line\n")
        path = os.path.join(self.instance.dir, "queue/incoming", queue_id)
        self.assertEqual(self.instance.run("postcat", ["-b", path]).stdout, b"\nbody line\n")
        with open(path, "rb") as file:
            self.assertEqual(self.instance.run("postcat", ["-b"], file.read().decode("latin-1")).returncode, 1)   # not UTF-8 clean
        self.assertEqual(self.instance.run("postcat", ["-q", "0000AABCDE"]).returncode, 1)
        self.assertEqual(self.instance.run("postcat", ["/etc/passwd"]).returncode, 1)

    def test_killing_the_daemons_loses_and_doubles_nothing(self):
        self.start()
        accepted, stop = [], threading.Event()
        lock = threading.Lock()

        def submit(worker):
            number = 0
            while not stop.is_set():
                mark = "mark-%d-%d" % (worker, number)
                number += 1
                if self.instance.sendmail(["-i", "rcpt"], "Subject: %s\n\nbody\n" % mark).returncode == 0:
                    with lock:
                        accepted.append(mark)
        workers = [threading.Thread(target=submit, args=(worker,)) for worker in range(3)]
        for worker in workers:
            worker.start()
        generator = random.Random(7)
        for _ in range(12):
            time.sleep(generator.uniform(0.1, 0.5))
            for program in generator.choice((["cleanup"], ["pickup"], ["cleanup", "pickup"])):
                for pid in self.instance.pids(program):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
        stop.set()
        for worker in workers:
            worker.join()
        self.instance.control("stop")
        self.start()
        wait_until(lambda: not self.instance.files("maildrop"), "pickup to finish", 60)
        marks = []
        for text in self.instance.take_all().values():
            marks += re.findall(r"^Subject: (mark-\S+)$", text, re.M)
        self.assertGreater(len(accepted), 20)
        self.assertEqual(sorted(marks), sorted(set(marks)), "a message was queued twice")
        self.assertEqual(set(accepted) - set(marks), set(), "a message was lost")


@unittest.skipUnless(os.geteuid() == 0, "needs root, to mount a small file system")
class FullDiskTest(unittest.TestCase):
    def mount(self, path):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k,mode=777", "tmpfs", path]).returncode != 0:
            self.skipTest("mount is not permitted here")
        self.mounted = path

    def test_a_full_disk_is_a_temporary_failure_and_recovers(self):
        instance = Instance(self.mount)
        try:
            self.assertEqual(instance.control("start").returncode, 0)
            results = [instance.sendmail(["-i", "rcpt"], "Subject: %d\n\n%s\n" % (number, "x" * 50000)).returncode
                       for number in range(20)]
            self.assertIn(75, results)
            self.assertEqual(set(results) - {0, 75}, set())
            time.sleep(1)
            saved = lambda: len(instance.files("incoming")) + len(instance.files("maildrop"))   # a file may be in both for a moment
            wait_until(lambda: saved() == results.count(0), "all that was taken is there")
            taken = len(instance.take_all())
            self.assertEqual(instance.sendmail(["-i", "rcpt"], "Subject: after\n\n").returncode, 0)
            wait_until(lambda: not instance.files("maildrop"), "the rest", 90)
            self.assertEqual(taken + len(instance.files("incoming")), results.count(0) + 1)
        finally:
            instance.control("stop")
            subprocess.run(["umount", "-l", self.mounted])
            shutil.rmtree(instance.dir, ignore_errors=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
