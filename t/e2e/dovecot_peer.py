"""Debian's Dovecot in a scratch directory, as the measure of what a client should hear: the same users, passwords and mail as an
instance of ours, and a client that says the same lines to both."""
import os
import re
import shutil
import socket
import subprocess

from suite import NOBODY, PASSWORD, wait_listening

CONF = """
base_dir = {d}/run
state_dir = {d}/run
log_path = {d}/log
protocols = imap pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <{cert}/cert.pem
ssl_key = <{cert}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-1 scram-sha-256
mail_location = maildir:~
first_valid_uid = 1
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {d}/users
}}
userdb {{
  driver = passwd-file
  args = {d}/users
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
namespace inbox {{
  inbox = yes
}}
{extra}
"""


def available():
    """Whether there is a Dovecot that may be started."""
    return os.geteuid() == 0 and shutil.which("dovecot") is not None


def lay_out(where, ports, certificates, users, password=PASSWORD, extra=""):
    """The settings, WHERE/conf, the passwords, WHERE/users, and empty directories for the mail, WHERE/mail/USER.  `ports` has "imap",
    "imaps" and "pop3"; 0: not served.  `certificates` is a directory with cert.pem and key.pem."""
    os.makedirs(where + "/run", exist_ok=True)
    os.chmod(where, 0o755)
    for user in users:
        os.makedirs("%s/mail/%s" % (where, user), exist_ok=True)
        os.chown("%s/mail/%s" % (where, user), NOBODY, NOBODY)
    with open(where + "/users", "w") as file:
        file.write("".join("%s:{PLAIN}%s:%d:%d::%s/mail/%s::\n" % (user, password, NOBODY, NOBODY, where, user) for user in users))
    with open(where + "/conf", "w") as file:
        file.write(CONF.format(d=where, cert=certificates, extra=extra, **ports))


class Dovecot:
    """Listens on `port` (POP3) and `port` + 1 (IMAP).  `certificates` is a directory with cert.pem and key.pem."""

    def __init__(self, where, port, certificates, users=("fred", "wilma"), extra=""):
        self.dir, self.port = where, {"pop3": port, "imap": port + 1}
        lay_out(where, dict(self.port, imaps=0), certificates, users, extra="mail_max_userip_connections = 1000\n" + extra)

    def start(self):
        self.process = subprocess.Popen(["dovecot", "-F", "-c", self.dir + "/conf"])
        wait_listening(*self.port.values())
        return self

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def same_mail(directories, messages):
    """The same Maildir in each directory: names, times and bytes.  `messages` is a list of (flags, text); None: the message is new."""
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
        for part in ("new", "cur", "tmp"):
            os.makedirs(directory + "/" + part)
        for number, (flags, text) in enumerate(messages, 1):
            name = "1700000000.M%06dP1.host" % number
            path = "%s/new/%s" % (directory, name) if flags is None else "%s/cur/%s:2,%s" % (directory, name, flags)
            with open(path, "wb") as file:
                file.write(text)
            os.utime(path, (1700000000 + number, 1700000000 + number))
        for top, _, names in os.walk(directory):
            for path in [top] + [os.path.join(top, name) for name in names]:
                os.lchown(path, NOBODY, NOBODY)


class Line:
    """A conversation over a socket, in bytes."""

    def __init__(self, port, timeout=15):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        """Reads what comes next; False when the other end has closed."""
        try:
            piece = self.socket.recv(65536)
        except ConnectionResetError:
            piece = b""
        self.buffer += piece
        return piece != b""

    def line(self):
        """One line without its end; None when the other end has closed."""
        while b"\r\n" not in self.buffer:
            if not self.more():
                return None
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def lines_until(self, last):
        """Lines, with the literals in them, up to the first that the pattern `last` matches."""
        found = []
        while True:
            line = self.line()
            if line is None:
                return found + [b"(closed)"]
            while (literal := re.search(rb"\{(\d+)\}$", line)) is not None:
                size = int(literal.group(1))
                while len(self.buffer) < size:
                    if not self.more():
                        return found + [line, b"(closed)"]
                line, self.buffer = line + b"\r\n" + self.buffer[:size], self.buffer[size:]
                line += self.line() or b""
            found.append(line)
            if re.match(last, line):
                return found

    def close(self):
        self.socket.close()
