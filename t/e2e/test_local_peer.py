#!/usr/bin/env python3
"""local(8) beside Postfix's: the same aliases, .forward files and messages for the same users; log lines, files, their owners and modes
must be the same.  Also what postcat, postsuper and mailq say of a message.  Skipped (77) unless root."""
import json
import os
import pwd
import re
import shutil
import smtplib
import socket
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postfix_peer  # noqa: E402
import root_suite  # noqa: E402
from root_suite import ANN, BOB  # noqa: E402
from suite import NOBODY, wait_until  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24200"))
GLIBC_SIGNALS = 3 << 31   # 32 and 33, which are the C library's own: its posix_spawn(3), which make(1) uses, leaves them ignored, and nobody can change that
MAIN = """mydestination = localhost, mail.example.org
alias_maps = texthash:{dir}/etc/aliases
recipient_delimiter = +
mail_spool_directory = {dir}/spool
home_mailbox =
local_recipient_maps =
virtual_mailbox_maps = inline:{{fred@example.org=fred/, wilma@example.org=wilma/}}
allow_mail_to_commands = alias, forward, include
allow_mail_to_files = alias, forward, include
transport_maps = inline:{{ {{dead.example = smtp:[127.0.0.1]:1}} }}
relay_domains = dead.example
smtpd_client_event_limit_exceptions = 127.0.0.1
"""
ALIASES = {
    "one": "ANN", "two": "ANN, BOB", "unknowns": "ANN, nobody-there", "selfish": "selfish", "comments": "(nobody)", "empty": " ,",
    "words": "ANN BOB", "group": "friends: ANN, BOB;", "double": "ANN, ANN@localhost, one", "remote": "fred@example.org, ANN",
    "cmd": '"|cat > {out}/cmd; id -un >> {out}/cmd; echo $SENDER $EXTENSION $PATH >> {out}/cmd"', "file": "{out}/file",
    "list": "ANN, nobody-there", "owner-list": "BOB", "listcmd": '"|cat > {out}/listcmd; echo $SENDER >> {out}/listcmd"',
    "owner-listcmd": "BOB", "inc": ":include:{out}/inc", "relative": ":include:inc", "missing": ":include:{out}/missing",
    "badcmd": '"|exit 1"', "owner-badcmd": "BOB", "badfile": "/no/such/x", "owner-badfile": "BOB", "badinc": ":include:{out}/missing",
    "owner-badinc": "BOB", "half": '"|exit 1", {out}/half', "owner-half": "BOB", "outer": "badinner", "owner-outer": "BOB",
    "worded": '"|echo not today; exit 1"', "owner-worded": "BOB", "dsnlist": '"|echo -n 5.7.2 Keep out; exit 1"', "owner-dsnlist": "BOB",
    "nouser": '"|exit 67"', "owner-nouser": "BOB", "badinner": '"|exit 1"',
    "signals": "\"|(yes | head -1) > {out}/yes 2>&1; (grep -E 'Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f41 /proc/self/stat) > {out}/signals\"",
    "noprogram": '"|/no/such/program"', "killed": '"|kill -9 $$"', "fifo": "{out}/fifo", "nodirectory": "/no/such/x",
}
WHO = '"|id -un > {out}/who"\n'
# name: recipients, files that are made first ("home/USER/..." or "out/..."), as text or (text, owner, mode)
CASES = {
    "an alias of one": (["one@localhost"], {}),
    "an alias of two": (["two+x@localhost"], {}),
    "an alias to itself": (["selfish@localhost"], {}),
    "aliases without anybody": (["comments@localhost", "empty@localhost"], {}),
    "words and groups": (["words@localhost", "group@localhost"], {}),
    "the same user again and again": (["double@localhost"], {}),
    "here and elsewhere": (["remote@localhost"], {}),
    "a command": (["cmd+ext@localhost"], {}),
    "a file": (["file@localhost"], {"out/file": ("old\n", "nobody", 0o600)}),
    "an executable file": (["file@localhost"], {"out/file": ("old\n", "nobody", 0o700)}),
    "nobody's files": (["nodirectory@localhost"], {}),
    "a list with an owner": (["list@localhost"], {}),
    "a list's command": (["listcmd@localhost"], {}),
    "a list's command that fails": (["badcmd+x@localhost", "ANN@localhost"], {}),
    "a list's file that fails": (["badfile@localhost"], {}),
    "a list's include file that is not there": (["badinc@localhost"], {}),
    "a list that fails in part": (["half@localhost"], {}),
    "a list in a list that fails": (["outer@localhost"], {}),
    "a list's command that has something to say": (["worded@localhost", "dsnlist@localhost", "nouser@localhost"], {}),
    "an include file": (["inc@localhost"], {"out/inc": "# members\nANN\nBOB, fred@example.org\n"}),
    "an include file of a user's": (["inc@localhost"], {"out/inc": (WHO, "BOB", 0o644)}),
    "a closed include file": (["inc@localhost"], {"out/inc": ("ANN\n", "BOB", 0o600)}),
    "bad include files": (["inc@localhost", "relative@localhost", "missing@localhost"], {"out/inc": ("ANN\n", "root", 0o666)}),
    "a command that is killed": (["killed@localhost"], {}),
    "a FIFO": (["fifo@localhost"], {"out/fifo": None}),
    "somebody without a name here": (["nobody-there@localhost", "postmaster@localhost"], {}),
    "a .forward with copies": (["ANN@localhost"], {"home/ANN/.forward": "\\ANN, BOB\nfred@example.org (a friend)\n"}),
    "a .forward with one's own alias": (["one@localhost", "ANN@localhost"], {"home/ANN/.forward": "one, BOB\n"}),
    "a .forward with a file": (["ANN@localhost"], {"home/ANN/.forward": "~/box\n"}),
    "a .forward that includes what is another's": (["ANN@localhost"], {"home/ANN/.forward": ":include:{home}/BOB/inc\n",
                                                                      "home/BOB/inc": (WHO, "BOB", 0o644)}),
    "a .forward that includes what is root's": (["ANN@localhost"], {"home/ANN/.forward": ":include:{out}/inc\n", "out/inc": WHO}),
    "a bad .forward before a good one": (["ANN+x@localhost"], {"home/ANN/.forward+x": ("BOB\n", "ANN", 0o666),
                                                              "home/ANN/.forward": "BOB\n"}),
    "a mailbox of somebody else's": (["ANN@localhost"], {"spool/ANN": ("old\n", "BOB", 0o666)}),
    "a mailbox that is no file": (["ANN@localhost"], {"spool/ANN": None}),
}


