#!/usr/bin/env python3
"""Other people's mail clients against the whole system: what they send arrives, what they fetch is what was sent.

Each client runs as the instance's user with a home directory of its own and reads a mailbox of its own.  Where a client can
speak TLS it does so both ways, by STARTTLS and from the start, and checks the certificate.  A client that is not
installed is passed over with a notice.  `test_clients.py NAME...` runs only those.
"""
import glob
import imaplib
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from client_tools import append, arrived, body_for, body_of, check_fetched, config, contents, expect, flags, home, \
    maildir, message, put, run, store, subject_of, subjects  # noqa: E402
from suite import PASSWORD, Suite  # noqa: E402


def test_swaks(mail):
    where, certificate = home(mail, "swaks"), mail.path("etc/cert.pem")

    def swaks(subject, port, *words, to="swaks@example.org", body="from swaks\n.\nend\n", codes=(0,)):
        config(mail, where + "/body", body)
        return run(mail, where, "swaks", "--server", "127.0.0.1", "--port", str(mail.port[port]), "--from", "c@c.example", "--to", to,
                   "--header", "Subject: " + subject, "--body", "@" + where + "/body", "--helo", "c.example", *words, codes=codes)

    login = ("--auth-user", "swaks", "--auth-password", PASSWORD)
    verify = ("--tls-verify", "--tls-ca-path", certificate)
    swaks("plain", "smtp")
    arrived(mail, "swaks", "plain")
    for method in ("PLAIN", "LOGIN"):
        text = swaks("auth-" + method, "smtp", "--tls", *verify, "--auth", method, *login)
        expect("235 2.7.0" in text and "=== TLS started" in text, text)
        content = arrived(mail, "swaks", "auth-" + method)
        expect(b"ESMTPSA" in content, "Received: does not say ESMTPSA: %r" % content[:600])
    text = swaks("wrapped", "smtps", "--tlsc", *verify, "--auth", "PLAIN", *login)
    expect("=== TLS started" in text, text)
    arrived(mail, "swaks", "wrapped")
    swaks("wrong", "smtp", "--tls", "--auth", "PLAIN", "--auth-user", "swaks", "--auth-password", "no", codes=(28,))
    big = "".join("line %06d %s\n" % (number, "y" * 80) for number in range(30000))
    content = swaks("big", "smtp", "--tls", *verify, "--suppress-data", body=big)
    content = arrived(mail, "swaks", "big")
    expect(big.encode() in content, "the big body came changed: %d bytes" % len(content))
    swaks("two", "smtp", to="swaks@example.org,fred@example.org")
    arrived(mail, "swaks", "two")
    arrived(mail, "fred", "two")
    text = swaks("some", "smtp", to="swaks@example.org,no.such@example.org")
    expect("550 5.1.1" in text, text)
    arrived(mail, "swaks", "some")
    text = swaks("refused", "smtp", to="no.such@example.org", codes=(24,))
    expect("550 5.1.1" in text, text)
    text = swaks("relay", "smtp", to="someone@elsewhere.example", codes=(24,))
    expect("454 4.7.1" in text, text)
    swaks("pipelined", "smtp", "--pipeline", to="swaks@example.org,fred@example.org")
    arrived(mail, "swaks", "pipelined")
    expect(len(mail.mailbox("swaks")) == 8, "mail that was refused arrived: %s" % subjects(mail.mailbox("swaks")))


