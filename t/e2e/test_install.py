#!/usr/bin/env python3
"""make install, uninstall and purge: what they put where under DESTDIR and PREFIX, what they leave, and, as root in namespaces of
the test's own, a live installation that starts, serves and goes away again."""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import BIN, ROOT, SANITIZED, wait_until                         # noqa: E402

BUILD = os.path.dirname(os.path.abspath(BIN))
INSIDE = "POSTERN_INSTALL_TEST_INSIDE"
ALONE = ["unshare", "--mount", "--net", "--propagation", "private"]


def install(what, destdir="", prefix="/usr", code=0):
    done = subprocess.run(["sh", "conf/install.sh", what], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                          env=dict(os.environ, DESTDIR=destdir, PREFIX=prefix, BUILD=BUILD))
    if done.returncode != code:
        raise AssertionError("%s: exit %d: %s" % (what, done.returncode, done.stdout))
    return done.stdout


def files(top):
    """Everything below `top` that is no directory."""
    return sorted(os.path.relpath(os.path.join(where, name), top) for where, _, names in os.walk(top) for name in names)


def read(path):
    with open(path) as file:
        return file.read()


class StagedTest(unittest.TestCase):
    """Into a directory, as whoever makes a package does it."""

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="postern-install-")
        self.addCleanup(shutil.rmtree, self.top)

    def test_everything_is_where_it_belongs(self):
        install("install", self.top)
        for name in ("usr/sbin/postern", "usr/sbin/postfix", "usr/sbin/sendmail", "usr/sbin/postconf", "usr/bin/mailq", "usr/bin/newaliases",
                     "usr/lib/sendmail", "usr/lib/postern/postern-master", "usr/lib/postern/smtpd", "usr/lib/postern/imapd-session",
                     "usr/share/man/man1/sendmail.1", "usr/share/man/man1/mailq.1", "usr/share/man/man5/postconf.5",
                     "usr/share/man/man8/smtpd.8", "etc/postern/main.cf", "etc/postern/master.cf", "etc/pam.d/postern", "etc/aliases"):
            path = os.path.join(self.top, name)
            self.assertTrue(os.path.exists(path), name)    # links lead somewhere, too
            self.assertEqual(os.stat(path).st_mode & 0o7022, 0, name)
        for program in os.listdir(BIN):
            places = [folder for folder in ("sbin", "lib/postern") if os.path.exists("%s/usr/%s/%s" % (self.top, folder, program))]
            self.assertEqual(len(places), 1, program)
        unit = [name for name in files(self.top) if name.endswith("systemd/system/postern.service")]
        self.assertEqual(len(unit), 1)
        self.assertIn("ExecStart=/usr/sbin/postern start-fg\n", read(os.path.join(self.top, unit[0])))
        self.assertNotIn("daemon_directory", read(self.top + "/etc/postern/main.cf"))

    def test_another_prefix_is_known_to_unit_and_configuration(self):
        install("install", self.top, "/opt/mail")
        self.assertIn("ExecStart=/opt/mail/sbin/postern start-fg\n", read(self.top + "/opt/mail/lib/systemd/system/postern.service"))
        self.assertTrue(os.path.exists(self.top + "/opt/mail/lib/postern/qmgr"))
        self.assertFalse(os.path.exists(self.top + "/usr"))
        asked = subprocess.run([BIN + "/postconf", "-c", self.top + "/etc/postern", "-h", "command_directory", "daemon_directory"],
                               stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(asked.stdout, "/opt/mail/sbin\n/opt/mail/lib/postern\n")

    def test_what_an_administrator_changed_stays(self):
        install("install", self.top)
        for name in ("etc/postern/main.cf", "etc/pam.d/postern", "etc/aliases"):
            with open(os.path.join(self.top, name), "a") as file:
                file.write("# mine\n")
        install("install", self.top)
        self.assertNotIn("# mine", read(self.top + "/etc/postern/main.cf.dist"))
        install("uninstall", self.top)
        self.assertEqual(files(self.top), ["etc/aliases", "etc/pam.d/postern", "etc/postern/main.cf", "etc/postern/master.cf"])
        for name in ("etc/postern/main.cf", "etc/pam.d/postern", "etc/aliases"):
            self.assertIn("# mine", read(os.path.join(self.top, name)))

    def test_purge_leaves_what_others_use_and_no_mail_behind(self):
        install("install", self.top)
        os.makedirs(self.top + "/var/spool/postern/deferred/4")
        message = self.top + "/var/spool/postern/deferred/4/4abc"
        with open(message, "w"):
            pass
        self.assertIn("there is mail", install("purge", self.top, code=1))
        self.assertTrue(os.path.exists(message) and os.path.exists(self.top + "/usr/sbin/postern"))
        os.unlink(message)

        memory = self.top + "/run/postern/1234"
        os.makedirs(memory)
        os.symlink(memory, self.top + "/var/spool/postern/transit")
        with open(memory + "/4abc", "w"):
            pass
        self.assertIn("there is mail", install("purge", self.top, code=1))
        os.rename(memory + "/4abc", memory + "/lock.4abc")

        os.makedirs(self.top + "/var/spool/postern/commit")
        for in_use in (1, 0):
            with open(self.top + "/var/spool/postern/commit/1048576.0", "wb") as log:
                log.write(b"PosternL" + struct.pack("<HH", 1, in_use) + bytes(4084))
            if in_use:
                self.assertIn("start and stop the mail system first", install("purge", self.top, code=1))
        self.assertTrue(os.path.exists(memory + "/lock.4abc"))
        install("purge", self.top)
        self.assertFalse(os.path.exists(self.top + "/run/postern"))
        self.assertEqual(files(self.top), ["etc/aliases"])
        self.assertFalse(os.path.exists(self.top + "/etc/postern") or os.path.exists(self.top + "/var/spool/postern"))


def own_file_systems(top):
    """What an installation changes becomes a copy that vanishes with this process: /etc, systemd's units, /var/lib and /var/spool; and /run is
    in memory, whatever it is outside."""
    for place in ("/etc", "/lib/systemd/system", "/var/spool", "/var/lib"):
        copy = os.path.join(top, "copy")
        os.makedirs(copy, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", copy], check=True)
        if place in ("/etc", "/lib/systemd/system"):
            subprocess.run(["cp", "-a", place + "/.", copy], check=True)
        subprocess.run(["mount", "--move", copy, os.path.realpath(place)], check=True)
    subprocess.run(["mount", "--no-mtab", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name in ("postern", "aliases", "aliases.lmdb", "pam.d/postern"):
        path = "/etc/" + name
        shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)
    for kind, names in (("passwd", ("postern", "postern-net")), ("group", ("postern", "postern-net"))):
        for name in names:
            if subprocess.run(["getent", kind, name], stdout=subprocess.DEVNULL).returncode == 0:
                subprocess.run(["userdel" if kind == "passwd" else "groupdel", name], check=True)


def greeting(port):
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.settimeout(10)
        return client.recv(200)


@unittest.skipUnless(os.environ.get(INSIDE), "in namespaces of its own")
class LiveTest(unittest.TestCase):
    def test_a_live_installation(self):
        top = tempfile.mkdtemp(prefix="postern-live-")
        self.addCleanup(shutil.rmtree, top)
        os.chmod(top, 0o755)
        own_file_systems(top)
        prefix = top + "/usr"
        said = install("install", prefix=prefix)
        self.assertIn("installed; next:", said)
        for program in ("postdrop", "postqueue"):
            state = os.stat("%s/sbin/%s" % (prefix, program))
            self.assertEqual((state.st_mode & 0o7777, state.st_uid), (0o2755, 0))
        postern = prefix + "/sbin/postern"
        with open("/etc/postern/main.cf", "a") as file:
            file.write("inet_interfaces = loopback-only\ninet_protocols = ipv4\nmyhostname = mail.example.org\nmaillog_file = %s/log\n"
                       "maillog_file_prefixes = %s\n" % (top, top))
        subprocess.run([postern, "check"], check=True)
        subprocess.run([postern, "start"], check=True)
        try:
            self.assertTrue(greeting(25).startswith(b"220 mail.example.org ESMTP"))
            self.assertTrue(greeting(143).startswith(b"* OK"))
            self.assertTrue(greeting(110).startswith(b"+OK"))
            self.check_delivery(prefix)
            self.assertEqual(os.path.dirname(os.readlink("/var/spool/postern/transit")), "/run/postern")
            subprocess.run([postern, "reload"], check=True)
            subprocess.run([postern, "status"], check=True)
        except BaseException:
            print(read(top + "/log"))
            raise
        finally:
            said = install("uninstall", prefix=prefix)
        self.assertIn("make purge", said)
        with self.assertRaises(OSError):
            greeting(25)                                   # it was stopped
        self.assertEqual(files(prefix), [])
        self.assertTrue(os.path.exists("/etc/postern/main.cf") and os.path.exists("/etc/pam.d/postern"))
        install("purge", prefix=prefix)
        for name in ("/etc/postern", "/etc/pam.d/postern", "/var/spool/postern", "/var/lib/postern", "/run/postern"):
            self.assertFalse(os.path.exists(name), name)
        for name in ("postern", "postern-net"):
            self.assertNotEqual(subprocess.run(["getent", "passwd", name], stdout=subprocess.DEVNULL).returncode, 0, name)

    def check_delivery(self, prefix):
        """An ordinary user's message comes to local(8): the set-gid program, the users and the modes are right."""
        subprocess.run([prefix + "/sbin/sendmail", "nobody@mail.example.org"], input=b"Subject: live\n\nlive\n", check=True, timeout=30,
                       preexec_fn=lambda: (os.setgroups([]), os.setgid(65534), os.setuid(65534)))
        log = os.path.dirname(prefix) + "/log"
        wait_until(lambda: re.search(r"postfix/local\[\d+\]: \w+: to=<nobody@mail\.example\.org>,", read(log)), "somebody tries to deliver")
        subprocess.run([prefix + "/bin/mailq"], stdout=subprocess.DEVNULL, check=True)

    def test_a_distribution_package_is_not_overwritten(self):
        subprocess.run(["mount", "--bind", "/usr", "/usr"], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", "/usr"], check=True)   # should it be tried all the same
        self.addCleanup(subprocess.run, ["umount", "-l", "/usr"], check=True)
        owned = [path for path in ("/usr/sbin/sendmail", "/usr/sbin/postconf", "/usr/bin/mailq")
                 if os.path.exists(path) and subprocess.run(["dpkg-query", "-S", path], stdout=subprocess.DEVNULL).returncode == 0]
        if not owned:
            self.skipTest("no package with a sendmail is installed")
        before = os.stat(owned[0])
        self.assertIn("belongs to a package", install("install", prefix="/usr", code=1))
        self.assertEqual(os.stat(owned[0]), before)


def main():
    if not os.environ.get(INSIDE):
        subprocess.run(["make", "-s", "BUILD=" + BUILD, BUILD + "/man/postconf.5"], cwd=ROOT, check=True)
        able = os.geteuid() == 0 and not SANITIZED and shutil.which("ip") and shutil.which("unshare") and \
            subprocess.run([*ALONE, "true"], stderr=subprocess.DEVNULL).returncode == 0
        if able:
            done = subprocess.run([*ALONE, sys.executable, os.path.abspath(__file__), "LiveTest"], env=dict(os.environ, **{INSIDE: "1"}))
            if done.returncode != 0:
                return done.returncode
        else:
            print("notice: the live installation needs root, namespaces of its own and programs without sanitizers")
    unittest.main(verbosity=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
