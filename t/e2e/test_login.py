#!/usr/bin/env python3
"""Logging in, from the client's end: mechanisms, refusals, changed passwords, and what survives the loss of a process."""
import base64
import glob
import hashlib
import hmac
import imaplib
import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import sys
import threading
import time

from suite import PASSWORD, PATIENCE, Suite, any_certificate

PORT = int(os.environ.get("POSTERN_LOGIN_TEST_PORT", "21720"))
RELOADS = 20
SETTINGS = """
auth_verbose = yes
auth_mechanisms = plain login scram-sha-256 scram-sha-1
session_process_idle_limit = 2
"""


class ScramClient:
    """RFC 5802's client, written here so that it shares nothing with the server."""

    def __init__(self, user, password, name="sha256"):
        self.user, self.password, self.name = user, password, name
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.proof_of_server = None
        self.verified = False

    def digest(self, key, text):
        return hmac.new(key, text, self.name).digest()

    def first(self):
        self.bare = "n=%s,r=%s" % (self.user, self.nonce)
        return ("n,," + self.bare).encode()

    def answer(self, challenge):
        text = challenge.decode()
        if text.startswith("v="):
            self.verified = base64.b64decode(text[2:]) == self.proof_of_server
            return b""
        parts = dict(part.split("=", 1) for part in text.split(","))
        assert parts["r"].startswith(self.nonce) and len(parts["r"]) > len(self.nonce)
        salted = hashlib.pbkdf2_hmac(self.name, self.password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        final = "c=biws,r=" + parts["r"]
        message = ",".join((self.bare, text, final)).encode()
        client_key = self.digest(salted, b"Client Key")
        signature = self.digest(hashlib.new(self.name, client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.proof_of_server = self.digest(self.digest(salted, b"Server Key"), message)
        return (final + ",p=" + base64.b64encode(proof).decode()).encode()


def imap(mail, user="fred", password=PASSWORD, secure=False):
    client = (imaplib.IMAP4_SSL("127.0.0.1", mail.port["imaps"], ssl_context=any_certificate()) if secure
              else imaplib.IMAP4("127.0.0.1", mail.port["imap"]))
    client.sock.settimeout(20)
    client.login(user, password)
    return client


def refused(call, *words):
    try:
        call(*words)
    except (imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPAuthenticationError) as error:
        return str(error)
    raise AssertionError("the login was accepted")


def test_every_protocol_lets_the_right_password_in(mail):
    for secure in (False, True):
        client = imap(mail, secure=secure)
        assert client.select("INBOX")[0] == "OK"
        client.logout()
    for kind in (lambda: poplib.POP3("127.0.0.1", mail.port["pop3"], timeout=20),
                 lambda: poplib.POP3_SSL("127.0.0.1", mail.port["pop3s"], timeout=20, context=any_certificate())):
        client = kind()
        client.user("fred")
        client.pass_(PASSWORD)
        client.quit()
    for mechanism in ("PLAIN", "LOGIN"):
        client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=any_certificate())
        client.ehlo()
        assert mechanism in client.esmtp_features["auth"]
        client.user, client.password = "fred", PASSWORD
        code, _ = client.auth(mechanism, getattr(client, "auth_" + mechanism.lower()))
        assert code == 235
        client.quit()


def test_scram_proves_both_sides(mail):
    for name, mechanism in (("sha256", "SCRAM-SHA-256"), ("sha1", "SCRAM-SHA-1")):
        scram = ScramClient("fred", PASSWORD, name)
        client = imaplib.IMAP4("127.0.0.1", mail.port["imap"])
        assert ("AUTH=" + mechanism) in client.capabilities
        client.authenticate(mechanism, lambda challenge: scram.answer(challenge) if challenge else scram.first())
        assert scram.verified
        assert client.select("INBOX")[0] == "OK"
        client.logout()
        wrong = ScramClient("fred", "guess", name)
        client = imaplib.IMAP4("127.0.0.1", mail.port["imap"])
        text = refused(client.authenticate, mechanism,
                       lambda challenge: wrong.answer(challenge) if challenge else wrong.first())
        assert "AUTHENTICATIONFAILED" in text, text
        client.logout()
    scram = ScramClient("wilma", PASSWORD)
    client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=any_certificate())
    client.ehlo()

    def step(challenge=None):
        return scram.first().decode() if challenge is None else scram.answer(challenge).decode()

    code, _ = client.auth("SCRAM-SHA-256", step)
    assert code == 235 and scram.verified, code
    client.quit()


def test_refusals_say_nothing_and_are_logged_for_fail2ban(mail):
    answers = set()
    for user, password in (("fred", "wrong"), ("nobody", "wrong"), ("../fred", PASSWORD)):
        client = imaplib.IMAP4("127.0.0.1", mail.port["imap"])
        answers.add(refused(client.login, user, password))
        client.logout()
    assert len(answers) == 1, answers
    client = poplib.POP3("127.0.0.1", mail.port["pop3"], timeout=20)
    client.user("fred")
    assert "[AUTH]" in refused(client.pass_, "wrong")
    client.quit()
    client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=any_certificate())
    assert "535" in refused(client.login, "fred", "wrong")
    client.close()
    # The shapes that fail2ban's filters dovecot and postfix[mode=auth] look for.
    shapes = (r"dovecot\[\d+\]: imap-login: \S[^\n]*\(auth failed, 1 attempts in \d+ secs\): user=<fred>, method=PLAIN, "
              r"rip=127\.0\.0\.1, lip=127\.0\.0\.1",
              r"dovecot\[\d+\]: pop3-login: [^\n]*\(auth failed, 1 attempts in \d+ secs\): user=<fred>, method=PLAIN, rip=127",
              r"dovecot\[\d+\]: auth: passwd-file\(fred,127\.0\.0\.1,<[^>]+>\): Password mismatch",
              r"dovecot\[\d+\]: auth: passwd-file\(nobody,127\.0\.0\.1,<[^>]+>\): unknown user",
              r"smtpd\[\d+\]: warning: \S+\[127\.0\.0\.1\]: SASL (PLAIN|LOGIN|SCRAM-SHA-256) authentication failed: ")
    for shape in shapes:
        mail.wait_for(lambda shape=shape: re.search(shape, mail.log()), 5, "the log has " + shape)