class Side:
    """What differs between the two."""

    def __init__(self, name, directory, port, log, run):
        self.name, self.dir, self.port, self.log, self.run = name, directory, port, log, run
        self.home = os.path.dirname(pwd.getpwnam(ANN).pw_dir)
        self.out = directory + "/out"

    def fill(self, text):
        text = text.replace("{out}", self.out).replace("{home}", self.home)
        return text.replace("ANN", ANN).replace("BOB", BOB)

    def empty(self):
        for top in (self.out, self.dir + "/spool", self.dir + "/mail", self.home):
            shutil.rmtree(top, ignore_errors=True)
            os.makedirs(top)
        os.chmod(self.out, 0o1777)
        os.chmod(self.dir + "/spool", 0o2775)
        os.chown(self.dir + "/spool", 0, 8)
        os.chown(self.dir + "/mail", NOBODY, NOBODY)
        for name in (ANN, BOB):
            os.makedirs(self.home + "/" + name)
            os.chown(self.home + "/" + name, pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid)

    def put(self, name, content):
        path = self.fill(name.replace("home/", self.home + "/") if name.startswith("home/") else self.dir + "/" + name)
        owner = name.split("/")[1] if name.startswith("home/") else "root"
        text, owner, mode = content if isinstance(content, tuple) else (content, owner, 0o644)
        entry = pwd.getpwnam(self.fill(owner))
        if text is None:
            os.mkfifo(path, 0o666)
        else:
            with open(path, "w") as file:
                file.write(self.fill(text))
        os.chmod(path, 0o666 if text is None else mode)
        os.chown(path, entry.pw_uid, entry.pw_gid)

    def command(self, *words):
        """What it says, without Postfix's remarks on settings that are there twice."""
        return re.sub(r"(?m)^.*: overriding earlier entry: .*\n", "", self.run(*words).stdout.decode())

    def queued(self):
        return [file for name in ("maildrop", "transit", "incoming", "active") for _, _, files in os.walk(self.dir + "/queue/" + name)
                for file in files]

    def settle(self):
        """Until the queue has been without work for a while: what bounces or is forwarded comes back at once."""
        quiet = 0

        def settled():
            nonlocal quiet
            quiet = 0 if self.queued() else quiet + 1
            return quiet >= 10
        wait_until(settled, "the queue comes to rest")

    def normal(self, text):
        for what, by in ((self.home, "HOME"), (self.dir, "DIR")):
            text = text.replace(what, by)
        text = re.sub(r"(?m)^\w{3} +\d+ [\d:]{8} \S+ postfix/(\S+?)\[\d+\]:", r"\1:", text)
        text = re.sub(r"\b[0-9A-F]{8,14}\b", "ID", text)
        text = re.sub(r"delay=[\d./]+, delays=[\d./]+", "delay=N", text)
        text = re.sub(r"(?m)^From (\S+) .*$", r"From \1 DATE", text)
        text = re.sub(r"\w{3}, [ \d]\d \w{3} \d{4} [\d:]{8} [+-]\d{4} \(\w+\)", "DATE", text)
        text = re.sub(r"ID\.\d{10}/", "ID.TIME/", text)
        text = re.sub(r"<\d{14}\.", "<TIME.", text)
        text = re.sub(r"X-Post(fix|ern)", "X-Mail", text)
        text = re.sub(r"(?m)^Date: DATE\n", "", text)   # in another place of a notice's header
        text = re.sub(r"(?ms)^Received: .*?\n(?=\S)", "Received: from somewhere\n", text)
        return re.sub(r"Command output: (.*?) ?\)$", r"Command output: \1)", text, flags=re.M)

    def lines(self, start):
        """How each delivery went.  A notice for the sender, who does not exist, is the business of others."""
        lines = re.findall(r"(?m)^(?:local|virtual): .* to=<.*$", self.normal(self.log()[start:]))
        return sorted(re.sub(r"fatal: execvp", "execvp", line.replace("local: fatal:", "fatal:")) for line in lines)

    def files(self):
        found = {}
        for top in (self.out, self.dir + "/spool", self.dir + "/mail", self.home):
            for where, _, names in os.walk(top):
                for name in names:
                    path = os.path.join(where, name)
                    status = os.lstat(path)
                    text = ""
                    if os.path.isfile(path):
                        with open(path, errors="replace") as file:
                            text = file.read()
                    key = self.normal(re.sub(r"/(new|cur)/\d.*", r"/\1/MESSAGE", path))
                    messages = sorted(re.split(r"(?m)^(?=From )", self.normal(text)))
                    found.setdefault(key, []).append(["%o %d:%d" % (status.st_mode, status.st_uid, status.st_gid)] + messages)
        return {key: sorted(value) for key, value in found.items()}


