"""Debian's Postfix with a configuration of its own, beside the instance under test: what it does is what Postern is compared with."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

from suite import wait_listening

DIST = "/usr/share/postfix/master.cf.dist"


def available():
    return os.geteuid() == 0 and bool(shutil.which("postfix")) and os.path.exists(DIST)


def beside(test, port, main="", master=""):
    """The Postfix of one test, which is skipped where there is none to be had."""
    if not available():
        test.skipTest("no Postfix, or not root")
    where = tempfile.mkdtemp(prefix="postern-peer-")
    test.addCleanup(shutil.rmtree, where, True)
    return Postfix(where, port, main, master)


COMMON = """compatibility_level = 3.6
queue_directory = {d}/queue
data_directory = {d}/data
maillog_file = {d}/log
maillog_file_prefixes = {d}
myhostname = mail.example.org
mydestination = localhost
alias_maps =
inet_protocols = ipv4
"""

# Of a server that passes on what loopback sends, and tries what fails no second time.
RELAYS = """relay_domains =
smtpd_relay_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
notify_classes =
smtp_tls_security_level = none
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""


def lay_out(directory, main, master):
    """An instance's directories and settings: `main` is added to what all have in main.cf, {d} in it stands for `directory`; `master`
    replaces the row of smtpd on port 25."""
    for name in ("etc", "queue", "data"):
        os.makedirs(directory + "/" + name, exist_ok=True)
    os.chmod(directory, 0o755)
    shutil.chown(directory + "/data", "postfix")
    settings = {line.split("=")[0].strip() for line in main.split("\n") if re.match(r"\w+ *=", line)}
    common = "".join(line + "\n" for line in COMMON.splitlines() if line.split(" ")[0] not in settings)
    with open(directory + "/etc/main.cf", "w") as file:
        file.write((common + main).replace("{d}", directory))
    with open(DIST) as dist, open(directory + "/etc/master.cf", "w") as file:
        file.write("".join(line for line in dist if not line.startswith("smtp      inet")) + master)


def control(directory, word):
    """`postfix start` and its like, for the instance in `directory`."""
    return subprocess.run(["postfix", "-c", directory + "/etc", word], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Postfix:
    """`main` is added to main.cf, in which {d} stands for its directory; `port` is where its smtpd listens on 127.0.0.1.  Chrooted
    services are not: files of the test are found by their paths."""

    def __init__(self, where, port, main="", master=""):
        self.dir, self.port = where + "/postfix", port
        os.makedirs(self.dir + "/mail")
        os.chmod(where, 0o755)
        os.chown(self.dir + "/mail", 65534, 65534)
        lay_out(self.dir, """local_recipient_maps =
inet_interfaces = 127.0.0.1
smtpd_peername_lookup = no
virtual_mailbox_domains = example.org
virtual_mailbox_base = {d}/mail
virtual_mailbox_maps = inline:{fred@example.org=fred/, wilma@example.org=wilma/}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 2s
""" + main, "127.0.0.1:%d inet n - n - 4 smtpd\n" % port + master)
        with open(self.dir + "/etc/master.cf") as file:
            rows = [re.sub(r"^(\S+\s+unix\s+\S+\s+\S+\s+)y", r"\1n", row) for row in file]
        self.write("etc/master.cf", "".join(rows))

    def write(self, name, text):
        with open(self.dir + "/" + name, "w") as file:
            file.write(text)

    def run(self, program, *words, stdin=None):
        return subprocess.run([program, "-C", self.dir + "/etc"] + list(words) if program.endswith("sendmail") else
                              [program, "-c", self.dir + "/etc"] + list(words), input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        done = self.run("postfix", "start")
        if done.returncode != 0:
            raise AssertionError("postfix start: " + done.stdout.decode() + self.log())
        wait_listening(self.port)
        return self

    def __exit__(self, *_):
        self.run("postfix", "abort")

    def log(self):
        try:
            with open(self.dir + "/log", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def mailbox(self, user):
        """The paths of the messages a user has."""
        return sorted(path for where in ("new", "cur") for path in glob.glob("%s/mail/%s/%s/*" % (self.dir, user, where)))
