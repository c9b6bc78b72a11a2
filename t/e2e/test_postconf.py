#!/usr/bin/env python3
"""postconf prints and edits as Postfix's does: every expected text here is what Postfix 3.7 prints for the same files, and where its
postconf is installed, the two are run side by side."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = os.path.join(os.environ.get("POSTERN_BIN", os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin")), "postconf")
THEIRS = shutil.which("postconf", path="/usr/sbin:/usr/bin")

MAIN = """# comment
compatibility_level = 3.6
myhostname = mail.example.org
  # a comment inside
mydestination = $myhostname,
    # another
    localhost

    localhost.$mydomain
choice = ${myhostname?yes:no} ${relayhost?{set}:{none}} ${relayhost:dflt}
compared = ${{$myhostname} == {mail.example.org} ? {eq} : {ne}} ${{1} < {20} ? {lt} : {ge}}
dollar = $$x $(myhostname)
smtpd_banner   =   $choice  $compared $dollar
relayhost=
smtpd_recipient_restrictions = permit_mynetworks,
\treject_unauth_destination
\tcheck_policy_service { unix:private/policy, timeout=10s }
inet_protocols = ipv4
"""
MASTER = """# master
smtp      inet  n       -       y       -       -       smtpd
  -o smtpd_tls_security_level=may
  -o { smtpd_sender_restrictions = reject_non_fqdn_sender, permit }
pickup    unix  n       -       y       60      1       pickup
my-out   unix  -       -       y       -       -       smtp -o syslog_name=postfix/my -o smtp_helo_name=$myhostname
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
"""
SHOWN = [
    (["-x", "smtpd_banner"], 0, "smtpd_banner = yes:no none dflt eq lt $x mail.example.org\n"),
    (["-h", "mydestination"], 0, "$myhostname, localhost localhost.$mydomain\n"),
    (["-hx", "mydestination"], 0, "mail.example.org, localhost localhost.example.org\n"),
    (["-H", "relayhost"], 0, "relayhost\n"),
    (["-p", "relayhost"], 0, "relayhost =\n"),
    (["-d", "message_size_limit"], 0, "message_size_limit = 10240000\n"),
    (["-o", "relayhost=x", "relayhost"], 0, "relayhost = x\n"),
    (["-h", "no_such_parameter"], 0, ""),
    (["-n", "-d"], 1, ""),
    (["-M", "-n"], 1, ""),
    (["-z"], 1, ""),
    (["-f", "smtpd_recipient_restrictions"], 0, "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n"
     "    check_policy_service { unix:private/policy, timeout=10s }\n"),
    (["-M", "smtp/inet"], 0, "smtp       inet  n       -       y       -       -       smtpd -o smtpd_tls_security_level=may "
     "-o {smtpd_sender_restrictions=reject_non_fqdn_sender, permit}\n"),
    (["-Mx"], 0, "smtp       inet  n       -       y       -       -       smtpd -o smtpd_tls_security_level=may "
     "-o {smtpd_sender_restrictions=reject_non_fqdn_sender, permit}\n"
     "pickup     unix  n       -       y       60      1       pickup\n"
     "my-out     unix  -       -       y       -       -       smtp -o syslog_name=postfix/my -o smtp_helo_name=mail.example.org\n"
     "maildrop   unix  -       n       n       -       -       pipe flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}\n"),
    (["-M", "nosuch"], 0, ""),
    (["-F", "my-out/unix/chroot"], 0, "my-out/unix/chroot = y\n"),
    (["-Fh", "*/inet/command"], 0, "smtpd -o smtpd_tls_security_level=may -o {smtpd_sender_restrictions=reject_non_fqdn_sender, permit}\n"),
    (["-P", "my-out/unix/syslog_name"], 0, "my-out/unix/syslog_name = postfix/my\n"),
    (["-Phx", "my-out/unix/smtp_helo_name"], 0, "mail.example.org\n"),
]
LONG_MASTER = """smtp inet n - y - - smtpd -v -o a=b -v -D -o { cccccccccccccccccccccccc = d d d d d d d d d d d d d d d d d d d d d d d d d d } -v
maildrop unix - n n - - pipe flags=DRXhu user=vmail argv=/usr/bin/maildrop { a b c d e f } %s h -o x=y
a-service-with-a-long-name:999 inet n - y - - smtpd %s
x unix - n n - - pipe %s
y unix - n n - - pipe %s
""" % ("g" * 90, "a" * 26, "a" * 17, "a" * 18)
FOLDED_MASTER = """smtp       inet  n       -       y       -       -       smtpd -v
    -o a=b
    -v -D
    -o {cccccccccccccccccccccccc=d d d d d d d d d d d d d d d d d d d d d d d d d d}
    -v
maildrop   unix  -       n       n       -       -       pipe flags=DRXhu
    user=vmail argv=/usr/bin/maildrop {a b c d e f}
    %s
    h -o x=y
