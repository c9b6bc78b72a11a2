#!/usr/bin/env python3
"""Guessing passwords from one address gets slower; others are not kept waiting.

In a network namespace of its own, so that clients come from addresses that are not this machine's loopback network.
Skipped (77) unless root.
"""
import imaplib
import os
import poplib
import shutil
import socket
import subprocess
import sys
import time

from suite import PASSWORD, Suite

SERVER, GUESSER, NEIGHBOUR = "198.51.100.1", "198.51.100.2", "198.51.100.3"
PORT = int(os.environ.get("POSTERN_TEST_PORT", "24000")) + 80
EXTRA = "disable_plaintext_auth = no\n"
LISTENERS = "%s:%d inet n - n - 4 imapd\n%s:%d inet n - n - 4 pop3d\n" % (SERVER, PORT + 10, SERVER, PORT + 11)


class Imap(imaplib.IMAP4):
    def __init__(self, source):
        self.source = source
        super().__init__(SERVER, PORT + 10)

    def _create_socket(self, timeout):
        return socket.create_connection((SERVER, PORT + 10), 60, (self.source, 0))


def imap(source, password):
    """Whether the password was taken, and after how many seconds."""
    client = Imap(source)
    begin = time.monotonic()
    try:
        client.login("fred", password)
        taken = True
    except imaplib.IMAP4.error as error:
        assert "AUTHENTICATIONFAILED" in str(error), error
        taken = False
    seconds = time.monotonic() - begin
    client.logout()
    return taken, seconds


def pop3(source, password):
    client = poplib.POP3.__new__(poplib.POP3)
    client.sock = socket.create_connection((SERVER, PORT + 11), 60, (source, 0))
    client.file = client.sock.makefile("rb")
    client._debugging, client.encoding = 0, "utf-8"
    client.welcome = client._getresp()
    client.user("fred")
    begin = time.monotonic()
    try:
        client.pass_(password)
        taken = True
    except poplib.error_proto as error:
        assert "[AUTH]" in str(error), error
        taken = False
    seconds = time.monotonic() - begin
    client.quit()
    return taken, seconds


def main():
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        print("notice: only root, with ip and unshare, can give clients addresses of their own")
        return 77
    if os.environ.get("POSTERN_PRIVATE_NET") != "yes":
        if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode != 0:
            print("notice: no network namespace of our own to be had here")
            return 77
        os.environ["POSTERN_PRIVATE_NET"] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, os.path.abspath(__file__)])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (SERVER, GUESSER, NEIGHBOUR):
        subprocess.run(["ip", "address", "add", address + "/32", "dev", "lo"], check=True)
    with Suite(extra=EXTRA, master_extra=LISTENERS, port=PORT) as mail:
        expected = ((imap, GUESSER, "first", False, 0), (imap, GUESSER, "second", False, 4), (imap, NEIGHBOUR, PASSWORD, True, 0),
                    (pop3, GUESSER, "second", False, 8), (imap, SERVER, "wrong", False, 0), (imap, SERVER, PASSWORD, True, 0),
                    (pop3, GUESSER, PASSWORD, True, 8), (imap, GUESSER, PASSWORD, True, 0), (imap, GUESSER, "third", False, 0),
                    (imap, GUESSER, PASSWORD, True, 4))
        for log_in, source, password, taken, wait in expected:
            got = log_in(source, password)
            assert got[0] == taken and wait - 0.1 <= got[1] < wait + 3, (log_in.__name__, source, password, got, mail.log())
            print("ok   %s from %s: %s after %.1f s" % (log_in.__name__, source, "taken" if taken else "refused", got[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
