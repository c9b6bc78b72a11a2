#!/usr/bin/env python3
"""Parameters of the SMTP and LMTP client one by one, each in a service of its own with a server of its own.  What the server hears, what
it is sent, and what the log says of the recipient must be what Debian's Postfix makes of the same parameters.  Needs Postfix, and root."""
import os
import re
import shutil
import smtplib
import tempfile
import unittest

import postfix_peer
from smtp_peer import Peer
from suite import Suite, wait_until

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
FIRST = BASE + 100
USUAL = ("PIPELINING", "SIZE 10240000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES")
PLAIN = ("Subject: short", "X-Drop: this", "", "text", ".dot", "")
LONG = ("Subject: " + "word " * 60, "", "x" * 150, "short", "y" * 61, "")
EIGHT = ("Subject: eight", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "",
         "Gr\u00fc\u00dfe", "= a trailing blank ", "From here", ".", "")
PARTS = ("Subject: parts", "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: 8bit", "", "preamble",
         "--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "", "\u00fc", "--b", "X-Part: one",
         "Content-Type: message/rfc822", "", "X-Nested: yes", "Subject: inner", "", "plain", "--b", "Content-Type: image/png",
         "Content-Transfer-Encoding: base64", "", "AAAA", "--b--", "")
SASL = "-o smtp_sasl_auth_enable=yes -o smtp_sasl_security_options="


def log_in(talk, _):
    talk.say("235 2.7.0 welcome")


