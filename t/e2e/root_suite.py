"""A private instance whose master is root, with real users, in a mount namespace with a private copy of /etc: the users it makes
and /etc/postern exist for the test alone."""
import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import unittest

import suite
from suite import PASSWORD, Suite

CHROOTED = ("smtpd", "imapd", "pop3d", "cleanup", "pickup", "bounce", "showq", "error", "discard", "mta-sts",
            "tlsrpt")
OWNER, NETWORK, AUTH, DROP, ANN, BOB = "postern-t1", "postern-t2", "postern-t3", "postern-td", "postern-ta", "postern-tb"

EXTRA = """
mydestination = localhost, mail.example.org
mail_owner = postern-t1
network_owner = postern-t2
auth_owner = postern-t3
setgid_group = postern-td
default_privs = nobody
alias_maps = lmdb:{dir}/etc/aliases
alias_database = lmdb:{dir}/etc/aliases
local_recipient_maps = proxy:unix:passwd.byname $alias_maps
virtual_mailbox_maps = proxy:inline:{{ fred@example.org=fred/ }}
home_mailbox = Maildir/
mail_location = maildir:~/Maildir
"""

_log = {}   # of the instance, when it is gone


def private_etc():
    """Only in a mount namespace of our own: /etc becomes a copy that vanishes with us."""
    copy = tempfile.mkdtemp(prefix="postern-etc-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", copy], check=True)
    subprocess.run(["cp", "-a", "/etc/.", copy], check=True)
    subprocess.run(["mount", "--move", copy, "/etc"], check=True)
    os.rmdir(copy)
    shutil.rmtree("/etc/postern", ignore_errors=True)


def make_users(directory):
    """System users for the programs, ordinary ones for mail, all without log-in."""
    for name in (OWNER, NETWORK, AUTH):
        subprocess.run(["useradd", "--system", "--user-group", "-M", "-d", "/nonexistent", "-s", "/usr/sbin/nologin", name], check=True)
    subprocess.run(["groupadd", "--system", DROP], check=True)
    for name in (ANN, BOB):
        home = "%s/home/%s" % (directory, name)
        subprocess.run(["useradd", "--user-group", "-M", "-d", home, "-s", "/bin/sh", name], check=True)


class RootSuite(Suite):
    """The instance's master is root; commands run as root unless told otherwise."""

    def _make(self, extra, master_extra):
        super()._make(extra, master_extra)
        self.own_by_root()
        for name in (ANN, BOB):
            user = pwd.getpwnam(name)
            os.makedirs(user.pw_dir)
            os.chown(user.pw_dir, user.pw_uid, user.pw_gid)
            os.chmod(user.pw_dir, 0o755)   # what keeps users apart here is Postern, not the modes of their homes
        for name in ("queue", "data"):
            shutil.rmtree(self.path(name))
        lines = suite.MASTER_CF.format(**self.port).split("\n") + ["mta-sts unix - - n - 1 mta-sts", "tlsrpt unix - - n 900 1 tlsrpt"]
        columns = [line.split() for line in lines if line]
        for words in columns:
            words[4] = "y" if words[7] in CHROOTED else words[4]
        self.write("etc/master.cf", "".join(" ".join(words) + "\n" for words in columns))
        users = ((name, pwd.getpwnam(name)) for name in (ANN, BOB))
        self.write("etc/users", "".join("%s:{PLAIN}%s:%d:%d::%s::\n" % (name, PASSWORD, user.pw_uid, user.pw_gid, user.pw_dir)
                                        for name, user in users))
        os.chown(self.path("etc/users"), pwd.getpwnam(AUTH).pw_uid, -1)
        os.chmod(self.path("etc/users"), 0o400)
        os.chmod(self.path("etc/key.pem"), 0o600)
        for program in ("postdrop", "postqueue"):
            path = self.path("bin/" + program)
            real = os.path.realpath(path)
            os.unlink(path)
            shutil.copy(real, path)
            os.chown(path, 0, grp.getgrnam(DROP).gr_gid)
            os.chmod(path, 0o2755)

    def own_by_root(self):
        if self.transit:
            os.chown(self.transit, 0, 0)
        for where, names, files in os.walk(self.dir):
            if where == self.dir:
                names.remove("mail")
            for path in [where] + [os.path.join(where, name) for name in files]:
                os.chown(path, 0, 0, follow_symlinks=False)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def run(self, program, *words, stdin=None, check=False, timeout=60, user=None, environment=None):
        def become():
            if user:
                entry = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
        environment = environment or dict(os.environ, MAIL_CONFIG=self.path("etc"))
        done = subprocess.run([self.path("bin/" + program), *words], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout, preexec_fn=become, env=environment, cwd=self.dir)
        if check and done.returncode != 0:
            raise AssertionError("%s %s: exit %d: %s" % (program, " ".join(words), done.returncode, done.stdout.decode()))
        return done

    @classmethod
    def with_users(cls, port, extra):
        """An instance that is not started yet, and the users of the system that it needs."""
        directory = tempfile.mkdtemp(prefix="postern-root-")
        make_users(directory)
        os.mkdir("/etc/postern")
        with open("/etc/postern/main.cf", "w") as file:
            file.write("alternate_config_directories = %s/etc\n" % directory)
        return cls(extra=extra.format(dir=directory), port=port, directory=directory, users=())

    def end(self):
        """Stops it, and keeps its log for run_tests()."""
        _log["text"] = self.log()
        self.stop()


def status_of(pid):
    with open("/proc/%d/status" % pid) as file:
        return {line.split(":", 1)[0]: line.split(":", 1)[1].split() for line in file}


def run_tests(what):
    """The test program's main, in a mount namespace of its own; its exit status.  It is 77 where there is none to be had, and unless
    root, who alone can do `what`."""
    if os.geteuid() != 0:
        print("notice: only root can " + what)
        return 77
    if os.environ.get("POSTERN_PRIVATE_ETC") != "yes":
        probe = subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL) if shutil.which("unshare") else None
        if probe is None or probe.returncode != 0:
            print("notice: no mount namespace of our own to be had here")
            return 77
        os.environ["POSTERN_PRIVATE_ETC"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    private_etc()
    os.umask(0o022)
    program = unittest.main(verbosity=2, exit=False)
    if not program.result.wasSuccessful():
        print("--- end of the log\n" + _log.get("text", "")[-10000:])
        return 1
    return 0