class LocalPeer(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if not postfix_peer.available():
            raise unittest.SkipTest("no Postfix")
        cls.mail = root_suite.RootSuite.with_users(PORT, MAIN)
        cls.addClassCleanup(cls.mail.end)
        peer_dir = cls.mail.path("peer")
        os.mkdir(peer_dir)
        cls.peer = postfix_peer.Postfix(peer_dir, PORT + 20, MAIN.replace("{dir}", "{d}").replace("{{", "{").replace("}}", "}"))
        cls.ours = Side("ours", cls.mail.dir, cls.mail.port["smtp"], cls.mail.log, cls.mail.run)
        cls.theirs = Side("Postfix", cls.peer.dir, PORT + 20, cls.peer.log, cls.peer.run)
        for side, write in ((cls.ours, cls.mail.write), (cls.theirs, cls.peer.write)):
            write("etc/aliases", side.fill("".join("%s\t%s\n" % pair for pair in ALIASES.items())))
        cls.peer.__enter__()
        cls.addClassCleanup(cls.peer.__exit__)
        cls.mail.start()

    def deliver(self, side, recipients, files):
        side.empty()
        for name, content in files.items():
            side.put(name, content)
        start = len(side.log())
        with smtplib.SMTP("127.0.0.1", side.port, "c.example", timeout=30) as client:
            client.sendmail("c@dead.example", [side.fill(to) for to in recipients], "Subject: s\n\nbody\nFrom here\n")
        side.settle()
        result = side.lines(start), side.files()
        side.run("postsuper", "-d", "ALL")
        return result

    def test_deliveries(self):
        for name, (recipients, files) in CASES.items():
            with self.subTest(name):
                theirs = self.deliver(self.theirs, recipients, files)
                ours = self.deliver(self.ours, recipients, files)
                self.assertTrue(theirs[0])
                self.assertEqual(ours[0], theirs[0], name)
                self.assertEqual(ours[1], theirs[1], name)

    def test_signals_of_commands(self):
        """Nothing is ignored or held up in a command, where Postfix's have SIGPIPE and SIGXFSZ ignored."""
        lines, files = self.deliver(self.ours, ["signals@localhost"], {})
        self.assertIn("status=sent", lines[0])
        content = {name.rsplit("/", 1)[-1]: found[0][1] for name, found in files.items()}
        self.assertEqual(content["yes"], "y\n")   # and yes(1) had nothing to say about it
        masks = {name: int(mask, 16) & ~GLIBC_SIGNALS for name, mask in re.findall(r"(\w+):\t([0-9a-f]+)", content["signals"])}
        self.assertEqual(masks, {"SigBlk": 0, "SigIgn": 0})
        self.assertEqual(content["signals"].splitlines()[-1], str(os.SCHED_OTHER), "a command is no batch work of ours")
        for name in ("smtpd", "cleanup", "qmgr", "local"):
            for pid in self.mail.pids()[name]:
                self.assertEqual(os.sched_getscheduler(pid), os.SCHED_BATCH, name)

    def test_comsat_is_told(self):
        """biff: whose mailbox it is, and where the new message begins."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as comsat:
            try:
                comsat.bind(("127.0.0.1", 512))
            except OSError:
                self.skipTest("there is a comsat already")
            comsat.settimeout(10)
            for side in (self.theirs, self.ours):
                self.deliver(side, ["ANN@localhost"], {})
                first = os.path.getsize("%s/spool/%s" % (side.dir, ANN))
                with smtplib.SMTP("127.0.0.1", side.port, "c.example", timeout=30) as client:
                    client.sendmail("c@dead.example", [ANN + "@localhost", "file@localhost"], "Subject: s\n\nbody\n")
                side.settle()
                self.assertEqual([comsat.recv(100) for _ in range(2)], [b"%s@%d\0" % (ANN.encode(), offset) for offset in (0, first)], side.name)
                comsat.setblocking(False)
                self.assertRaises(BlockingIOError, comsat.recv, 100)   # nothing about the file that an alias names
                comsat.settimeout(10)

    def test_a_maildir_that_is_out_of_reach(self):
        warnings = {}
        for side in (self.theirs, self.ours):
            side.empty()
            os.chown(side.dir + "/mail", 0, 0)
            start = len(side.log())
            with smtplib.SMTP("127.0.0.1", side.port, "c.example", timeout=30) as client:
                client.sendmail("c@dead.example", ["fred@example.org"], "Subject: s\n\nbody\n")
            side.settle()
            log = re.sub(r"(fred/tmp/)[^:]*", r"\1FILE", side.normal(side.log()[start:]))
            lines = re.findall(r"(?m)^virtual: (?:warning: .*|ID: to=.*)$", log)
            warnings[side.name] = [line for line in lines if "overriding earlier entry" not in line]
            side.run("postsuper", "-d", "ALL")
        self.assertIn("virtual: warning: perhaps you need to create the maildirs in advance", warnings["Postfix"])
        self.assertIn("UID/GID=%d/%d: create maildir file DIR/mail/fred/tmp/FILE: Permission denied" % (NOBODY, NOBODY), warnings["Postfix"][0])
        self.assertEqual(warnings["ours"], warnings["Postfix"])

    def waiting(self, side):
        """A message that waits, and its queue id."""
        side.empty()
        with smtplib.SMTP("127.0.0.1", side.port, "c.example", timeout=30) as client:
            client.sendmail("c@dead.example", ["x@dead.example"], "Subject: s\n\nbody\nFrom here\n", ["ENVID=abc", "RET=HDRS"], ["NOTIFY=DELAY"])
        side.settle()
        return json.loads(side.command("postqueue", "-j"))["queue_id"]

    def test_postcat(self):
        """What scripts look for is there, under the same names and in the same order."""
        shown = {}
        for side in (self.theirs, self.ours):
            text = side.command("postcat", "-q", self.waiting(side))
            head, message = re.fullmatch(r"(?s)\*{3} ENVELOPE RECORDS \S+ \*{3}\n(.*)\*{3} MESSAGE CONTENTS \S+ \*{3}\n(.*)"
                                         r"\*{3} HEADER EXTRACTED \S+ \*{3}\n.*\*{3} MESSAGE FILE END \S+ \*{3}\n", text).groups()
            lines = [re.sub(r"port=.*", "port=", side.normal(line)) for line in head.split("\n")]
            shown[side.name] = lines, side.normal(message)
            side.run("postsuper", "-d", "ALL")
        self.assertEqual(shown["ours"][1], shown["Postfix"][1])
        theirs = shown["Postfix"][0]
        ours = [line for line in shown["ours"][0] if not line.startswith(("message_size:", "message_arrival_time:"))]
        self.assertEqual([line for line in ours if line not in theirs], [])
        self.assertEqual([line for line in theirs if line in ours], ours)
        for line in ("sender: c@dead.example", "recipient: x@dead.example", "named_attribute: client_address=127.0.0.1",
                     "named_attribute: ret_flags=2", "named_attribute: envelope_id=abc", "named_attribute: notify_flags=8"):
            self.assertIn(line, ours)

    def test_postsuper(self):
        for side in (self.theirs, self.ours):
            queue_id = self.waiting(side)
            said = [side.normal(side.command("postsuper", *words)) for words in
                    (("-h", queue_id), ("-h", queue_id), ("-f", queue_id), ("-H", queue_id), ("-d", "ALL"), ("-r", "NOSUCH"), ("-d", "a/b"))]
            self.assertEqual(said[:3], [
                "postsuper: ID: placed on hold\npostsuper: Placed on hold: 1 message\n",
                "postsuper: Placed on hold: 0 messages\n",
                "postsuper: ID: expired\npostsuper: ID: released from hold\npostsuper: Force-expired: 1 message\n"
                "postsuper: Released from hold: 1 message\n"], side.name)
            self.assertEqual(said[3], "postsuper: Released from hold: 0 messages\n", side.name)
            self.assertEqual(said[5], "postsuper: Requeued: 0 messages\n", side.name)
            self.assertEqual(said[6], "postsuper: warning: invalid mail queue id: a/b\npostsuper: Deleted: 0 messages\n", side.name)


if __name__ == "__main__":
    sys.exit(root_suite.run_tests("run local with the rights of users"))
