#!/usr/bin/env python3
"""postern-master and postern, with a small service written here.

Starts a private instance as an ordinary user (as "nobody" when run by root) in a temporary directory, with a service
that speaks what lib/service/service.h describes.  Needs build/bin/postern and build/bin/postern-master.
"""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest

from suite import BIN, Scratch, as_nobody, wait_until

PORT = int(os.environ.get("POSTERN_TEST_PORT", "21000"))

SERVICE = r'''#!/usr/bin/env python3
import os, select, signal, socket, sys
status = int(os.environ["POSTERN_STATUS_FD"])
names = os.environ["LISTEN_FDNAMES"].split(":")
listeners = [socket.socket(fileno=3 + i) for i in range(int(os.environ["LISTEN_FDS"]))]
args = sys.argv[1:]
if "fail-at-start" in args:
    sys.exit(3)
draining = False
def drain(*_):
    global draining
    draining = True
signal.signal(signal.SIGHUP, drain)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in args else lambda *_: os._exit(0))
os.write(status, b"A")
busy_after = 1 if "busy" in args else 0
open_clients = []
lost = select.poll()
lost.register(status, 0)
while not draining:
    if lost.poll(0):
        sys.exit(0)   # master is gone
    ready, _, _ = select.select(listeners, [], [], 0.05)
    for listener in ready:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            continue
        client.setblocking(True)
        word = client.recv(100)
        if word.startswith(b"\0\0\0\0\xff"):
            with open("woken", "a") as log:
                log.write("x")
            continue
        word = word.decode().strip()
        if word == "pid":
            client.sendall(str(os.getpid()).encode())
        elif word == "crash":
            os._exit(9)
        elif word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "args":
            client.sendall("\n".join(args).encode())
        elif word == "env":
            client.sendall("\n".join("%s=%s" % item for item in sorted(os.environ.items())).encode())
        elif word == "end":
            sys.exit(0)
        elif word == "hold":
            os.write(status, b"B")
            client.sendall(str(os.getpid()).encode())
            open_clients.append(client)
            while open_clients:
                if not open_clients[0].recv(10):
                    open_clients.pop()
            os.write(status, b"A")
        client.close()
'''

MAIN_CF = """
queue_directory = {dir}/queue
data_directory = {dir}/data
daemon_directory = {dir}/libexec
command_directory = {dir}/libexec
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
inet_interfaces = loopback-only
inet_protocols = ipv4
service_throttle_time = 3s
master_stop_timeout = 2s
"""

MASTER_CF = """
{port} inet n - n - 1 service
pair inet n - n - 2 service
one unix n - n - 1 service -o {{ smtpd_banner = two words }} -v plain { two words }
hidden unix - - n - 1 service
broken unix n - n - 1 service fail-at-start
worker unix n - n 60 1 service
"""


class Instance(Scratch):
    def __init__(self):
        super().__init__("postern-master-")
        for name in ("libexec", "etc"):
            os.mkdir(self.path(name))
        shutil.copy(os.path.join(BIN, "postern-master"), self.path("libexec"))
        self.write("libexec/service", SERVICE)
        os.chmod(self.path("libexec/service"), 0o755)
        self.write("etc/main.cf", MAIN_CF.format(dir=self.dir))
        self.master_cf = MASTER_CF.replace("{port}", str(PORT)).replace("pair", str(PORT + 1)) \
            .replace("{{", "{").replace("}}", "}")
        self.write("etc/master.cf", self.master_cf)
        self.give_away()
        self.started = []

    def control(self, *words, pass_fds=()):
        return subprocess.run([os.path.join(BIN, "postern"), "-c", os.path.join(self.dir, "etc"), *words],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30,
                              preexec_fn=as_nobody, pass_fds=pass_fds)

    def ask(self, where, word, timeout=5):
        """Sends a word to a service and returns its answer."""
        if isinstance(where, int):
            client = socket.create_connection(("127.0.0.1", where), timeout)
        else:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(timeout)
            client.connect(os.path.join(self.dir, "queue", where))
        client.sendall(word.encode())
        answer = client.recv(10000).decode()
        client.close()
        return answer

    def in_queue(self, name):
        return self.path("queue/" + name)

    def read(self, name):
        with open(self.in_queue(name)) as file:
            return file.read()

    def master(self):
        return int(self.read("pid/master.pid"))


