#!/usr/bin/env python3
"""The whole system as root, with real users: who each process is, what it may still do, whose the delivered files are.

Runs in a mount namespace with a private copy of /etc, so the users it makes and /etc/postern exist for this test alone.
Skipped (77) unless root.
"""
import ctypes
import fcntl
import glob
import grp
import imaplib
import os
import pwd
import resource
import shutil
import smtplib
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from root_suite import ANN, AUTH, BOB, DROP, EXTRA, NETWORK, OWNER, RootSuite, run_tests, status_of  # noqa: E402
from suite import PASSWORD, PATIENCE, SANITIZED  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 50
SETUID_SETGID = 1 << 6 | 1 << 7
SYS_LANDLOCK_CREATE_RULESET = 444
def has_landlock():
    """Asks for the version, which needs no rights."""
    return ctypes.CDLL(None, use_errno=True).syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1) > 0


class Privileged(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail = RootSuite.with_users(PORT, EXTRA + "mailbox_idle_check_interval = 1s\n")
        cls.addClassCleanup(cls.mail.end)
        cls.mail.write("etc/aliases", "root: %s\ncmd: \"|id -un > %s\"\n" % (ANN, cls.mail.path("spool/cmd")))
        os.mkdir(cls.mail.path("spool"))
        os.chmod(cls.mail.path("spool"), 0o1777)
        cls.mail.run("newaliases", check=True)
        cls.mail.start()
        # One message for each way in, so that every program has run.
        cls.send(ANN + "@localhost", "first")
        cls.send(BOB + "@localhost", "secret of bob")
        cls.send("fred@example.org", "virtual")
        cls.delivered(ANN, "first")
        cls.delivered(BOB, "secret of bob")
        cls.mail.wait_for(lambda: cls.mail.mailbox("fred"), 20, "virtual, which reaches private/ by its group alone, asks proxymap")

    @classmethod
    def send(cls, recipient, subject):
        with smtplib.SMTP("127.0.0.1", cls.mail.port["smtp"], timeout=30) as client:
            client.sendmail("c@c.example", [recipient], "Subject: %s\n\nbody of %s\n" % (subject, subject))

    @classmethod
    def delivered(cls, user, subject):
        """Waits for the file."""
        def look():
            for path in glob.glob(cls.mail.path("home/%s/Maildir/*/*" % user)):
                if os.path.isfile(path):
                    with open(path, errors="replace") as file:
                        if "\nSubject: %s\n" % subject in file.read():
                            return path
            return None
        return cls.mail.wait_for(look, 20, "%s gets %r" % (user, subject))

    def imap(self, user):
        client = imaplib.IMAP4("127.0.0.1", self.mail.port["imap"], 30)
        client.login(user, PASSWORD)
        self.addCleanup(client.logout)
        return client

    def check(self, pid, user, capabilities=0, new_rights=False, what=""):
        """Ids of all four kinds, groups, capabilities, no_new_privs and system call filter of one process."""
        status, entry = status_of(pid), pwd.getpwnam(user)
        self.assertEqual(set(status["Uid"]), {str(entry.pw_uid)}, what)
        self.assertEqual(set(status["Gid"]), {str(entry.pw_gid)}, what)
        # Who stays root, without the right to pass any directory, reaches private/ by its group.
        allowed = {pwd.getpwnam(NETWORK).pw_gid} if user == "root" else {entry.pw_gid}
        self.assertEqual(set(status["Groups"]) or {str(entry.pw_gid)}, {str(gid) for gid in allowed}, what)
        for kind in ("CapPrm", "CapEff"):
            self.assertEqual(int(status[kind][0], 16), capabilities, what + " " + kind)
        for kind in ("CapInh", "CapAmb"):
            self.assertEqual(int(status[kind][0], 16), 0, what + " " + kind)
        if not new_rights:   # a session process cannot take out of the set what its launcher needs
            self.assertEqual(int(status["CapBnd"][0], 16) & ~SETUID_SETGID, 0, what + " CapBnd")
        self.assertEqual(status["NoNewPrivs"], ["0" if new_rights else "1"], what)
        if not SANITIZED:
            self.assertEqual(status["Seccomp"], ["2"], what)

    def test_each_program_has_its_user_and_no_more(self):
        self.assertTrue(self.mail.listening())
        self.mail.run("postqueue", "-p", check=True)
        expected = {"smtpd": NETWORK, "imapd": NETWORK, "pop3d": NETWORK, "cleanup": OWNER, "qmgr": OWNER, "pickup": OWNER,
                    "showq": OWNER, "auth": AUTH, "proxymap": OWNER}
        self.imap(ANN)
        pids = self.mail.pids()
        for program, user in expected.items():
            self.assertIn(program, pids)
            for pid in pids[program]:
                self.check(pid, user, what=program)
        for program in ("local", "virtual"):
            for pid in pids[program]:
                self.check(pid, "root", SETUID_SETGID, new_rights=True, what=program)
        master = status_of(pids["postern-master"][0])
        self.assertEqual(int(master["CapEff"][0], 16) & (1 << 21 | 1 << 19 | 1 << 16), 0, "master: sys_admin, sys_ptrace, sys_module")

    def test_chroot(self):
        pids = self.mail.pids()
        queue = os.stat(self.mail.path("queue"))
        for program in ("smtpd", "imapd", "pop3d", "cleanup", "pickup"):
            for pid in pids[program]:
                self.assertTrue(os.path.samestat(os.stat("/proc/%d/root" % pid), queue), program)
        for pid in pids["local"]:
            self.assertEqual(os.readlink("/proc/%d/root" % pid), "/")

    def test_services_that_keep_what_they_know_open_it_first(self):
        """mta-sts and tlsrpt write data that they could not open any more."""
        text = lambda string: struct.pack("<I", len(string)) + string   # noqa: E731
        question = struct.pack("<I", 7) + text(b"no domain")
        outcome = text(b"example.com") + b"\0" + struct.pack("<II", 0, 0) + b"\0" + 5 * text(b"")
        answers = {}
        for service, payload in (("mta-sts", question), ("tlsrpt", outcome)):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(self.mail.path("queue/private/" + service))
                client.sendall(struct.pack("<IBBH", len(payload), 0, 0, 0) + payload)
                answers[service] = client.recv(1000) if service == "mta-sts" else b""
        self.assertEqual(answers["mta-sts"][8:13], struct.pack("<I", 7) + b"\0")
        shown = self.mail.run("postern", "-c", self.mail.path("etc"), "tlsrpt", check=True).stdout.decode()
        self.assertRegex(shown, r"^\d+-\d+-\d+ example\.com no-policy-found: 1 good, 0 failed\n$")
        queue = os.stat(self.mail.path("queue"))
        for service in ("mta-sts", "tlsrpt"):
            for pid in self.mail.pids()[service]:
                self.check(pid, NETWORK, what=service)
                self.assertTrue(os.path.samestat(os.stat("/proc/%d/root" % pid), queue), service)
        for name in ("mta_sts.mdb", "tlsrpt.mdb"):
            status = os.stat(self.mail.path("data/" + name))
            self.assertEqual((status.st_uid, stat.S_IMODE(status.st_mode)), (0, 0o600))

    def test_queue_belongs_to_its_owner(self):
        owner, drop = pwd.getpwnam(OWNER), grp.getgrnam(DROP)
        for name, user, group, mode in (("incoming", owner.pw_uid, None, 0o700), ("active", owner.pw_uid, None, 0o700),
                                        ("maildrop", owner.pw_uid, drop.gr_gid, 0o1730)):
            status = os.stat(self.mail.path("queue/" + name))
            self.assertEqual((status.st_uid, stat.S_IMODE(status.st_mode)), (user, mode), name)
            if group is not None:
                self.assertEqual(status.st_gid, group, name)

    def test_messages_in_transit_are_the_owner_s(self):
        """showq, which sees nothing but the queue, lists one, and postsuper takes it out."""
        if not self.mail.transit:
            self.skipTest("no memory for messages in transit")
        owner, link = pwd.getpwnam(OWNER), os.readlink(self.mail.path("queue/transit"))
        status = os.stat(link)
        self.assertEqual(os.path.dirname(link), self.mail.transit)
        self.assertEqual((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)), (owner.pw_uid, owner.pw_gid, 0o700))
        self.mail.run("sendmail", ANN + "@localhost,late@nowhere.invalid", stdin=b"Subject: in transit\n\n", check=True)
        queue_id = self.mail.wait_log(r"(\w+): to=<late@nowhere.invalid>, .* status=deferred").group(1)
        self.mail.wait_for(lambda: os.path.exists(self.mail.path("queue/deferred/" + queue_id)), 20, "deferral")
        shutil.copy2(self.mail.path("queue/deferred/" + queue_id), link)
        os.unlink(self.mail.path("queue/deferred/" + queue_id))
        os.chown("%s/%s" % (link, queue_id), owner.pw_uid, owner.pw_gid)
        with open("%s/%s" % (link, queue_id), "rb") as agent:
            fcntl.flock(agent, fcntl.LOCK_EX)
            listed = self.mail.run("postqueue", "-j", check=True).stdout.decode()
        self.assertIn('{"queue_name": "incoming", "queue_id": "%s", ' % queue_id, listed)
        self.assertIn("placed on hold", self.mail.run("postsuper", "-h", queue_id, check=True).stdout.decode())
        self.assertEqual(os.stat(self.mail.path("queue/hold/" + queue_id)).st_uid, owner.pw_uid)
        self.assertEqual(os.listdir(link), [])
        self.mail.run("postsuper", "-d", queue_id, check=True)

    def test_delivered_files_belong_to_the_recipient(self):
        for user, subject in ((ANN, "first"), (BOB, "secret of bob")):
            path, entry = self.delivered(user, subject), pwd.getpwnam(user)
            status = os.stat(path)
            self.assertEqual((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)), (entry.pw_uid, entry.pw_gid, 0o600))
            folder = os.stat(self.mail.path("home/%s/Maildir" % user))
            self.assertEqual((folder.st_uid, stat.S_IMODE(folder.st_mode)), (entry.pw_uid, 0o700))

    def test_session_is_the_users(self):
        self.imap(ANN)
        self.imap(BOB)
        sessions = {status_of(pid)["Uid"][0]: pid for pid in self.mail.pids()["imapd-session"]}
        self.check(sessions[str(pwd.getpwnam(ANN).pw_uid)], ANN, what="session")
        self.check(sessions[str(pwd.getpwnam(BOB).pw_uid)], BOB, what="session")
        self.check(sessions["0"], "root", SETUID_SETGID, what="launcher")

    def test_idle_looks_by_itself_when_the_user_has_no_watches_left(self):
        """mailbox_idle_check_interval, when inotify(7) gives the user no more."""
        entry = pwd.getpwnam(BOB)

        def take_all():
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            while ctypes.CDLL(None).inotify_init1(0) >= 0:
                pass
        taker = subprocess.Popen(["sleep", "100"], close_fds=False, preexec_fn=take_all)
        self.addCleanup(taker.wait)
        self.addCleanup(taker.kill)
        client = self.imap(BOB)
        count = int(client.select()[1][0])
        client.send(b"i IDLE\r\n")
        self.assertEqual(client.readline(), b"+ idling\r\n")
        self.mail.wait_log(r"watching for changes: inotify.*; looking every 1 seconds")
        path = "%s/Maildir/new/idle" % entry.pw_dir
        with open(path, "w") as file:
            file.write("Subject: while he idles\n\nbody\n")
        os.chown(path, entry.pw_uid, entry.pw_gid)
        client.sock.settimeout(15 * PATIENCE)   # the usual interval is half a minute
        self.assertEqual(client.readline(), b"* %d EXISTS\r\n" % (count + 1))
        client.send(b"DONE\r\n")
        while not client.readline().startswith(b"i OK"):
            pass

    def test_no_way_to_another_users_mail(self):
        client = self.imap(ANN)
        for name in ("../../%s/Maildir" % BOB, "../%s/Maildir" % BOB, "..", "../..", "/" + self.mail.path("home/%s/Maildir" % BOB),
                     "~%s/Maildir" % BOB, "a/../../../%s/Maildir" % BOB, "." * 5, "cur", "../%s" % BOB):
            status, data = client.select('"%s"' % name)
            self.assertEqual(status, "NO", "SELECT %s: %s" % (name, data))
            status, data = client.create('"%s/new"' % name)
            self.assertFalse(status == "OK" and ".." in name, "CREATE %s/new: %s" % (name, data))
        self.assertEqual(sorted(os.listdir(self.mail.path("home"))), [ANN, BOB])
        self.assertEqual(sorted(os.listdir(self.mail.path("home/" + ANN))), ["Maildir"])
        self.assertEqual(set(os.listdir(self.mail.path("home/%s" % BOB))) - {"out", ".forward"}, {"Maildir"})

    def test_landlock_holds_where_modes_do_not(self):
        """Bob's mail is made readable for all, and Ann's Maildir gets links to it: only Landlock is in the way."""
        if SANITIZED or not has_landlock():
            self.skipTest("no Landlock in this kernel, or left out of a build with sanitizers")
        secret = self.delivered(BOB, "secret of bob")
        box, ann = self.mail.path("home/%s/Maildir" % BOB), pwd.getpwnam(ANN)
        for path in [box] + glob.glob(box + "/*"):
            os.chmod(path, 0o755)
        os.chmod(secret, 0o644)
        self.addCleanup(os.chmod, secret, 0o600)
        self.addCleanup(os.chmod, box, 0o700)
        links = [self.mail.path("home/%s/Maildir/.evil" % ANN), self.mail.path("home/%s/Maildir/new/1.link" % ANN)]
        for link, target in zip(links, (box, secret)):
            os.symlink(target, link)
            os.chown(link, ann.pw_uid, ann.pw_gid, follow_symlinks=False)
            self.addCleanup(os.unlink, link)
        reader = self.run_as(ANN, ["cat", links[1]])
        self.assertIn("secret of bob", reader, "the trap is no trap")
        client = self.imap(ANN)
        seen = []
        for folder in ("evil", "INBOX"):
            status, data = client.select(folder, readonly=True)
            for number in range(int(data[0]) if status == "OK" else 0):
                seen += client.fetch(str(number + 1), "(BODY.PEEK[])")[1]
        self.assertNotIn("secret of bob", repr(seen))
        self.assertIn("body of first", repr(seen))

    def run_as(self, user, words):
        entry = pwd.getpwnam(user)
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, user=entry.pw_uid, group=entry.pw_gid,
                              extra_groups=[])
        return done.stdout.decode()

    def test_forward_commands_run_as_the_user(self):
        home, entry = self.mail.path("home/" + BOB), pwd.getpwnam(BOB)
        with open(home + "/.forward", "w") as file:
            file.write("\\%s, \"|(id; grep Cap /proc/self/status; cat) > %s/out.new; mv %s/out.new %s/out\"\n" % (BOB, home, home, home))
        os.chown(file.name, entry.pw_uid, entry.pw_gid)
        self.addCleanup(os.unlink, file.name)
        self.send(BOB + "@localhost", "forwarded")
        self.mail.wait_for(lambda: os.path.exists(home + "/out"), 20, "the command ran")
        with open(home + "/out") as file:
            text = file.read()
        self.assertIn("uid=%d(%s) gid=%d(%s) groups=%d(%s)\n" % ((entry.pw_uid, BOB, entry.pw_gid, BOB) + (entry.pw_gid, BOB)), text)
        for kind in ("CapPrm", "CapEff"):
            self.assertRegex(text, r"(?m)^%s:\s*0+$" % kind)
        self.assertIn("body of forwarded", text)
        self.assertEqual(os.stat(home + "/out").st_uid, entry.pw_uid)
        self.delivered(BOB, "forwarded")

    def test_anothers_forward_file_is_not_used(self):
        path = self.mail.path("home/%s/.forward" % ANN)
        with open(path, "w") as file:
            file.write("|touch %s\n" % self.mail.path("spool/hacked"))
        os.chown(path, pwd.getpwnam(BOB).pw_uid, pwd.getpwnam(BOB).pw_gid)
        self.addCleanup(os.unlink, path)
        self.send(ANN + "@localhost", "not forwarded")
        self.delivered(ANN, "not forwarded")
        self.assertFalse(os.path.exists(self.mail.path("spool/hacked")))

    def test_aliases(self):
        self.send("root@localhost", "for root")
        self.delivered(ANN, "for root")
        self.send("cmd@localhost", "by command")
        self.mail.wait_for(lambda: os.path.exists(self.mail.path("spool/cmd")) and os.stat(self.mail.path("spool/cmd")).st_size, 20, "cmd")
        with open(self.mail.path("spool/cmd")) as file:
            self.assertEqual(file.read(), "nobody\n")

    def test_sendmail_by_an_ordinary_user(self):
        text = b"Subject: by hand\n\nbody by hand\n"
        self.mail.run("sendmail", "-oi", ANN + "@localhost", stdin=text, check=True, user=BOB)
        with open(self.delivered(ANN, "by hand")) as file:
            content = file.read()
        self.assertIn("Return-Path: <%s@mail.example.org>\n" % BOB, content)
        self.assertRegex(self.mail.log(), r"pickup\[\d+\]: \w+: uid=%d from=<%s>" % (pwd.getpwnam(BOB).pw_uid, BOB))
        self.mail.wait_for(lambda: b"Mail queue is empty" in self.mail.run("postqueue", "-p", user=BOB).stdout, 20, "an empty queue, as anybody sees it")
        self.assertNotEqual(self.run_as(BOB, ["ls", self.mail.path("queue/maildrop")]).find("ermission denied"), -1)

    def test_setgid_commands_trust_no_other_configuration(self):
        own = tempfile.mkdtemp(prefix="postern-own-")
        self.addCleanup(shutil.rmtree, own)
        os.chmod(own, 0o755)
        with open(own + "/main.cf", "w") as file:
            file.write("queue_directory = %s\n" % own)
        for program, words in (("postdrop", ()), ("postqueue", ("-p",))):
            for extra in (("-c", own), ()):
                environment = dict(os.environ) if extra else dict(os.environ, MAIL_CONFIG=own)
                done = self.mail.run(program, *extra, *words, stdin=b"", user=BOB, environment=environment)
                self.assertNotEqual(done.returncode, 0, "%s %s" % (program, extra))
                self.assertRegex(done.stdout.decode(), r"(?i)alternate_config_directories|unauthorized")


if __name__ == "__main__":
    sys.exit(run_tests("test how rights are given up"))
