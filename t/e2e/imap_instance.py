"""A private instance with only what IMAP needs: master, auth, imapd, imapd-session.  Runs as an ordinary user."""
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time

from suite import BIN, NOBODY, as_nobody

PORT = int(os.environ.get("POSTERN_IMAP_TEST_PORT", "21400"))
USER, PASSWORD = "fred", "se cret"

MAIN_CF = """
queue_directory = {dir}/queue
data_directory = {dir}/data
daemon_directory = {bin}
command_directory = {bin}
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
inet_interfaces = loopback-only
inet_protocols = ipv4
auth_passdbs = passwd-file:{dir}/etc/users
auth_userdbs = passwd-file:{dir}/etc/users
auth_failure_delay = 0
mail_max_userip_connections = 1000
imap_id_log = *
ssl_cert_file = {dir}/etc/cert.pem
ssl_key_file = {dir}/etc/key.pem
{extra}
"""

MASTER_CF = """
{port} inet n - n - 1 imapd
{tls_port} inet n - n - 1 imapd -o imap_tls_wrappermode=yes
auth unix - - n - 1 auth
imap-session unix - n n - 1 imapd-session
"""


class Instance:
    def __init__(self, extra="", port=PORT):
        self.dir = tempfile.mkdtemp(prefix="postern-imap-")
        self.port, self.tls_port = port, port + 1
        uid = NOBODY if os.geteuid() == 0 else os.geteuid()
        gid = NOBODY if os.geteuid() == 0 else os.getegid()
        self.bin = os.path.join(self.dir, "bin")
        for name in ("etc", "home", "bin", "queue", "data"):
            os.mkdir(os.path.join(self.dir, name))
        for name in ("postern-master", "auth", "imapd", "imapd-session"):
            shutil.copy(os.path.join(BIN, name), self.bin)
        owner = pwd.getpwuid(uid).pw_name
        self.write("etc/main.cf", MAIN_CF.format(dir=self.dir, bin=self.bin, extra=extra) +
                   "mail_owner = %s\nnetwork_owner = %s\nauth_owner = %s\n" % (owner, owner, owner))
        self.write("etc/master.cf", MASTER_CF.format(port=self.port, tls_port=self.tls_port))
        self.write("etc/users", "%s:{PLAIN}%s:%d:%d::%s/home::\n" % (USER, PASSWORD, uid, gid, self.dir))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-keyout", self.path("etc/key.pem"), "-out", self.path("etc/cert.pem")],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.chmod(self.dir, 0o755)
        if os.geteuid() == 0:
            for where, _, names in os.walk(self.dir):
                for path in [where] + [os.path.join(where, name) for name in names]:
                    os.chown(path, NOBODY, NOBODY)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def control(self, *words):
        return subprocess.run([os.path.join(BIN, "postern"), "-c", self.path("etc"), *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, preexec_fn=as_nobody)

    def start(self):
        done = self.control("start")
        if done.returncode != 0:
            raise AssertionError("postern start: " + done.stdout + self.log())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nobody listens: " + self.log())

    def stop(self):
        self.control("abort")
        shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        try:
            with open(self.path("log"), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""
