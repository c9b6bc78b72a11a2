#!/usr/bin/env python3
"""Logging in, from the client's end: mechanisms, refusals, changed passwords, and what survives the loss of a process."""
import base64
import hashlib
import hmac
import imaplib
import os
import poplib
import re
import signal
import smtplib
import socket
import ssl
import sys
import time

from suite import PASSWORD, Suite

PORT = int(os.environ.get("POSTERN_LOGIN_TEST_PORT", "21720"))
SETTINGS = """
auth_verbose = yes
auth_mechanisms = plain login scram-sha-256 scram-sha-1
session_process_idle_limit = 2
"""


def tls():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


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
    client = (imaplib.IMAP4_SSL("127.0.0.1", mail.port["imaps"], ssl_context=tls()) if secure
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
                 lambda: poplib.POP3_SSL("127.0.0.1", mail.port["pop3s"], timeout=20, context=tls())):
        client = kind()
        client.user("fred")
        client.pass_(PASSWORD)
        client.quit()
    for mechanism in ("PLAIN", "LOGIN"):
        client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=tls())
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
    client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=tls())
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
    client = smtplib.SMTP_SSL("127.0.0.1", mail.port["smtps"], timeout=20, context=tls())
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


def test_sessions_survive_a_reload(mail):
    clients = [imap(mail), imap(mail, secure=True)]
    mail.control("reload", check=True)
    mail.wait_for(mail.listening, 10, "the services listen again")

    def log_in():
        # A log-in that is under way at the very moment of a reload may be told to try again: its token was given by the
        # auth process that goes.  It must say so, and the next one must succeed.
        try:
            return imap(mail, "wilma")
        except imaplib.IMAP4.error as error:
            assert "[UNAVAILABLE]" in str(error), error
            return None
    new = mail.wait_for(log_in, 5, "a log-in after the reload")
    for client in clients + [new]:
        assert client.select("INBOX")[0] == "OK"
        client.logout()


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
    stays.logout()


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
