#!/usr/bin/env python3
"""MTA-STS in a small internet of the test's own: name server, web servers with policies, and mail servers with good and bad
certificates.  Needs root."""
import email
import gzip
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from dns_world import World  # noqa: E402
from smtp_peer import Peer  # noqa: E402
from suite import PATIENCE, Suite  # noqa: E402

# domain -> (address of its MX host, name of the MX host)
WEB = "192.0.2.80"
HOSTS = {"good": ("192.0.2.20", "mx.good.example"), "wrong": ("192.0.2.21", "mx.wrong.example"), "alien": ("192.0.2.22", "mx.alien.example"),
         "clear": ("192.0.2.23", "mx.clear.example"), "testing": ("192.0.2.24", "mx.testing.example"), "none": ("192.0.2.25", "mx.none.example"),
         "redirect": ("192.0.2.26", "mx.redirect.example"), "html": ("192.0.2.27", "mx.html.example"), "badweb": ("192.0.2.28", "mx.badweb.example"),
         "change": ("192.0.2.29", "mx.change.example"), "plain": ("192.0.2.30", "mx.plain.example"), "long": ("192.0.2.31", "mx.long.example"),
         "table": ("192.0.2.32", "mx.table.example"), "second": ("192.0.2.33", "mx.second.example"),
         "again": ("192.0.2.34", "mx.again.example"), "traced": ("192.0.2.35", "mx.traced.example")}
RECORDS = []
for label, (address, host) in HOSTS.items():
    RECORDS += ["%s.example. MX 10 %s." % (label, host), "%s. A %s" % (host, address)]
    if label not in ("plain", "table", "again"):
        RECORDS += ["_mta-sts.%s.example. 1 TXT \"v=STSv1; id=1;\"" % label, "mta-sts.%s.example. A %s" % (label, WEB)]
RECORDS += ["_smtp._tls.%s.example. TXT \"v=TLSRPTv1; rua=mailto:wilma@example.org\"" % label for label in HOSTS if label not in ("good", "none")]
RECORDS += ["_smtp._tls.good.example. TXT \"v=TLSRPTv1; rua=mailto:wilma@example.org,https://reports.example/tls\"",
            "reports.example. A " + WEB]
RECORDS += ["second.example. MX 5 mx.good.example.", "traced.example. MX 20 mx.good.example."]   # not in its policy
EXTRA = """
transport_maps = inline:{{ again.example=skipping: }}
inet_protocols = ipv4
smtp_tls_security_level = may
smtp_tls_loglevel = 1
smtp_tls_CAfile = {dir}/ca.pem
smtp_tls_policy_maps = inline:{{ {{ table.example = secure policy_type=sts policy_domain=table.example mx_host_pattern=*.other.example }} }}
smtp_tlsrpt_enable = yes
tlsrpt_organization_name = Example Organisation
smtp_starttls_timeout = 5s
smtp_destination_concurrency_limit = 5
minimal_backoff_time = 600s
maximal_backoff_time = 600s
"""
MASTER = """
smtp unix - - n - 1 smtp
skipping unix - - n - 1 smtp -o smtp_tlsrpt_skip_reused_handshakes=yes
mta-sts unix - - n - 1 mta-sts
tlsrpt unix - - n 900 1 tlsrpt
"""


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Authority:
    """Certificates for any names."""

    def __init__(self, where):
        self.where = where
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test authority", "-keyout", where + "/ca.key",
                "-out", where + "/ca.pem")

    def certificate(self, *names, signed=True):
        path = "%s/%s%s" % (self.where, names[0], "" if signed else ".own")
        if signed:
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", path + ".key", "-out", path + ".csr")
            with open(path + ".san", "w") as file:
                file.write("subjectAltName=" + ",".join("DNS:" + name for name in names) + "\n")
            openssl("x509", "-req", "-in", path + ".csr", "-CA", self.where + "/ca.pem", "-CAkey", self.where + "/ca.key", "-CAcreateserial",
                    "-days", "2", "-extfile", path + ".san", "-out", path + ".pem")
        else:
            openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + names[0], "-keyout", path + ".key",
                    "-out", path + ".pem", "-addext", "subjectAltName=DNS:" + names[0])
        return path + ".pem", path + ".key"


