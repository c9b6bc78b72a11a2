"""What the tests of mail clients share: running a client in a home of its own, and looking at what arrived."""
import glob
import imaplib
import os
import re
import shutil
import subprocess

from suite import PASSWORD, as_nobody

TIMEOUT = 60
BASE_ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TERM": "xterm", "LC_ALL": "C.UTF-8", "USER": "client", "LOGNAME": "client"}


def home(mail, name):
    """A new, empty home directory for a client."""
    path = mail.path("home-" + name)
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)
    os.chmod(path, 0o700)
    if os.geteuid() == 0:
        os.chown(path, mail.uid, mail.gid)
    return path


def config(mail, path, text):
    """A client's settings; they hold a password, so nobody else may read them (clients insist)."""
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o600)
    if os.geteuid() == 0:
        os.chown(path, mail.uid, mail.gid)
    return path


def run(mail, where, *words, stdin=b"", codes=(0,)):
    """Runs a client in its home directory; what it printed."""
    environment = dict(BASE_ENVIRONMENT, HOME=where, TMPDIR=where, MAIL_CONFIG=mail.path("etc"))
    done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT, cwd=where,
                          preexec_fn=as_nobody, env=environment)
    text = done.stdout.decode(errors="replace").replace("\r\n", "\n")
    if done.returncode not in codes:
        raise AssertionError("%s: exit %d\n%s" % (" ".join(words), done.returncode, text[-3000:]))
    return text


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def contents(paths):
    found = []
    for path in paths:
        with open(path, "rb") as file:
            found.append(file.read())
    return found


def subject_of(content):
    return re.search(rb"^Subject: (.*)$", content, re.M).group(1).decode()


def body_of(content):
    return content.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]


def subjects(paths):
    return sorted(subject_of(content) for content in contents(paths))


def arrived(mail, user, subject, body=None):
    """Waits for exactly one message with this subject and looks at its body."""
    def look():
        return [content for content in contents(mail.mailbox(user)) if subject_of(content) == subject]
    found = mail.wait_for(look, 20, "%s gets %r" % (user, subject))
    mail.wait_empty(20)
    found = look()
    expect(len(found) == 1, "%s got %r %d times" % (user, subject, len(found)))
    if body is not None:
        got = body_of(found[0])
        expect(got == body.encode(), "%r: body %r, not %r" % (subject, got[:300], body[:300]))
    return found[0]


def message(subject, body, user="fred"):
    return ("From: <c@c.example>\nTo: <%s@example.org>\nDate: Mon, 02 Mar 2026 10:00:00 +0000\nMessage-ID: <%s@c.example>\nSubject: %s\n\n%s"
            % (user, subject, subject, body))


def put(mail, user, names):
    """Messages for a client to fetch, in this order."""
    with mail.smtp() as client:
        for name in names:
            client.sendmail("c@c.example", [user + "@example.org"], message(name, body_for(name), user))
            arrived(mail, user, name, body_for(name))


def body_for(name):
    """A body with what a careless client or server would spoil."""
    return "This is %s.\n\n.\n..two\nFrom here on\n%s\n=C3=A4 \t\nend\n" % (name, "x" * 900)


def check_fetched(paths, names):
    found = {subject_of(content): body_of(content) for content in contents(paths)}
    expect(sorted(found) == sorted(names) and len(paths) == len(names), "fetched %s, not %s" % (sorted(found), sorted(names)))
    for name in names:
        expect(found[name] == body_for(name).encode(), "%s came changed: %r" % (name, found[name]))


def imap(mail, user, folder="INBOX", readonly=False):
    client = imaplib.IMAP4("127.0.0.1", mail.port["imap"], 30)
    client.login(user, PASSWORD)
    status, data = client.select(folder, readonly)
    expect(status == "OK", "%s: SELECT %s: %s" % (user, folder, data))
    return client


def flags(mail, user, folder="INBOX"):
    """Flags by subject, as IMAP shows them."""
    client = imap(mail, user, folder, readonly=True)
    _, data = client.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    client.logout()
    found = {}
    for item in data:
        if isinstance(item, tuple):
            found[subject_of(item[1].replace(b"\r", b""))] = set(imaplib.ParseFlags(item[0])) - {b"\\Recent"}
    return found


def store(mail, user, name, *words):
    """Sets flags on the message with this subject."""
    client = imap(mail, user)
    _, data = client.search(None, "SUBJECT", name)
    expect(len(data[0].split()) == 1, "SEARCH SUBJECT %s: %s" % (name, data))
    client.store(data[0].decode(), *words)
    return client


def append(mail, user, name, folder="INBOX"):
    client = imap(mail, user)
    if folder != "INBOX":
        expect(client.create(folder)[0] == "OK", "CREATE %s" % folder)
    status, data = client.append(folder, None, None, message(name, body_for(name), user).replace("\n", "\r\n").encode())
    expect(status == "OK", "APPEND: %s" % data)
    client.logout()


def maildir(path):
    return sorted(glob.glob(path + "/new/*") + glob.glob(path + "/cur/*"))
