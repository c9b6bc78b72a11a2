#!/usr/bin/env python3
"""System users with shadow passwords log in over IMAP, POP3 and SMTP, by PAM, as the shipped settings say.

Runs in a mount namespace with a private copy of /etc, of its own.  Skipped (77) unless root.
"""
import base64
import glob
import imaplib
import os
import poplib
import pwd
import re
import shutil
import smtplib
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import root_suite as root  # noqa: E402
import suite  # noqa: E402
from suite import any_certificate  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 60
SHADOW_PASSWORD = "p\u00e4ss word: \"quoted\""
USER, LOCKED, EXPIRED = root.ANN, root.BOB, "postern-te"

EXTRA = root.EXTRA + """
auth_passdbs = pam:
auth_userdbs = passwd:
auth_mechanisms = plain login
auth_verbose = yes
"""


def make_passwords(directory):
    home = "%s/home/%s" % (directory, EXPIRED)
    subprocess.run(["useradd", "--user-group", "-M", "-d", home, "-s", "/bin/sh", "-e", "2001-01-01", EXPIRED], check=True)
    for name in (USER, LOCKED, EXPIRED):
        subprocess.run(["chpasswd", "-c", "SHA512"], input=("%s:%s\n" % (name, SHADOW_PASSWORD)).encode(), check=True)
    subprocess.run(["usermod", "-L", LOCKED], check=True)
    os.makedirs("/etc/pam.d", exist_ok=True)
    shutil.copy(os.path.join(suite.ROOT, "conf/pam.d/postern"), "/etc/pam.d/postern")


class Pam(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail = root.RootSuite.with_users(PORT, EXTRA)
        cls.addClassCleanup(cls.mail.end)
        make_passwords(cls.mail.dir)
        cls.mail.write("etc/aliases", "root: %s\n" % USER)
        cls.mail.run("newaliases", check=True)
        cls.mail.start()

    def imap(self, user, password, method="login"):
        with imaplib.IMAP4_SSL("127.0.0.1", self.mail.port["imaps"], ssl_context=any_certificate()) as client:
            client._encoding = "utf-8"
            if method == "login":
                client.login(user, password)
            else:
                client.authenticate("PLAIN", lambda _: ("\0%s\0%s" % (user, password)).encode())
            self.assertEqual(client.select("INBOX")[0], "OK")

    def pop3(self, user, password):
        client = poplib.POP3_SSL("127.0.0.1", self.mail.port["pop3s"], timeout=30, context=any_certificate())
        client.encoding = "utf-8"
        try:
            client.user(user)
            client.pass_(password)
            client.stat()
        finally:
            client.quit()

    def smtp(self, user, password):
        client = smtplib.SMTP_SSL("127.0.0.1", self.mail.port["smtps"], timeout=30, context=any_certificate())
        client.ehlo()
        word = base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()
        code, text = client.docmd("AUTH", "PLAIN " + word)
        client.quit()
        if code != 235:
            raise smtplib.SMTPAuthenticationError(code, text)

    def ways(self):
        return (self.imap, lambda user, password: self.imap(user, password, "plain"), self.pop3, self.smtp)

    def refused(self, way, user, password):
        with self.assertRaises((imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPAuthenticationError)) as caught:
            way(user, password)
        self.assertNotRegex(str(caught.exception), "UNAVAILABLE|SYS/TEMP|^\\(4", "a refusal, not a failure")

    def test_the_right_password_lets_in(self):
        for way in self.ways():
            way(USER, SHADOW_PASSWORD)
        owner = pwd.getpwnam(USER).pw_uid
        for path in glob.glob(self.mail.path("home/%s/Maildir" % USER)):
            self.assertEqual(os.stat(path).st_uid, owner)
        self.assertRegex(self.mail.log(), r"imap-login: Login: user=<%s>, method=PLAIN, rip=127\.0\.0\.1, .*TLS" % USER)

    def test_the_name_is_looked_up_in_lower_case(self):
        self.imap(USER.upper(), SHADOW_PASSWORD)

    def test_a_wrong_password_does_not(self):
        for way in self.ways():
            for password in ("wrong", SHADOW_PASSWORD + "x", SHADOW_PASSWORD[:-1], "!", "*", "x"):
                self.refused(way, USER, password)
        self.assertRegex(self.mail.log(), r"auth: pam\(%s,127\.0\.0\.1,<[^>]+>\): pam_authenticate\(\) failed: " % USER)

    def test_who_may_not_log_in_does_not(self):
        for way in self.ways():
            for user in ("postern-nobody-of-that-name", "root", LOCKED, EXPIRED, root.OWNER):
                self.refused(way, user, SHADOW_PASSWORD)

    def test_auth_itself_cannot_read_the_shadow_file(self):
        """It runs as auth_owner without capabilities; only its PAM helper stays root."""
        self.imap(USER, SHADOW_PASSWORD)
        owners = {}
        for pid in [pid for name, pids in self.mail.pids().items() if name.startswith("auth") for pid in pids]:
            status = root.status_of(pid)
            owners.setdefault(int(status["Uid"][0]), []).append(int(status["CapEff"][0], 16))
        auth = pwd.getpwnam(root.AUTH).pw_uid
        self.assertEqual(set(owners), {0, auth})
        self.assertEqual(owners[auth], [0])
        self.assertEqual(os.stat("/etc/shadow").st_mode & 0o007, 0)

    def test_a_reload_in_between(self):
        for _ in range(3):
            self.mail.control("reload", check=True)
            for way in self.ways():
                way(USER, SHADOW_PASSWORD)
        self.assertFalse(re.search(r"token refused|panic|fatal", self.mail.log()), self.mail.log()[-3000:])


if __name__ == "__main__":
    sys.exit(root.run_tests("make users with shadow passwords"))
