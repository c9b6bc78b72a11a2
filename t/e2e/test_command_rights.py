#!/usr/bin/env python3
"""Who may list and flush the queue, and under which senders local users may submit: beside Postfix, as several users.

Needs root, to be these users; the settings are authorized_mailq_users, authorized_flush_users, authorized_submit_users and
local_login_sender_maps.
"""
import grp
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import postfix_peer
from suite import NOBODY, Suite

USERS = ("games", "bin", "man", "lp", "sys", "news")
NAMELESS = 54321
LISTS = """
authorized_mailq_users = bin, !games, {d}/listers
authorized_flush_users = !games, static:anyone
recipient_delimiter = +
"""
SENDERS = """
local_login_sender_maps = inline:{ { games = games, games@mail.example.org, @Ok.example <> }, { bin = * }, { lp = a/b , <> },
    { sys = sys@OTHER.example Sys }, { uid:54321 = nameless } }
"""
QUEUE_CASES = [
    ("games", ["-p"]), ("games", ["-j"]), ("games", ["-f"]), ("games", ["-i", "ABCDEF1"]), ("games", ["-s", "x.example"]),
    ("games", ["-s", "bad@"]), ("games", ["-i", "!!"]), ("bin", ["-p"]), ("bin", ["-f"]), ("man", ["-p"]), ("lp", ["-p"]),
    (NAMELESS, ["-p"]), (NAMELESS, ["-f"]), ("owner", ["-p"]), ("root", ["-p"])]
SENDER_CASES = [
    ("games", "games"), ("games", "GAMES"), ("games", "games+x"), ("games", "other"), ("games", "x@ok.example"),
    ("games", "x@y.ok.example"), ("games", "games@mail.example.org"), ("games", "Games@MAIL.example.org"), ("games", "<>"),
    ("games", "games+x@mail.example.org"), ("games", "bin"), ("games", "games@localhost"), ("games", "X@OK.example"), ("bin", "z@a"),
    ("bin", "<>"), ("lp", "a/b"), ("lp", "lp"), ("lp", "<>"), ("news", "news"), ("news", "<>"), ("sys", "sys@other.example"),
    ("sys", "SYS@mail.example.org"), ("sys", "sys"), (NAMELESS, "nameless"), (NAMELESS, "x"), ("root", "root"), ("owner", "x")]


def text_of(output):
    """The last line, without the name of the program in front."""
    line = (output.decode("latin-1").strip().split("\n") or [""])[-1]
    return re.sub(r"^(postqueue|postdrop|sendmail): ", "", line)


class CommandRights(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to be several users")
        for user in USERS:
            try:
                pwd.getpwnam(user)
            except KeyError:
                self.skipTest("no user %s" % user)

        self.dir = tempfile.mkdtemp(prefix="postern-rights-")
        self.addCleanup(shutil.rmtree, self.dir)
        os.chmod(self.dir, 0o755)
        with open(self.dir + "/listers", "w") as file:
            file.write("man\n# nobody else\n")

    def entered(self, context):
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def peer(self, extra):
        port = int(os.environ.get("POSTERN_TEST_PORT", "23000")) + 20
        return self.entered(postfix_peer.beside(self, port, extra.replace("{d}", self.dir)))

    def ours(self, extra):
        return self.entered(Suite(extra=extra.replace("{d}", self.dir)))

    def run_as(self, user, group, words, etc, stdin=b""):
        uid = user if isinstance(user, int) else pwd.getpwnam(user).pw_uid

        def become():
            os.setgroups([])
            os.setgid(group)
            os.setuid(uid)
        return subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, preexec_fn=become,
                              env={"MAIL_CONFIG": etc, "PATH": "/usr/sbin:/usr/bin:/bin"})

    def one(self, user, program, words, mail, stdin=b""):
        """What the suite under test says."""
        user = "nobody" if user == "owner" else user
        return self.run_as(user, NOBODY, [mail.path("bin/" + program)] + words, mail.path("etc"), stdin)

    def other(self, user, program, words, peer, stdin=b""):
        """What Postfix says."""
        user = "postfix" if user == "owner" else user
        return self.run_as(user, grp.getgrnam("postdrop").gr_gid, [program] + words, peer.dir + "/etc", stdin)

    def test_the_queue_is_for_those_who_are_listed(self):
        peer, mail = self.peer(LISTS), self.ours(LISTS)
        refused = 0
        for user, words in QUEUE_CASES:
            theirs, ours = self.other(user, "postqueue", words, peer), self.one(user, "postqueue", words, mail)
            case = (user, words, theirs.stdout, ours.stdout)
            self.assertEqual(theirs.returncode, ours.returncode, case)
            if theirs.returncode != 0:
                refused += 1
                self.assertEqual(text_of(theirs.stdout), text_of(ours.stdout), case)
        self.assertGreater(refused, 8)
        for words in (["-q"], ["-bp"], ["-qRx.example"], ["-qIABCDEF1"]):
            answer = self.one("games", "sendmail", words, mail)
            self.assertEqual((answer.returncode, b"is not allowed to" in answer.stdout), (69, True), (words, answer.stdout))

    def test_senders_are_those_the_maps_allow(self):
        extra = "recipient_delimiter = +\nvirtual_alias_maps =\n" + SENDERS
        peer, mail = self.peer(extra), self.ours(extra)
        accepted = 0
        for user, sender in SENDER_CASES:
            words = ["-f", sender, "fred@example.org"]
            theirs = self.other(user, "sendmail", words, peer, b"Subject: x\n\nb\n")
            ours = self.one(user, "sendmail", words, mail, b"Subject: x\n\nb\n")
            uids = {pwd.getpwnam("postfix").pw_uid: "OWNER", NOBODY: "OWNER"} if user == "owner" else {}
            told = [re.sub(r"\((\d+)\)", lambda uid: "(%s)" % uids.get(int(uid.group(1)), uid.group(1)), text_of(out.stdout))
                    for out in (theirs, ours)]
            self.assertEqual((theirs.returncode, told[0]), (ours.returncode, told[1]), (user, sender))
            accepted += ours.returncode == 0
        self.assertGreater(accepted, 10)
        deadline = time.monotonic() + 15
        while len(mail.mailbox("fred")) < accepted and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(len(mail.mailbox("fred")), accepted)

    def test_cleanup_s_socket_is_no_way_round(self):
        """An untrusted connection to cleanup would claim any sender."""
        mail = self.ours(SENDERS)
        answer = self.one("games", "sendmail", ["-bs"], mail, b"EHLO x\r\nMAIL FROM:<boss@example.org>\r\nRCPT TO:<fred@example.org>\r\nDATA\r\n"
                          b"Subject: x\r\n\r\nb\r\n.\r\nQUIT\r\n")
        self.assertNotIn(b"250 2.0.0 Ok: queued", answer.stdout)
        self.assertEqual(mail.mailbox("fred"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
