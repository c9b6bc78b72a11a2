#!/usr/bin/env python3
"""Every message of the test corpus goes in by SMTP and comes out by IMAP and POP3 unchanged, line ends aside."""
import imaplib
import os
import poplib
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import CORPUS, PASSWORD, Suite  # noqa: E402

LIMIT = 9 * 1024 * 1024
# The messages shall pass as they are: no header is completed or dropped, whatever client and header it is.
SETTINGS = """
local_header_rewrite_clients =
message_drop_headers =
header_size_limit = 10000000
hopcount_limit = 100000
message_size_limit = 0
mailbox_size_limit = 0
virtual_mailbox_limit = 0
"""


def messages():
    """(path, content with LF line ends) of every message file."""
    for folder in ("messages", "bounces"):
        for where, _, names in sorted(os.walk(os.path.join(CORPUS, folder))):
            for name in sorted(names):
                path = os.path.join(where, name)
                with open(path, "rb") as file:
                    content = file.read()
                if content and len(content) < LIMIT and not name.endswith((".json", ".xml")):
                    yield path, unix(content)
    for where, _, names in sorted(os.walk(os.path.join(CORPUS, "mbox"))):
        for name in sorted(names):
            with open(os.path.join(where, name), "rb") as file:
                for part in re.split(rb"^From .*\n", unix(file.read()), flags=re.M)[1:]:
                    yield os.path.join(where, name), part


def unix(content):
    """CR in front of LF aside, as an SMTP client would send it."""
    return re.sub(rb"\r*\n", b"\n", content)


def wire(content):
    content = re.sub(rb"^\.", b"..", content, flags=re.M)
    return content.replace(b"\n", b"\r\n")


def body_of(content):
    """A message read back, without what the way through the system put in front of it."""
    content = unix(content)
    lines = content.split(b"\n")
    at = 0
    while at < len(lines) and re.match(rb"(Return-Path|X-Original-To|Delivered-To|Received):", lines[at]):
        received = lines[at].startswith(b"Received:")
        at += 1
        while at < len(lines) and lines[at][:1] in (b" ", b"\t"):
            at += 1
        if received:
            break
    return b"\n".join(lines[at:])


def same(sent, got, way):
    """Equal, but for what the standards and Postfix's habits ask for."""
    if not sent.endswith(b"\n"):
        sent = unix(sent + b"\n")       # SMTP has no way to say that the last line end is missing
    if way == "IMAP":
        sent = sent.replace(b"\0", b"\x80")   # a literal holds no NUL (RFC 3501 section 9); Dovecot writes 0x80, too
    if got == sent:
        return True
    if sent.startswith((b"From ", b">From ")):
        return got == b"X-Mailbox-Line: " + sent   # an mbox line where the header should begin, as Postfix treats it
    # Without a header, the content gets the empty line that ends one.
    return got == b"\n" + sent and not re.match(rb"[!-9;-~]+[ \t]*:", sent)


def send(mail, all_messages):
    client = mail.smtp(timeout=120)
    client.ehlo("c.example")
    accepted = []
    for number, (path, content) in enumerate(all_messages):
        client.mail("m%d@c.example" % number)
        client.rcpt("fred@example.org")
        client.docmd("DATA")
        end = b"" if content.endswith(b"\n") else b"\r\n"
        client.send(wire(content) + end + b".\r\n")
        code, text = client.getreply()
        if code != 250:
            raise AssertionError("%s: %d %s" % (path, code, text))
        accepted.append(number)
    client.quit()
    return accepted


def number_of(content):
    found = re.match(rb"Return-Path: <m(\d+)@c\.example>", content)
    if not found:
        raise AssertionError("no Return-Path: %r" % content[:200])
    return int(found.group(1))


def by_imap(mail):
    client = imaplib.IMAP4("127.0.0.1", mail.port["imap"])
    imaplib._MAXLINE = 100000000
    client.login("fred", PASSWORD)
    count = int(client.select("INBOX", readonly=True)[1][0])
    found = {}
    for first in range(1, count + 1, 100):
        _, data = client.fetch("%d:%d" % (first, min(first + 99, count)), "(RFC822.SIZE BODY.PEEK[])")
        for item in data:
            if isinstance(item, tuple):
                size = int(re.search(rb"RFC822\.SIZE (\d+)", item[0]).group(1))
                if size != len(item[1]):
                    raise AssertionError("RFC822.SIZE %d, but %d bytes" % (size, len(item[1])))
                found[number_of(item[1])] = body_of(item[1])
    client.logout()
    return found


def by_pop3(mail):
    poplib._MAXLINE = 100000000
    client = poplib.POP3("127.0.0.1", mail.port["pop3"], timeout=120)
    client.user("fred")
    client.pass_(PASSWORD)
    count, _ = client.stat()
    found = {}
    for number in range(1, count + 1):
        content = b"\n".join(client.retr(number)[1]) + b"\n"
        found[number_of(content)] = body_of(content)
    client.quit()
    return found


def main():
    if not os.path.isdir(os.path.join(CORPUS, "messages")):
        print("notice: no corpus beside this checkout")
        return 77
    everything = list(messages())
    with Suite(SETTINGS) as mail:
        accepted = send(mail, everything)
        mail.wait_empty(120)
        failed = []
        for way, found in (("IMAP", by_imap(mail)), ("POP3", by_pop3(mail))):
            for number in accepted:
                path, content = everything[number]
                if number not in found:
                    failed.append("%s: %s is missing" % (way, path))
                elif not same(content, found[number], way):
                    at = next((i for i, (a, b) in enumerate(zip(content, found[number])) if a != b), -1)
                    failed.append("%s: %s differs at byte %d: sent %r, got %r" %
                                  (way, path, at, content[max(0, at - 30):at + 40], found[number][max(0, at - 30):at + 40]))
            print("%s: %d messages" % (way, len(found)))
        for line in failed[:20]:
            print(line)
        print("%d messages sent, %d came back changed" % (len(accepted), len(failed)))
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