def test_msmtp(mail):
    where = home(mail, "msmtp")
    tls = "tls on\ntls_trust_file %s\ntls_starttls %s\nauth %s\nuser msmtp\npassword \"%s\"\n"
    certificate = mail.path("etc/cert.pem")
    accounts = [("plain", "smtp", "tls off\nauth off\n"),
                ("starttls", "smtp", tls % (certificate, "on", "plain", PASSWORD)),
                ("login", "smtp", tls % (certificate, "on", "login", PASSWORD)),
                ("any", "smtp", tls % (certificate, "on", "on", PASSWORD)),
                ("wrapped", "smtps", tls % (certificate, "off", "on", PASSWORD)),
                ("wrong", "smtps", tls % (certificate, "off", "on", "no"))]
    if "scram-sha-256" in run(mail, where, "msmtp", "--version"):
        accounts.insert(0, ("scram", "smtp", tls % (certificate, "on", "scram-sha-256", PASSWORD)))
    rc = config(mail, where + "/rc", "defaults\ntimeout 20\ndomain c.example\n" + "".join(
        "account %s\nhost localhost\nport %d\nfrom c@c.example\n%s\n" % (name, mail.port[port], text) for name, port, text in accounts))
    text = run(mail, where, "msmtp", "-C", rc, "-a", "starttls", "--serverinfo")
    expect("SIZE" in text and "PIPELINING" in text and "AUTH" in text, text)
    for name, _, _ in accounts[:-1]:
        run(mail, where, "msmtp", "-C", rc, "-a", name, "-t", stdin=message(name, body_for(name), "msmtp").encode())
        content = arrived(mail, "msmtp", name, body_for(name))
        expect((b"ESMTPSA" in content) == (name != "plain"), "%s: %r" % (name, content[:600]))
    run(mail, where, "msmtp", "-C", rc, "-a", "wrong", "-t", stdin=message("wrong", "x\n", "msmtp").encode(), codes=(77,))
    run(mail, where, "msmtp", "-C", rc, "-a", "plain", "no.such@example.org", stdin=message("refused", "x\n").encode(), codes=(65,))
    run(mail, where, "msmtp", "-C", rc, "-a", "starttls", "msmtp@example.org", "fred@example.org", stdin=message("both", "both\n").encode())
    arrived(mail, "msmtp", "both", "both\n")
    arrived(mail, "fred", "both", "both\n")
    expect(len(mail.mailbox("msmtp")) == len(accounts), "%s" % subjects(mail.mailbox("msmtp")))


def test_curl(mail):
    where, certificate = home(mail, "curl"), mail.path("etc/cert.pem")

    def curl(scheme, path, *words, tls=(), codes=(0,)):
        url = "%s://localhost:%d/%s" % (scheme, mail.port[scheme], path)
        return run(mail, where, "curl", "-sS", "--ipv4", "--max-time", "30", "-u", "curl:" + PASSWORD, *tls, *words, url, codes=codes)

    starttls, wrapped = ("--ssl-reqd", "--cacert", certificate), ("--cacert", certificate)
    for name, scheme, tls in (("smtp-plain", "smtp", ()), ("smtp-starttls", "smtp", starttls), ("smtp-wrapped", "smtps", wrapped)):
        upload = config(mail, where + "/" + name, message(name, body_for(name), "curl"))
        curl(scheme, "c.example", "--mail-from", "c@c.example", "--mail-rcpt", "curl@example.org", "-T", upload, "--crlf", tls=tls)
        arrived(mail, "curl", name, body_for(name))
    curl("smtp", "c.example", "--mail-from", "c@c.example", "--mail-rcpt", "no.such@example.org", "-T", upload, codes=(55,))
    for scheme, tls in (("imap", ()), ("imap", starttls), ("imaps", wrapped)):
        expect('"." INBOX' in curl(scheme, "", tls=tls), "%s: LIST has no INBOX" % scheme)
        got = curl(scheme, "INBOX;MAILINDEX=1", tls=tls)
        expect(body_of(got.encode()) == body_for("smtp-plain").encode(), "%s: FETCH: %r" % (scheme, got))
        got = curl(scheme, "INBOX;MAILINDEX=2;SECTION=HEADER.FIELDS%20(SUBJECT)", tls=tls)
        expect(got.strip() == "Subject: smtp-starttls", "%s: FETCH of a section: %r" % (scheme, got))
        expect(curl(scheme, "INBOX?SUBJECT%20smtp-wrapped", tls=tls).strip() == "* SEARCH 3", "%s: SEARCH" % scheme)
    expect("UIDVALIDITY" in curl("imap", "", "-X", "EXAMINE INBOX"), "EXAMINE without UIDVALIDITY")
    curl("imap", "", "-X", "CREATE Sent", tls=starttls)
    upload = config(mail, where + "/append", message("appended", body_for("appended"), "curl").replace("\n", "\r\n"))
    curl("imap", "Sent", "-T", upload, tls=starttls)
    got = curl("imaps", "Sent;UID=1", tls=wrapped)
    expect(got == message("appended", body_for("appended"), "curl"), "APPEND then FETCH: %r" % got)
    expect("Sent" in curl("imap", "", "-X", 'LIST "" "*"'), "LIST has no Sent")
    curl("imap", "INBOX", "-X", "STORE 3 +FLAGS (\\Flagged $label)")
    expect(flags(mail, "curl")["smtp-wrapped"] >= {b"\\Flagged", b"$label"}, "flags do not stay: %s" % flags(mail, "curl"))
    check_curl_pop3(mail, curl, starttls, wrapped)