def gone(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"   # ended; its new parent has not noticed yet
    except FileNotFoundError:
        return True


class MasterTest(unittest.TestCase):
    def setUp(self):
        self.instance = Instance()
        self.addCleanup(shutil.rmtree, self.instance.dir)   # also when the start below fails
        done = self.instance.control("start")
        self.assertEqual(done.returncode, 0, done.stdout + self.instance.log())

    def tearDown(self):
        if self.instance.control("status").returncode == 0:
            self.instance.control("abort")

    def test_services_start_when_somebody_calls(self):
        children = lambda: self.instance.log().count("process")
        self.assertIn("daemon started -- version", self.instance.log())
        first = self.instance.ask(PORT, "pid")
        self.assertEqual(self.instance.ask(PORT, "pid"), first)
        self.assertNotEqual(self.instance.ask("public/one", "pid"), first)
        self.assertNotEqual(self.instance.ask("private/hidden", "pid"), first)
        self.assertEqual(children(), 0)

    def test_service_gets_what_its_contract_says(self):
        arguments = self.instance.ask("public/one", "args").split("\n")
        self.assertEqual(arguments, ["-n", "one", "-t", "unix", "-u", "-v", "-o", "smtpd_banner=two words", "plain",
                                     "two words"])
        environment = dict(line.split("=", 1) for line in self.instance.ask("public/one", "env").split("\n"))
        self.assertEqual(environment["LISTEN_FDS"], "1")
        self.assertEqual(environment["LISTEN_FDNAMES"], "public/one")
        self.assertEqual(environment["POSTERN_STATUS_FD"], "4")
        self.assertEqual(environment["POSTERN_MASTER_FD"], "5")
        self.assertEqual(environment["MAIL_CONFIG"], os.path.join(self.instance.dir, "etc"))
        self.assertEqual(self.instance.ask(PORT, "env").count("LISTEN_FDNAMES=127.0.0.1.%d" % PORT), 1)

    def test_crashed_and_ended_services_are_replaced(self):
        first = self.instance.ask(PORT, "pid")
        time.sleep(1.1)   # long enough not to count as dead at birth
        self.instance.ask(PORT, "crash")
        second = self.instance.ask(PORT, "pid")
        self.assertNotEqual(first, second)
        wait_until(lambda: "exit status 9" in self.instance.log(), "the exit status in the log")
        time.sleep(1.1)
        try:
            self.instance.ask(PORT, "kill")
        except ConnectionResetError:
            pass
        self.assertNotEqual(self.instance.ask(PORT, "pid"), second)
        self.assertIn("killed by signal 9", self.instance.log())
        self.instance.ask("public/one", "end")
        self.assertTrue(self.instance.ask("public/one", "pid"))

    def test_a_service_that_cannot_start_is_started_slowly(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.instance.in_queue("public/broken"))
        wait_until(lambda: self.instance.log().count("libexec/service: bad command startup -- throttling") >= 2, "throttling")
        self.assertLess(self.instance.log().count("exit status 3"), 5)
        self.assertTrue(self.instance.ask(PORT, "pid"))   # others are not disturbed
        client.close()

    def test_process_limit(self):
        def hold():
            client = socket.create_connection(("127.0.0.1", PORT + 1), 5)
            client.sendall(b"hold")
            return client, client.recv(100)
        first, first_pid = hold()
        second, second_pid = hold()
        self.assertNotEqual(first_pid, second_pid)
        wait_until(lambda: 'has reached its process limit "2"' in self.instance.log(), "the limit in the log")
        third = socket.create_connection(("127.0.0.1", PORT + 1), 5)
        third.settimeout(0.5)
        third.sendall(b"pid")
        with self.assertRaises(socket.timeout):
            third.recv(100)
        first.close()
        third.settimeout(5)
        self.assertEqual(third.recv(100), first_pid)
        third.close()
        second.close()

    def test_wakeup(self):
        wait_until(lambda: os.path.exists(self.instance.in_queue("woken")), "the first wakeup")
        pid = int(self.instance.ask("public/worker", "pid"))
        time.sleep(1.1)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.instance.read("woken") == "xx", "a wakeup after the crash")

    def test_reload_with_a_bad_configuration_keeps_serving(self):
        first = self.instance.ask(PORT, "pid")
        master = self.instance.master()
        self.instance.write("etc/master.cf", self.instance.master_cf + "bad unix n - n x 1 service\n")
        done = self.instance.control("reload")
        self.assertEqual(done.returncode, 1)
        self.assertIn("master.cf:8: invalid wakeup field", done.stdout)
        os.kill(master, signal.SIGHUP)   # also when nobody checked before
        wait_until(lambda: "reload failed" in self.instance.log(), "the failed reload")
        self.assertEqual(self.instance.ask(PORT, "pid"), first)
        self.instance.write("etc/master.cf", self.instance.master_cf + "%d inet n - n - 1 nonexistent\n" % (PORT + 2))
        os.kill(master, signal.SIGHUP)
        wait_until(lambda: self.instance.log().count("reload failed") == 2, "the second failed reload")
        self.assertEqual(self.instance.ask(PORT, "pid"), first)
        taken = socket.create_server(("127.0.0.1", PORT + 2))
        self.instance.write("etc/master.cf", "%d inet n - n - 1 service\n" % (PORT + 2))
        os.kill(master, signal.SIGHUP)
        wait_until(lambda: self.instance.log().count("reload failed") == 3, "the third failed reload")
        self.assertIn("Address already in use", self.instance.log())
        taken.close()
        self.assertEqual(self.instance.ask(PORT, "pid"), first)

    def test_stop_works_with_a_bad_configuration(self):
        self.instance.write("etc/main.cf", MAIN_CF.format(dir=self.instance.dir) + "smtpd_timeout = banana\n")
        self.assertEqual(self.instance.control("status").returncode, 0)
        self.assertEqual(self.instance.control("stop").returncode, 0)
        self.assertEqual(self.instance.control("status").returncode, 1)

    @unittest.skipUnless(os.path.isdir("/dev/shm"), "no memory for messages in transit")
    def test_a_reload_makes_the_directory_for_messages_in_transit_and_a_check_does_not(self):
        self.addCleanup(self.instance.remove_transit)
        self.instance.write("etc/main.cf", MAIN_CF.format(dir=self.instance.dir) + "transit_directory = %s\n" % self.instance.make_transit())
        self.assertEqual(self.instance.control("check").returncode, 0)
        self.assertFalse(os.path.lexists(self.instance.in_queue("transit")))   # the qmgr that runs would not look there
        self.assertEqual(self.instance.control("reload").returncode, 0)
        self.assertTrue(os.path.isdir(self.instance.in_queue("transit")))

    def test_reload_takes_a_good_configuration(self):
        first = self.instance.ask(PORT, "pid")
        self.instance.write("etc/master.cf", "%d inet n - n - 1 service new\nextra unix n - n - 1 service\n" % PORT)
        done = self.instance.control("reload")
        self.assertEqual(done.returncode, 0, done.stdout)
        wait_until(lambda: "reload -- version" in self.instance.log(), "the reload")
        wait_until(lambda: "new" in self.instance.ask(PORT, "args"), "the new arguments")   # the old process may take one more
        self.assertNotEqual(self.instance.ask(PORT, "pid"), first)
        self.assertTrue(self.instance.ask("public/extra", "pid"))
        self.assertFalse(os.path.exists(self.instance.in_queue("public/one")))
        self.assertNotIn("killed by signal 1", self.instance.log())

    def test_a_second_master_is_refused(self):
        done = self.instance.control("start")
        self.assertEqual(done.returncode, 1)
        self.assertIn("already running", done.stdout)
        etc = os.path.join(self.instance.dir, "etc")
        direct = subprocess.run([os.path.join(BIN, "postern-master"), "-c", etc, "-w"], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=20, preexec_fn=as_nobody)
        self.assertEqual(direct.returncode, 1)
        self.assertIn("already running", direct.stdout)
        test = subprocess.run([os.path.join(BIN, "postern-master"), "-c", etc, "-t"], timeout=20, preexec_fn=as_nobody)
        self.assertEqual(test.returncode, 1)
        self.assertTrue(self.instance.ask(PORT, "pid"))

    def test_stop_cleans_up(self):
        pids = [int(self.instance.ask(where, "pid")) for where in (PORT, "public/one", "private/hidden")]
        master = self.instance.master()
        self.assertEqual(self.instance.control("status").returncode, 0)
        done = self.instance.control("stop")
        self.assertEqual(done.returncode, 0, done.stdout)
        for pid in pids + [master]:
            wait_until(lambda: gone(pid), "the end of process %d" % pid)   # master's lock goes a moment before it
        self.assertFalse(os.path.exists(self.instance.in_queue("pid/master.pid")))
        self.assertEqual(os.listdir(self.instance.in_queue("public")), [])
        self.assertEqual(os.listdir(self.instance.in_queue("private")), [])
        self.assertIn("terminating on signal 15", self.instance.log())
        self.assertNotIn("warning", self.instance.log())
        self.assertEqual(self.instance.control("status").returncode, 1)
        self.assertEqual(self.instance.control("stop").returncode, 1)
        self.assertEqual(self.instance.control("start").returncode, 0)
        self.assertTrue(self.instance.ask(PORT, "pid"))

    def test_what_the_caller_has_open_is_not_kept_open(self):
        self.instance.control("stop")
        ours, theirs = os.pipe()
        done = self.instance.control("start", pass_fds=(theirs,))
        self.assertEqual(done.returncode, 0, done.stdout + self.instance.log())
        os.close(theirs)
        self.assertTrue(self.instance.ask(PORT, "pid"))
        ready, _, _ = select.select([ours], [], [], 1)
        self.assertTrue(ready, "neither master nor its child closed it")
        self.assertEqual(os.read(ours, 1), b"")
        os.close(ours)

    def test_stop_is_not_held_up(self):
        self.instance.write("etc/master.cf", "%d inet n - n - 1 service stubborn\n" % PORT)
        self.instance.control("reload")
        wait_until(lambda: "reload -- version" in self.instance.log(), "the reload")
        pid = int(self.instance.ask(PORT, "pid"))
        self.assertEqual(self.instance.control("stop").returncode, 0)
        self.assertTrue(gone(pid))
        self.assertIn("does not end: killing it", self.instance.log())

    def test_children_end_when_master_is_killed(self):
        master = self.instance.master()
        child = int(self.instance.ask(PORT, "pid"))
        os.kill(master, signal.SIGKILL)
        wait_until(lambda: self.instance.control("status").returncode == 1, "the end of master")
        wait_until(lambda: gone(child), "the end of its child")
        done = self.instance.control("start")   # over what the dead one left behind
        self.assertEqual(done.returncode, 0, done.stdout + self.instance.log())
        self.assertTrue(self.instance.ask("public/one", "pid"))