a-service-with-a-long-name:999 inet n - y -      -       smtpd
    %s
x          unix  -       n       n       -       -       pipe %s
y          unix  -       n       n       -       -       pipe
    %s
""" % ("g" * 90, "a" * 26, "a" * 17, "a" * 18)
EDITS = [   # both files are as Postfix's postconf leaves them
    ["-e", "relayhost = [mx.example.net]", "new = a b"], ["relayhost=x"], ["-#", "mydestination"], ["-X", "smtpd_recipient_restrictions", "nosuch"],
    ["-M#", "smtp/inet"], ["-MX", "my-out/unix"], ["-MX", "nosuch/inet"], ["-M#", "nosuch/inet"], ["-F", "nosuch/inet/chroot=n"],
    ["-P", "nosuch/inet/a=b"], ["-Me", "submission/inet=submission inet n - y - - smtpd -o a=b"], ["-F", "pickup/unix/chroot=n"],
]
REFUSED = [["-e"], ["-e", "name"], ["-e", "=value"], ["-e", "a b=c"], ["-e", "a=b\nc"], ["-#"], ["-X"], ["-F", "smtp/inet/bogus=n"],
           ["-F", "smtp/inet/chroot=q"]]


class Directory:
    """A configuration directory; the same in every run."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="postern-postconf-")
        os.makedirs(self.path + "/q")
        for name, text in (("main.cf", MAIN), ("master.cf", MASTER)):
            with open(os.path.join(self.path, name), "w") as file:
                file.write(text)

    def run(self, program, words):
        done = subprocess.run([program, "-c", self.path] + words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def files(self):
        with open(self.path + "/main.cf") as main, open(self.path + "/master.cf") as master:
            return main.read(), master.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)


class Postconf(unittest.TestCase):
    def test_what_is_shown(self):
        with Directory() as directory:
            for words, status, text in SHOWN:
                with self.subTest(words=words):
                    self.assertEqual(directory.run(OURS, words)[:2], (status, text))
                    if THEIRS:
                        self.assertEqual(directory.run(THEIRS, words)[:2], (status, text), "Postfix itself")

    def test_names_that_nothing_uses_are_not_listed(self):
        more = "typo_bar = 1\nelsewhere_destination_recipient_limit = 3\nmaildrop_destination_recipient_limit = 1\nmydomains = b.example\nrelay_domains = $mydomains\n"
        with Directory() as directory:
            with open(directory.path + "/main.cf", "a") as file:
                file.write(more)
            for program in filter(None, (OURS, THEIRS)):
                status, out, err = directory.run(program, ["-n"])
                listed = [line.split(" = ")[0] for line in out.split("\n")]
                self.assertEqual(status, 0)
                self.assertEqual([name for name in ("typo_bar", "elsewhere_destination_recipient_limit") if name in listed], [], program)
                for name in ("maildrop_destination_recipient_limit", "mydomains", "relay_domains", "choice"):
                    self.assertIn(name, listed, program)
                self.assertIn("typo_bar", err)
                self.assertIn("elsewhere_destination_recipient_limit", err)

    def test_services_are_folded(self):
        with Directory() as directory:
            with open(directory.path + "/master.cf", "w") as file:
                file.write(LONG_MASTER)
            self.assertEqual(directory.run(OURS, ["-Mf"])[:2], (0, FOLDED_MASTER))
            if THEIRS:
                self.assertEqual(directory.run(THEIRS, ["-Mf"])[:2], (0, FOLDED_MASTER), "Postfix itself")

    def test_what_is_refused_changes_nothing(self):
        for words in REFUSED:
            with self.subTest(words=words), Directory() as directory:
                status, out, err = directory.run(OURS, words)
                self.assertEqual((status, out), (1, ""))
                self.assertIn("postconf: fatal: ", err)
                self.assertEqual(directory.files(), (MAIN, MASTER))

    def test_what_is_not_there_needs_no_change(self):
        for words in (["-MX", "nosuch/inet"], ["-M#", "nosuch/inet"], ["-F", "nosuch/inet/chroot=n"], ["-P", "nosuch/inet/a=b"]):
            with self.subTest(words=words), Directory() as directory:
                status, _, err = directory.run(OURS, words)
                self.assertEqual(status, 0)
                self.assertIn("warning: unmatched service_name/type", err)
                self.assertEqual(directory.files(), (MAIN, MASTER))

    @unittest.skipUnless(THEIRS, "Postfix's postconf is not installed")
    def test_files_after_an_edit_are_those_of_postfix(self):
        for words in EDITS:
            with self.subTest(words=words), Directory() as ours, Directory() as theirs:
                self.assertEqual(ours.run(OURS, words)[0], theirs.run(THEIRS, words)[0])
                self.assertEqual(ours.files(), theirs.files())


if __name__ == "__main__":
    if not os.path.exists(OURS):
        sys.exit(77)
    unittest.main()