def check_curl_pop3(mail, curl, starttls, wrapped):
    for scheme, tls in (("pop3", ()), ("pop3", starttls), ("pop3s", wrapped)):
        listing = curl(scheme, "", tls=tls)
        expect([line.split()[0] for line in listing.split("\n") if line] == ["1", "2", "3"], "%s: LIST: %r" % (scheme, listing))
        got = curl(scheme, "2", tls=tls)
        expect(body_of(got.encode()) == body_for("smtp-starttls").encode(), "%s: RETR: %r" % (scheme, got))
        got = curl(scheme, "", "-X", "TOP 2 1", tls=tls)
        expect(body_of(got.encode()) == b"This is smtp-starttls.\n", "%s: TOP: %r" % (scheme, got))
        ids = curl(scheme, "", "-X", "UIDL", tls=tls).split()[1::2]
        expect(len(set(ids)) == 3, "%s: UIDL: %s" % (scheme, ids))
    curl("pop3s", "1", "-X", "DELE", "-I", tls=wrapped)
    expect(subjects(mail.mailbox("curl")) == ["smtp-starttls", "smtp-wrapped"], "DELE: %s" % subjects(mail.mailbox("curl")))
    curl("imap", "", "-u", "curl:no", codes=(67,))
    curl("pop3", "", "-u", "curl:no", codes=(67,))


MBSYNC = """
IMAPStore far
Host localhost
Port {port}
User {user}
Pass "{password}"
AuthMechs {mechanism}
SSLType {tls}
CertificateFile {certificate}

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
"""


def test_mbsync(mail):
    where = home(mail, "mbsync")

    def sync(port, tls, mechanism):
        rc = config(mail, where + "/rc", MBSYNC.format(port=mail.port[port], user="mbsync", password=PASSWORD, tls=tls, home=where,
                                                       mechanism=mechanism, certificate=mail.path("etc/cert.pem")))
        return run(mail, where, "mbsync", "-c", rc, "-a")

    def state():
        return {name: os.stat(name).st_mtime_ns for name in maildir(where + "/mail/*")}

    put(mail, "mbsync", ("one", "two", "three"))
    os.mkdir(where + "/mail")
    if os.geteuid() == 0:
        os.chown(where + "/mail", mail.uid, mail.gid)
    sync("imap", "None", "LOGIN")
    inbox = where + "/mail/INBOX"
    check_fetched(maildir(inbox), ("one", "two", "three"))
    # Near to far: a new message, flags, a deletion, a new folder.
    config(mail, inbox + "/new/1.near", message("near", body_for("near"), "mbsync"))
    paths = {subject_of(contents([path])[0]): path for path in maildir(inbox)}
    for name, letters in (("one", "FS"), ("two", "T")):
        base = os.path.basename(paths[name]).split(":2,")[0]
        os.rename(paths[name], "%s/cur/%s:2,%s" % (inbox, base, letters))
    sync("imap", "STARTTLS", "PLAIN")
    got = flags(mail, "mbsync")
    expect(sorted(got) == ["near", "one", "three"], "after the second run: %s" % got)
    expect(got["one"] == {b"\\Flagged", b"\\Seen"} and got["three"] == set(), "flags went wrong: %s" % got)
    check_fetched(mail.mailbox("mbsync"), ("near", "one", "three"))
    # Far to near: flags, a deletion, a new message in a new folder.
    store(mail, "mbsync", "three", "+FLAGS", "\\Answered").logout()
    client = store(mail, "mbsync", "near", "+FLAGS", "\\Deleted")
    client.expunge()
    client.logout()
    append(mail, "mbsync", "listed", "Lists.a")
    sync("imaps", "IMAPS", "PLAIN")
    check_fetched(maildir(inbox), ("one", "three"))
    expect([path.rsplit(":2,", 1)[1] for path in maildir(inbox) if "three" in subjects([path])] == ["R"], "%s" % maildir(inbox))
    check_fetched(maildir(where + "/mail/Lists/a"), ("listed",))
    before, log = state(), flags(mail, "mbsync")
    sync("imaps", "IMAPS", "PLAIN")
    expect(state() == before and flags(mail, "mbsync") == log, "a run with nothing to do changed something")


