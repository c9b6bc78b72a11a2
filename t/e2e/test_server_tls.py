#!/usr/bin/env python3
"""TLS as a server, as administrators set it up: keys of two algorithms, keys by server name, cipher grades, client certificates."""
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import BIN, Suite  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 900
EXTRA = """
smtpd_tls_eccert_file = {dir}/etc/ec.pem
smtpd_tls_eckey_file = {dir}/etc/ec.key
smtpd_tls_ask_ccert = yes
smtpd_tls_CApath = {dir}/etc/authorities
smtpd_tls_fingerprint_digest = sha256
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
tls_server_sni_maps = lmdb:{dir}/etc/sni
relay_clientcerts = lmdb:{dir}/etc/clients
smtpd_recipient_restrictions = check_ccert_access lmdb:{dir}/etc/ccert_access
smtpd_relay_restrictions = permit_tls_clientcerts, reject_unauth_destination
mynetworks =
"""
STRICT = """127.0.0.1:%d inet n - n - 1 smtpd -o smtpd_tls_security_level=encrypt
 -o smtpd_tls_mandatory_ciphers=high -o smtpd_tls_mandatory_exclude_ciphers=AES128,CAMELLIA,ARIA -o smtpd_tls_mandatory_protocols=<=TLSv1.2
 -o smtpd_tls_session_cache_timeout=0
127.0.0.1:%d inet n - n - 1 smtpd -o smtpd_tls_eecdh_grade=ultra
127.0.0.1:%d inet n - n - 1 smtpd -o tls_trust_server_ccerts=yes
127.0.0.1:%d inet n - n - 1 smtpd -o smtpd_tls_loglevel=0 -o smtpd_tls_wrappermode=yes
 -o smtpd_tls_loglevel_maps=inline:{127.0.0.1=1} -o syslog_name=postfix/talkative
127.0.0.1:%d inet n - n - 1 smtpd -o smtpd_tls_loglevel_maps=inline:{127.0.0.1=0} -o syslog_name=postfix/quiet
"""


