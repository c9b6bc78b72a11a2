"""A private instance of the whole mail system, in a scratch directory, as an ordinary user.

    with Suite() as mail:
        mail.smtp() ...

Users of example.org are virtual: their Maildirs are in DIR/mail/USER (DIR/mail/other for anybody else without a dot in the name),
their passwords in DIR/etc/users.  When the tests run
as root, the instance runs as `nobody`.  Nothing outside the scratch directory is touched.
"""
import glob
import os
import pwd
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "build", "bin"))
CORPUS = os.environ.get("POSTERN_CORPUS", os.path.join(ROOT, "..", "shared", "corpus"))
NOBODY = 65534
PASSWORD = "se cret"

# The build under sanitizers (make check-asan) has no system call filter and no Landlock, and ends with SIGABRT at a finding.
SANITIZED = bool(os.environ.get("POSTERN_SANITIZED"))
PATIENCE = 4 if SANITIZED else 1   # how much longer an event may take; waiting for one that comes soon costs nothing
CRASH = re.compile(r".*killed (?:by|with) signal (?:4|6|7|8|11|31)\b.*")

MAIN_CF = """
queue_directory = {dir}/queue
transit_directory = {transit}
data_directory = {dir}/data
daemon_directory = {dir}/bin
command_directory = {dir}/bin
sendmail_path = {dir}/bin/sendmail
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
myhostname = mail.example.org
mydestination = localhost
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_peername_lookup = no
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = regexp:{dir}/etc/mailboxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
first_valid_uid = 1
mail_owner = {owner}
network_owner = {owner}
auth_owner = {owner}
setgid_group = {group}
smtpd_sasl_auth_enable = yes
smtpd_tls_cert_file = {dir}/etc/cert.pem
smtpd_tls_key_file = {dir}/etc/key.pem
smtpd_tls_security_level = may
ssl_cert_file = {dir}/etc/cert.pem
ssl_key_file = {dir}/etc/key.pem
auth_passdbs = passwd-file:{dir}/etc/users
auth_userdbs = passwd-file:{dir}/etc/users
auth_failure_delay = 0
mail_location = maildir:~
mail_max_userip_connections = 1000
smtpd_client_connection_count_limit = 0
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 2s
notify_classes =
{extra}
"""

MASTER_CF = """
127.0.0.1:{smtp} inet n - n - 4 smtpd
127.0.0.1:{smtps} inet n - n - 4 smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:{imap} inet n - n - 4 imapd
127.0.0.1:{imaps} inet n - n - 4 imapd -o imap_tls_wrappermode=yes
127.0.0.1:{pop3} inet n - n - 4 pop3d
127.0.0.1:{pop3s} inet n - n - 4 pop3d -o pop3_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 4 cleanup
qmgr unix n - n 300 1 qmgr
bounce unix - - n - 2 bounce
defer unix - - n - 2 bounce
trace unix - - n - 2 bounce
verify unix - - n - 1 verify
showq unix n - n - 2 showq
local unix - n n - 4 local
virtual unix - n n - 4 virtual
error unix - - n - 2 error
retry unix - - n - 2 error
discard unix - - n - 2 discard
anvil unix - - n - 1 anvil
auth unix - - n - 1 auth
imap-session unix - n n - 1 imapd-session
pop3-session unix - n n - 1 pop3d-session
proxymap unix - - n - 4 proxymap
"""

PORT_NAMES = ("smtp", "smtps", "imap", "imaps", "pop3", "pop3s")


def as_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def listening(kind="tcp"):
    """The ports that somebody listens on, without knocking at them."""
    ports = set()
    for table in ("/proc/self/net/" + kind, "/proc/self/net/%s6" % kind):
        if os.path.exists(table):
            with open(table) as rows:
                words = [row.split() for row in list(rows)[1:]]
            ports.update(int(word[1].rsplit(":", 1)[1], 16) for word in words if kind != "tcp" or word[3] == "0A")
    return ports