OFFLINEIMAP = """
[general]
accounts = a
metadata = {home}/state
maxsyncaccounts = 1
ui = basic
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {home}/mail
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {port}
remoteuser = {user}
remotepass = {password}
ssl = {ssl}
starttls = {starttls}
auth_mechanisms = {mechanism}
{certificate}
"""


def test_offlineimap(mail):
    where = home(mail, "offlineimap")
    certificate = "sslcacertfile = " + mail.path("etc/cert.pem")

    def sync(port, ssl, starttls, mechanism):
        rc = config(mail, where + "/rc", OFFLINEIMAP.format(
            home=where, port=mail.port[port], user="offlineimap", password=PASSWORD, ssl=ssl, starttls=starttls, mechanism=mechanism,
            certificate=certificate if ssl == "yes" or starttls == "yes" else ""))
        text = run(mail, where, "offlineimap", "-c", rc, "-o", "-1", "-u", "basic")
        expect("ERROR" not in text, text)
        return text

    put(mail, "offlineimap", ("one", "two", "three"))
    store(mail, "offlineimap", "two", "+FLAGS", "\\Flagged").logout()
    sync("imap", "no", "no", "LOGIN")
    inbox = where + "/mail/INBOX"
    check_fetched(maildir(inbox), ("one", "two", "three"))
    paths = {subject_of(contents([path])[0]): path for path in maildir(inbox)}
    expect(paths["two"].endswith("F"), "the flag did not come: %s" % paths["two"])
    os.unlink(paths["one"])
    config(mail, inbox + "/cur/1.near:2,S", message("near", body_for("near"), "offlineimap"))
    sync("imap", "no", "yes", "PLAIN")
    got = flags(mail, "offlineimap")
    expect(got == {"two": {b"\\Flagged"}, "three": set(), "near": {b"\\Seen"}}, "after the second run: %s" % got)
    client = store(mail, "offlineimap", "three", "+FLAGS", "\\Deleted")
    client.expunge()
    client.logout()
    sync("imaps", "yes", "no", "PLAIN")
    expect(subjects(maildir(inbox)) == ["near", "two"], "after the third run: %s" % subjects(maildir(inbox)))
    before = maildir(inbox)
    sync("imaps", "yes", "no", "PLAIN")
    expect(maildir(inbox) == before and flags(mail, "offlineimap").keys() == {"two", "near"}, "a run with nothing to do changed something")