def openssl(*words):
    return subprocess.run(["openssl", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


class ServerTls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.mkdtemp(prefix="postern-server-tls-")
        cls.mail = Suite(extra=EXTRA.format(dir=directory), master_extra=STRICT % tuple(range(PORT + 10, PORT + 15)), port=PORT,
                         directory=directory)
        etc = cls.etc = cls.mail.path("etc/")
        for name in ("ca", "stranger"):
            openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Authority " + name,
                    "-keyout", etc + name + ".key", "-out", etc + name + ".pem")
        cls.prints = {name: cls.certificate(name, issuer, purpose) for name, issuer, purpose in (
            ("ec", "ca", "serverAuth"), ("shop.example", "ca", "serverAuth"), ("friend", "ca", "clientAuth"),
            ("other", "ca", "clientAuth"), ("foe", "stranger", "clientAuth"), ("machine", "ca", "serverAuth"))}
        os.mkdir(etc + "authorities")
        name = openssl("x509", "-in", etc + "ca.pem", "-noout", "-subject_hash").decode().strip()
        os.rename(etc + "ca.pem", etc + "authorities/" + name + ".0")
        for name in os.listdir(etc):
            if name.endswith((".key", ".pem")):
                os.chmod(etc + name, 0o644)     # throw-away keys; the suite runs as nobody
        cls.table("sni", "shop.example %sshop.example.key, %sshop.example.pem\n.wild.example %sshop.example.key %sshop.example.pem\n"
                  % (etc, etc, etc, etc), "-F")
        cls.table("clients", "%s friend\n%s machine\n" % (cls.prints["friend"], cls.prints["machine"]))
        cls.table("ccert_access", "%s 550 5.7.1 not you\n" % cls.prints["foe"])
        cls.mail.start()

    @classmethod
    def certificate(cls, name, issuer, purpose):
        etc = cls.etc
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + name,
                "-keyout", etc + name + ".key", "-out", etc + name + ".csr")
        with open(etc + name + ".ext", "w") as file:
            file.write("extendedKeyUsage=%s\n" % purpose)
        openssl("x509", "-req", "-in", etc + name + ".csr", "-CA", etc + issuer + ".pem", "-CAkey", etc + issuer + ".key",
                "-CAcreateserial", "-days", "2", "-extfile", etc + name + ".ext", "-out", etc + name + ".pem")
        text = openssl("x509", "-in", etc + name + ".pem", "-noout", "-fingerprint", "-sha256").decode()
        return text.strip().split("=")[1]

    @classmethod
    def table(cls, name, text, *options):
        cls.mail.write("etc/" + name, text)
        subprocess.run([os.path.join(BIN, "postmap"), "-c", cls.mail.path("etc"), *options, "lmdb:" + cls.etc + name], check=True)
        os.chmod(cls.etc + name + ".lmdb", 0o644)

    @classmethod
    def tearDownClass(cls):
        cls.mail.stop()

    def context(self, certificate=None):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(self.etc + certificate + ".pem", self.etc + certificate + ".key")
        return context

    def subject(self, port, name=None, ciphers=None):
        """The subject of the certificate that a client gets on a port that speaks TLS at once, and the cipher."""
        context = self.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if ciphers:
            context.set_ciphers(ciphers)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            with context.wrap_socket(connection, server_hostname=name) as secure:
                der = secure.getpeercert(True)
                cipher = secure.cipher()[0]
        text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der, check=True,
                              stdout=subprocess.PIPE).stdout.decode()
        return re.search(r"CN ?= ?(.*)", text).group(1), cipher

    def test_each_client_gets_a_key_it_can_use(self):
        port = self.mail.port["smtps"]
        self.assertEqual(self.subject(port, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")[0], "ec")
        self.assertEqual(self.subject(port, ciphers="ECDHE-RSA-AES256-GCM-SHA384")[0], "localhost")

    def test_keys_by_server_name(self):
        for port in (self.mail.port["smtps"], self.mail.port["imaps"], self.mail.port["pop3s"]):
            with self.subTest(port=port):
                self.assertEqual(self.subject(port, "shop.example")[0], "shop.example")
                self.assertEqual(self.subject(port, "SHOP.example")[0], "shop.example")
                self.assertEqual(self.subject(port, "a.b.wild.example")[0], "shop.example")
                self.assertIn(self.subject(port, "wild.example")[0], ("ec", "localhost"))
                self.assertIn(self.subject(port)[0], ("ec", "localhost"))

    def test_a_table_without_base64_is_named_in_the_log(self):
        extra = "tls_server_sni_maps = inline:{{shop.example=no base64!}}\n"
        with Suite(extra=extra, port=PORT + 20) as mail:
            with self.assertRaises(ssl.SSLError):
                self.subject(mail.port["smtps"], "shop.example")
            self.assertEqual(self.subject(mail.port["smtps"], "else.example")[0], "localhost")
            self.assertIn('the entry of "shop.example" is not base64: make the table with postmap -F', mail.log())

    def test_grades_and_exclusions(self):
        def session(port, ciphers):
            context = self.context()
            context.set_ciphers(ciphers)
            with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
                smtp.starttls(context=context)
                smtp.ehlo()
                return smtp.sock.version(), smtp.sock.cipher()[0], smtp.sock.session.has_ticket

        self.assertEqual(session(PORT + 10, "ECDHE-RSA-AES256-GCM-SHA384"), ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", False))
        with self.assertRaises(ssl.SSLError):
            session(PORT + 10, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
        self.assertEqual(session(self.mail.port["smtp"], "ECDHE-RSA-AES128-GCM-SHA256")[0], "TLSv1.3")

    def test_how_much_is_logged_of_a_client(self):
        with smtplib.SMTP_SSL("127.0.0.1", PORT + 13, context=self.context()) as client:
            client.noop()
        with smtplib.SMTP("127.0.0.1", PORT + 14) as client:
            client.starttls(context=self.context())
            client.noop()
        self.mail.wait_for(lambda: re.search(r"postfix/quiet/smtpd\[\d+\]: disconnect", self.mail.log()), 10, "the end of the session")
        self.assertRegex(self.mail.log(), r"postfix/talkative/smtpd\[\d+\]: \w+ TLS connection established from unknown\[127\.0\.0\.1\]: TLSv1")
        self.assertNotRegex(self.mail.log(), r"postfix/quiet/smtpd\[\d+\]: \w+ TLS connection")

    def test_the_ultra_grade_of_curves(self):
        def handshake(curve):
            run = subprocess.run(["openssl", "s_client", "-starttls", "smtp", "-connect", "127.0.0.1:%d" % (PORT + 11), "-groups", curve],
                                 input=b"QUIT\r\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
            return b"Server Temp Key: ECDH" in run.stdout

        self.assertTrue(handshake("secp384r1"))
        self.assertFalse(handshake("prime256v1"))

    def relay(self, certificate, port=None):
        """What a client with this certificate hears when it wants to relay."""
        with smtplib.SMTP("127.0.0.1", port or self.mail.port["smtp"], timeout=10) as smtp:
            smtp.starttls(context=self.context(certificate))
            smtp.ehlo("c.example")
            smtp.mail("a@else.example")
            return smtp.rcpt("b@far.example")

    def test_client_certificates(self):
        self.assertEqual(self.relay("friend")[0], 250)
        self.assertEqual(self.relay("other")[0], 554)
        self.assertEqual(self.relay(None)[0], 554)
        with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=10) as smtp:
            smtp.starttls(context=self.context("foe"))
            smtp.ehlo("c.example")
            smtp.mail("a@else.example")
            code, text = smtp.rcpt("fred@example.org")
            self.assertEqual(code, 550)
            self.assertRegex(text.decode(), r"Client certificate rejected: not you|not you")
        log = self.mail.log()
        self.assertRegex(log, r"Trusted TLS connection established from \S+: TLSv1\.3")
        self.assertRegex(log, r"Untrusted TLS connection established from \S+: TLSv1\.3")

    def test_a_server_certificate_in_a_clients_hand(self):
        # Trusted or not is about authentication; relay_clientcerts lists fingerprints, so it may relay all the same.
        self.relay("machine")
        self.relay("machine", PORT + 12)
        trust = re.findall(r"(Trusted|Untrusted) TLS connection established from \S+ ?.*", self.mail.log())
        self.assertEqual(trust[-2:], ["Untrusted", "Trusted"])

    def test_the_received_field_names_the_certificate(self):
        with smtplib.SMTP("127.0.0.1", self.mail.port["smtp"], timeout=10) as smtp:
            smtp.starttls(context=self.context("friend"))
            smtp.ehlo("c.example")
            smtp.sendmail("a@else.example", ["fred@example.org"], "Subject: certified\r\n\r\nhello\r\n")
        text = self.mail.wait_for(lambda: [text for text in self.mail.messages("fred") if "certified" in text], 20, "the message")[0]
        self.assertRegex(text, r"\(using TLSv1\.3 with cipher \S+ \(256/256 bits\)\n\t key-exchange X25519 server-signature \S+ \([^)]*\) "
                               r"server-digest SHA256\n\s+client-signature ECDSA \(prime256v1\) client-digest SHA256\)\n")
        self.assertRegex(text, r'\(Client CN "friend", Issuer "Authority ca" \(verified OK\)\)')


if __name__ == "__main__":
    unittest.main()