def wait_listening(*ports, kind="tcp", seconds=20):
    """Until a server that was just started is there."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not set(ports) <= listening(kind):
        if time.monotonic() > deadline:
            raise AssertionError("nobody listens on %s" % (set(ports) - listening(kind)))
        time.sleep(0.02)


def wait_until(condition, what, seconds=20):
    """Until `condition()` is true; its value."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited %s s in vain: %s" % (seconds, what))


def texts(paths):
    """What is in these files."""
    found = []
    for path in paths:
        with open(path, errors="replace") as file:
            found.append(file.read())
    return found


def any_certificate():
    """TLS for a client that believes every server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def smtp_replies(port, commands, host="127.0.0.1", source="", timeout=60):
    """The last line of each reply, that to connecting first."""
    with socket.create_connection((host, port), timeout, (source, 0)) as client:
        file = client.makefile("rb")

        def reply():
            line = file.readline().decode().rstrip("\r\n")
            while line[3:4] == "-":
                line = file.readline().decode().rstrip("\r\n")
            return line
        replies = [reply()]
        for command in commands:
            client.sendall(command.encode() + b"\r\n")
            replies.append(reply())
        return replies


class Scratch:
    """A directory with the files of an instance, and what every instance is asked: `etc` has its configuration, `log` what it says.
    Owned by nobody when the tests run as root."""

    def __init__(self, prefix, directory=None):
        self.dir = directory or tempfile.mkdtemp(prefix=prefix)
        self.uid = NOBODY if os.geteuid() == 0 else os.geteuid()
        self.gid = NOBODY if os.geteuid() == 0 else os.getegid()
        self.transit = ""

    def make_transit(self):
        """A transit_directory of its own, for main.cf; remove_transit() at the end.  Empty where there is no memory to be had."""
        if os.path.isdir("/dev/shm"):
            self.transit = tempfile.mkdtemp(prefix="postern-transit-", dir="/dev/shm")
            os.chmod(self.transit, 0o755)
            if os.geteuid() == 0:
                os.chown(self.transit, NOBODY, NOBODY)
        return self.transit

    def remove_transit(self):
        if self.transit:
            shutil.rmtree(self.transit, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        if os.geteuid() == 0:
            os.chown(self.path(name), NOBODY, NOBODY)

    def certificate(self):
        """etc/cert.pem and etc/key.pem, for this host."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-keyout", self.path("etc/key.pem"), "-out", self.path("etc/cert.pem")],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def give_away(self):
        """All files are written: they belong to the instance's user from here on."""
        os.chmod(self.dir, 0o755)
        if os.geteuid() == 0:
            for where, _, names in os.walk(self.dir):
                for path in [where] + [os.path.join(where, name) for name in names]:
                    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def log(self):
        try:
            with open(self.path("log"), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def wait_for(self, condition, seconds, what):
        try:
            return wait_until(condition, what, seconds)
        except AssertionError as waited:
            raise AssertionError("%s\n%s" % (waited, self.log()[-20000:])) from None

    def wait_log(self, pattern, seconds=20):
        """The match of the first line in the log that fits."""
        return self.wait_for(lambda: re.search(pattern, self.log()), seconds, pattern)


class Suite(Scratch):
    def __init__(self, extra="", master_extra="", users=("fred", "wilma"), port=None, directory=None, keep=False):
        super().__init__("postern-e2e-", directory)
        self.keep = keep
        base = port or int(os.environ.get("POSTERN_TEST_PORT", "23000"))
        self.port = {name: base + i for i, name in enumerate(PORT_NAMES)}
        self.users = users
        self._make(extra, master_extra)

    def _make(self, extra, master_extra):
        for name in ("etc", "mail", "bin", "queue", "data"):
            os.makedirs(self.path(name), exist_ok=True)
        for program in glob.glob(os.path.join(BIN, "*")):
            os.symlink(program, self.path("bin/" + os.path.basename(program))) if os.access(BIN, os.X_OK) and self._reachable() \
                else shutil.copy(program, self.path("bin"))
        owner = pwd.getpwuid(self.uid).pw_name
        import grp
        group = grp.getgrgid(self.gid).gr_name
        ours = {line.split("=")[0].strip() for line in extra.split("\n") if "=" in line and not line.startswith(" ")}
        template = "".join(line + "\n" for line in MAIN_CF.split("\n") if line.split("=")[0].strip() not in ours)
        self.write("etc/main.cf", template.format(dir=self.dir, transit=self.make_transit(), uid=self.uid, gid=self.gid, owner=owner, group=group, extra=extra))
        self.write("etc/master.cf", MASTER_CF.format(**self.port) + master_extra)
        names = [(user, user) for user in self.users] + [("[a-z0-9]+", "other")]
        self.write("etc/mailboxes", "".join("/^%s(\\+.*)?@example\\.org$/ %s/\n" % pair for pair in names))
        self.write("etc/users", "".join("%s:{PLAIN}%s:%d:%d::%s/mail/%s::\n" % (user, PASSWORD, self.uid, self.gid, self.dir, user)
                                        for user in self.users))
        for user in self.users:
            os.makedirs(self.path("mail/" + user), exist_ok=True)
        self.certificate()
        self.give_away()

    @staticmethod
    def _reachable():
        """Whether the user that the instance runs as can execute what lies in BIN."""
        probe = subprocess.run(["test", "-x", os.path.join(BIN, "postern-master")], preexec_fn=as_nobody)
        return probe.returncode == 0

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind is not None:
            sys.stderr.write("--- end of the log\n" + self.log()[-6000:] + "\n")
        self.stop()

    def run(self, program, *words, stdin=None, check=False, timeout=60):
        """A command of ours, as the instance's user."""
        environment = dict(os.environ, MAIL_CONFIG=self.path("etc"))
        done = subprocess.run([self.path("bin/" + program), *words], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout, preexec_fn=as_nobody, env=environment)
        if check and done.returncode != 0:
            raise AssertionError("%s %s: exit %d: %s" % (program, " ".join(words), done.returncode, done.stdout.decode()))
        return done

    def control(self, *words, check=False):
        return self.run("postern", "-c", self.path("etc"), *words, check=check)

    def start(self):
        self.control("start", check=True)
        self.wait_for(self.listening, 20, "the services listen")
        return self

    def listening(self):
        try:
            for name in PORT_NAMES:
                socket.create_connection(("127.0.0.1", self.port[name]), 5).close()
            return True
        except OSError:
            return False

    def stop(self):
        """Ends the instance, and fails when a program of it crashed, whatever the test saw.  POSTERN_SHOW_LOG in the environment
        shows what it has logged."""
        self.control("abort")
        if os.environ.get("POSTERN_SHOW_LOG"):
            sys.stderr.write(self.log())
        crashed = CRASH.findall(self.log())
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.remove_transit()
        if crashed:
            raise AssertionError("crashed: " + "; ".join(crashed))

    def smtp(self, timeout=30):
        return smtplib.SMTP("127.0.0.1", self.port["smtp"], timeout=timeout)

    def mailbox(self, user):
        """The paths of the messages a user has."""
        return sorted(glob.glob(self.path("mail/%s/new/*" % user)) + glob.glob(self.path("mail/%s/cur/*" % user)))

    def messages(self, user):
        """The texts of the messages a user has."""
        return texts(self.mailbox(user))

    def queued(self):
        """Queue ids that are still in the queue.  What a killed writer left unfinished (tmp.) was never accepted."""
        found = set()
        for name in ("maildrop", "transit", "incoming", "active", "deferred", "hold"):   # in the order in which messages move
            for _, _, files in os.walk(self.path("queue/" + name)):
                found.update(file.removeprefix("move.") for file in files if not file.startswith(("tmp.", "lock.")))
        return sorted(found)

    def wait_empty(self, seconds=30):
        self.wait_for(lambda: not self.queued(), seconds, "the queue is empty")

    def pids(self):
        """Process ids of this instance, by program."""
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open("/proc/%s/environ" % entry, "rb") as file:
                    mine = ("MAIL_CONFIG=" + self.path("etc")).encode() in file.read().split(b"\0")
                with open("/proc/%s/comm" % entry) as file:
                    name = file.read().strip()
            except OSError:
                continue
            if mine and name not in ("python3", "strace"):
                found.setdefault(name, []).append(int(entry))
        return found