def test_fetchmail(mail):
    where = home(mail, "fetchmail")
    tls = "sslcertck sslcertfile %s" % mail.path("etc/cert.pem")
    ways = {"plain": "sslproto ''", "starttls": "sslproto 'TLS1+' " + tls, "wrapped": "ssl " + tls}

    def fetch(name, protocol, port, way, *words, codes=(0,)):
        """One run; the paths of what it fetched."""
        into = "%s/%s" % (where, name)
        os.makedirs(into, exist_ok=True)
        os.chmod(into, 0o777)
        deliver = config(mail, where + "/deliver", "#!/bin/sh\ncat >\"$1/$$\"\n")
        os.chmod(deliver, 0o700)
        rc = config(mail, where + "/rc", "poll localhost protocol %s service %d user fetchmail password \"%s\" %s mda \"%s %s\"\n" %
                    (protocol, mail.port[port], PASSWORD, ways[way], deliver, into))
        run(mail, where, "fetchmail", "-f", rc, "-N", "--pidfile", where + "/pid", "--idfile", where + "/ids", "--nobounce", *words, codes=codes)
        return sorted(glob.glob(into + "/*"))

    names = ("one", "two")
    put(mail, "fetchmail", names)
    for protocol, port, secure in (("imap", "imap", "imaps"), ("pop3", "pop3", "pop3s")):
        for way, which in (("plain", port), ("starttls", port), ("wrapped", secure)):
            check_fetched(fetch(protocol + way, protocol, which, way, "--keep", "--all"), names)
    expect(subjects(mail.mailbox("fetchmail")) == ["one", "two"], "--keep: %s" % subjects(mail.mailbox("fetchmail")))
    expect(fetch("again", "imap", "imaps", "wrapped", "--keep", codes=(1,)) == [], "IMAP: seen messages came again")
    check_fetched(fetch("gone", "imap", "imaps", "wrapped", "--all"), names)
    expect(mail.mailbox("fetchmail") == [], "IMAP: messages were not deleted: %s" % mail.mailbox("fetchmail"))
    put(mail, "fetchmail", ("three", "four"))
    check_fetched(fetch("uidl", "pop3", "pop3", "starttls", "--keep", "--uidl"), ("three", "four"))
    expect(fetch("uidl-again", "pop3", "pop3", "starttls", "--keep", "--uidl", codes=(1,)) == [], "POP3: unique ids are not stable")
    check_fetched(fetch("gone-too", "pop3", "pop3s", "wrapped", "--all"), ("three", "four"))
    expect(mail.mailbox("fetchmail") == [], "POP3: messages were not deleted: %s" % mail.mailbox("fetchmail"))
    # Its usual way: what it fetches it hands to an SMTP server, here ours, for another user.
    put(mail, "fetchmail", ("five", "six"))
    rc = config(mail, where + "/rc", "poll localhost protocol imap service %d user fetchmail password \"%s\" %s smtphost \"127.0.0.1/%d\" "
                "smtpaddress example.org is fred here\n" % (mail.port["imaps"], PASSWORD, ways["wrapped"], mail.port["smtp"]))
    run(mail, where, "fetchmail", "-f", rc, "-N", "--pidfile", where + "/pid", "--idfile", where + "/ids", "--nobounce", "--all")
    for name in ("five", "six"):
        arrived(mail, "fred", name, body_for(name))
    expect(mail.mailbox("fetchmail") == [], "forwarded messages were not deleted: %s" % mail.mailbox("fetchmail"))


GETMAIL = """
[retriever]
type = {kind}
server = localhost
port = {port}
username = getmail
password = {password}
timeout = 30
{more}
[destination]
type = Maildir
path = {into}/
[options]
read_all = {everything}
delete = {delete}
delivered_to = false
received = false
verbose = 1
"""


def test_getmail(mail):
    where = home(mail, "getmail")
    certificate = "ca_certs = " + mail.path("etc/cert.pem")

    def fetch(kind, port, into, more="", everything="true", delete="false"):
        into = where + "/" + into
        for name in ("cur", "new", "tmp"):
            os.makedirs(into + "/" + name, exist_ok=True)
        if os.geteuid() == 0:
            for path in [into] + glob.glob(into + "/*"):
                os.chown(path, mail.uid, mail.gid)
        rc = config(mail, where + "/getmailrc", GETMAIL.format(kind=kind, port=mail.port[port], password=PASSWORD, more=more, into=into,
                                                               everything=everything, delete=delete))
        text = run(mail, where, "getmail", "--getmaildir", where, "--rcfile", rc)
        expect("rror" not in text, text)
        return maildir(into)

    names = ("one", "two")
    put(mail, "getmail", names)
    check_fetched(fetch("SimplePOP3Retriever", "pop3", "pop3"), names)
    check_fetched(fetch("SimplePOP3SSLRetriever", "pop3s", "pop3s", certificate, "false"), names)
    put(mail, "getmail", ("three",))
    check_fetched(fetch("SimplePOP3SSLRetriever", "pop3s", "pop3s-new", certificate, "false"), ("three",))
    everything = names + ("three",)
    check_fetched(fetch("SimpleIMAPRetriever", "imap", "imap", 'mailboxes = ("INBOX",)'), everything)
    check_fetched(fetch("SimpleIMAPSSLRetriever", "imaps", "imaps", certificate + '\nmailboxes = ("INBOX",)', delete="true"), everything)
    expect(mail.mailbox("getmail") == [], "IMAP: messages were not deleted: %s" % mail.mailbox("getmail"))
    put(mail, "getmail", ("four",))
    check_fetched(fetch("SimplePOP3SSLRetriever", "pop3s", "last", certificate, delete="true"), ("four",))
    expect(mail.mailbox("getmail") == [], "POP3: messages were not deleted: %s" % mail.mailbox("getmail"))


