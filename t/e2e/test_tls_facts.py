#!/usr/bin/env python3
"""What the log and the Received field say about TLS, with the same clients and servers, here and in Debian's Postfix: TLS 1.2 and 1.3, client
certificates of a known authority, of a stranger and none; and OpenSSL's own configuration (tls_config_file).  Needs Postfix, and root."""
import os
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import Suite, texts

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
# name -> service, version, certificate of the client, its ciphers for TLS 1.2
CLIENTS = {"none": (0, V13, "", ""), "friend": (0, V13, "friend", ""), "foe": (0, V13, "foe", ""), "old": (0, V12, "", ""), "old-friend": (0, V12, "friend", ""),
           "old-foe": (0, V12, "foe", ""), "chacha": (0, V12, "", "ECDHE-RSA-CHACHA20-POLY1305"), "dhe": (0, V12, "", "DHE-RSA-AES256-GCM-SHA384"),
           "plain-rsa": (0, V12, "", "AES256-SHA256"), "ec-friend": (0, V13, "ec", ""), "unasked": (1, V13, "", ""), "unasked-12": (1, V12, "", ""),
           "configured": (2, V13, "", ""), "unconfigured": (3, V13, "", ""), "by-default": (4, V13, "", "")}
SERVICES = ("-o smtpd_tls_ask_ccert=yes", "", "-o tls_config_file={w}/openssl.cnf -o tls_config_name=mail", "-o tls_config_file=none", "-o tls_config_file={w}/openssl.cnf")
# name -> version that the server speaks, options of the client
SERVERS = {"s13": (V13, ""), "s12": (V12, ""), "trusted": (V13, "-o smtp_tls_CAfile={w}/ca.pem"), "verified": (V12, "-o smtp_tls_CAfile={w}/ca.pem -o "
           "smtp_tls_security_level=verify"), "conf": (V13, "-o tls_config_file={w}/openssl.cnf -o tls_config_name=mail"),
           "cert": (V13, "-o smtp_tls_cert_file={w}/friend.pem -o smtp_tls_key_file={w}/friend.key"), "curves": (V13, "-o tls_eecdh_auto_curves=prime256v1")}
PORTS = {name: BASE + 200 + i for i, name in enumerate(SERVERS)}
OPENSSL = """mail = mail_settings
openssl_conf = all_settings
[mail_settings]
ssl_conf = mail_ssl
[mail_ssl]
system_default = mail_baseline
[mail_baseline]
Ciphersuites = TLS_AES_128_GCM_SHA256
[all_settings]
ssl_conf = all_ssl
[all_ssl]
system_default = all_baseline
[all_baseline]
Ciphersuites = TLS_CHACHA20_POLY1305_SHA256
"""
MAIN = """
smtpd_tls_cert_file = {w}/server.pem
smtpd_tls_key_file = {w}/server.key
smtpd_tls_CAfile = {w}/ca.pem
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_loglevel = 1
smtpd_tls_mandatory_ciphers = medium
smtp_tls_security_level = may
smtp_host_lookup = native
smtp_tls_loglevel = 1
smtpd_relay_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
relay_domains =
tls_preempt_cipherlist = no
transport_maps = inline:{ %s }
"""


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_keys(where):
    for name in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Authority " + name, "-keyout", where + name + ".key", "-out", where + name + ".pem")
    for name, issuer, kind in (("server", "ca", ["rsa:2048"]), ("friend", "ca", ["rsa:2048"]), ("foe", "stranger", ["rsa:2048"]),
                               ("ec", "ca", ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])):
        openssl("req", "-newkey", *kind, "-nodes", "-subj", "/CN=" + ("localhost" if name == "server" else name), "-keyout", where + name + ".key", "-out", where + name + ".csr")
        with open(where + name + ".ext", "w") as file:
            file.write("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", where + name + ".csr", "-CA", where + issuer + ".pem", "-CAkey", where + issuer + ".key", "-CAcreateserial", "-days", "2",
                "-extfile", where + name + ".ext", "-out", where + name + ".pem")
    for name in os.listdir(where):
        os.chmod(where + name, 0o644)   # throw-away keys; the suite runs as nobody


