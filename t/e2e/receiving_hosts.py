"""Other people's mail servers as receiving hosts, each on port 25 of an address of its own in a small internet (dns_world.py).
What they accept for a domain they hand on to another server, where a test can see what they made of it."""
import os
import shutil
import socket
import subprocess
import time

import debian_tools
import postfix_peer


class Host:
    """`address`: where it listens; `onward`: "address:port" of the server that gets what it accepts; `cert`, `key`: files."""
    domain = "?"
    packages = ()

    def __init__(self, where, address, onward, cert, key):
        self.dir = where + "/" + type(self).__name__.lower()
        self.address, self.onward, self.cert, self.key = address, onward, cert, key
        self.process = None
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)

    def write(self, name, text):
        with open(self.dir + "/" + name, "w") as file:
            file.write(text)
        return self.dir + "/" + name

    def wait(self):
        for _ in range(200):
            try:
                with socket.create_connection((self.address, 25), 5) as client:
                    if client.recv(1000).startswith(b"220"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("%s does not answer" % type(self).__name__)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def add_users(where, names):
    """In this process's mount namespace /etc/passwd and /etc/group know these too."""
    for file, line in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/usr/sbin/nologin\n"), ("group", "{0}:x:{1}:\n")):
        with open("/etc/" + file) as old:
            text = old.read()
        text += "".join(line.format(name, 61000 + i) for i, name in enumerate(names) if "\n%s:" % name not in text)
        with open(where + "/" + file, "w") as new:
            new.write(text)
        subprocess.run(["mount", "--bind", where + "/" + file, "/etc/" + file], check=True)


class Postfix(Host):
    domain = "postfix.example"

    def start(self, _unpacked):
        postfix_peer.lay_out(self.dir, """myhostname = mx.postfix.example
mydestination =
local_recipient_maps =
inet_interfaces = {a}
relay_domains = postfix.example
relay_transport = smtp:[{host}]:{port}
smtpd_recipient_restrictions = check_recipient_access inline:{{{{bad@postfix.example=550 5.1.1 no such user}},{{slow@postfix.example=450 4.2.1 later}}}}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtputf8_enable = yes
message_size_limit = 60000000
""".format(a=self.address, host=self.onward.split(":")[0], port=self.onward.split(":")[1], cert=self.cert, key=self.key),
                             "smtp inet n - y - - smtpd\n")
        subprocess.run(["postfix", "-c", self.dir + "/etc", "start"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait()

    def stop(self):
        postfix_peer.control(self.dir, "stop")


class Exim(Host):
    domain = "exim.example"
    packages = ("exim4-daemon-light", "libdb5.3")

    def start(self, unpacked):
        program = unpacked + "/usr/sbin/exim4"
        for name in ("spool", "log"):
            os.makedirs(self.dir + "/" + name)
            shutil.chown(self.dir + "/" + name, "Debian-exim", "Debian-exim")
        host, port = self.onward.split(":")
        config = self.write("exim.conf", """exim_path = {program}
spool_directory = {d}/spool
log_file_path = {d}/log/%slog
primary_hostname = mx.exim.example
local_interfaces = {a}
daemon_smtp_ports = 25
disable_ipv6
tls_advertise_hosts = *
tls_certificate = {d}/both.pem
message_size_limit = 60M
smtputf8_advertise_hosts = *
never_users =
acl_smtp_rcpt = check
acl_smtp_data = accept_it
auth_advertise_hosts = *
begin acl
accept_it:
  accept
check:
  deny local_parts = bad
    message = no such user
  defer local_parts = slow
    message = later
  deny domains = auth.example : *.auth.example
       !authenticated = *
    message = log in first
  accept
begin routers
onward:
  driver = manualroute
  route_list = * {host}
  self = send
  transport = onward
begin transports
onward:
  driver = smtp
  port = {port}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and {{ {{eq{{$auth2}}{{fred}}}} {{eq{{$auth3}}{{secret}}}} }} }}
  server_set_id = $auth2
  server_prompts = :
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and {{ {{eq{{$auth1}}{{fred}}}} {{eq{{$auth2}}{{secret}}}} }} }}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{fred}}{{secret}}fail}}
  server_set_id = $auth1
begin retry
* * F,1h,1m
""".format(program=program, d=self.dir, a=self.address, host=host, port=port))
        with open(self.cert) as cert, open(self.key) as key:
            self.write("both.pem", key.read() + cert.read())
        shutil.chown(self.dir + "/both.pem", "Debian-exim")
        os.chmod(self.dir + "/both.pem", 0o600)
        os.chmod(config, 0o644)
        self.process = subprocess.Popen([program, "-bdf", "-C", config], env=debian_tools.environment(unpacked))
        self.wait()


class OpenSmtpd(Host):
    domain = "opensmtpd.example"
    packages = ("opensmtpd", "libdb5.3")

    def start(self, unpacked):
        # In the clear: Debian 12's OpenSMTPD (6.8.0p2-4+b4) ends every handshake with an internal error, whoever the client is.  Its
        # process that speaks SMTP has no private key and means to have the one that has it sign, by replacing OpenSSL's RSA and
        # ECDSA methods; OpenSSL 3 signs in a provider instead, which finds none.  With "smtpd -v" and openssl s_client, TLS 1.2 and
        # 1.3: "Provider routines::missing private key" with a P-256 key, "1C880004:Provider routines::RSA lib" with an RSA key, then
        # "SSL_accept: error:0A0C0103:SSL routines::internal error", which the client sees as alert 80.
        config = self.write("smtpd.conf", """smtp max-message-size "60M"
listen on {a} port 25 hostname mx.opensmtpd.example
action onward relay host smtp://{onward}
match from any for rcpt-to regex "^bad@" reject
match from any for any action onward
""".format(a=self.address, onward=self.onward))
        for place in ("/var/spool", "/var/lib", "/run"):   # compiled in; in this mount namespace they are empty
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        os.makedirs("/var/lib/opensmtpd/empty", 0o755)
        with open(self.dir + "/log", "w") as log:
            self.process = subprocess.Popen([unpacked + "/usr/sbin/smtpd", "-d", "-f", config], stdout=log, stderr=subprocess.STDOUT,
                                            env=debian_tools.environment(unpacked))
        self.wait()