class Web:
    """All the web servers: policies by host name."""

    def __init__(self, certificate, policies=None, address=WEB):
        self.policies, self.asked, self.posted = policies or {}, [], []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                host = self.headers["Host"]
                web.asked.append((host, self.path))
                status, kind, body = web.policies.get(host, (404, "text/plain", "")) if self.path == "/.well-known/mta-sts.txt" else (404, "text/plain", "")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if status == 301:
                    self.send_header("Location", "https://mta-sts.good.example/.well-known/mta-sts.txt")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_POST(self):
                web.posted.append((self.headers["Host"], self.path, self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer((address, 443), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, label, mode, *mx, max_age=86400):
        text = "version: STSv1\r\nmode: %s\r\n" % mode + "".join("mx: %s\r\n" % name for name in mx) + "max_age: %d\r\n" % max_age
        self.policies["mta-sts.%s.example" % label] = (200, "text/plain; charset=utf-8", text)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class MtaSts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = tempfile.mkdtemp(prefix="postern-sts-")
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        os.chmod(cls.where, 0o755)
        cls.world = World(cls.where, [WEB] + [address for address, _ in HOSTS.values()], ["example."], RECORDS)
        cls.addClassCleanup(cls.world.close)
        authority = cls.authority = Authority(cls.where)
        cls.web_names = ["mta-sts.%s.example" % label for label in HOSTS if label != "badweb"] + ["reports.example"]
        cls.web = Web(authority.certificate(*cls.web_names))
        good = authority.certificate(*[host for label, (_, host) in HOSTS.items() if label != "wrong"])
        own = authority.certificate("mx.alien.example", signed=False)
        cls.peers = {}
        for label, (address, host) in HOSTS.items():
            cls.peers[label] = Peer(port=25, address=address, name=host, tls=None if label == "clear" else own if label in ("alien", "testing") else good)
            cls.addClassCleanup(cls.peers[label].close)
        for label in ("good", "wrong", "alien", "clear", "redirect", "badweb", "change", "second", "traced"):
            cls.web.publish(label, "enforce", "*.%s.example" % label)
        cls.web.publish("testing", "testing", "elsewhere.example")
        cls.web.publish("none", "none")
        cls.web.publish("long", "enforce", *["a.example"] * 5000)
        cls.web.policies["mta-sts.redirect.example"] = (301, "text/plain", "moved")
        text = cls.web.policies["mta-sts.good.example"][2].replace("good", "nowhere")
        cls.web.policies["mta-sts.html.example"] = (200, "text/html", text)
        cls.mail = Suite(extra=EXTRA.format(dir=cls.where), master_extra=MASTER)
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()

    def attempt(self, label, user="a", seconds=20):
        """Sends to USER@LABEL.example; yields the delivery's line in the log."""
        with self.mail.smtp() as smtp:
            smtp.sendmail("fred@example.org", ["%s@%s.example" % (user, label)], "Subject: hi\r\n\r\nbody\r\n")
        pattern = r".*to=<%s@%s\.example>.*" % (user, label)
        return self.mail.wait_for(lambda: re.search(pattern, self.mail.log()), seconds, pattern).group(0)

    def assert_sent(self, label, tls, user="a"):
        line = self.attempt(label, user)
        self.assertIn("status=sent", line)
        self.assertEqual(self.peers[label].messages[-1]["tls"], tls)
        return line

    def assert_deferred(self, label, text, user="a"):
        line = self.attempt(label, user)
        self.assertRegex(line, r"dsn=4\.7\.\d+, status=deferred \(%s" % text)
        self.assertFalse(self.peers[label].messages)

    def test_enforced_and_kept(self):
        self.assert_sent("good", True)
        self.assertRegex(self.mail.log(), r"Verified TLS connection (established|reused) to mx\.good\.example\[192\.0\.2\.20\]:25")
        self.assertIn("policy of good.example: mode enforce, id 1, max_age 86400", self.mail.log())

    def test_enforced_against_a_certificate_for_another_name(self):
        self.assert_deferred("wrong", r"Server certificate not verified\)")

    def test_enforced_against_a_certificate_of_nobody(self):
        self.assert_deferred("alien", r"Server certificate not verified\)")

    def test_enforced_against_a_server_without_tls(self):
        self.assert_deferred("clear", r"TLS is required, but was not offered by host mx\.clear\.example\[192\.0\.2\.23\]\)")

    def test_a_host_that_the_policy_does_not_name_is_passed_over(self):
        before = self.peers["good"].sessions
        self.assert_sent("second", True)
        self.assertEqual(self.peers["good"].sessions, before)
        self.assertIn("MX host mx.good.example[192.0.2.20] does not match the MTA-STS policy of second.example", self.mail.log())

    def test_testing_and_none_change_nothing(self):
        self.assert_sent("testing", True)
        self.assert_sent("none", True)
        self.assert_sent("plain", True)

    def test_answers_of_the_web_that_are_no_policies(self):
        for label, text in (("redirect", "the web server answers 301"), ("html", "content type text/html instead of text/plain"),
                            ("badweb", ".*certificate.*|.*subject.*name.*"), ("long", "the answer is too long")):
            with self.subTest(label=label):
                self.assert_sent(label, True)
                self.assertRegex(self.mail.log(), r"warning: policy of %s\.example: (%s)" % (label, text))
        self.assertNotIn(("mta-sts.good.example", "redirect"), self.web.asked)

    def test_a_policy_from_a_table(self):
        self.assert_deferred("table", r"MX host mx\.table\.example\[192\.0\.2\.32\] does not match the MTA-STS policy of table\.example")

    def test_a_new_id_a_dead_service_and_a_dead_web_server(self):
        self.assert_sent("good", True, "early")
        self.assert_sent("change", True)
        self.web.publish("change", "enforce", "other.example")
        self.assert_sent("change", True, "b")   # the id is still the old one
        asked = len(self.web.asked)
        self.world.replace('_mta-sts.change.example. 1 TXT "v=STSv1; id=1;"', '_mta-sts.change.example. 1 TXT "v=STSv1; id=2;"')
        for i in range(10):   # the old id has its second in caches
            time.sleep(1.2)
            line = self.attempt("change", "c%d" % i)
            if "status=sent" not in line:
                break
        sent = len(self.peers["change"].messages)
        self.assertIn("does not match the MTA-STS policy of change.example", line)
        self.assertGreater(len(self.web.asked), asked)
        self.assertIn("policy of change.example: mode enforce, id 2,", self.mail.log())
        for pid in self.mail.pids()["mta-sts"]:
            os.kill(pid, 9)
        MtaSts.web.close()
        line = self.attempt("change", "d")
        self.assertIn("does not match the MTA-STS policy of change.example", line)
        self.assert_sent("good", True, "later")
        self.assertEqual(len(self.peers["change"].messages), sent)
        MtaSts.web = Web(self.authority.certificate(*self.web_names), self.web.policies)


    def trace(self, label):
        """The steps from the TLS policy on, without the DNS's order."""
        done = self.mail.control("trace", "--json", "trace@%s.example" % label)
        self.assertIn(done.returncode, (0, 75), done.stdout)
        steps = [(step["step"], step["text"]) for step in json.loads(done.stdout)["steps"]]
        return steps[[name for name, _ in steps].index("TLS policy"):]

    def test_trace_says_which_policy_would_apply(self):
        steps = self.trace("traced")
        self.assertEqual(steps[0], ("TLS policy", "may (smtp_tls_security_level)"))
        self.assertEqual(steps[1][0], "MTA-STS")
        self.assertRegex(steps[1][1], r"^traced\.example: mode enforce, id 1, fetched now, expires in 86(400|39\d)s$")
        self.assertEqual(steps[2:4], [("MTA-STS", "traced.example: mx *.traced.example"), ("TLS policy", "secure (MTA-STS)")])
        self.assertIn(("TLS", "mx.traced.example: secure, certificate for mx.traced.example, SNI mx.traced.example"), steps)
        self.assertIn(("TLS", "mx.good.example: not used: MX host mx.good.example[192.0.2.20] does not match the MTA-STS policy of traced.example"),
                      steps)
        asked = len(self.web.asked)
        self.assertRegex(self.trace("traced")[1][1], r"^traced\.example: mode enforce, id 1, cached, \d+s old, expires in 86\d\d\ds$")
        self.assertEqual(len(self.web.asked), asked)
        self.assertFalse(self.peers["traced"].sessions)
        self.assertIn(("MTA-STS", "plain.example: no policy"), self.trace("plain"))
        self.assertIn(("MTA-STS", "html.example: the policy it announces cannot be had: content type text/html instead of text/plain"), self.trace("html"))
        testing = self.trace("testing")
        self.assertRegex(testing[1][1], "mode testing")
        self.assertNotIn(("TLS policy", "secure (MTA-STS)"), testing)
        self.assertIn(("MTA-STS", "table.example: a policy in smtp_tls_policy_maps"), self.trace("table"))

    def test_trace_while_the_mail_system_is_stopped(self):
        self.mail.control("stop", check=True)
        try:
            steps = self.trace("good")
        finally:
            self.mail.start()
        self.assertRegex(steps[1][1], r"^good\.example: not known: mta-sts\(8\) cannot be asked, the mail system or this service is not running: ")
        self.assertIn(("TLS", "mx.good.example: may"), steps)

    def test_z_reports(self):
        """After the others: what they did is told to whom it concerns."""
        for label in ("good", "wrong", "alien", "clear", "testing", "plain", "badweb", "html", "second", "none"):
            self.attempt(label, "report")
        for user in ("first", "second"):
            self.assert_sent("again", True, user)
        self.assertRegex(self.mail.log(), r"TLS connection reused to mx\.again\.example")
        time.sleep(1.5 * PATIENCE)   # counts are kept a moment later
        done = self.mail.control("tlsrpt", "--send", check=True).stdout.decode()
        self.assertRegex(done, r"report for good\.example on \d+-\d+-\d+: mailto:wilma@example\.org has it; https://reports\.example/tls has it")
        self.assertRegex(done, r"report for none\.example .*: nobody wants it")
        self.mail.wait_for(lambda: len(self.mail.mailbox("wilma")) >= done.count("has it") - 1, 20, "the reports arrive")
        reports = {}
        for path in self.mail.mailbox("wilma"):
            with open(path, "rb") as file:
                message = email.message_from_binary_file(file)
            self.assertEqual(message.get_content_type(), "multipart/report")
            self.assertEqual(message.get_param("report-type"), "tlsrpt")
            attachment = message.get_payload()[1]
            self.assertEqual(attachment.get_content_type(), "application/tlsrpt+gzip")
            self.assertRegex(attachment.get_filename(), r"^example\.org!.*\.example!\d+!\d+\.json\.gz$")
            report = json.loads(gzip.decompress(attachment.get_payload(decode=True)))
            self.assertIn(report["report-id"], re.sub(r"\s", "", message["Subject"]))
            self.assertEqual(report["organization-name"], "Example Organisation")
            reports[message["TLS-Report-Domain"]] = report["policies"]
        self.assertEqual([post[1:3] for post in self.web.posted], [("/tls", "application/tlsrpt+gzip")])
        self.assertEqual(json.loads(gzip.decompress(self.web.posted[0][3]))["policies"], reports["good.example"])
        self.check_reports(reports)
        text = self.mail.control("tlsrpt", "--domain", "clear.example").stdout.decode()
        self.assertRegex(text, r"clear\.example sts: 0 good, [12] failed\n    [12] starttls-not-supported mx\.clear\.example\[192\.0\.2\.23\]")
        self.assertEqual(json.loads(self.mail.control("tlsrpt", "--json", "--domain", "good.example").stdout)["policies"], reports["good.example"])

    def check_reports(self, reports):
        expected = {"good": ("sts", None), "wrong": ("sts", "certificate-host-mismatch"), "alien": ("sts", "certificate-not-trusted"),
                    "clear": ("sts", "starttls-not-supported"), "testing": ("sts", "certificate-not-trusted"), "plain": ("no-policy-found", None),
                    "badweb": ("sts", "sts-webpki-invalid"), "html": ("sts", "sts-policy-fetch-error")}
        for label, (kind, failure) in expected.items():
            with self.subTest(label=label):
                policy = reports[label + ".example"][0]
                self.assertEqual(policy["policy"]["policy-type"], kind)
                self.assertEqual(policy["policy"]["policy-domain"], label + ".example")
                failed = policy["summary"]["total-failure-session-count"]
                self.assertEqual(failed > 0, failure is not None)
                self.assertEqual(policy["summary"]["total-successful-session-count"] > 0, failure is None)
                if failure:
                    detail = policy["failure-details"][0]
                    self.assertEqual((detail["result-type"], detail["receiving-mx-hostname"], detail["receiving-ip"], detail["receiving-mx-helo"]),
                                     (failure, HOSTS[label][1], HOSTS[label][0], HOSTS[label][1]))
                    self.assertEqual(detail["failed-session-count"], failed)
                    self.assertEqual(detail["sending-mta-ip"], HOSTS[label][0])   # one machine: it speaks to itself
        self.assertIn("mode: enforce", reports["good.example"][0]["policy"]["policy-string"])
        self.assertEqual(reports["good.example"][0]["policy"]["mx-host"], ["*.good.example"])
        self.assertEqual(reports["again.example"][0]["summary"], {"total-successful-session-count": 1, "total-failure-session-count": 0})
        second = reports["second.example"][0]
        self.assertGreater(second["summary"]["total-successful-session-count"], 0)
        self.assertEqual((second["failure-details"][0]["result-type"], second["failure-details"][0]["receiving-mx-hostname"]),
                         ("validation-failure", "mx.good.example"))


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("mount"):
        print("skipped: needs root, ip and mount")
        sys.exit(77)
    unittest.main()
