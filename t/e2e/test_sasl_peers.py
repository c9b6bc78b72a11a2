#!/usr/bin/env python3
"""Log-in of our SMTP client at other people's servers: Debian's Postfix with Dovecot's and with Cyrus's SASL, Dovecot's submission
service, and Exim, with each mechanism that they have, in a small internet of the test's own.  Needs root."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import debian_tools  # noqa: E402
import postfix_peer  # noqa: E402
from dns_world import World  # noqa: E402
from receiving_hosts import Exim, add_users  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import Suite  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
HOSTS = {"postfix": "192.0.2.21", "exim": "192.0.2.22", "dovecot": "192.0.2.23", "cyrus": "192.0.2.24"}
# The name of the transport, the mechanism's, and who offers it.
MECHANISMS = [("plain", "PLAIN", "postfix exim dovecot cyrus"), ("login", "LOGIN", "postfix exim dovecot cyrus"),
              ("cram", "CRAM-MD5", "postfix exim dovecot cyrus"), ("scram1", "SCRAM-SHA-1", "postfix dovecot cyrus"),
              ("scram256", "SCRAM-SHA-256", "postfix dovecot cyrus")]
RECORDS = ["mx.%s.example. A %s" % pair for pair in HOSTS.items()] + ["bydomain.auth.example. MX 10 mx.postfix.example."]
EXTRA = """
smtp_tls_security_level = none
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{{ {hosts} }}
transport_maps = regexp:{dir}/etc/transport
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""
MASTER = "".join("%s unix - - n - 1 smtp -o smtp_sasl_mechanism_filter=%s\n" % (name, mechanism.lower()) for name, mechanism, _ in MECHANISMS) + """
best unix - - n - 1 smtp
wrong unix - - n - 1 smtp -o smtp_sasl_password_maps=static:fred:guessed
hard unix - - n - 1 smtp -o smtp_sasl_password_maps=static:fred:guessed -o smtp_sasl_auth_soft_bounce=no
bydomain unix - - n - 1 smtp -o { smtp_sasl_password_maps = inline:{ bydomain.auth.example=fred:secret } }
bysender unix - - n - 1 smtp -o smtp_sender_dependent_authentication=yes
 -o { smtp_sasl_password_maps = inline:{ wilma@example.org=wilma:other, @example.net=fred:secret, mx.postfix.example=anna:third } }
nothing unix - - n - 1 smtp -o smtp_sasl_password_maps=inline:{nobody.example=a:b}
secretive unix - - n - 1 smtp -o smtp_sasl_security_options=noplaintext,noanonymous,nodictionary
"""
POSTFIX = """
myhostname = mx.postfix.example
inet_interfaces = 127.0.0.1, %s, %s
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %%s/auth
smtpd_sasl_security_options = noanonymous
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
default_transport = discard:
""" % (HOSTS["postfix"], HOSTS["cyrus"])
POSTFIX_MASTER = """%s:25 inet n - n - 4 smtpd
%s:25 inet n - n - 4 smtpd -o smtpd_sasl_type=cyrus -o smtpd_sasl_path=smtpd -o smtpd_sasl_local_domain=cyrus.example
""" % (HOSTS["postfix"], HOSTS["cyrus"])
DOVECOT = """
base_dir = {d}/run
state_dir = {d}/run
log_path = {d}/log
auth_verbose = yes
auth_failure_delay = 0
protocols = submission
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
mail_location = maildir:{d}/mail/%u
first_valid_uid = 1
default_login_user = dovenull
default_internal_user = dovecot
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
hostname = mx.dovecot.example
passdb {{
  driver = passwd-file
  args = {d}/passwd
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={d}/home/%u allow_all_users=yes
}}
service auth {{
  unix_listener {d}/auth {{
    mode = 0666
  }}
}}
service submission-login {{
  executable = {programs}/submission-login
  chroot =
  inet_listener submission {{
    address = 192.0.2.23
    port = 25
  }}
}}
service submission {{
  executable = {programs}/submission
}}
"""


