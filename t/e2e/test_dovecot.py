#!/usr/bin/env python3
"""The same conversations with Dovecot: what a POP3 or IMAP client hears from us is what it hears from Dovecot, but for texts and the
differences listed here, each with its reason.  Also passwd-file and the schemes of `doveadm pw`.

Needs root and Debian's dovecot-imapd and dovecot-pop3d, whose private instance it starts on loopback."""
import base64
import concurrent.futures
import os
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import imaptest_runner                                                     # noqa: E402
from dovecot_peer import Dovecot, Line, available, same_mail               # noqa: E402
from suite import NOBODY, PASSWORD, Suite                                  # noqa: E402

PORT = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
LOGIN = ["USER fred", "PASS " + PASSWORD]

MESSAGES = [
    ("S", b"From: Fred <fred@example.org>\nTo: wilma@example.org\nSubject: Alpha one\nDate: Mon, 2 Mar 2026 10:00:00 +0000\n"
          b"Message-ID: <1@x>\n\nhello world\n.dot\n..two\n"),
    ("", b"From: wilma@example.org\nTo: fred@example.org, barney@example.org\nCc: betty@example.org\nBcc: x@y\nIn-Reply-To:\n"
         b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: Tue, 3 Mar 2026 23:30:00 -0500\nX-Spam: yes\n\nbody two gr\xc3\xbc\xc3\x9fe\n"),
    ("F", b"From: barney@example.org\nSubject: third\nDate: Wed, 4 Mar 2026 00:30:00 +0500\nX-Empty:\n\n" + b"line\n" * 300),
    ("RT", b"From: betty@example.org\nSubject: Re: Alpha one\nDate: Thu, 5 Mar 2026 00:30:00 +0500\nMIME-Version: 1.0\n"
           b"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\nContent-Type: text/plain; charset=iso-8859-1\n"
           b"Content-Transfer-Encoding: quoted-printable\n\ncaf=E9 =41\n--b\nContent-Type: message/rfc822\n\nSubject: inner\n"
           b"Content-Type: multipart/alternative; boundary=c\n\n--c\n\nplain\n--c\nContent-Type: text/html\n\n<b>x</b>\n--c--\n\n--b\n"
           b"Content-Type: application/octet-stream; name*0*=us-ascii''a%20; name*1=b\nContent-Transfer-Encoding: base64\n\nAAEC\n--b--\n"),
    ("D", b"Subject: draft\nDate: Fri, 6 Mar 2026 00:30:00 +0500\n\nno from\n"),
    (None, b"Subject: new one\nDate: Fri, 6 Mar 2026 00:30:00 +0500\n\nno final newline"),
    ("", "Subject: =?koi8-r?B?8NLJ18XU?=\nDate: Fri, 6 Mar 2026 00:30:00 +0500\nContent-Type: text/plain; charset=koi8-r\n\n".encode() +
         "Привет\n".encode("koi8-r")),
]


def setUpModule():
    global mail, dovecot
    if not available():
        print("needs root and Debian's dovecot-imapd and dovecot-pop3d: skipped")
        sys.exit(77)
    mail = Suite("auth_penalty_max_delay = 0\n", port=PORT).start()
    dovecot = Dovecot(mail.path("dovecot"), PORT + 20, mail.path("etc")).start()


def tearDownModule():
    dovecot.stop()
    mail.stop()


def directories(user="fred"):
    return [mail.path("mail/" + user), "%s/mail/%s" % (dovecot.dir, user)]


def both(converse, *arguments):
    """What `converse(port of the protocol by name, directory, ...)` hears from us, and from Dovecot."""
    return [converse(ports, where, *arguments) for ports, where in zip((mail.port, dovecot.port), directories())]


# --- POP3 ---------------------------------------------------------------------------------------------------

def is_listing(command, answer):
    words = command.upper().split() or [""]
    return answer.startswith(b"+OK") and (words[0] in ("CAPA", "RETR", "TOP") or words[0] in ("LIST", "UIDL") and len(words) == 1)


def pop3_answer(client, command):
    client.send(command.encode("latin-1") + b"\r\n")
    first = client.line()
    if first is None:
        return ["closed"]
    code = re.match(rb"\+OK|-ERR(?: \[[A-Z/-]+\])?|\+", first).group(0)
    numbers = re.match(rb"\+OK ((?:\d+ )?\d+)(?: octets)?$", first)
    found = [(code + (b" " + numbers.group(1) if numbers else b"")).decode()]
    while is_listing(command, first) and found[-1] not in (".", "closed"):
        line = client.line()
        found.append("closed" if line is None else re.sub(r"^(\d+ [0-9a-f]{8})[0-9a-f]{8}$", r"\1uidvalid", line.decode("latin-1")))
    return found


def pop3(ports, _, commands):
    client = Line(ports["pop3"])
    client.line()
    heard = [pop3_answer(client, command) for command in commands]
    client.close()
    return heard


def plain(*words):
    return "AUTH PLAIN " + base64.b64encode("\0".join(words).encode()).decode()


class Pop3Test(unittest.TestCase):
    def setUp(self):
        same_mail(directories(), MESSAGES)

    def compare(self, *commands):
        ours, theirs = both(pop3, list(commands))
        for command, one, other in zip(commands, ours, theirs):
            with self.subTest(command):
                self.assertEqual(one, other)

    def test_before_log_in(self):
        self.compare("STAT", "PASS x", "", "QUIT")
        self.compare("USER fred", "USER wilma", "USER fred", "PASS no", "PASS " + PASSWORD, "USER fred", "PASS", "USER fred\0", "PASS x",
                     "USER fred", "PASS  " + PASSWORD, *LOGIN, "USER fred", "STLS", "AUTH PLAIN", "QUIT")

    def test_sasl(self):
        self.compare("AUTH PLAIN", "*", plain("wilma", "fred", PASSWORD), plain("", "fred", "no"), plain("fred", "fred", PASSWORD), "STAT", "QUIT")
        user, password = (base64.b64encode(word.encode()).decode() for word in ("fred", PASSWORD))
        self.compare("AUTH LOGIN", user, "*", "AUTH LOGIN", user, base64.b64encode(b"no").decode(), "auth login " + user, password, "QUIT")
        self.compare("AUTH SCRAM-SHA-256", "*", "QUIT")

    def test_capabilities_after_log_in(self):
        self.compare(*LOGIN, "CAPA", "QUIT")

    def test_numbers(self):
        for command in ("LIST", "UIDL", "RETR", "DELE", "TOP"):
            more = " 1" if command == "TOP" else ""
            self.compare(*LOGIN, *("%s %s%s" % (command, word, more) for word in ("0", "-1", "8", "99999999999999999999999", "4294967297",
                                                                                "x", "+1", "1x", "1 2 3", "01", " 2", "3")), "QUIT")

    def test_texts(self):
        count = range(1, len(MESSAGES) + 1)
        self.compare(*LOGIN, "STAT", "LIST", "UIDL", *("RETR %d" % n for n in count), *("TOP %d %d" % (n, lines) for n in count for lines in (0, 1, 2)),
                     "TOP 1", "TOP 1 x", "TOP 1 -1", "QUIT")

    def test_deleting(self):
        self.compare(*LOGIN, "DELE 2", "DELE 2", "RETR 2", "LIST 2", "UIDL 2", "TOP 2 0", "STAT", "LIST", "UIDL", "RSET", "LIST 2", "STAT", "DELE 3",
                     "dele 5", "QUIT")
        self.compare(*LOGIN, "STAT", "UIDL", "QUIT")

    def test_what_other_sessions_and_programs_do(self):
        def converse(ports, where):
            first, second = Line(ports["pop3"]), Line(ports["pop3"])
            heard = []
            for client in (first, second):
                client.line()
                heard += [pop3_answer(client, command) for command in LOGIN]
            heard += [pop3_answer(second, command) for command in ("DELE 2", "QUIT")]
            base = where + "/cur/1700000000.M%06dP1.host:2,"
            os.rename(base % 1 + "S", base % 1 + "RS")
            os.unlink(base % 3 + "F")
            heard += [pop3_answer(first, command) for command in ("STAT", "RETR 2", "LIST 2", "DELE 2", "RETR 1", "RETR 3", "TOP 3 0", "UIDL 3", "DELE 3",
                                                                  "DELE 5", "QUIT")]
            return heard, sorted(os.path.basename(name) for name in os.listdir(where + "/cur"))
        ours, theirs = both(converse)
        self.assertEqual(ours, theirs)


# --- IMAP ---------------------------------------------------------------------------------------------------

def fetch_items(line):
    """An answer of FETCH with its items in alphabetical order."""
    number, items = re.match(rb"\* (\d+) FETCH ", line).group(1).decode(), imaptest_runner.tokens(line.decode("latin-1"), True)[3]
    pairs = [(items[i], sorted(items[i + 1]) if items[i] == "FLAGS" else items[i + 1]) for i in range(0, len(items) - 1, 2)]
    return "* %s FETCH %s" % (number, sorted(pairs, key=str))


def normal(line):
    """A line without what may differ: texts for people, UIDVALIDITY, mod-sequences, order."""
    if line.startswith(b"+"):
        return "+"
    line = re.sub(rb"(HIGHESTMODSEQ|MODSEQ|UIDVALIDITY|APPENDUID|COPYUID) \(?\d+\)?", rb"\1 N", line)
    status = re.match(rb"(\S+ (?:OK|NO|BAD|BYE))( \[[^\]]*\])?", line)
    if status:
        code = status.group(2) or b""
        for name in (b" [CAPABILITY", b" [NONEXISTENT]", b" [CANNOT]", b" [CLIENTBUG]", b" [BADCHARSET"):
            code = b"" if code.startswith(name) else code
        flags = re.match(rb" \[PERMANENTFLAGS \(([^)]*)\)\]", code)
        if flags:
            code = b" [PERMANENTFLAGS %s]" % b" ".join(sorted(flags.group(1).split()))
        return (status.group(1) + code).decode()
    if re.match(rb"\* \d+ FETCH ", line):
        return fetch_items(line)
    if line.startswith(b"* FLAGS"):
        return "* FLAGS " + " ".join(sorted(line[9:-1].decode().split()))
    return line.decode("latin-1")


class Imap:
    def __init__(self, port):
        self.line, self.count = Line(port), 0
        self.line.line()
        self.do('LOGIN fred "%s"' % PASSWORD)

    def do(self, command):
        """One command, literals and all; the untagged answers sorted, then the tagged one."""
        self.count += 1
        tag = b"t%d" % self.count
        self.line.send(tag + b" " + command.encode("latin-1") + b"\r\n")
        heard = [normal(line) for line in self.line.lines_until(rb"%s |\* BYE|\(closed\)" % tag)]
        return sorted(line for line in heard[:-1] if line not in ("* OK [CLOSED]", "* OK [HIGHESTMODSEQ N]")) + heard[-1:]


def imap(ports, where, commands):
    """`commands` are for session A; those that begin with "B:" for another; functions do something to the Maildir."""
    sessions, heard = {}, []
    for command in commands:
        if callable(command):
            command(where)
            continue
        name, text = ("B", command[2:]) if command.startswith("B:") else ("A", command)
        if name not in sessions:
            sessions[name] = Imap(ports["imap"])
        heard.append(sessions[name].do(text))
    for session in sessions.values():
        session.line.close()
    return heard


def utf8(text):
    """A literal, as the bytes that latin-1 makes of it."""
    return "{%d+}\r\n%s" % (len(text.encode()), text.encode().decode("latin-1"))


class ImapTest(unittest.TestCase):
    def setUp(self):
        same_mail(directories(), MESSAGES)

    def compare(self, *commands):
        ours, theirs = both(imap, list(commands))
        for command, one, other in zip([text for text in commands if not callable(text)], ours, theirs):
            with self.subTest(command):
                self.assertEqual(one, other)

    def test_selecting(self):
        self.compare("NAMESPACE", "CHECK", "CLOSE", "FETCH 1 FLAGS", "SEARCH ALL", "SELECT inbox", "SELECT {5+}\r\nINBOX", "SELECT nope", "FETCH 1 FLAGS",
                     "EXAMINE INBOX", "FETCH 2 BODY[]", "FETCH 2 FLAGS", "CLOSE", "STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)",
                     "STATUS INBOX (SIZE)", "STATUS INBOX ()", "STATUS INBOX (FOO)", "STATUS INBOX", "STATUS nope (MESSAGES)", "SELECT INBOX (CONDSTORE)",
                     "UNSELECT", "UNSELECT", "ENABLE CONDSTORE", "XYZZY", "UID FOO", "LOGIN a b", "AUTHENTICATE PLAIN", "STARTTLS")

    def test_fetching(self):
        self.compare("SELECT INBOX", *("FETCH 1:* " + items for items in (
            "ALL", "FAST", "FULL", "(FLAGS UID INTERNALDATE RFC822.SIZE)", "ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY.PEEK[]", "BODY.PEEK[HEADER]",
            "BODY.PEEK[TEXT]", "RFC822.HEADER", "BODY.PEEK[]<5.30>", "BODY.PEEK[HEADER.FIELDS (subject X-Spam)]", "BODY.PEEK[HEADER.FIELDS.NOT (date)]",
            "(FLAGS) (CHANGEDSINCE 1)", "FOO", "(FLAGS", "FLAGS)", "BODY[", "BODY[]<-1.3>", "(ALL)", "FLAGS UID", "()")))
        self.compare("SELECT INBOX", *("FETCH 4 BODY.PEEK[%s]" % section for section in (
            "1", "1.MIME", "2", "2.MIME", "2.HEADER", "2.TEXT", "2.1", "2.2", "2.1.MIME", "2.2.MIME", "3", "3.MIME", "2.HEADER.FIELDS (subject)", "MIME",
            "1.", ".1")), "FETCH 4 BINARY.PEEK[1]", "FETCH 4 BINARY.SIZE[3]", "FETCH 1 RFC822", "FETCH 1 RFC822.TEXT", "FETCH 1:3 FLAGS")

    def test_sets(self):
        self.compare("SELECT INBOX", *("FETCH %s UID" % numbers for numbers in (
            "0", "8", "5:8", "*", "*:3", "3:1", "1,1,2", "1,,2", "1:", ":1", "1:2:3", "-1", "4294967296", "a", "1,*", "01", '"1"', "8:*", "1:4294967295")),
            *("UID FETCH %s FLAGS" % numbers for numbers in ("0", "*:*", "50:*", "4294967295", "2,4:5", "100:200", "1:0")))

    def test_storing(self):
        self.compare("SELECT INBOX", "STORE 1 FLAGS (\\Flagged)", "STORE 1 FLAGS ()", "STORE 1 FLAGS \\Seen \\Draft", "STORE 1 +FLAGS \\Answered",
                     "STORE 1 -FLAGS (\\Answered)", "STORE 1 +FLAGS.SILENT (\\Deleted)", "STORE 1 FLAGS.SILENT (a)", "STORE 1 +FLAGS ($Forwarded kw1)",
                     "FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Recent)", "STORE 1 +FLAGS (\\Foo)", "STORE 1 FOO (a)",
                     "STORE 1:* +FLAGS.SILENT (\\Seen)", "UID STORE 2 +FLAGS (\\Deleted)", "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (x)",
                     "STORE 3 (UNCHANGEDSINCE 999999) +FLAGS (x)", "UID EXPUNGE 3", "UID EXPUNGE 1:2", "UID EXPUNGE", "STORE 1:* +FLAGS.SILENT \\Deleted",
                     "CLOSE", "SELECT INBOX")

    def test_searching(self):
        keys = ["ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "NEW", "OLD", "RECENT", "SEEN", "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN",
                "NOT SEEN", "OR SEEN FLAGGED", "OR (SEEN) (FLAGGED DRAFT)", "OR 1 OR 2 OR 3 4", "(ALL)", "(SEEN", "SEEN)", "FROM WILMA", 'FROM ""', "TO fred",
                "CC betty", "BCC x", "SUBJECT alpha", "SUBJECT third SEEN", "BODY HELLO", "TEXT inner", "BODY plain", "BODY AAEC", "HEADER X-Spam yes",
                'HEADER X-Spam ""', 'HEADER X-Empty ""', 'HEADER X-None ""', "BEFORE 15-Nov-2023", "ON 14-Nov-2023", "SINCE 15-Nov-2023",
                "SENTBEFORE 3-Mar-2026", "SENTON 3-Mar-2026", "SENTSINCE 4-Mar-2026", "ON 1-Foo-2023", "LARGER 100", "SMALLER 100", "LARGER x", "UID 2,4:*",
                "UID 0", "1:3", "2,4", "9", "NOT 1:3", "MODSEQ 1", "FOO", "NOT", "OR SEEN", "HEADER X", "RETURN () ALL", "RETURN (MIN MAX COUNT ALL) SEEN",
                "RETURN (COUNT) FLAGGED", "RETURN (MIN) DRAFT", "RETURN (FOO) ALL", "RETURN (SAVE) SEEN", "$", "CHARSET X-NONE ALL"]
        # Character sets and letters' cases, which the C library loads in a session that may read little.
        words = [(key, word) for key in ("SUBJECT", "BODY") for word in ("grüße", "GRÜßE", "Привет", "привет", "café")]
        self.compare("SELECT INBOX", *("SEARCH " + key for key in keys), *("SEARCH CHARSET UTF-8 %s %s" % (key, utf8(word)) for key, word in words))

    def test_mailboxes(self):
        self.compare('LIST "" ""', 'LIST "" *', "CREATE A", "CREATE A.B.C", "CREATE A.B", "CREATE INBOX", "CREATE INBOX.x", 'CREATE "a b"', "CREATE Trail.",
                     "CREATE a..b", 'CREATE "a*"', 'CREATE "x/y"', 'LIST "" *', 'LIST "" %', 'LIST "" A.%', "LIST A. %", 'LIST "" *C', "SUBSCRIBE A",
                     "SUBSCRIBE nope", "SUBSCRIBE A.B.C", 'LSUB "" *', 'LSUB "" %', "UNSUBSCRIBE A", "UNSUBSCRIBE A", 'LSUB "" %',
                     'LIST "" % RETURN (CHILDREN)', 'LIST "" * RETURN (FOO)', "DELETE A.B.C", 'LIST "" A*', "DELETE nope", "DELETE INBOX",
                     "RENAME A AA", 'LIST "" *', "RENAME nope x", "RENAME AA INBOX", "RENAME AA.B T.U", 'LIST "" T*')

    def test_appending_and_copying(self):
        text = "{12+}\r\nSubject: a\r\n"
        self.compare("APPEND INBOX " + text, "APPEND INBOX (\\Seen kw) " + text, 'APPEND INBOX (\\Flagged) "01-Jan-2020 10:00:00 +0100" ' + text,
                     "APPEND nope " + text, "APPEND INBOX", "APPEND INBOX %s %s" % (text, text), "CREATE D", "SELECT INBOX",
                     "FETCH 8:* (FLAGS RFC822.SIZE BODY.PEEK[])", "FETCH 10 INTERNALDATE", "COPY 1 D", "COPY 2:4,9 D", "COPY 1 nope", "UID COPY 2,4 D",
                     "COPY 99 D", "MOVE 1 D", "UID MOVE 2 D", "MOVE 99 D", "UID MOVE 99 D", "MOVE 1 nope", "SELECT D",
                     "FETCH 1:4,6:* (FLAGS UID INTERNALDATE)", "FETCH 5 (FLAGS UID)")   # the fifth was appended without a date

    def test_what_other_sessions_and_programs_do(self):
        def change(where):
            base = where + "/cur/1700000000.M%06dP1.host:2,"
            os.rename(base % 2, base % 2 + "FS")
            os.unlink(base % 3 + "F")
            with open(where + "/new/1700001000.M1P1.other", "wb") as file:
                file.write(b"Subject: other\n\nx\n")
            os.chown(file.name, NOBODY, NOBODY)
        self.compare("SELECT INBOX", "B:SELECT INBOX", "STORE 1 +FLAGS (\\Deleted)", "B:NOOP", "EXPUNGE", "B:NOOP", "B:FETCH 1:* UID", change,
                     "NOOP", "B:NOOP", "FETCH 1:* (UID FLAGS)", "STORE 1 +FLAGS.SILENT (\\Deleted)", "UID EXPUNGE 2", "B:CHECK")

    def test_bad_input(self):
        self.compare("SELECT INBOX", "  FETCH 1 FLAGS", "fetch 1 flags", "FETCH 1 (FLAGS)x", 'LIST "" "', 'LIST "" {1', "STORE 1 +FLAGS (\\)", "NOOP\0",
                     'SEARCH SUBJECT "\0"', "FETCH " + "1," * 2000 + "1 FLAGS", 'LIST "" ' + "*" * 300, "X" * 100, "NOOP")


# --- passwords ----------------------------------------------------------------------------------------------

# Not checked here: what only mechanisms that are not offered can use; MD4, which the cryptographic library has retired; and what
# takes a gigabyte of memory.
UNKNOWN_SCHEMES = ("OTP", "SKEY", "DIGEST-MD5", "PLAIN-MD4", "ARGON2ID", "ARGON2I")


class PasswordTest(unittest.TestCase):
    @staticmethod
    def log_in(port, user, password):
        client = Line(port)
        client.line()
        answer = pop3_answer(client, plain("", user, password))
        client.close()
        return answer

    def attempts(self, users, passwords):
        """(user, password, our answer, Dovecot's) for each; several at once, for a refusal takes Dovecot a while."""
        asked = [(user, password) for user in users for password in passwords]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            ours = [pool.submit(self.log_in, mail.port["pop3"], *words) for words in asked]
            theirs = [pool.submit(self.log_in, dovecot.port["pop3"], *words) for words in asked]
            return [(*words, one.result(), other.result()) for words, one, other in zip(asked, ours, theirs)]

    def write(self, lines):
        for where, path in ((mail.dir, mail.path("etc/users")), (dovecot.dir, dovecot.dir + "/users")):
            with open(path, "a") as file:
                file.write("".join(line.replace("DIR", where) + "\n" for line in lines))
        time.sleep(1.1)                                  # both look at the file once a second

    def test_schemes(self):
        found = subprocess.run(["doveadm", "pw", "-l"], stdout=subprocess.PIPE, text=True).stdout.split()
        lines, users = [], []
        with open(dovecot.dir + "/empty.conf", "w") as file:
            file.write("ssl = no\n")
        for scheme in (scheme for scheme in found if scheme not in UNKNOWN_SCHEMES):
            for form in ("", ".HEX", ".B64"):
                made = subprocess.run(["doveadm", "-c", dovecot.dir + "/empty.conf", "pw", "-s", scheme + form, "-p", "p:ss wörd"], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True)
                if made.returncode == 0 and (scheme, form) not in (("MD5", ".HEX"), ("MD5", ".B64")):   # which are none
                    user = ("s" + scheme + form).lower().replace("-", "_").replace(".", "_")
                    lines.append("%s:%s:%d:%d::DIR/mail/fred::" % (user, made.stdout.strip(), NOBODY, NOBODY))
                    users.append(user)
        self.assertGreater(len(users), 40)
        self.write(lines)
        for user, password, ours, theirs in self.attempts(users, ("p:ss wörd", "p:ss word")):
            with self.subTest(user=user, password=password):
                self.assertEqual(ours[0].replace("[SYS/TEMP]", "[AUTH]"), theirs[0])   # a bad hash is the server's fault here

    def test_fields(self):
        extra = ["nodelay", "nopassword", "nologin", "nologin=no", "allow_nets=127.0.0.0/8", "allow_nets=10.0.0.0/8", "allow_nets=::1,127.0.0.1",
                 "allow_nets=garbage", "allow_nets=", "userdb_uid=nobody userdb_gid=nogroup", "userdb_quota_rule=*:storage=10M", "k5principals=x", "a b c"]
        lines = ["e%d:{PLAIN}x:%d:%d::DIR/mail/fred::%s" % (number, NOBODY, NOBODY, text) for number, text in enumerate(extra)]
        lines += ["open::%d:%d::DIR/mail/fred::nopassword" % (NOBODY, NOBODY), "names:{PLAIN}x:nobody:nogroup::DIR/mail/fred::", "star:*:1:1::/::",
                  "none::1:1::/::", "#off:{PLAIN}x:1:1::/::", "UPPER:{PLAIN}x:1:1::/::", "at@example.org:{PLAIN}x:%d:%d::DIR/mail/fred::" % (NOBODY, NOBODY),
                  "crypt:$1$abcdefgh$irWbblnpmw.5z7wgBnprh0:%d:%d::DIR/mail/fred::" % (NOBODY, NOBODY)]
        self.write(lines)
        users = [line.split(":")[0] for line in lines] + ["upper", "AT@EXAMPLE.ORG", "at", "", "..", "nobody"]
        for user, password, ours, theirs in self.attempts(users, ("x", "y", "")):
            with self.subTest(line=[line for line in lines if line.startswith(user + ":")], user=user, password=password):
                self.assertEqual(ours, theirs)


if __name__ == "__main__":
    unittest.main(verbosity=1)