# name -> options of the service, of the server, and lines of the message
CASES = {
    "usual": ("", {}, PLAIN),
    "no-esmtp": ("-o smtp_always_send_ehlo=no", {"replies": {"CONNECT": "220 peer.example"}}, PLAIN),
    "esmtp": ("-o smtp_always_send_ehlo=no", {"replies": {"CONNECT": "220 peer.example ESMTP"}}, PLAIN),
    "never": ("-o smtp_never_send_ehlo=yes", {}, PLAIN),
    "helo-name": ("-o smtp_helo_name=client.example", {}, PLAIN),
    "bind": ("-o smtp_bind_address=127.0.0.7", {}, PLAIN),
    "bind-lost": ("-o smtp_bind_address=192.0.2.99", {}, PLAIN),
    "bind-must": ("-o smtp_bind_address=192.0.2.99 -o smtp_bind_address_enforce=yes", {}, PLAIN),
    "discard": ("-o smtp_discard_ehlo_keywords=pipelining,size", {}, PLAIN),
    "discard-map": ("-o smtp_discard_ehlo_keyword_address_maps=inline:{127.0.0.1=size}", {}, PLAIN),
    "lines": ("-o smtp_line_length_limit=60", {}, LONG),
    "no-lines": ("-o smtp_line_length_limit=0", {}, LONG),
    "unquoted": ("-o smtp_quote_rfc821_envelope=no", {}, PLAIN),
    "reply-filter": ("-o smtp_reply_filter=regexp:{{/^550(.*)/ 450$$1}}", {"replies": {"RCPT": "550 never"}}, PLAIN),
    "status-filter": ("-o smtp_delivery_status_filter=inline:{{550=4.9.9 soft}},regexp:{{/^5.*/ {4.8.8 softer}}}", {"replies": {"RCPT": "550 5.1.1 no"}}, PLAIN),
    "greeting": ("", {"replies": {"CONNECT": "554 go away"}}, PLAIN),
    "greeting-hard": ("-o smtp_skip_5xx_greeting=no", {"replies": {"CONNECT": "554 5.3.2 go away"}}, PLAIN),
    "xforward": ("-o smtp_send_xforward_command=yes", {"features": USUAL + ("XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",)}, PLAIN),
    "xforward-few": ("-o smtp_send_xforward_command=yes", {"features": ("XFORWARD NAME PROTO",)}, PLAIN),
    "xforward-slow": ("-o smtp_send_xforward_command=yes -o smtp_xforward_timeout=1s",
                      {"features": ("XFORWARD NAME",), "replies": {"XFORWARD": 3}}, PLAIN),
    "generic": ("-o smtp_generic_maps=inline:{fred@example.org=generic@site.example}", {}, ("From: fred@example.org", "Cc: Fred <fred@example.org>", "", "x", "")),
    "header": ("-o smtp_header_checks=regexp:{{/^Subject:(.*)/ REPLACE Subject: [x]$$1},{/^X-Drop/ IGNORE},{/^From:/ PREPEND X-Pre: 1}}", {}, PLAIN),
    "mime": ("-o smtp_mime_header_checks=regexp:{{/^X-Part:/ REPLACE X-Was-Part: 2},{/^Content-Type:.image/ IGNORE}}", {}, PARTS),
    "nested": ("-o smtp_nested_header_checks=regexp:{{/^X-Nested/ IGNORE},{/^Subject:/ REPLACE Subject: nested}}", {}, PARTS),
    "body": ("-o smtp_body_checks=regexp:{{/^text/ REPLACE other},{/^.dot/ IGNORE}}", {}, PLAIN),
    "checks-warn": ("-o smtp_header_checks=regexp:{{/^Subject:/ WARN heard},{/^X-Drop/ INFO seen}}", {}, PLAIN),
    "says-7bit": ("", {}, ("Content-Transfer-Encoding: 7bit", "", "x", "")),
    "says-binary": ("", {}, ("Content-Transfer-Encoding: binary", "", "x", "")),
    "says-qp": ("", {}, ("MIME-Version: 1.0", "Content-Transfer-Encoding: quoted-printable", "", "x", "")),
    "says-8bit": ("", {}, ("Content-Transfer-Encoding: 8BIT (it is)", "", "x", "")),
    "says-none": ("", {}, ("Subject: none", "", "\u00e4", "")),
    "says-parts": ("", {}, tuple(line for line in PARTS if line != PARTS[3])),
    "says-part": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Transfer-Encoding: 8bit", "", "x", "--b--", "")),
    "says-part-binary": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Transfer-Encoding:\t BiNaRy \t", "", "x", "--b--", "")),
    "says-part-comment": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Transfer-Encoding: 8bit (x)", "", "x", "--b--", "")),
    "says-part-folded": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Transfer-Encoding:", " 8bit", "", "x", "--b--", "")),
    "says-part-7bit": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Transfer-Encoding: 7bit", "", "x", "--b--", "")),
    "says-part-none": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: text/plain", "", "\u00e4", "--b--", "")),
    "says-nested": ("", {}, ("Content-Type: message/rfc822", "", "Content-Transfer-Encoding: 8bit", "", "x", "")),
    "says-nested-in-part": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: message/rfc822", "",
                                     "Content-Transfer-Encoding: 8bit", "", "x", "--b--", "")),
    "says-deep": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: multipart/mixed; boundary=c", "", "--c",
                           "Content-Transfer-Encoding: 8bit", "", "x", "--c--", "--b--", "")),
    "says-in-text": ("", {}, ("Content-Type: text/plain", "", "--b", "Content-Transfer-Encoding: 8bit", "", "x", "--b--", "")),
    "says-folded": ("", {}, ("Content-Transfer-Encoding:", " 8bit", "", "x", "")),
    "says-trailing": ("", {}, ("Content-Transfer-Encoding: 8bit \t", "", "x", "")),
    "says-both": ("", {}, ("Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: 7bit", "", "x", "")),
    "says-then-part": ("", {}, ("Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: 8bit", "", "--b",
                                "Content-Transfer-Encoding: 7bit", "", "x", "--b--", "")),
    "seven": ("", {"features": ("PIPELINING",)}, EIGHT),
    "seven-parts": ("", {"features": ()}, PARTS),
    "seven-off": ("-o disable_mime_output_conversion=yes", {"features": ()}, EIGHT),
    "dummy-auth": ("%s -o smtp_sasl_password_maps=inline:{127.0.0.1=me:secret} -o smtp_send_dummy_mail_auth=yes" % SASL,
                   {"features": ("AUTH PLAIN",), "auth": log_in}, PLAIN),
    "refused": ("", {"replies": {"MAIL": "552 5.3.4 too big"}}, PLAIN),
    "no-starttls": ("-o smtp_tls_security_level=encrypt", {}, PLAIN),
    "lhlo": ("lmtp -o lmtp_lhlo_name=client.example", {"lmtp": True}, PLAIN),
    "lmtp-lines": ("lmtp -o lmtp_line_length_limit=60 -o lmtp_discard_lhlo_keywords=size", {"lmtp": True}, LONG),
    "lmtp-generic": ("lmtp -o lmtp_generic_maps=inline:{fred@example.org=generic@site.example}", {"lmtp": True}, PLAIN),
    "lmtp-header": ("lmtp -o lmtp_header_checks=regexp:{{/^X-Drop/ IGNORE}} -o lmtp_quote_rfc821_envelope=no", {"lmtp": True}, PLAIN),
    "lmtp-xforward": ("lmtp -o lmtp_send_xforward_command=yes -o lmtp_bind_address=127.0.0.8", {"lmtp": True, "features": ("XFORWARD NAME SOURCE",)}, PLAIN),
    "lmtp-slow": ("lmtp -o lmtp_lhlo_timeout=1s", {"lmtp": True, "replies": {"LHLO": 3}}, PLAIN),
    "lmtp-slow-mail": ("lmtp -o lmtp_mail_timeout=1s", {"lmtp": True, "replies": {"MAIL": 3}}, PLAIN),
    "lmtp-slow-rcpt": ("lmtp -o lmtp_rcpt_timeout=1s", {"lmtp": True, "replies": {"RCPT": 3}}, PLAIN),
    "lmtp-slow-data": ("lmtp -o lmtp_data_init_timeout=1s", {"lmtp": True, "features": (), "replies": {"DATA": 3}}, PLAIN),
    "lmtp-slow-dot": ("lmtp -o lmtp_data_done_timeout=1s", {"lmtp": True, "replies": {".": 3}}, PLAIN),
}
PORTS = {name: FIRST + i for i, name in enumerate(CASES)}
MAIN = postfix_peer.RELAYS + """
transport_maps = inline:{%s}
always_add_missing_headers = yes
""" % ",".join("%s.example=s%d:inet:[127.0.0.1]:%d" % (name, i, PORTS[name]) if CASES[name][0].startswith("lmtp")
               else "%s.example=s%d:[127.0.0.1]:%d" % (name, i, PORTS[name]) for i, name in enumerate(CASES))