def test_mpop(mail):
    where = home(mail, "mpop")
    tls = "tls on\ntls_trust_file %s\ntls_starttls %%s\nauth %%s\n" % mail.path("etc/cert.pem")
    ways = {"plain": ("pop3", "tls off\nauth user\n"), "starttls": ("pop3", tls % ("on", "plain")), "any": ("pop3", tls % ("on", "on")),
            "wrapped": ("pop3s", tls % ("off", "user"))}
    if "scram-sha-256" in run(mail, where, "mpop", "--version"):
        ways["scram"] = ("pop3", tls % ("on", "scram-sha-256"))

    def fetch(name, way, keep="on", password=PASSWORD, codes=(0,)):
        into = where + "/" + name
        for part in ("cur", "new", "tmp"):
            os.makedirs(into + "/" + part, exist_ok=True)
        if os.geteuid() == 0:
            for path in [into] + glob.glob(into + "/*"):
                os.chown(path, mail.uid, mail.gid)
        port, text = ways[way]
        rc = config(mail, where + "/rc", "account default\nhost localhost\nport %d\nuser mpop\npassword \"%s\"\ndelivery maildir %s\nkeep %s\n"
                    "uidls_file %s/uidls-%s\nreceived_header off\n%s" % (mail.port[port], password, into, keep, where, way, text))
        run(mail, where, "mpop", "-C", rc, codes=codes)
        return maildir(into)

    names = ("one", "two", "three")
    put(mail, "mpop", names)
    for way in ways:
        check_fetched(fetch(way, way), names)
    check_fetched(fetch("wrapped", "wrapped"), names)      # nothing comes twice
    expect(fetch("wrong", "wrapped", password="no", codes=(77,)) == [], "mail came with a wrong password")
    text = run(mail, where, "mpop", "-S", "--host=localhost", "--port=%d" % mail.port["pop3"])
    expect("TOP" in text and "UIDL" in text and "STLS" in text, text)
    put(mail, "mpop", ("four",))
    check_fetched(fetch("last", "wrapped", keep="off"), ("four",))
    expect(mail.mailbox("mpop") == [], "POP3: messages were not deleted: %s" % subjects(mail.mailbox("mpop")))


NEOMUTT = """
set from = "c@c.example"
set realname = "A Client"
set imap_user = "neomutt"
set imap_pass = "{password}"
set pop_user = "neomutt"
set pop_pass = "{password}"
set smtp_pass = "{password}"
set folder = "{url}"
set spoolfile = "{inbox}"
set record = ""
set certificate_file = "{certificate}"
set ssl_force_tls = {force}
set ssl_starttls = {force}
set ssl_verify_host = yes
unset ssl_verify_dates
set confirmappend = no
set confirmcreate = no
set quit = yes
set delete = yes
set move = no
set mark_old = no
set wait_key = no
set sort = mailbox-order
set imap_idle = no
set header_cache = ""
{sending}
"""