class ForegroundTest(unittest.TestCase):
    """start-fg, as containers and systemd use it."""

    def setUp(self):
        self.instance = Instance()

    def tearDown(self):
        shutil.rmtree(self.instance.dir)

    def test_start_fg_tells_systemd(self):
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notices.settimeout(10)
        name = os.path.join(self.instance.dir, "notify")
        notices.bind(name)
        os.chmod(name, 0o777)
        master = subprocess.Popen([os.path.join(BIN, "postern"), "-c", os.path.join(self.instance.dir, "etc"), "start-fg"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=as_nobody,
                                  env=dict(os.environ, NOTIFY_SOCKET=name))
        try:
            ready = ("READY=1\nSTATUS=6 services of %s/etc" % self.instance.dir).encode()
            self.assertEqual(notices.recv(200), ready)
            self.assertEqual(self.instance.master(), master.pid)   # one process: no shell, no fork between
            self.assertTrue(self.instance.ask(PORT, "pid"))
            master.send_signal(signal.SIGHUP)
            self.assertIn(b"RELOADING=1\nMONOTONIC_USEC=", notices.recv(200))
            self.assertEqual(notices.recv(200), ready)
            self.instance.write("etc/master.cf", self.instance.master_cf + "bad unix n - n x 1 service\n")
            master.send_signal(signal.SIGHUP)
            self.assertIn(b"RELOADING=1\n", notices.recv(200))
            self.assertRegex(notices.recv(1000), re.escape(ready) + b"; the last reload failed: .*master.cf:8: invalid wakeup field")
            master.send_signal(signal.SIGTERM)
            self.assertEqual(notices.recv(200), b"STOPPING=1")
            self.assertEqual(master.wait(10), 0)
        finally:
            master.kill()
            master.wait()
            notices.close()


class CheckTest(unittest.TestCase):
    def setUp(self):
        self.instance = Instance()

    def tearDown(self):
        shutil.rmtree(self.instance.dir)

    def check(self, extra):
        self.instance.write("etc/main.cf", MAIN_CF.format(dir=self.instance.dir) + extra)
        return self.instance.control("check")

    def test_check_names_every_mistake(self):
        done = self.check("smtpd_timeout = 5x\nbiff = maybe\nsmtpd_hello_required = yes\nmine = 1\nmyorigin = $mine\n"
                          "smtp_tls_loglevel = 1\n")
        self.assertEqual(done.returncode, 1)
        main_cf = os.path.join(self.instance.dir, "etc/main.cf")
        for text in ("error: %s:12: smtpd_timeout = 5x: accepted: a time" % main_cf,
                     "error: %s:13: biff = maybe: accepted: yes or no" % main_cf,
                     'warning: %s:14: unknown parameter "smtpd_hello_required"; did you mean "smtpd_helo_required"?' % main_cf):
            self.assertIn(text, done.stdout)
        self.assertNotIn('"mine"', done.stdout)

    def test_check_of_a_good_configuration(self):
        done = self.check("")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertTrue(os.path.isdir(self.instance.in_queue("maildrop")))

    def test_check_tells_when_messages_cannot_be_in_memory(self):
        done = self.check("transit_directory = run/postern\n")
        self.assertEqual(done.returncode, 0)
        self.assertIn("postern: warning: messages in transit are kept on the disk: transit_directory: run/postern: not an absolute path\n", done.stdout)
        self.assertFalse(os.path.lexists(self.instance.in_queue("transit")))
        self.assertNotIn("messages in transit", self.check("transit_directory =\n").stdout)

    def test_start_refuses_a_bad_configuration(self):
        self.instance.write("etc/main.cf", MAIN_CF.format(dir=self.instance.dir) + "biff = maybe\n")
        done = self.instance.control("start")
        self.assertEqual(done.returncode, 1)
        self.assertIn("biff = maybe", done.stdout)
        self.assertFalse(os.path.exists(self.instance.in_queue("pid/master.pid")))

    def test_help(self):
        self.assertIn("start-fg", self.instance.control().stdout)
        self.assertEqual(self.instance.control().returncode, 0)
        self.assertEqual(self.instance.control("nonsense").returncode, 1)
        postfix = os.path.join(self.instance.dir, "postfix")
        os.symlink(os.path.join(BIN, "postern"), postfix)
        self.assertEqual(subprocess.run([postfix], stderr=subprocess.DEVNULL).returncode, 1)
        self.assertIn("Postern", self.instance.control("version").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=1)
