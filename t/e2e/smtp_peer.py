"""A mail server for tests, which does what it is told: speaks SMTP or LMTP, notes all it hears, and misbehaves on request."""
import math
import os
import socket
import ssl
import threading
import time


class Peer:
    """`replies` maps a verb ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT", ...) to what is answered instead of the
    ordinary reply: text, a list of texts for one use after another (the last one stays), None for hanging up, a number for a
    pause of so many seconds before the ordinary reply (math.inf: nothing, until the client hangs up), or a function of the
    argument that yields one of these."""

    def __init__(self, port=None, path=None, lmtp=False, features=("PIPELINING", "SIZE 10240000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES"),
                 replies=None, name="peer.example", tls=None, wrapped=False, auth=None,
                 address="127.0.0.1"):
        self.features, self.replies, self.name, self.lmtp = list(features), dict(replies or {}), name, lmtp
        self.tls, self.wrapped, self.auth = tls, wrapped, auth
        self.messages, self.commands, self.sessions, self.sent_together, self.clients = [], [], 0, [], set()
        if tls:   # one for all connections: its ticket keys let clients resume sessions
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*tls)
        self.tls_sessions, self.reused, self.lock = 0, 0, threading.Lock()
        self.open = 0   # conversations that have not ended
        self.conversations = []   # what was heard in each, and when
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(path)
            os.chmod(path, 0o666)
        else:
            self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((address, port))
        self.socket.listen(200)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """The port is free afterwards: closing alone does not wake the thread that waits for clients."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def verbs(self):
        return [command.split(" ")[0].split(":")[0].upper() for command in self.commands]

    def _accept(self):
        while True:
            try:
                client, address = self.socket.accept()
            except OSError:
                return
            if address:
                self.clients.add(address[0])
            threading.Thread(target=self._guard, args=(client,), daemon=True).start()

    def _guard(self, client):
        talk = Talk(self, client)
        with self.lock:
            self.open += 1
            self.conversations.append(talk.conversation)
        try:
            talk.run()
        except (OSError, ValueError, EOFError):
            pass
        finally:
            talk.client.close()
            client.close()
            with self.lock:
                self.open -= 1
                talk.conversation["ended"] = time.monotonic()


class Talk:
    def __init__(self, peer, client):
        self.peer, self.client, self.buffer = peer, client, b""
        self.recipients, self.sender, self.secure, self.chunks = [], None, False, b""
        self.conversation = {"began": time.monotonic(), "ended": None, "commands": []}   # with the moments in which they came

    def line(self):
        while b"\n" not in self.buffer:
            piece = self.client.recv(65536)
            if not piece:
                raise EOFError
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def say(self, text):
        self.client.sendall(text.replace("\n", "\r\n").encode() + b"\r\n")

    def reply(self, verb, ordinary, argument="", before=None):
        """Answers; True when it was a positive answer.  `before` is called before a positive answer leaves: whoever hears
        it may look at once."""
        told = self.peer.replies.get(verb, ordinary)
        if callable(told):
            told = told(argument) or ordinary
        if isinstance(told, list):
            with self.peer.lock:
                told = told.pop(0) if len(told) > 1 else told[0]
            told = ordinary if told == "" else told
        if told is None:
            self.client.shutdown(socket.SHUT_RDWR)
            raise EOFError
        if told == math.inf:
            while self.client.recv(65536):
                pass
            raise EOFError
        if isinstance(told, (int, float)):
            time.sleep(told)
            told = ordinary
        if before and told[0] in "23":
            before()
        self.say(told)
        if told.startswith("421"):
            raise EOFError
        return told[0] in "23"

    def start_tls(self):
        self.client = self.peer.context.wrap_socket(self.client, server_side=True)
        self.secure, self.buffer = True, b""
        with self.peer.lock:
            self.peer.tls_sessions += 1
            self.peer.reused += 1 if self.client.session_reused else 0

    def run(self):
        with self.peer.lock:
            self.peer.sessions += 1
        if self.peer.wrapped:
            self.start_tls()
        self.reply("CONNECT", "220 %s ESMTP" % self.peer.name)
        while True:
            command = self.line().decode("utf-8", "replace")
            verb = command.split(" ")[0].upper()
            with self.peer.lock:
                self.peer.commands.append(command)
                self.conversation["commands"].append((time.monotonic(), command))
            if verb in ("EHLO", "LHLO"):
                features = self.peer.features + (["STARTTLS"] if self.peer.tls and not self.secure else [])
                lines = [self.peer.name] + features
                self.reply(verb, "\n".join("250%s%s" % (" " if i == len(lines) - 1 else "-", line) for i, line in enumerate(lines)))
            elif verb == "STARTTLS":
                if self.reply(verb, "220 2.0.0 go ahead"):
                    self.start_tls()
            elif verb == "AUTH":
                self.authenticate(command)
            elif verb == "MAIL":
                if self.reply(verb, "250 2.1.0 Ok", command):
                    self.sender, self.recipients = command, []
            elif verb == "RCPT":
                if self.reply(verb, "250 2.1.5 Ok", command):
                    self.recipients.append(command)
            elif verb == "DATA":
                with self.peer.lock:
                    self.peer.sent_together.append(self.buffer)
                if self.reply(verb, "354 go" if self.recipients else "503 5.5.1 no valid recipients"):
                    self.data()
            elif verb == "BDAT":
                self.chunk(command)
            elif verb == "QUIT":
                self.reply(verb, "221 2.0.0 Bye")
                return
            else:
                self.reply(verb, "250 2.0.0 Ok")

    def data(self):
        lines = []
        while True:
            line = self.line()
            if line == b".":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        self.finish(b"".join(line + b"\r\n" for line in lines))

    def chunk(self, command):
        size = int(command.split(" ")[1])
        while len(self.buffer) < size:
            piece = self.client.recv(65536)
            if not piece:
                raise EOFError
            self.buffer += piece
        self.chunks += self.buffer[:size]
        self.buffer = self.buffer[size:]
        with self.peer.lock:
            self.peer.sent_together.append(self.buffer)
        if not command.upper().endswith(" LAST"):
            self.reply("BDAT", "250 2.0.0 %d bytes" % size if self.recipients else "503 5.5.1 no valid recipients")
            return
        content, self.chunks = self.chunks, b""
        if self.recipients:
            self.finish(content)
        else:
            self.say("503 5.5.1 no valid recipients")

    def finish(self, content):
        message = {"sender": self.sender, "recipients": list(self.recipients), "content": content, "tls": self.secure}

        def keep():
            with self.peer.lock:
                self.peer.messages.append(dict(message, at=time.monotonic()))

        for i, recipient in enumerate(self.recipients if self.peer.lmtp else [""]):
            self.reply(".", "250 2.0.0 Ok: queued as %d" % (len(self.peer.messages) + 1), recipient, keep if i == 0 else None)
        self.sender, self.recipients = None, []

    def authenticate(self, command):
        self.peer.auth(self, command)