def master():
    rows = ""
    for i, (options, _, _) in enumerate(CASES.values()):
        lmtp = options.startswith("lmtp")
        rows += "s%d unix - - n - 1 %s %s\n" % (i, "lmtp" if lmtp else "smtp", options[4:] if lmtp else options)
    return rows


# Where there is a reason to do otherwise: what, ours, Postfix's.
DIFFERENT = {"bind-must": ("fate", ("none", "4.4.1", "deferred", "connect to 127.0.0.1[127.0.0.1]:%d: bind 192.0.2.99: Cannot assign requested address"
                                    % PORTS["bind-must"]), ("none", "4.4.0", "deferred", "server configuration error"))}   # it says which


def plain(text):
    """Without what names a queue or a moment.  A line that begins with "From " or is a dot is encoded here too, as RFC 2049 advises."""
    text = re.sub(r"(?m)^=46rom ", "From ", re.sub(r"(?m)^=2E\r$", ".\r", text))
    text = re.sub(r"SIZE=\d+", "SIZE=n", text)
    text = re.sub(r"IDENT=\w+", "IDENT=id", text)
    text = re.sub(r"PORT=\d+", "PORT=n", text)
    text = re.sub(r"(?m)^Received: .*\r?\n([ \t].*\n)*", "", text)
    text = re.sub(r"(?m)^Message-Id: <\S+>", "Message-Id: <id>", text)
    return re.sub(r"(?m)^Date: .*", "Date: now", text)


def fate(log, recipient):
    found = re.search(r"to=<%s>.*, relay=(\S+), .*dsn=(\S+), status=(\w+) \((.*)\)$" % re.escape(recipient), log, re.M)
    return found and tuple(re.sub(r"queued as \w+", "queued", one) for one in found.groups())


def facts(log):
    """What checks say."""
    return sorted(re.findall(r"(?:smtp|lmtp)\[\d+\]: \w+: ((?:warning|info|replace|prepend): (?:header|body) .*)", log))


@unittest.skipUnless(postfix_peer.available(), "no Postfix, or not root")
class ClientParameters(unittest.TestCase):
    maxDiff = None

    def run_all(self, port, log):
        """What each server heard, the content it was sent, and what became of the recipients."""
        peers = {name: Peer(PORTS[name], **dict({"features": USUAL}, **options)) for name, (_, options, _) in CASES.items()}
        for name, (_, _, lines) in CASES.items():
            with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
                client.ehlo("c.example")
                client.putcmd("mail", "FROM:<fred@example.org>")
                codes = [client.getreply()[0]]
                for recipient in ("a@%s.example" % name, '"b c"@%s.example' % name):
                    client.putcmd("rcpt", "TO:<%s>" % recipient)
                    codes.append(client.getreply()[0])
                codes.append(client.data("\r\n".join(lines).encode())[0])
                assert codes == [250] * 4, (name, codes)
        found = {}
        for name, peer in peers.items():
            wait_until(lambda: fate(log(), "a@%s.example" % name), "what becomes of " + name, 25)
            wait_until(lambda: not peer.open, "the peer has read all: a slow one does when it wakes", 25)
            with peer.lock:
                found[name] = {"fate": fate(log(), "a@%s.example" % name), "from": sorted(peer.clients),
                               "commands": [plain(command) for command in peer.commands if command not in ("QUIT", "RSET")],
                               "content": [plain(message["content"].decode()) for message in peer.messages]}
        for peer in peers.values():
            peer.close()
        return found

    def test_each(self):
        where = tempfile.mkdtemp(prefix="postern-client-")
        self.addCleanup(shutil.rmtree, where, True)
        with postfix_peer.Postfix(where, BASE + 50, MAIN, master()) as postfix:
            theirs = self.run_all(BASE + 50, postfix.log)
            their_facts = facts(postfix.log())
        mail = Suite(MAIN, master())
        self.addCleanup(mail.stop)
        mail.start()
        ours = self.run_all(mail.port["smtp"], mail.log)
        for name in CASES:
            with self.subTest(name):
                if name in DIFFERENT:
                    what, mine, other = DIFFERENT[name]
                    self.assertEqual((ours[name].pop(what), theirs[name].pop(what)), (mine, other))
                self.assertEqual(ours[name], theirs[name])
        with self.subTest("warnings"):
            self.assertEqual(facts(mail.log()), their_facts)


if __name__ == "__main__":
    unittest.main(verbosity=2)