def test_a_changed_password_counts_without_reload(mail):
    before = open(mail.path("etc/users")).read()
    try:
        mail.write("etc/users", before.replace("wilma:{PLAIN}" + PASSWORD, "wilma:{PLAIN}changed"))
        time.sleep(1.2)
        imap(mail, "wilma", "changed").logout()
        client = imaplib.IMAP4("127.0.0.1", mail.port["imap"])
        refused(client.login, "wilma", PASSWORD)
        client.logout()
    finally:
        mail.write("etc/users", before)
        time.sleep(1.2)


def test_one_process_for_each_user_and_none_when_idle(mail):
    def sessions():
        return len(mail.pids().get("imapd-session", [])) - 1
    mail.wait_for(lambda: sessions() == 0, 10, "idle session processes end")
    clients = [imap(mail, "fred") for _ in range(5)] + [imap(mail, "wilma", secure=True) for _ in range(5)]
    assert sessions() == 2, mail.pids()
    for client in clients:
        assert client.noop()[0] == "OK"
        client.logout()
    mail.wait_for(lambda: sessions() == 0, 10, "idle session processes end")


def test_what_was_parsed_is_kept_from_process_to_process(mail):
    """The cache of envelopes is written without sync; its state says whether it can be believed."""
    state = mail.path("mail/fred/postern.index/cache.state")
    client = imap(mail, "fred")
    assert client.append("INBOX", None, None, b"Subject: kept\r\n\r\nx\r\n")[0] == "OK"
    client.select("INBOX")
    assert client.fetch("*", "(ENVELOPE)")[0] == "OK"
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    with open(state) as file:
        assert file.read().split() == ["dirty", boot]
    inode = os.stat(mail.path("mail/fred/postern.index/cache.mdb")).st_ino
    client.logout()
    mail.wait_for(lambda: len(mail.pids().get("imapd-session", [])) == 1, 10, "idle session processes end")
    with open(state) as file:
        assert file.read().split() == ["clean", boot]
    imap(mail, "fred").logout()
    assert os.stat(mail.path("mail/fred/postern.index/cache.mdb")).st_ino == inode


def test_sessions_survive_a_reload(mail):
    clients = [imap(mail), imap(mail, secure=True)]
    mail.control("reload", check=True)
    clients.append(imap(mail, "wilma"))
    for client in clients:
        assert client.select("INBOX")[0] == "OK"
        client.logout()


