"""A private instance with only what IMAP needs: master, auth, imapd, imapd-session.  Runs as an ordinary user."""
import os
import pwd
import shutil
import subprocess

from suite import BIN, Scratch, as_nobody, wait_listening

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


class Instance(Scratch):
    def __init__(self, extra="", port=PORT):
        super().__init__("postern-imap-")
        self.port, self.tls_port = port, port + 1
        self.bin = self.path("bin")
        for name in ("etc", "home", "bin", "queue", "data"):
            os.mkdir(self.path(name))
        for name in ("postern-master", "auth", "imapd", "imapd-session"):
            shutil.copy(os.path.join(BIN, name), self.bin)
        owner = pwd.getpwuid(self.uid).pw_name
        self.write("etc/main.cf", MAIN_CF.format(dir=self.dir, bin=self.bin, extra=extra) +
                   "mail_owner = %s\nnetwork_owner = %s\nauth_owner = %s\n" % (owner, owner, owner))
        self.write("etc/master.cf", MASTER_CF.format(port=self.port, tls_port=self.tls_port))
        self.write("etc/users", "%s:{PLAIN}%s:%d:%d::%s/home::\n" % (USER, PASSWORD, self.uid, self.gid, self.dir))
        self.certificate()
        self.give_away()

    def control(self, *words):
        return subprocess.run([os.path.join(BIN, "postern"), "-c", self.path("etc"), *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, preexec_fn=as_nobody)

    def start(self):
        done = self.control("start")
        if done.returncode != 0:
            raise AssertionError("postern start: " + done.stdout + self.log())
        wait_listening(self.port)
        return self

    def stop(self):
        self.control("abort")
        shutil.rmtree(self.dir, ignore_errors=True)
