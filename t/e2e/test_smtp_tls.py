#!/usr/bin/env python3
"""TLS and logging in, as a client: every security level against good, bad and missing certificates; SASL mechanisms; resumption."""
import base64
import hashlib
import hmac
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from smtp_peer import Peer  # noqa: E402
from suite import Suite  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 300
EXTRA = """
transport_maps = regexp:{dir}/etc/transport
relay_domains =
smtp_tls_security_level = may
smtp_tls_loglevel = 1
smtp_tls_CAfile = {dir}/etc/ca.pem
smtp_tls_policy_maps = regexp:{dir}/etc/policy
smtp_helo_timeout = 3s
smtp_starttls_timeout = 3s
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""
MASTER = """
smtp unix - - n - 1 smtp
wrapped unix - - n - 1 smtp -o smtp_tls_wrappermode=yes -o smtp_tls_security_level=encrypt -o smtp_tls_policy_maps=
early unix - - n - 1 smtp -o smtp_tls_block_early_mail_reply=yes
login unix - - n - 1 smtp -o smtp_sasl_auth_enable=yes -o smtp_sasl_password_maps=static:fred:sesam
 -o smtp_sasl_security_options=noanonymous -o smtp_sasl_tls_security_options=noanonymous
cached unix - - n - 4 smtp -o smtp_sasl_auth_enable=yes -o smtp_sasl_password_maps=static:fred:falsch -o smtp_sasl_security_options=
 -o smtp_sasl_auth_cache_name=lmdb:{dir}/data/refused -o smtp_sasl_auth_soft_bounce=no