class Sasl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not postfix_peer.available() or not shutil.which("dovecot"):
            print("needs root, Debian's postfix and dovecot: skipped")
            sys.exit(77)
        cls.where = tempfile.mkdtemp(prefix="postern-sasl-")
        os.chmod(cls.where, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        cls.unpacked = cls.where + "/debian"
        if not debian_tools.fetch(cls.unpacked, *Exim.packages, "dovecot-submissiond", "sasl2-bin"):
            print("Exim and Dovecot's submission service cannot be fetched: skipped")
            sys.exit(77)
        cls.world = World(cls.where, list(HOSTS.values()), ["example."], RECORDS)
        cls.addClassCleanup(cls.world.close)
        add_users(cls.where, ["Debian-exim"])
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=mx.example", "-keyout",
                        cls.where + "/key.pem", "-out", cls.where + "/cert.pem"], check=True, stderr=subprocess.DEVNULL)
        cls.sink = Peer(port=PORT + 50)
        cls.addClassCleanup(cls.sink.close)
        cls.start_dovecot()
        cls.start_postfix()
        exim = cls.exim = Exim(cls.where, HOSTS["exim"], "127.0.0.1:%d" % (PORT + 50), cls.where + "/cert.pem", cls.where + "/key.pem")
        cls.addClassCleanup(exim.stop)
        exim.start(cls.unpacked)
        directory = tempfile.mkdtemp(prefix="postern-sasl-suite-")
        hosts = ", ".join("mx.%s.example=fred:secret" % name for name in HOSTS)
        cls.mail = Suite(extra=EXTRA.format(dir=directory, hosts=hosts), master_extra=MASTER, port=PORT, directory=directory)
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.write("etc/transport", "/@bydomain\\.auth\\.example$/ bydomain:bydomain.auth.example\n"
                       + "".join("/@%s\\.%s\\.auth\\.example$/ %s:[mx.%s.example]\n" % (transport, host, transport, host)
                                 for transport in re.findall(r"(?m)^([a-z0-9]+) unix", MASTER) for host in HOSTS))
        cls.mail.start()

    @classmethod
    def start_dovecot(cls):
        cls.dovecot = where = cls.where + "/dovecot"
        for name in ("/mail", "/home"):
            os.makedirs(where + name)
            shutil.chown(where + name, 65534, 65534)
        with open(where + "/passwd", "w") as file:
            file.write("fred:{PLAIN}secret\nwilma:{PLAIN}other\nanna:{PLAIN}third\n")
        with open(where + "/conf", "w") as file:
            file.write(DOVECOT.format(d=where, relay=PORT + 50, programs=cls.unpacked + "/usr/lib/dovecot"))
        os.makedirs("/etc/dovecot", exist_ok=True)
        process = subprocess.Popen(["dovecot", "-F", "-c", where + "/conf"])
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.terminate)

    @classmethod
    def start_postfix(cls):
        cls.postfix = postfix_peer.Postfix(cls.where, PORT + 51, POSTFIX % cls.dovecot, POSTFIX_MASTER)
        os.makedirs(cls.postfix.dir + "/etc/sasl")
        cls.postfix.write("etc/sasl/smtpd.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: %s/etc/sasl/db\n"
                          "mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256\n" % cls.postfix.dir)
        subprocess.run([cls.unpacked + "/usr/sbin/saslpasswd2", "-p", "-c", "-f", cls.postfix.dir + "/etc/sasl/db", "-u", "cyrus.example", "fred"],
                       env=debian_tools.environment(cls.unpacked), input=b"secret\n", check=True)
        shutil.chown(cls.postfix.dir + "/etc/sasl/db", "postfix")
        cls.postfix.__enter__()
        cls.addClassCleanup(cls.postfix.__exit__, None, None, None)

    def send(self, recipient, sender="fred@example.org"):
        with self.mail.smtp() as smtp:
            smtp.sendmail(sender, [recipient], "Subject: hi\r\n\r\nbody\r\n")

    def fate(self, recipient, sender="fred@example.org"):
        """Sends; yields the delivery's line."""
        self.send(recipient, sender)
        pattern = r".*to=<%s>, .*status=.*" % re.escape(recipient)
        return self.mail.wait_for(lambda: re.search(pattern, self.mail.log()), 20, pattern).group(0)

    def server_log(self, server):
        path = {"exim": self.exim.dir + "/log/mainlog", "dovecot": self.dovecot + "/log"}.get(server, self.postfix.dir + "/log")
        with open(path, errors="replace") as file:
            return file.read()

    def assert_logged_in(self, server, mechanism, count=1):
        pattern = {"exim": r"A=\w+:fred", "dovecot": r"Login: user=<fred>, method=%s," % mechanism}.get(
            server, r"sasl_method=%s, sasl_username=fred" % mechanism)
        self.mail.wait_for(lambda: len(re.findall(pattern, self.server_log(server))) >= count, 5, "%s logs %s" % (server, pattern))

    def test_each_mechanism_at_each_server(self):
        for name, mechanism, servers in MECHANISMS:
            for server in servers.split():
                with self.subTest(server=server, mechanism=mechanism):
                    line = self.fate("a@%s.%s.auth.example" % (name, server))
                    self.assertIn("status=sent", line)
                    self.assert_logged_in(server, mechanism)

    def test_the_best_mechanism_is_taken(self):
        for server, mechanism in (("postfix", "SCRAM-SHA-256"), ("cyrus", "SCRAM-SHA-256"), ("dovecot", "SCRAM-SHA-256"), ("exim", "CRAM-MD5")):
            with self.subTest(server=server):
                self.assertIn("status=sent", self.fate("a@best.%s.auth.example" % server))
                self.assert_logged_in(server, mechanism)

    def test_a_wrong_password_waits_or_bounces(self):
        for server in HOSTS:
            with self.subTest(server=server):
                host = r"mx\.%s\.example\[%s\]" % (server, re.escape(HOSTS[server]))
                line = self.fate("a@wrong.%s.auth.example" % server)
                self.assertRegex(line, r"dsn=4\.\d\.\d+, status=deferred \(SASL authentication failed; server %s said: 535" % host)
                line = self.fate("a@hard.%s.auth.example" % server)
                self.assertRegex(line, r"dsn=5\.\d\.\d+, status=bounced \(SASL authentication failed; server %s said: 535" % host)

    def test_the_password_of_the_next_hops_domain(self):
        self.assertIn("status=sent", self.fate("a@bydomain.auth.example"))
        self.assert_logged_in("postfix", r"\S+")

    def test_the_password_of_the_sender(self):
        """Connections of one user are not used for the mail of another."""
        for number, (sender, user) in enumerate((("wilma@example.org", "wilma"), ("b@example.net", "fred"), ("fred@example.org", "anna"),
                                                 ("wilma@example.org", "wilma"), ("", "anna"))):
            with self.subTest(sender=sender):
                line = self.fate("s%d@bysender.postfix.auth.example" % number, sender)
                self.assertIn("status=sent", line)
                queued = re.search(r"queued as (\w+)\)", line).group(1)
                self.assertRegex(self.server_log("postfix"), r"%s: client=.*, sasl_username=%s\n" % (queued, user))

    def test_without_a_password_nobody_logs_in(self):
        line = self.fate("a@nothing.postfix.auth.example")
        self.assertRegex(line, r"status=(bounced|deferred) \(host .* said: 554 5\.7\.1 <a@nothing\.postfix\.auth\.example>: Recipient address rejected")

    def test_no_mechanism_is_good_enough(self):
        line = self.fate("a@secretive.postfix.auth.example")
        self.assertRegex(line, r"dsn=4\.7\.0, status=deferred \(SASL authentication failed: server mx\.postfix\.example\[192\.0\.2\.21\] offered "
                               r"no compatible authentication mechanisms for this type of connection security\)")


if __name__ == "__main__":
    unittest.main(verbosity=1)
