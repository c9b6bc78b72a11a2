#!/usr/bin/env python3
"""mbox in a spool directory where users may make no file, as in /var/mail: mail_privileged_group and mail_access_groups, with local(8),
imapd and pop3d on the same files; and Dovecot, which makes the same lock file there.

Runs as root in a mount namespace with a private copy of /etc; skipped (77) where that cannot be had."""
import glob
import grp
import imaplib
import os
import poplib
import pwd
import re
import smtplib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dovecot_peer                                                        # noqa: E402
from root_suite import ANN, BOB, EXTRA, RootSuite, run_tests, status_of    # noqa: E402
from suite import PASSWORD, wait_listening                                 # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 60
SPOOL_GROUP, SHARED_GROUP = "postern-tm", "postern-ts"
SETTINGS = EXTRA.replace("home_mailbox = Maildir/\n", "").replace("mail_location = maildir:~/Maildir\n", "") + """
mail_spool_directory = {dir}/spool
mail_location = mbox:~/mail:INBOX={dir}/spool/%u
mbox_lock_timeout = 2s
session_process_idle_limit = 0s
auth_penalty_max_delay = 0
"""


class Watch:
    """Whether a lock file came and went in a directory while the object was used: the kernel tells."""

    def __init__(self, directory):
        self.process = subprocess.Popen(["%s" % sys.executable, "-c", WATCHER, directory], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def names(self):
        self.process.terminate()
        return self.process.communicate(timeout=10)[0].decode().split()


WATCHER = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
libc.inotify_add_watch(fd, sys.argv[1].encode(), 0x100)   # IN_CREATE
print("ready", flush=True)
while True:
    data = os.read(fd, 65536)
    while data:
        length = struct.unpack_from("iIII", data)[3]
        print(data[16:16 + length].rstrip(bytes(1)).decode(), flush=True)
        data = data[16 + length:]
"""


class MboxSpool(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail = RootSuite.with_users(PORT, SETTINGS)
        cls.addClassCleanup(cls.mail.end)
        for name in (SPOOL_GROUP, SHARED_GROUP):
            subprocess.run(["groupadd", "--system", name], check=True)
        cls.spool = cls.mail.path("spool")
        os.mkdir(cls.spool)
        os.chown(cls.spool, 0, grp.getgrnam(SPOOL_GROUP).gr_gid)
        os.chmod(cls.spool, 0o2775)
        cls.mail.write("etc/aliases", "root: %s\n" % ANN)
        cls.mail.run("newaliases", check=True)
        cls.mail.start()

    def configure(self, *settings):
        names = ("mail_privileged_group", "mail_access_groups")
        self.mail.run("postconf", "-X", *names)
        if settings:
            self.mail.run("postconf", "-e", *settings, check=True)
        self.mail.run("postern", "reload", check=True)

    def setUp(self):
        for path in glob.glob(self.spool + "/*"):
            os.unlink(path)
        self.configure()

    def deliver(self, user, subject):
        with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=30) as client:
            client.sendmail("c@c.example", [user + "@localhost"], "Subject: %s\n\nbody\n" % subject)
        box = "%s/%s" % (self.spool, user)

        def there():
            if not os.path.exists(box):
                return False
            with open(box) as file:
                return "Subject: %s\n" % subject in file.read()
        self.mail.wait_for(there, 20, "local delivers to the spool")

    def imap(self, user=ANN, port=None):
        client = imaplib.IMAP4("127.0.0.1", port or self.mail.port["imap"], 30)
        client.login(user, PASSWORD)
        self.addCleanup(lambda: client.logout() if client.state != "LOGOUT" else None)
        return client

    def session(self, user=ANN):
        """/proc/PID/status of the user's newest session process, which the log of its log-in names."""
        pid = re.findall(r"imap-login: Login: user=<%s>.* mpid=(\d+)" % user, self.mail.log())[-1]
        self.assertEqual(status_of(int(pid))["Uid"], [str(pwd.getpwnam(user).pw_uid)] * 4)
        return status_of(int(pid))

    def test_without_the_group_there_is_no_lock_file(self):
        self.deliver(ANN, "one")
        box = os.stat("%s/%s" % (self.spool, ANN))
        self.assertEqual((box.st_uid, box.st_mode & 0o7777), (pwd.getpwnam(ANN).pw_uid, 0o600))
        client = self.imap()
        self.assertEqual(client.select()[1], [b"1"])
        status, own = self.session(), str(pwd.getpwnam(ANN).pw_gid)
        self.assertEqual(status["Gid"], [own] * 4)
        self.assertEqual(status["Groups"], [own])
        watch = Watch(self.spool)
        self.assertEqual(client.store("1", "+FLAGS", "\\Deleted")[0], "OK")
        self.assertEqual(client.expunge()[0], "OK")
        self.assertEqual(watch.names(), [])

    def test_the_lock_file_is_made_with_the_group_and_nothing_else_is(self):
        self.configure("mail_privileged_group = " + SPOOL_GROUP)
        self.deliver(ANN, "one")
        self.deliver(ANN, "two")
        client = self.imap()
        self.assertEqual(client.select()[1], [b"2"])
        status, own = self.session(), str(pwd.getpwnam(ANN).pw_gid)
        self.assertEqual(status["Gid"], [own, own, str(grp.getgrnam(SPOOL_GROUP).gr_gid), own])   # real, effective, saved, file system
        self.assertEqual(status["Groups"], [own])
        watch = Watch(self.spool)
        self.assertEqual(client.store("1", "+FLAGS", "\\Deleted")[0], "OK")
        self.assertEqual(client.expunge()[0], "OK")
        self.assertEqual(set(watch.names()), {ANN + ".lock"})
        self.assertEqual(os.listdir(self.spool), [ANN])
        with open("%s/%s" % (self.spool, ANN)) as file:
            self.assertEqual(file.read().count("\nSubject: "), 1)
        # Another mailbox is no business of the group's.
        self.assertEqual(client.create("Other")[0], "OK")
        other = "%s/mail/Other" % pwd.getpwnam(ANN).pw_dir
        self.assertEqual(os.stat(other).st_gid, pwd.getpwnam(ANN).pw_gid)

    def test_another_programs_lock_file_is_waited_for(self):
        self.configure("mail_privileged_group = " + SPOOL_GROUP)
        self.deliver(ANN, "one")
        client = self.imap()
        client.select()
        lock = "%s/%s.lock" % (self.spool, ANN)
        with open(lock, "w") as file:
            file.write("somebody\n")
        started = time.monotonic()
        self.assertEqual(client.store("1", "+FLAGS", "\\Flagged")[0], "NO")
        self.assertGreater(time.monotonic() - started, 1.5)
        os.utime(lock, (time.time() - 300,) * 2)   # nobody has touched it for mbox_dotlock_change_timeout
        self.assertEqual(client.store("1", "+FLAGS", "\\Flagged")[0], "OK")
        self.assertFalse(os.path.exists(lock))

    def test_an_inbox_that_is_missing_is_made(self):
        self.configure("mail_privileged_group = " + SPOOL_GROUP)
        client = self.imap(BOB)
        self.assertEqual(client.select(), ("OK", [b"0"]))
        self.assertEqual(client.append("INBOX", None, None, b"Subject: kept\r\n\r\nbody\r\n")[0], "OK")
        box = os.stat("%s/%s" % (self.spool, BOB))
        self.assertEqual((box.st_uid, box.st_gid, box.st_mode & 0o777), (pwd.getpwnam(BOB).pw_uid, grp.getgrnam(SPOOL_GROUP).gr_gid, 0o600))
        self.deliver(BOB, "by local")
        pop3 = poplib.POP3("127.0.0.1", self.mail.port["pop3"], 30)
        pop3.user(BOB)
        pop3.pass_(PASSWORD)
        self.assertEqual(pop3.stat()[0], 2)
        watch = Watch(self.spool)
        pop3.dele(1)
        pop3.quit()
        self.assertEqual(set(watch.names()), {BOB + ".lock"})

    def test_access_groups_are_supplementary(self):
        self.configure("mail_access_groups = %s, %s" % (SHARED_GROUP, SPOOL_GROUP))
        self.deliver(ANN, "one")
        client = self.imap()
        client.select()
        status, own = self.session(), str(pwd.getpwnam(ANN).pw_gid)
        wanted = {own, str(grp.getgrnam(SHARED_GROUP).gr_gid), str(grp.getgrnam(SPOOL_GROUP).gr_gid)}
        self.assertEqual(status["Gid"], [own] * 4)
        self.assertEqual(set(status["Groups"]), wanted)
        watch = Watch(self.spool)
        self.assertEqual(client.store("1", "+FLAGS", "\\Seen")[0], "OK")
        self.assertEqual(set(watch.names()), {ANN + ".lock"})

    def test_a_group_that_does_not_exist_is_an_error_of_the_configuration(self):
        for name in ("mail_privileged_group", "mail_access_groups"):
            done = self.mail.run("postconf", "-e", "%s = no-such-group" % name, check=True)
            done = self.mail.run("postern", "check")
            self.assertNotEqual(done.returncode, 0, name)
            self.assertIn("%s = no-such-group: unknown group" % name, done.stdout.decode())
            self.mail.run("postconf", "-X", name, check=True)
        self.assertEqual(self.mail.run("postern", "check").returncode, 0)

    @unittest.skipUnless(dovecot_peer.available(), "Debian's dovecot is not here")
    def test_dovecot_makes_the_same_file(self):
        self.deliver(ANN, "one")
        where = self.mail.path("dovecot")
        ports = {"imap": PORT + 15, "pop3": PORT + 16, "imaps": 0}
        dovecot_peer.lay_out(where, ports, self.mail.path("etc"), (), extra="mail_privileged_group = %s\n"
                             "mail_location = mbox:~/mail:INBOX=%s/%%u:INDEX=MEMORY\n" % (SPOOL_GROUP, self.spool))
        user = pwd.getpwnam(ANN)
        with open(where + "/users", "w") as file:
            file.write("%s:{PLAIN}%s:%d:%d::%s::\n" % (ANN, PASSWORD, user.pw_uid, user.pw_gid, user.pw_dir))
        process = subprocess.Popen(["dovecot", "-F", "-c", where + "/conf"])
        try:
            wait_listening(ports["imap"])
            names = {}
            for program, port in (("dovecot", ports["imap"]), ("ours", self.mail.port["imap"])):
                if program == "ours":
                    self.configure("mail_privileged_group = " + SPOOL_GROUP)
                client = self.imap(port=port)
                self.assertEqual(client.select()[1], [b"1"])
                watch = Watch(self.spool)
                self.assertEqual(client.store("1", "+FLAGS", "\\Deleted")[0], "OK")
                self.assertEqual(client.expunge()[0], "OK")
                names[program] = {name for name in watch.names() if name.startswith(ANN + ".lock")}
                client.logout()
                self.deliver(ANN, "two")
            self.assertEqual(names["dovecot"], names["ours"])
            self.assertEqual(names["ours"], {ANN + ".lock"})
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    sys.exit(run_tests("make users and give their processes groups"))
