#!/usr/bin/env python3
"""Settings that Dovecot has too, beside Dovecot's: master users, ANONYMOUS, a namespace's prefix, workarounds for clients, and where
indexes are.  What a client hears is the same, but for texts and what is listed with its reason.

Needs root and Debian's dovecot-imapd and dovecot-pop3d, whose private instance it starts on loopback."""
import base64
import os
import re
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from dovecot_peer import Dovecot, Line, available, same_mail               # noqa: E402
from suite import NOBODY, PASSWORD, Suite                                  # noqa: E402
from test_dovecot import MESSAGES, Imap, imap, normal, pop3_answer         # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
MASTERS = "boss:{PLAIN}bosspw::::::\nfred:{PLAIN}masterfred::::::\nfar:{PLAIN}bosspw::::::allow_nets=192.0.2.0/24\n"
OURS = "auth_penalty_max_delay = 0\n"


def setUpModule():
    if not available():
        print("needs root and Debian's dovecot-imapd and dovecot-pop3d: skipped")
        sys.exit(77)


class Settings(unittest.TestCase):
    """Ours and Dovecot with settings of the class's own."""
    ours = theirs = None

    @classmethod
    def setUpClass(cls):
        if cls.ours is None:
            raise unittest.SkipTest("what the others have in common")
        cls.mail = Suite(OURS + cls.ours, port=PORT)
        cls.mail.write("etc/masters", MASTERS)
        cls.dovecot = Dovecot(cls.mail.path("dovecot"), PORT + 20, cls.mail.path("etc"), extra=cls.theirs.replace("MASTERS", cls.mail.path("etc/masters")))
        with open(cls.mail.path("etc/main.cf")) as file:
            text = file.read()
        for word, path in (("MASTERS", "etc/masters"), ("USERS", "etc/users"), ("DIR", "")):
            text = text.replace(word, cls.mail.path(path).rstrip("/"))
        cls.mail.write("etc/main.cf", text)
        cls.mail.start()
        cls.addClassCleanup(cls.mail.stop)
        cls.dovecot.start()
        cls.addClassCleanup(cls.dovecot.stop)

    def both(self, converse, *arguments):
        directories = [self.mail.path("mail/fred"), "%s/mail/fred" % self.dovecot.dir]
        return [converse(ports, where, *arguments) for ports, where in zip((self.mail.port, self.dovecot.port), directories)]

    def compare(self, *commands, differ=()):
        """IMAP; those of `differ` are not compared."""
        same_mail([self.mail.path("mail/fred"), "%s/mail/fred" % self.dovecot.dir], MESSAGES)
        ours, theirs = self.both(imap, list(commands))
        for command, one, other in zip([text for text in commands if not callable(text)], ours, theirs):
            with self.subTest(command):
                if command not in differ:
                    self.assertEqual(one, other)


def encoded(*words):
    return base64.b64encode("\0".join(words).encode()).decode()


class MasterUsers(Settings):
    ours = ("auth_verbose = yes\nauth_master_user_separator = *\nauth_passdbs = { passwd-file:master=yes MASTERS }, passwd-file:USERS\n"
            "login_log_format_elements = user=<%u> auth=<%{auth_user}> method=%m session=<%{session}>\n")
    theirs = "auth_verbose = yes\nauth_master_user_separator = *\npassdb {\n driver = passwd-file\n args = MASTERS\n master = yes\n}\n"

    def imap_login(self, ports, _, commands):
        heard = []
        for command in commands:
            client = Line(ports["imap"])
            client.line()
            client.send(b"t " + command.encode() + b"\r\n")
            heard.append(normal(client.lines_until(rb"t ")[-1]))
            client.close()
        return heard

    def test_imap(self):
        logins = [("fred*boss", "bosspw"), ("fred*boss", "wrong"), ("fred*boss", PASSWORD), ("fred*wilma", PASSWORD), ("boss", "bosspw"), ("*boss", "bosspw"),
                  ("fred*", PASSWORD), ("fred*fred", "masterfred"), ("fred*fred", PASSWORD), ("wilma*fred", "masterfred"), ("fred*boss*x", "bosspw"),
                  ("FRED*Boss", "bosspw"), ("fred*far", "bosspw"), ("fred", PASSWORD), ("fred", "bosspw")]
        commands = ['LOGIN "%s" "%s"' % pair for pair in logins]
        commands += ["AUTHENTICATE PLAIN " + encoded(*words) for words in (
            ("fred", "boss", "bosspw"), ("wilma", "fred", PASSWORD), ("fred", "fred", PASSWORD), ("wilma", "fred*boss", "bosspw"), ("fred", "boss", "no"),
            ("", "fred*boss", "bosspw"), ("fred", "", "bosspw"))]
        ours, theirs = self.both(self.imap_login, commands)
        for command, one, other in zip(commands, ours, theirs):
            with self.subTest(command):
                self.assertEqual(one, other)
        self.assertIn("t OK", ours[0])
        self.assertEqual(ours[1], "t NO [AUTHENTICATIONFAILED]")
        log = self.mail.log()
        self.assertRegex(log, r"auth: passwd-file\(boss,127\.0\.0\.1,master,<[^>]+>\): Master user logging in as fred")
        self.assertRegex(log, r"auth: passwd-file\(boss,127\.0\.0\.1,master,<[^>]+>\): Password mismatch")
        self.assertRegex(log, r"imap-login: Login: user=<fred>, auth=<boss>, method=PLAIN")

    def test_somebody_who_does_not_exist(self):
        ours, theirs = self.both(self.imap_login, ['LOGIN "nobody*boss" "bosspw"'])
        self.assertEqual(ours, ["t NO [UNAVAILABLE]"])
        self.assertIn(theirs, (["t NO [UNAVAILABLE]"], ["(closed)"]))   # by the time at which its processes find out

    def test_pop3_shows_the_users_mail(self):
        same_mail([self.mail.path("mail/fred"), "%s/mail/fred" % self.dovecot.dir], MESSAGES)

        def converse(ports, _):
            client = Line(ports["pop3"])
            client.line()
            heard = [pop3_answer(client, command) for command in ("USER fred*boss", "PASS wrong", "USER fred*boss", "PASS bosspw", "STAT", "QUIT")]
            client.close()
            return heard
        ours, theirs = self.both(converse)
        self.assertEqual(ours, theirs)
        self.assertEqual(ours[4], ["+OK %s" % theirs[4][0].split(" ", 1)[1]])

    def test_smtp_says_who_sends(self):
        with self.mail.smtp() as client:
            client.ehlo()
            self.assertEqual(client.docmd("AUTH", "PLAIN " + encoded("", "wilma*boss", "bosspw"))[0], 235)
            client.sendmail("wilma@example.org", ["fred@example.org"], "Subject: x\n\nx\n")
        self.mail.wait_log(r"sasl_username=wilma\b")


