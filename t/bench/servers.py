"""Servers for the benchmarks, each in a scratch directory: Postern, Debian's Postfix and Debian's Dovecot, with the same users,
the same virtual mailboxes and certificates, all as root with their own privilege separation."""
import glob
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "build", "bin"))
sys.path.insert(0, os.path.join(ROOT, "t", "e2e"))
import dovecot_peer  # noqa: E402
import postfix_peer  # noqa: E402
from suite import wait_listening  # noqa: E402

PASSWORD = "secret"
VMAIL = 65534
USERS = ["user%d" % i for i in range(20)]


def run(*words, **options):
    return subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def certificate(where):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=localhost",
        "-keyout", where + "/key.pem", "-out", where + "/cert.pem")


class Server:
    """Process accounting that is the same for all: the master, its children, and what they have reaped."""
    name = "?"
    master = 0

    def tree(self):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/stat" % entry) as file:
                        parents[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
                except OSError:
                    pass
        found, grew = {self.master}, True
        while grew:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            grew = bool(more)
            found |= more
        return found

    def cpu(self):
        """Seconds of CPU that the server has used, dead children included."""
        ticks = 0
        for pid in self.tree():
            try:
                with open("/proc/%d/stat" % pid) as file:
                    words = file.read().rsplit(")", 1)[1].split()
                ticks += sum(int(word) for word in words[11:15])
            except OSError:
                pass
        return ticks / os.sysconf("SC_CLK_TCK")

    def named(self, name):
        """The processes of one program."""
        found = []
        for pid in self.tree():
            try:
                with open("/proc/%d/comm" % pid) as file:
                    if file.read().strip() == name:
                        found.append(pid)
            except OSError:
                pass
        return found

    def cpu_of(self, name):
        """Seconds of CPU of the living processes of one program."""
        ticks = 0
        for pid in self.named(name):
            with open("/proc/%d/stat" % pid) as file:
                ticks += sum(int(word) for word in file.read().rsplit(")", 1)[1].split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_of(self, name):
        """KiB of one program (PSS)."""
        total = 0
        for pid in self.named(name):
            with open("/proc/%d/smaps_rollup" % pid) as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        return total

    def alive(self):
        return self.master != 0 and os.path.exists("/proc/%d" % self.master)

    def pss(self):
        """KiB."""
        total = 0
        for pid in self.tree():
            try:
                with open("/proc/%d/smaps_rollup" % pid) as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            except OSError:
                pass
        return total

    def delivered(self):
        return len(glob.glob(self.mail + "/*/new/*"))

    def empty_mail(self):
        for user in USERS:
            shutil.rmtree(self.mail + "/" + user, ignore_errors=True)
            os.makedirs(self.mail + "/" + user)
            os.chown(self.mail + "/" + user, VMAIL, VMAIL)


class Postern(Server):
    name = "Postern"

    def __init__(self, where, port):
        self.dir, self.mail = where + "/postern", where + "/postern/mail"
        self.smtp, self.imap, self.imaps, self.pop3 = port, port + 1, port + 2, port + 3
        for name in ("etc", "mail", "queue", "data"):
            os.makedirs(self.dir + "/" + name, exist_ok=True)
        os.chmod(self.dir, 0o755)
        shutil.copytree(BIN, self.dir + "/bin", dirs_exist_ok=True)
        certificate(self.dir + "/etc")
        self.empty_mail()
        with open(self.dir + "/etc/main.cf", "w") as file:
            file.write("""
queue_directory = {d}/queue
data_directory = {d}/data
daemon_directory = {d}/bin
command_directory = {d}/bin
maillog_file = {d}/log
maillog_file_prefixes = {d}
mail_owner = postfix
network_owner = nobody
setgid_group = postdrop
myhostname = mail.example.org
mydestination = localhost
alias_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
virtual_mailbox_domains = example.org
virtual_mailbox_maps = texthash:{d}/etc/mailboxes
virtual_mailbox_base = {d}/mail
virtual_uid_maps = static:{u}
virtual_gid_maps = static:{u}
first_valid_uid = 1


auth_passdbs = passwd-file:{d}/etc/users
auth_userdbs = passwd-file:{d}/etc/users
mail_location = maildir:~
mail_max_userip_connections = 10000
smtpd_client_connection_count_limit = 0
smtpd_tls_cert_file = {d}/etc/cert.pem
smtpd_tls_key_file = {d}/etc/key.pem
ssl_cert_file = {d}/etc/cert.pem
ssl_key_file = {d}/etc/key.pem
""".format(d=self.dir, u=VMAIL))
        with open(self.dir + "/etc/master.cf", "w") as file:
            file.write("""
127.0.0.1:%d inet n - y - 100 smtpd
127.0.0.1:%d inet n - y - 100 imapd
127.0.0.1:%d inet n - y - 100 imapd -o imap_tls_wrappermode=yes
127.0.0.1:%d inet n - y - 100 pop3d
pickup unix n - n 60 1 pickup
cleanup unix n - n - 4 cleanup
qmgr unix n - n 300 1 qmgr
bounce unix - - n - 2 bounce
defer unix - - n - 2 bounce
showq unix n - n - 2 showq
virtual unix - n n - 4 virtual
error unix - - n - 2 error
retry unix - - n - 2 error
anvil unix - - n - 1 anvil
auth unix - n n - 1 auth
imap-session unix - n n - 1 imapd-session
pop3-session unix - n n - 1 pop3d-session
proxymap unix - - n - 4 proxymap
""" % (self.smtp, self.imap, self.imaps, self.pop3))
        with open(self.dir + "/etc/mailboxes", "w") as file:
            file.write("".join("%s@example.org %s/\n" % (user, user) for user in USERS))
        with open(self.dir + "/etc/users", "w") as file:
            file.write("".join("%s:{PLAIN}%s:%d:%d::%s/%s::\n" % (user, PASSWORD, VMAIL, VMAIL, self.mail, user) for user in USERS))
        shutil.chown(self.dir + "/etc/users", "postfix")
        os.chmod(self.dir + "/etc/users", 0o640)
        self.sendmail = [self.dir + "/bin/sendmail"]
        self.environment = dict(os.environ, MAIL_CONFIG=self.dir + "/etc")

    def start(self):
        run(self.dir + "/bin/postern", "-c", self.dir + "/etc", "start")
        shutil.chown(self.dir + "/bin/postdrop", group="postdrop")
        os.chmod(self.dir + "/bin/postdrop", 0o2755)
        wait_listening(self.smtp)
        wait_listening(self.imap)
        with open(self.dir + "/queue/pid/master.pid") as file:
            self.master = int(file.read().split()[0])

    def stop(self):
        subprocess.run([self.dir + "/bin/postern", "-c", self.dir + "/etc", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Postfix(Server):
    name = "Postfix"

    def __init__(self, where, port):
        self.dir, self.mail, self.smtp = where + "/postfix", where + "/postfix/mail", port
        postfix_peer.lay_out(self.dir, """inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.org
virtual_mailbox_maps = texthash:{d}/etc/mailboxes
virtual_mailbox_base = {d}/mail
virtual_uid_maps = static:%d
virtual_gid_maps = static:%d
smtpd_client_connection_count_limit = 0
default_process_limit = 300
""" % (VMAIL, VMAIL), "127.0.0.1:%d inet n - y - - smtpd\n" % port)
        self.empty_mail()
        with open(self.dir + "/etc/mailboxes", "w") as file:
            file.write("".join("%s@example.org %s/\n" % (user, user) for user in USERS))
        self.sendmail = ["/usr/sbin/sendmail", "-C", self.dir + "/etc"]
        self.environment = dict(os.environ)

    def start(self):
        # A second instance must be known to the first one for sendmail -C by root's set-gid helper.
        subprocess.run(["postconf", "alternate_config_directories=" + self.dir + "/etc"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run("postfix", "-c", self.dir + "/etc", "start")
        wait_listening(self.smtp)
        with open(self.dir + "/queue/pid/master.pid") as file:
            self.master = int(file.read().split()[0])

    def stop(self):
        subprocess.run(["postfix", "-c", self.dir + "/etc", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["postconf", "-X", "alternate_config_directories"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Dovecot(Server):
    name = "Dovecot"

    def __init__(self, where, port):
        self.dir, self.mail = where + "/dovecot", where + "/dovecot/mail"
        self.imap, self.imaps, self.pop3 = port + 1, port + 2, port + 3
        os.makedirs(self.dir)
        certificate(self.dir)
        dovecot_peer.lay_out(self.dir, {"imap": self.imap, "imaps": self.imaps, "pop3": self.pop3}, self.dir, USERS, PASSWORD, """
mail_max_userip_connections = 10000
default_client_limit = 4000
default_process_limit = 1500
service imap {
  process_limit = 2000
}
service pop3 {
  process_limit = 2000
}
""")
        self.empty_mail()

    def start(self):
        run("dovecot", "-c", self.dir + "/conf")
        wait_listening(self.imap)
        found = subprocess.run(["pgrep", "-f", "dovecot -c " + self.dir], stdout=subprocess.PIPE, text=True).stdout.split()
        self.master = int(found[0])

    def stop(self):
        subprocess.run(["doveadm", "-c", self.dir + "/conf", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