def context(side, version, where, certificate, ciphers=""):
    out = ssl.SSLContext(side)
    out.check_hostname = False
    out.verify_mode = ssl.CERT_NONE
    out.minimum_version = out.maximum_version = version
    if ciphers:
        out.set_ciphers(ciphers + ":@SECLEVEL=0")
    if certificate:
        out.load_cert_chain(where + certificate + ".pem", where + certificate + ".key")
    return out


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class TlsFacts(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        top = tempfile.mkdtemp(prefix="postern-facts-")
        cls.addClassCleanup(shutil.rmtree, top, True)
        os.chmod(top, 0o755)
        cls.where = top + "/keys/"
        os.mkdir(cls.where)
        make_keys(cls.where)
        with open(cls.where + "openssl.cnf", "w") as file:
            file.write(OPENSSL)
        main = MAIN.replace("%s", ", ".join("%s.example=%s:[localhost]:%d" % (name, name, PORTS[name]) for name in SERVERS)).replace("{w}", cls.where)
        rows = "".join("127.0.0.1:{%d} inet n - n - 1 smtpd %s\n" % (i, options) for i, options in enumerate(SERVICES))
        rows += "".join("%s unix - - n - 1 smtp %s\n" % (name, options) for name, (_, options) in SERVERS.items())
        rows = rows.replace("{w}", cls.where)

        def at(first):
            return re.sub(r"(?m)^127\.0\.0\.1:\{(\d)\}", lambda row: "127.0.0.1:%d" % (first + int(row.group(1))), rows)
        with postfix_peer.Postfix(top, BASE + 50, main, at(BASE + 300)) as postfix:
            cls.theirs = cls.run_all(BASE + 50, BASE + 300, postfix)
        mail = Suite(main, at(BASE + 320))
        mail.start()
        try:
            cls.ours = cls.run_all(mail.port["smtp"], BASE + 320, mail)
        finally:
            mail.stop()

    @classmethod
    def run_all(cls, port, first, mail):
        peers = {name: Peer(PORTS[name], tls=(cls.where + "server.pem", cls.where + "server.key")) for name in SERVERS}
        for name, peer in peers.items():
            peer.context.minimum_version = peer.context.maximum_version = SERVERS[name][0]
        for name, (service, version, certificate, ciphers) in CLIENTS.items():
            with smtplib.SMTP("127.0.0.1", first + service, timeout=30) as client:
                client.starttls(context=context(ssl.PROTOCOL_TLS_CLIENT, version, cls.where, certificate, ciphers))
                client.sendmail("fred@example.org", ["wilma@example.org"], "Subject: %s\r\n\r\nx\r\n" % name)
        for name in SERVERS:
            with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
                client.sendmail("fred@example.org", ["a@%s.example" % name], "Subject: x\r\n\r\nx\r\n")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and (len(mail.mailbox("wilma")) < len(CLIENTS) or any(not peer.messages for peer in peers.values())):
            time.sleep(0.1)
        received = {}
        for text in texts(mail.mailbox("wilma")):
            name = re.search(r"(?m)^Subject: (.*)", text).group(1)
            field = re.search(r"(?m)^Received: .*\n(?:[ \t].*\n)*", text).group(0)
            received[name] = re.sub(r"by (\S+) \(\w+\)", r"by \1", re.sub(r"id \w+|;[^;]*$", "", field))
        log = mail.log()
        for peer in peers.values():
            peer.close()
        return {"received": received, "from": re.findall(r"smtpd\[\d+\]: (\w+ TLS connection established from .*)", log),
                "to": {name: re.search(r"(?m)(\w+ TLS connection established to \S+:%d: .*)" % PORTS[name], log) for name in SERVERS}}

    def test_received(self):
        self.assertEqual(set(self.theirs["received"]), set(CLIENTS))
        for name in CLIENTS:
            with self.subTest(name):
                self.assertEqual(self.ours["received"].get(name), self.theirs["received"][name])

    def test_log_of_the_server(self):
        self.assertEqual(len(self.theirs["from"]), len(CLIENTS))
        for name, mine, other in zip(CLIENTS, self.ours["from"], self.theirs["from"]):
            with self.subTest(name):
                self.assertEqual(mine, other)

    def test_log_of_the_client(self):
        for name in SERVERS:
            with self.subTest(name):
                self.assertIsNotNone(self.theirs["to"][name])
                self.assertIsNotNone(self.ours["to"][name])
                self.assertEqual(self.ours["to"][name].group(1), self.theirs["to"][name].group(1))

    def test_openssl_configuration(self):
        for name, cipher in (("configured", "TLS_AES_128_GCM_SHA256"), ("by-default", "TLS_CHACHA20_POLY1305_SHA256"), ("unconfigured", "TLS_AES_256_GCM_SHA384")):
            with self.subTest(name):
                self.assertIn(cipher, self.ours["received"][name])
        self.assertIn("TLS_AES_128_GCM_SHA256", self.ours["to"]["conf"].group(1))


@unittest.skipUnless(postfix_peer.available(), "not root")
class BadConfiguration(unittest.TestCase):
    def test_mistakes_are_named(self):
        with tempfile.TemporaryDirectory(prefix="postern-facts-") as where:
            os.chmod(where, 0o755)
            for name, text in (("broken", "[x\n"), ("wrong", OPENSSL.replace("TLS_AES", "TLS_NONE"))):
                with open(where + "/" + name, "w") as file:
                    file.write(text)
            for file, section, words in (
                    ("relative.cnf", "", r'parameter tls_config_file: "relative\.cnf" is not default, none or an absolute path'),
                    (where + "/missing", "", r"tls_config_file /\S*/missing.*"),
                    (where + "/broken", "", r"tls_config_file /\S*/broken, line 1: "),
                    (where + "/wrong", "nothing", r'tls_config_file /\S*/wrong has no settings for "nothing" \(tls_config_name\)')):
                with self.subTest(file):
                    mail = Suite("", "127.0.0.1:%d inet n - n - 1 smtpd -o tls_config_file=%s -o tls_config_name=%s\n" % (BASE + 310, file, section))
                    try:
                        mail.start()
                        with socket.create_connection(("127.0.0.1", BASE + 310)):   # services start when somebody comes
                            mail.wait_log(words)
                    finally:
                        mail.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