class Anonymous(Settings):
    ours = "auth_mechanisms = plain anonymous\nauth_anonymous_username = wilma\nmail_debug = yes\nsmtpd_sasl_security_options = NoAnonymous\n"
    theirs = "auth_mechanisms = plain anonymous\nauth_anonymous_username = wilma\n"

    def test_who_that_is(self):
        def converse(ports, _, trace):
            client = Line(ports["imap"])
            greeting = client.line()
            client.send(b"a AUTHENTICATE ANONYMOUS %s\r\nb SELECT INBOX\r\nc LOGOUT\r\n" % trace)
            heard = [normal(line) for line in client.lines_until(rb"c ")]
            client.close()
            return b"AUTH=ANONYMOUS" in greeting, [line for line in heard if line[:2] in ("a ", "b ", "c ")]
        for trace in (b"=", base64.b64encode(b"me@example.org")):
            ours, theirs = self.both(converse, trace)
            self.assertEqual(ours, theirs)
            self.assertEqual(ours, (True, ["a OK", "b OK [READ-WRITE]", "c OK"]))
        self.mail.wait_log(r"auth: anonymous\(me@example\.org,127\.0\.0\.1,<[^>]+>\): login")
        self.mail.wait_log(r"imap-login: Login: user=<wilma>, method=ANONYMOUS")

    def test_submission_does_not_offer_it(self):
        with self.mail.smtp() as client:
            client.ehlo()
            self.assertEqual(client.esmtp_features["auth"].split(), ["PLAIN"])   # noanonymous, which Postfix takes in any case
            self.assertEqual(client.docmd("AUTH", "ANONYMOUS =")[0], 535)

    def test_what_is_done_is_logged(self):
        same_mail([self.mail.path("mail/fred")], MESSAGES)
        session = Imap(self.mail.port["imap"])
        for command in ("SELECT INBOX", "STORE 1 +FLAGS (\\Deleted)", "EXPUNGE"):
            self.assertTrue(session.do(command)[-1].startswith("t"), command)
        self.mail.wait_log(r"imap\(fred\)<\d+>: Debug: maildir: root=%s/mail/fred, index=" % re.escape(self.mail.dir))
        self.mail.wait_log(r"imap\(fred\)<\d+>: Debug: Mailbox INBOX: Mailbox opened: 7 messages, UIDVALIDITY \d+, next UID 8")
        self.mail.wait_log(r"imap\(fred\)<\d+>: Debug: Mailbox INBOX: UIDs 1,4: Expunged")


