"""Debian's Postfix with a configuration of its own, beside the instance under test: what it does is what Postern is compared with."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import time

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


class Postfix:
    """`main` is added to main.cf, in which {d} stands for its directory; `port` is where its smtpd listens on 127.0.0.1.  Chrooted
    services are not: files of the test are found by their paths."""

    def __init__(self, where, port, main="", master=""):
        self.dir, self.port = where + "/postfix", port
        for name in ("etc", "queue", "data", "mail"):
            os.makedirs(self.dir + "/" + name)
        os.chmod(where, 0o755)
        os.chmod(self.dir, 0o755)
        shutil.chown(self.dir + "/data", "postfix")
        os.chown(self.dir + "/mail", 65534, 65534)
        text = """compatibility_level = 3.6
queue_directory = {d}/queue
data_directory = {d}/data
maillog_file = {d}/log
maillog_file_prefixes = {d}
myhostname = mail.example.org
mydestination = localhost
alias_maps =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
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
""" + main
        self.write("etc/main.cf", text.replace("{d}", self.dir))
        with open(DIST) as dist:
            rows = [line for line in dist if not line.startswith("smtp      inet")]
        rows = [re.sub(r"^(\S+\s+unix\s+\S+\s+\S+\s+)y", r"\1n", row) for row in rows]
        self.write("etc/master.cf", "".join(rows) + "127.0.0.1:%d inet n - n - 4 smtpd\n" % port + master)

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
        time.sleep(1)
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