quiet unix - - n - 1 smtp -o smtp_tls_loglevel_maps=inline:{{localhost=0}}
"""


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import tempfile
        directory = tempfile.mkdtemp(prefix="postern-tls-")
        cls.mail = Suite(extra=EXTRA.format(dir=directory), master_extra=MASTER.replace("{dir}", directory).replace("{{", "{").replace("}}", "}"), port=PORT, directory=directory)
        etc = cls.mail.path("etc/")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test authority", "-keyout", etc + "ca.key",
                "-out", etc + "ca.pem")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", etc + "good.key", "-out", etc + "good.csr")
        with open(etc + "san", "w") as file:
            file.write("subjectAltName=DNS:localhost,DNS:*.wild.example\n")
        openssl("x509", "-req", "-in", etc + "good.csr", "-CA", etc + "ca.pem", "-CAkey", etc + "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", etc + "san", "-out", etc + "good.pem")
        cls.good = (etc + "good.pem", etc + "good.key")
        cls.own = (etc + "cert.pem", etc + "key.pem")          # self-signed, for localhost
        der = subprocess.run(["openssl", "x509", "-in", etc + "cert.pem", "-outform", "DER"], check=True, stdout=subprocess.PIPE).stdout
        print_ = hashlib.sha256(der).hexdigest().upper()
        cls.levels = {1: "none", 2: "may", 3: "encrypt", 4: "verify", 5: "secure match=localhost", 6: "secure match=other.example",
                      7: "fingerprint match=" + ":".join(print_[i:i + 2] for i in range(0, 64, 2)), 8: "fingerprint match=00:11",
                      9: "secure match=mx.wild.example", 10: "encrypt protocols=<=TLSv1.2", 11: "verify match=.wild.example", 12: "nonsense"}
        # The port's last two digits choose the level.
        cls.mail.write("etc/policy", "".join(r"/^\[localhost\]:[0-9]+%02d$/ %s" % pair + "\n" for pair in cls.levels.items()))
        cls.block = PORT + 100 - PORT % 100
        ports = [cls.block + 100 * block + level for block in range(60) for level in [*range(14), *range(20, 100, 10)]]
        rows = ""
        for kind, transport in (("u", "smtp"), ("w", "wrapped"), ("s", "login"), ("e", "early"), ("c", "cached"), ("q", "quiet")):
            rows += "if /@%s[0-9]/\n" % kind
            rows += "".join("/@%s%d%s\\.example$/ %s:[localhost]:%d\n" % (kind, port, "-.*" if kind == "u" else "", transport, port)
                            for port in ports) + "endif\n"
        cls.mail.write("etc/transport", rows)
        cls.mail.start()

    @classmethod
    def tearDownClass(cls):
        cls.mail.stop()

    def peer(self, level, **options):
        Tls.block += 100
        peer = Peer(port=Tls.block + level, **options)
        self.addCleanup(peer.close)
        return peer, Tls.block + level

    def send(self, recipient):
        with self.mail.smtp() as smtp:
            smtp.sendmail("fred@example.org", [recipient], "Subject: hi\r\n\r\nbody\r\n")

    def attempt(self, level, **options):
        peer, port = self.peer(level, **options)
        domain = "u%d-x.example" % port
        self.send("a@" + domain)
        line = self.mail.wait_log(r"to=<a@%s>.*" % re.escape(domain)).group(0)
        log = re.findall(r".* \w+ TLS connection \w+ to localhost\[127\.0\.0\.1\]:%d: .*" % port, self.mail.log())
        return peer, line, log[-1] if log else ""

    def test_levels_with_a_certificate_that_is_good(self):
        for level, word in ((2, "Trusted"), (3, "Trusted"), (4, "Verified"), (5, "Verified"), (9, "Verified"), (11, "Verified")):
            with self.subTest(level=self.levels[level]):
                peer, line, log = self.attempt(level, tls=self.good)
                self.assertIn("status=sent", line)
                self.assertTrue(peer.messages[0]["tls"])
                self.assertRegex(log, r": %s TLS connection established to .*: TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 \(256/256 bits\) "
                                      r"key-exchange X25519 server-signature RSA-PSS \(2048 bits\) server-digest SHA256" % word)

    def test_levels_with_a_certificate_that_nobody_knows(self):
        for level, word in ((2, "Untrusted"), (3, "Untrusted"), (7, "Verified")):
            with self.subTest(level=self.levels[level]):
                peer, line, log = self.attempt(level, tls=self.own)
                self.assertIn("status=sent", line)
                self.assertIn(": %s TLS connection established" % word, log)
        for level in (4, 5, 8):
            with self.subTest(level=self.levels[level]):
                peer, line, log = self.attempt(level, tls=self.own)
                self.assertRegex(line, r"dsn=4\.7\.5, status=deferred \(Server certificate not verified\)")
                self.assertNotIn("MAIL", peer.verbs())

    def test_a_refused_login_is_not_tried_again(self):
        def refuse(session, command):
            session.reply("AUTH", "535 5.7.8 wrong")
        peer, port = self.peer(1, auth=refuse, features=["AUTH PLAIN"])
        for n in range(3):
            self.send("%d@c%d.example" % (n, port))
            self.mail.wait_log(r"to=<%d@c%d\.example>.*dsn=5\.7\.8, status=bounced \(SASL %sauthentication failed; server localhost\[127\.0\.0\.1\] "
                        r"said: 535 5\.7\.8 wrong\)" % (n, port, r"\[CACHED\] " if n else ""))
        self.assertEqual(len([verb for verb in peer.verbs() if verb == "AUTH"]), 1)
        with open(self.mail.path("data/refused.lmdb"), "rb") as file:
            self.assertNotIn(b"falsch", file.read())

    def test_how_much_is_logged(self):
        peer, line, log = self.attempt(2, tls=self.own)
        self.assertIn(", tls=may, dsn=", line)
        peer, line, log = self.attempt(2)
        self.assertIn(", tls=may:none, dsn=", line)
        peer, line, log = self.attempt(4, tls=self.own)
        self.assertIn(", tls=!verify:encrypt, dsn=", line)
        peer, line, log = self.attempt(4, tls=self.good)
        self.assertIn(", tls=verify, dsn=", line)
        peer, port = self.peer(2, tls=self.good)
        self.send("a@q%d.example" % port)
        self.mail.wait_log(r"to=<a@q%d\.example>.*status=sent" % port)
        self.assertFalse(re.search(r"TLS connection established to localhost\[127\.0\.0\.1\]:%d" % port, self.mail.log()))

    def test_the_wrong_name(self):
        peer, line, log = self.attempt(6, tls=self.good)
        self.assertRegex(line, r"dsn=4\.7\.5, status=deferred \(Server certificate not verified\)")
        self.assertIn(": Trusted TLS", log)

    def test_without_tls(self):
        peer, line, log = self.attempt(1, tls=self.good)
        self.assertFalse(peer.messages[0]["tls"])
        peer, line, log = self.attempt(2)
        self.assertIn("status=sent", line)
        for level in (3, 4, 7):
            peer, line, log = self.attempt(level)
            self.assertRegex(line, r"dsn=4\.7\.4, status=deferred \(TLS is required, but was not offered by host localhost\[127")
        peer, line, log = self.attempt(3, tls=self.good, replies={"STARTTLS": "454 4.7.0 no"})
        self.assertRegex(line, r"status=deferred \(TLS is required, but host localhost\[127\.0\.0\.1\] refused to start TLS: 454 4\.7\.0 no\)")
        peer, line, log = self.attempt(2, tls=self.good, replies={"STARTTLS": "454 4.7.0 no"})
        self.assertIn("status=sent", line)

    def test_a_policy_that_is_nonsense_keeps_the_mail(self):
        peer, line, log = self.attempt(12, tls=self.good)
        self.assertRegex(line, r"dsn=4\.7\.5, status=deferred \(client TLS configuration problem\)")

    def test_protocols(self):
        peer, line, log = self.attempt(10, tls=self.good)
        self.assertIn("TLSv1.2 with cipher", log)

    def test_replies_to_what_was_not_sent_are_noticed(self):
        said = iter(["250-peer\n250 STARTTLS", "250-peer\n250 8BITMIME\n250 2.1.0 for the MAIL of somebody else"])
        peer, port = self.peer(3, tls=self.good, replies={"EHLO": lambda _: next(said, "")})
        self.send("a@e%d.example" % port)
        self.mail.wait_log(r"to=<a@e%d\.example>.*dsn=4\.7\.0, status=deferred \(host localhost\[127\.0\.0\.1\] answered commands that were not sent\)" % port)
        self.assertNotIn("MAIL", peer.verbs())

    def test_replies_in_front_of_the_handshake_are_dropped(self):
        # What somebody in the middle adds behind "220" must not be taken for the server's words under TLS.
        peer, line, log = self.attempt(3, tls=self.good, replies={"STARTTLS": "220 go\n250-injected\n250 CHUNKING"})
        self.assertIn("status=sent" if peer.messages else "status=deferred", line)
        self.assertTrue(all(message["tls"] for message in peer.messages))
        self.assertEqual(peer.verbs()[:3], ["EHLO", "STARTTLS", "EHLO"])

    def test_sessions_are_resumed(self):
        peer, port = self.peer(3, tls=self.good)
        for i in range(3):
            self.send("a%d@u%d-y.example" % (i, port))
            self.mail.wait_log(r"to=<a%d@u%d-y\.example>.*status=sent" % (i, port))
        self.mail.wait_log(r"TLS connection reused to localhost\[127\.0\.0\.1\]:%d" % port)
        self.assertGreaterEqual(peer.reused, 1)

    def test_wrapped(self):
        peer, port = self.peer(50, tls=self.own, wrapped=True)
        self.send("a@w%d.example" % port)
        self.mail.wait_log(r"to=<a@w%d\.example>.*status=sent" % port)
        self.assertTrue(peer.messages[0]["tls"])
        self.assertNotIn("STARTTLS", peer.verbs())

    def login(self, mechanisms, auth, **options):
        peer, port = self.peer(60, features=["PIPELINING", "AUTH " + mechanisms], auth=auth, **options)
        self.send("a@s%d.example" % port)
        return peer, self.mail.wait_log(r"to=<a@s%d\.example>.*" % port).group(0)

    def test_plain_and_login(self):
        said = []

        def plain(talk, command):
            said.append(base64.b64decode(command.split(" ")[2]))
            talk.say("235 2.7.0 welcome")
        peer, line = self.login("PLAIN LOGIN", plain)
        self.assertIn("status=sent", line)
        self.assertEqual(said, [b"\0fred\0sesam"])

        def login(talk, command):
            talk.say("334 VXNlcm5hbWU6")
            said.append(base64.b64decode(talk.line()))
            talk.say("334 UGFzc3dvcmQ6")
            said.append(base64.b64decode(talk.line()))
            talk.say("235 2.7.0 welcome")
        peer, line = self.login("LOGIN", login)
        self.assertIn("status=sent", line)
        self.assertEqual(said[1:], [b"fred", b"sesam"])
        self.assertNotIn("sesam", self.mail.log())

    def test_cram_md5(self):
        def cram(talk, command):
            challenge = b"<1.2@peer.example>"
            talk.say("334 " + base64.b64encode(challenge).decode())
            wanted = b"fred " + hmac.new(b"sesam", challenge, "md5").hexdigest().encode()
            talk.say("235 2.7.0 ok" if base64.b64decode(talk.line()) == wanted else "535 5.7.8 no")
        peer, line = self.login("CRAM-MD5 PLAIN", cram)
        self.assertIn("status=sent", line)

    def scram(self, talk, command, honest=True):
        mechanism = command.split(" ")[1]
        digest = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}[mechanism]
        first = base64.b64decode(command.split(" ")[2]).decode()
        bare = first.split(",", 2)[2]
        nonce = re.search(r"r=([^,]+)", bare).group(1) + "server"
        salt = b"salt"
        server = "r=%s,s=%s,i=4096" % (nonce, base64.b64encode(salt).decode())
        talk.say("334 " + base64.b64encode(server.encode()).decode())
        final = base64.b64decode(talk.line()).decode()
        without = final.rsplit(",p=", 1)[0]
        message = ",".join((bare, server, without)).encode()
        salted = hashlib.pbkdf2_hmac(digest, b"sesam" if honest else b"guess", salt, 4096)
        key = hmac.new(salted, b"Server Key", digest).digest()
        verifier = "v=" + base64.b64encode(hmac.new(key, message, digest).digest()).decode()
        talk.say("334 " + base64.b64encode(verifier.encode()).decode())
        if talk.line() != b"*":
            talk.say("235 2.7.0 ok")
        else:
            talk.say("501 5.7.0 cancelled")

    def test_scram(self):
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            with self.subTest(mechanism=mechanism):
                peer, line = self.login(mechanism + " PLAIN", self.scram)
                self.assertIn("status=sent", line)
                peer, line = self.login(mechanism + " PLAIN", lambda talk, command: self.scram(talk, command, honest=False))
                self.assertRegex(line, r"dsn=4\.7\.0, status=deferred \(SASL authentication failed; cannot authenticate to server")

    def test_a_refused_log_in(self):
        peer, line = self.login("PLAIN", lambda talk, command: talk.say("535 5.7.8 bad password"))
        self.assertRegex(line, r"dsn=4\.7\.8, status=deferred \(SASL authentication failed; server localhost\[127\.0\.0\.1\] said: "
                               r"535 5\.7\.8 bad password\)")


if __name__ == "__main__":
    unittest.main(verbosity=1)