def test_no_login_fails_because_of_a_reload(mail):
    ended, failures, logins = threading.Event(), [], []

    def pop3():
        client = poplib.POP3("127.0.0.1", mail.port["pop3"], timeout=20)
        client.user("wilma")
        client.pass_(PASSWORD)
        client.quit()

    def smtp():
        client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=any_certificate())
        client.login("fred", PASSWORD)
        client.quit()

    def log_in_again_and_again(log_in):
        while not ended.is_set() and not failures:
            try:
                log_in()
                logins.append(log_in)
            except (imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPException, OSError) as error:
                failures.append(repr(error))

    kinds = [lambda: imap(mail).logout(), lambda: imap(mail, "wilma").logout(), lambda: imap(mail, secure=True).logout(),
             pop3, smtp]
    threads = [threading.Thread(target=log_in_again_and_again, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    reloads = 0
    while reloads < RELOADS or (reloads < 10 * RELOADS and not failures and any(logins.count(kind) < 2 for kind in kinds)):
        mail.control("reload", check=True)
        reloads += 1
        time.sleep(0.15)
    ended.set()
    for thread in threads:
        thread.join()
    assert not failures, (failures, mail.log()[-3000:])
    assert all(logins.count(kind) > 1 for kind in kinds), [logins.count(kind) for kind in kinds]


def test_a_lost_session_process_harms_one_user_only(mail):
    fred, wilma = imap(mail, "fred"), imap(mail, "wilma")
    pid = int(re.findall(r"imap-login: Login: user=<fred>, [^\n]*mpid=(\d+)", mail.log())[-1])
    os.kill(pid, signal.SIGKILL)
    try:
        fred.noop()
        raise AssertionError("the killed session answers")
    except (imaplib.IMAP4.abort, OSError):
        pass
    assert wilma.noop()[0] == "OK"
    wilma.logout()
    imap(mail, "fred").logout()
    mail.wait_for(lambda: "child %d killed with signal 9" % pid in mail.log(), 5, "the loss is logged")


def test_lost_launcher_and_auth_come_back(mail):
    stays = imap(mail, "fred")
    launcher = min(mail.pids()["imapd-session"])
    os.kill(launcher, signal.SIGKILL)
    assert stays.noop()[0] == "OK"

    def logs_in():
        try:
            imap(mail, "wilma").logout()
            return True
        except (imaplib.IMAP4.error, OSError):
            return False
    mail.wait_for(logs_in, 20, "logins work again after the launcher was killed")
    for pid in mail.pids()["auth"]:
        os.kill(pid, signal.SIGKILL)
    mail.wait_for(logs_in, 20, "logins work again after auth was killed")
    assert stays.noop()[0] == "OK"
    mail.control("stop", check=True)
    assert b"BYE" in stays.readline(), "a session without a launcher is told when the suite is stopped"
    mail.wait_for(lambda: stays.sock.recv(1) == b"", 5, "it ends")
    mail.start()


def test_a_replaced_account_is_opened_anew(mail):
    """As when a backup is restored or a user made again, while a process that serves the user lives."""
    path = mail.path("mail/wilma")
    for replace in (lambda: shutil.rmtree(path), lambda: (os.rename(path, path + ".old"), copy_owned(path + ".old", path)),
                    lambda: shutil.rmtree(path + "/postern.index")):
        old = imap(mail, "wilma")
        assert old.append("INBOX", None, None, b"Subject: before\r\n\r\nx\r\n")[0] == "OK"
        old_pop3 = poplib.POP3("127.0.0.1", mail.port["pop3"], timeout=20)
        old_pop3.user("wilma")
        old_pop3.pass_(PASSWORD)
        replace()
        for _ in range(2):
            client = imap(mail, "wilma")
            assert client.append("INBOX", None, None, b"Subject: after\r\n\r\nx\r\n")[0] == "OK"
            status, count = client.select("INBOX")
            assert status == "OK" and int(count[0]) >= 1, (status, count)
            client.logout()
        new_pop3 = poplib.POP3("127.0.0.1", mail.port["pop3"], timeout=20)
        new_pop3.user("wilma")
        new_pop3.pass_(PASSWORD)
        assert new_pop3.stat()[0] >= 2
        new_pop3.dele(1)
        new_pop3.quit()
        for client in (old, old_pop3):
            client.sock.close()
        assert [one for one in glob.glob(path + "/*/*") if one.split("/")[-2] in ("new", "cur")]
    shutil.rmtree(path + ".old")


def copy_owned(source, target):
    shutil.copytree(source, target)
    owner = os.stat(source)
    for where, names, files in os.walk(target):
        for one in [where] + [os.path.join(where, name) for name in names + files]:
            os.chown(one, owner.st_uid, owner.st_gid)


def everyone(mail):
    """A client of each kind, by what it should hear at the end."""
    clients = []

    def add(port, secure, goodbye, *lines):
        sock = socket.create_connection(("127.0.0.1", mail.port[port]), 20)
        sock = any_certificate().wrap_socket(sock) if secure else sock
        file = sock.makefile("rwb")
        file.readline()
        for line, answer in lines:
            file.write(line + b"\r\n")
            file.flush()
            text = file.readline()
            while not text.startswith(answer):
                assert text, (port, line)
                text = file.readline()
        clients.append((sock, file, goodbye, port))
    imap_login = (b'a LOGIN fred "%s"' % PASSWORD.encode(), b"a OK")
    for port, secure in (("imap", False), ("imaps", True)):
        add(port, secure, b"* BYE")
        add(port, secure, b"* BYE", imap_login)
        add(port, secure, b"* BYE", imap_login, (b"b SELECT INBOX", b"b OK"), (b"c IDLE", b"+ "))
    for port, secure, user in (("pop3", False, b"fred"), ("pop3s", True, b"wilma")):
        add(port, secure, b"-ERR [SYS/TEMP]")
        add(port, secure, b"-ERR [SYS/TEMP]", (b"USER " + user, b"+OK"), (b"PASS " + PASSWORD.encode(), b"+OK"))
    return clients


def test_a_stop_says_goodbye_and_a_reload_does_not(mail):
    clients = everyone(mail)
    mail.control("reload", check=True)
    imap(mail, "wilma").logout()
    time.sleep(0.5)
    for sock, _, _, port in clients:
        sock.setblocking(False)
        try:
            heard = sock.recv(1)
            raise AssertionError("%s: a reload says %r" % (port, heard))
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        sock.settimeout(20)
    clients += everyone(mail)[:5]
    started = time.monotonic()
    mail.control("stop", check=True)
    took = time.monotonic() - started
    assert took < 6 * PATIENCE, "the end takes %.1f s" % took
    for sock, file, goodbye, port in clients:
        rest = file.read()
        assert rest.startswith(goodbye) and rest.count(b"\r\n") == 1, (port, rest)
        sock.close()
    mail.wait_for(lambda: not mail.pids(), 5, "all processes have ended")
    log = mail.log()
    for shape in (r"imap-login: Disconnected: Shutting down \(no auth attempts", r"imap\(fred\)<\d+><[^>]+>: Server shutting down",
                  r"pop3-login: Disconnected: Shutting down", r"pop3\(fred\)<\d+><[^>]+>: Disconnected: Server shutting down"):
        assert re.search(shape, log), shape
    mail.start()


def test_an_abort_ends_sessions_too(mail):
    clients = everyone(mail)
    mail.control("abort", check=True)
    mail.wait_for(lambda: not mail.pids(), 4, "all processes have ended")
    for client in clients:
        client[0].close()
    mail.start()


def test_a_deaf_client_does_not_delay_the_end(mail):
    clients = everyone(mail)
    flood = socket.create_connection(("127.0.0.1", mail.port["imap"]), 20)
    flood.sendall(b'a LOGIN fred "%s"\r\n' % PASSWORD.encode() + b"x NOOP\r\n" * 100000)   # answers that nobody takes
    half = socket.create_connection(("127.0.0.1", mail.port["imap"]), 20)
    half.sendall(b"a LOG")                                                                      # in the middle of a line
    time.sleep(0.3)
    started = time.monotonic()
    mail.control("stop", check=True)
    took = time.monotonic() - started
    assert took < 6 * PATIENCE, "the end takes %.1f s" % took
    mail.wait_for(lambda: not mail.pids(), 3, "all processes have ended")
    for sock in [client[0] for client in clients] + [flood, half]:
        sock.close()
    mail.start()


def test_junk_at_login_is_refused_politely(mail):
    for text in (b"a AUTHENTICATE PLAIN\r\n====\r\n", b"a AUTHENTICATE PLAIN " + b"A" * 9000 + b"\r\n",
                 b"a AUTHENTICATE SCRAM-SHA-256 biwsbj1mcmVk\r\n", b"a AUTHENTICATE NONSENSE\r\n",
                 b"a LOGIN {3}\r\nabc {4000000000}\r\n", b"a AUTHENTICATE PLAIN\r\n*\r\n"):
        client = socket.create_connection(("127.0.0.1", mail.port["imap"]), 20)
        client.recv(4096)
        client.sendall(text)
        answer = b""
        while b"a NO" not in answer and b"a BAD" not in answer and b"BYE" not in answer:
            more = client.recv(4096)
            assert more, (text, answer)
            answer += more
        client.close()
    imap(mail).logout()


def main():
    with Suite(extra=SETTINGS, port=PORT) as mail:
        names = [name for name in globals() if name.startswith("test_")]
        for name in sys.argv[1:] or names:
            globals()[name](mail)
            print("ok   %s" % name[5:].replace("_", " "))
        assert "panic" not in mail.log() and "AddressSanitizer" not in mail.log(), mail.log()


if __name__ == "__main__":
    main()