def test_neomutt(mail):
    where = home(mail, "neomutt")

    def settings(port, force, sending=""):
        url = "%s://localhost:%d" % ({"pop3": "pop", "pop3s": "pops"}.get(port, port), mail.port[port])
        return config(mail, where + "/rc", NEOMUTT.format(password=PASSWORD, url=url, inbox=url + ("" if "pop" in port else "/INBOX"),
                                                          certificate=mail.path("etc/cert.pem"), force=force, sending=sending))

    ways = {"sendmail": 'set sendmail = "%s -oi"' % mail.path("bin/sendmail"),
            "starttls": 'set smtp_url = "smtp://neomutt@localhost:%d"' % mail.port["smtp"],
            "wrapped": 'set smtp_url = "smtps://neomutt@localhost:%d"' % mail.port["smtps"]}
    for name, sending in ways.items():
        rc = settings("imap", "yes", sending)
        text = run(mail, where, "neomutt", "-n", "-F", rc, "-s", name, "neomutt@example.org", stdin=body_for(name).encode())
        expect(body_of(arrived(mail, "neomutt", name)).strip() == body_for(name).encode().strip(), "%s: the body changed: %s" % (name, text))

    def read(port, force, keys):
        """Opens the inbox and types `keys`; neomutt needs a terminal for that."""
        rc = settings(port, force)
        command = "neomutt -n -F %s -e 'push \"%s<sync-mailbox><exit>\"'" % (rc, keys)
        return run(mail, where, "script", "-qec", "stty rows 40 cols 120; " + command, "/dev/null")

    read("imap", "no", "1<enter><flag-message>2<enter><delete-message>")
    got = flags(mail, "neomutt")
    expect(b"\\Flagged" in got["sendmail"] and sorted(got) == ["sendmail", "wrapped"], "flags and deletion: %s" % got)
    read("imap", "yes", "1<enter><copy-message>=Kept<enter>")
    expect(list(flags(mail, "neomutt", "Kept")) == ["sendmail"] and len(flags(mail, "neomutt")) == 2, "copy-message")
    read("imaps", "yes", "2<enter><save-message>=Kept<enter>")
    expect(sorted(flags(mail, "neomutt", "Kept")) == ["sendmail", "wrapped"], "save-message: %s" % flags(mail, "neomutt", "Kept"))
    expect(list(flags(mail, "neomutt")) == ["sendmail"], "save-message: %s" % flags(mail, "neomutt"))
    append(mail, "neomutt", "later")
    copy = config(mail, where + "/out", "")
    read("imaps", "yes", "<last-entry><pipe-message>cat >%s<enter>" % copy)
    expect(b"This is later." in contents([copy])[0], "pipe-message: %r" % contents([copy])[0][:500])
    # The same inbox by POP3, where the messages are numbered as they lie.
    for port, force in (("pop3", "yes"), ("pop3s", "yes")):
        copy = config(mail, where + "/out", "")
        read(port, force, "<last-entry><pipe-message>cat >%s<enter>" % copy)
        expect(b"This is later." in contents([copy])[0], "%s: pipe-message: %r" % (port, contents([copy])[0][:500]))
    read("pop3s", "yes", "<last-entry><delete-message>")
    expect(list(flags(mail, "neomutt")) == ["sendmail"], "POP3: deletion: %s" % flags(mail, "neomutt"))


PROGRAMS = {"swaks": "swaks", "msmtp": "msmtp", "curl": "curl", "mbsync": "mbsync", "offlineimap": "offlineimap", "fetchmail": "fetchmail",
            "getmail": "getmail", "mpop": "mpop", "neomutt": "neomutt"}


def main():
    chosen = sys.argv[1:] or list(PROGRAMS)
    failed, tried = [], 0
    with Suite("mynetworks = 192.0.2.1/32", users=("fred",) + tuple(PROGRAMS)) as mail:
        for name in chosen:
            if not shutil.which(PROGRAMS[name]):
                print("notice: %s is not installed" % name)
                continue
            start, tried = time.monotonic(), tried + 1
            try:
                globals()["test_" + name](mail)
                print("%s: ok (%.1f s)" % (name, time.monotonic() - start), flush=True)
            except (AssertionError, OSError, imaplib.IMAP4.error, KeyError, subprocess.TimeoutExpired) as problem:
                failed.append(name)
                printed = getattr(problem, "stdout", None) or b""
                print("%s: FAILED: %s\n%s" % (name, problem, printed.decode(errors="replace")[-2000:]), flush=True)
        if failed:
            print("--- end of the log\n" + mail.log()[-6000:])
            print("failed: %s" % " ".join(failed))
            return 1
    return 0 if tried else 77


if __name__ == "__main__":
    sys.exit(main())