class Prefix(Settings):
    ours = ("namespace_prefix = INBOX.\nmail_index_path = DIR/index/%u\n"
            "auth_mechanisms = plain scram-sha-256\nsmtpd_sasl_security_options = noanonymous, mutual_auth\n")
    theirs = "namespace inbox {\n prefix = INBOX.\n separator = .\n}\n"

    def test_names(self):
        self.compare("NAMESPACE", 'LIST "" ""', 'LIST INBOX. ""', "CREATE foo", "CREATE INBOX.foo", "CREATE INBOX.foo.bar", "CREATE INBOX.",
                     "CREATE INBOX", 'LIST "" *', 'LIST "" %', 'LIST "" INBOX.%', "LIST INBOX. %", "LIST INBOX. *", 'LIST "" INBOX.', 'LIST "" INBOX',
                     "SUBSCRIBE INBOX.foo.bar", "SUBSCRIBE foo", "SUBSCRIBE INBOX", 'LSUB "" *', 'LSUB "" %', 'LSUB "" INBOX.%',
                     "STATUS foo (MESSAGES)", "STATUS INBOX.foo (MESSAGES)", "STATUS INBOX (MESSAGES)", "STATUS INBOX. (MESSAGES)", "SELECT foo",
                     "SELECT INBOX", "COPY 1 foo", "COPY 1 INBOX.foo", "APPEND foo {3+}\r\nabc", "SELECT INBOX.foo", "RENAME INBOX.foo INBOX.baz",
                     "RENAME INBOX.baz baz", "DELETE INBOX.", "DELETE INBOX", 'LIST "" *', "UNSUBSCRIBE foo", "DELETE INBOX.baz.bar", 'LIST "" *',
                     "SELECT INBOX.INBOX")

    def test_mechanisms_by_which_the_server_shows_who_it_is(self):
        with self.mail.smtp() as client:
            client.ehlo()
            self.assertEqual(client.esmtp_features["auth"].split(), ["SCRAM-SHA-256"])

    def test_where_indexes_are(self):
        same_mail([self.mail.path("mail/fred")], MESSAGES)
        session = Imap(self.mail.port["imap"])
        self.assertEqual(session.do("SELECT INBOX")[-1], "t2 OK [READ-WRITE]")
        self.assertTrue([name for name in os.listdir(self.mail.path("index/fred")) if "index" in name])
        self.assertFalse([name for name in os.listdir(self.mail.path("mail/fred")) if "index" in name])


class Workarounds(Settings):
    ours = "mail_location = maildir:~:LAYOUT=fs\nimap_client_workarounds = delay-newmail, tb-extra-mailbox-sep, tb-lsub-flags\n"
    theirs = "mail_location = maildir:~:LAYOUT=fs\nimap_client_workarounds = delay-newmail tb-extra-mailbox-sep tb-lsub-flags\n"
    count = 0

    def arrive(self, where):
        """A new message."""
        type(self).count += 1
        name = "%s/1700001000.M%06dP1.host" % (where, self.count)
        with open(name.replace(where, where + "/tmp"), "w") as file:
            file.write("Subject: new\n\nbody\n")
        os.chown(file.name, NOBODY, NOBODY)
        os.rename(file.name, name.replace(where, where + "/new"))
        time.sleep(0.05)

    def test_when_new_mail_is_told(self):
        message = "{%d+}\r\nSubject: x\r\n\r\nbody\r\n" % len("Subject: x\r\n\r\nbody\r\n")
        commands = ["CREATE c", "SELECT INBOX"]
        for command in ("FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Flagged)", "SEARCH ALL", "STATUS c (MESSAGES)", 'LIST "" x', "COPY 1 c", "FETCH 9 UID", "NOOP",
                        "UID FETCH 1 FLAGS", "CHECK", "COPY 1 INBOX", "EXPUNGE", "APPEND c " + message, "NOOP", "APPEND INBOX " + message, "NOOP"):
            commands += [self.arrive, command]
        # Whether a message is \Recent to a session that has not been told of it is left open.  Commands that write to another mailbox
        # are not alike in Dovecot either: COPY to it tells, APPEND to it does not.
        recent = re.compile(r"^\* \d+ RECENT$")
        same_mail([self.mail.path("mail/fred"), "%s/mail/fred" % self.dovecot.dir], MESSAGES)
        ours, theirs = self.both(imap, commands)
        for command, one, other in zip([text for text in commands if not callable(text)], ours, theirs):
            with self.subTest(command):
                if not command.startswith(("SEARCH", "FETCH 9", "COPY 1 c", "APPEND c")):
                    self.assertEqual(*[[line for line in heard if not recent.match(line)] for heard in (one, other)])

    def test_a_separator_too_many(self):
        self.compare("CREATE c", "SELECT c/", "SELECT INBOX/", "STATUS INBOX/ (MESSAGES)", "SUBSCRIBE c/", "SELECT c//", "RENAME c/ e/", "DELETE e/",
                     'LIST "" *', differ=("STATUS INBOX/ (MESSAGES)",))   # Dovecot repeats the name as it came

    def test_subscriptions_to_what_is_no_mailbox(self):
        self.compare("CREATE a/b", "SUBSCRIBE a/b", 'LSUB "" %', "CREATE gone", "SUBSCRIBE gone", "DELETE gone")
        for port in (self.mail.port["imap"], self.dovecot.port["imap"]):
            self.assertIn('* LSUB (\\Noselect) "/" gone', Imap(port).do('LSUB "" *'))


if __name__ == "__main__":
    unittest.main(verbosity=1)
