#!/usr/bin/env python3
"""Runs imaptest's scripts (client commands with the replies they must get) against an IMAP server.

    imaptest_runner.py [-v] HOST PORT USER PASSWORD DIRECTORY [SCRIPT...]

What is understood of the format: headers (connections, messages, state, capabilities); commands with a connection
number, a tag and an expected result before or after them; "*" (must come), "!" (must not come) and "?" (may come)
untagged replies; $variables, $1 (a sequence number as it was before the command), $!unordered and $!ban; {{{ }}}
literals (lines end in CRLF) and ~{{{ }}} (bytes as they are).
"""
import os
import re
import socket
import sys

MAILBOX = "imaptest"


class Failure(Exception):
    pass


class Str(str):
    """A quoted string or literal, as opposed to an atom."""


# --- tokens ---------------------------------------------------------------------------------------------------

def tokens(data, server):
    """Text (latin-1) as nested lists of atoms and Str.  `server`: literals are {n}CRLF, else {{{ }}}."""
    pos = 0
    stack = [[]]

    def brackets(at):
        depth = 0
        while at < len(data):
            if data[at] == "[":
                depth += 1
            elif data[at] == "]":
                depth -= 1
                if depth == 0:
                    return at + 1
            at += 1
        return at

    first_words = 0
    while pos < len(data):
        c = data[pos]
        if c == " ":
            pos += 1
        elif c == "(":
            stack.append([])
            pos += 1
        elif c == ")":
            if len(stack) == 1:
                raise Failure("unbalanced ) in " + data[:200])
            done = stack.pop()
            stack[-1].append(done)
            pos += 1
        elif c == "[" and first_words <= 2:
            end = brackets(pos)
            stack[-1].append(["["] + tokens(data[pos + 1:end - 1], server))
            pos = end
        elif c == '"':
            out = ""
            pos += 1
            while pos < len(data) and data[pos] != '"':
                if data[pos] == "\\":
                    pos += 1
                out += data[pos]
                pos += 1
            pos += 1
            stack[-1].append(Str(out))
        elif server and re.match(r"~?\{\d+\}\r\n", data[pos:pos + 40]):
            head = re.match(r"~?\{(\d+)\}\r\n", data[pos:pos + 40])
            size = int(head.group(1))
            pos += head.end()
            stack[-1].append(Str(data[pos:pos + size]))
            pos += size
        elif not server and re.match(r"~?\{\{\{\n", data[pos:pos + 6]):
            raw = c == "~"
            pos = data.index("\n", pos) + 1
            end = data.find("\n}}}", pos - 1)
            text = data[pos:max(end, pos)]
            stack[-1].append(Str(text if raw else text.replace("\r\n", "\n").replace("\n", "\r\n")))
            pos = max(end, pos - 1) + 4
        else:
            start = pos
            while pos < len(data) and data[pos] not in ' ()"':
                pos = brackets(pos) if data[pos] == "[" else pos + 1
            stack[-1].append(data[start:pos])
        first_words += 1
    if len(stack) != 1:
        raise Failure("unbalanced ( in " + data[:200])
    return stack[0]


# --- matching --------------------------------------------------------------------------------------------------

class Matcher:
    def __init__(self, variables):
        self.variables = variables

    def text(self, expected, got, bound):
        """One atom or string against another; unset variables take what is there."""
        names = re.findall(r"\$\{(\w+)\}|\$(\w+)", expected.replace("$$", "\0"))
        expected = expected.replace("$$", "\0")
        for braced, plain in names:
            name = braced or plain
            whole = "${" + name + "}" if braced else "$" + name
            if name in bound or name in self.variables:
                value = bound.get(name, self.variables.get(name))
                if isinstance(value, list):
                    return expected == whole and value == got
                expected = expected.replace(whole, value, 1)
            elif expected == whole:
                bound[name] = got
                return True
            elif "," in expected or ":" in expected or expected.endswith(whole):
                prefix = expected[:expected.index(whole)]
                if not isinstance(got, str) or not got.startswith(prefix):
                    return False
                part = re.match(r"[^:,]*", got[len(prefix):]).group(0)
                bound[name] = part
                expected = expected.replace(whole, part, 1)
        expected = expected.replace("\0", "$")
        if not isinstance(got, str):
            return False
        return expected.lower() == got.lower()

    def set_text(self, expected, got, bound):
        """Sequence sets are the same when they name the same numbers ($uid1:$uid3 may be 1,2,3)."""
        value = re.sub(r"\$(\w+)", lambda m: str(bound.get(m.group(1), self.variables.get(m.group(1), "?"))), expected)
        if not re.fullmatch(r"[\d:,]+", value) or not re.fullmatch(r"[\d:,]+", got) or not re.search("[:,]", value + got):
            return False

        def numbers(text):
            out = set()
            for part in text.split(","):
                ends = part.split(":")
                if not all(ends):
                    return None
                out.update(range(int(ends[0]), int(ends[-1]) + 1))
            return out
        return numbers(value) is not None and numbers(value) == numbers(got)

    def one(self, expected, got, bound, context=""):
        if isinstance(expected, list):
            return isinstance(got, list) and self.items(expected, got, bound, context)
        if isinstance(got, list):
            name = expected[1:] if re.fullmatch(r"\$\w+", expected) else None
            if name is None:
                return False
            if name in self.variables or name in bound:
                return bound.get(name, self.variables.get(name)) == got
            bound[name] = got
            return True
        return self.text(expected, got, bound) or (not isinstance(expected, Str) and self.set_text(expected, got, bound))

    def ordered(self, expected, got, bound):
        if len(expected) != len(got):
            return False
        return all(self.one(e, g, bound) for e, g in zip(expected, got))

    def loose(self, expected, got, bound):
        """Each expected element is somewhere in `got`; $!ban=x is nowhere."""
        for item in expected:
            if isinstance(item, str) and item.startswith("$!ban="):
                if any(isinstance(g, str) and g.lower() == item[6:].lower() for g in got):
                    return False
            elif isinstance(item, str) and item.startswith("$!"):
                continue
            elif not any(self.try_one(item, g, bound) for g in got):
                return False
        return True

    def try_one(self, expected, got, bound):
        trial = dict(bound)
        if self.one(expected, got, trial):
            bound.update(trial)
            return True
        return False

    def pairs(self, expected, got, bound):
        """FETCH and STATUS data: each expected pair is there, others may be."""
        have = {}
        for i in range(0, len(got) - 1, 2):
            if not isinstance(got[i], str):
                return False
            have[got[i].lower()] = got[i + 1]
        for i in range(0, len(expected) - 1, 2):
            key = expected[i].lower()
            if key not in have:
                return False
            if key == "flags":
                if not self.flags(expected[i + 1], have[key], bound):
                    return False
            elif not self.one(expected[i + 1], have[key], bound):
                return False
        return True

    def flags(self, expected, got, bound):
        if not isinstance(got, list) or not isinstance(expected, list):
            return self.one(expected, got, bound)
        want_recent = any(isinstance(f, str) and f.lower() == "\\recent" for f in expected)
        if not want_recent:
            got = [f for f in got if f.lower() != "\\recent"]
        return len(expected) == len(got) and self.loose(expected, got, bound)

    def items(self, expected, got, bound, context):
        if any(isinstance(item, str) and item.startswith("$!") for item in expected):
            return self.loose(expected, got, bound)
        if context == "flags":
            return self.loose(expected, got, bound)
        if expected and expected[0] == "[":
            return got[:1] == ["["] and len(got) >= len(expected) and self.ordered(expected, got[:len(expected)], bound)
        return self.ordered(expected, got, bound)

    def reply(self, expected, got, bound):
        """A whole untagged reply.  $3 is the present number of what was message 3 before the command."""
        if len(expected) > 1 and isinstance(expected[1], str) and expected[1].lower() == "fetch":
            return (len(got) == 3 and isinstance(got[1], str) and got[1].lower() == "fetch" and
                    self.one(expected[0], got[0], bound) and self.pairs(expected[2], got[2], bound))
        name = expected[0].lower() if isinstance(expected[0], str) else ""
        if not got or not isinstance(got[0], str) or (name and not name.startswith("$") and
                                                      not name.isdigit() and got[0].lower() != name):
            return False
        if name in ("list", "lsub"):
            return (len(got) >= len(expected) and self.loose(expected[1], got[1], bound) and
                    self.ordered(expected[2:], got[2:len(expected)], bound))
        if name == "status":
            return self.one(expected[1], got[1], bound) and self.pairs(expected[2], got[2], bound)
        if name in ("ok", "no", "bad", "bye"):
            return len(got) >= len(expected) and self.ordered(expected, got[:len(expected)], bound)
        if name == "esearch":
            return self.esearch(expected, got, bound)
        return self.ordered(expected, got, bound)

    def esearch(self, expected, got, bound):
        if len(expected) != len(got) or not self.ordered(expected[:2], got[:2], bound):
            return False
        uid = len(expected) > 2 and expected[2].lower() == "uid"
        start = 3 if uid else 2
        if uid and got[2].lower() != "uid":
            return False
        return self.pairs(expected[start:], got[start:], bound)


# --- the conversation -------------------------------------------------------------------------------------------

class Client:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.count = 0
        self.line()

    def line(self):
        """One response with its literals, without its last CRLF."""
        out = b""
        while True:
            line = self.file.readline()
            if not line.endswith(b"\r\n"):
                raise Failure("connection lost after " + repr(out + line))
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            out += line
            if not literal:
                return out[:-2].decode("latin-1")
            out += self.file.read(int(literal.group(1)))

    def send(self, tag, text):
        self.socket.sendall(tag.encode() + b" " + text.encode("latin-1") + b"\r\n")

    def until(self, tag):
        """Untagged replies and the tagged one (without its tag)."""
        untagged = []
        while True:
            line = self.line()
            if line.startswith("* "):
                untagged.append(line[2:])
            elif line.startswith(tag + " "):
                return untagged, line[len(tag) + 1:]
            elif not line.startswith("+"):
                raise Failure("unexpected reply " + line)

    def plain(self, text):
        self.count += 1
        tag = "x%d" % self.count
        self.send(tag, text)
        return self.until(tag)

    def close(self):
        self.file.close()
        self.socket.close()


def read_mbox(path):
    with open(path, encoding="latin-1", newline="") as file:
        text = file.read().replace("\r\n", "\n")
    parts = re.split(r"(?m)^From [^\n]*\n", text)[1:]
    dates = re.findall(r"(?m)^From [^\n]*?(\w{3} +\d+ \d\d:\d\d:\d\d \d{4})(?: ([+-]\d{4}))?$", text)
    out = []
    for index, part in enumerate(parts):
        date = None
        if len(dates) == len(parts):
            month, day, clock, year = dates[index][0].split()
            date = '"%2d-%s-%s %s %s"' % (int(day), month, year, clock, dates[index][1] or "+0000")
        out.append((part.replace("\n", "\r\n"), date))
    return out


class Script:
    """One file: headers, then groups of a command and what must come back."""

    def __init__(self, path):
        with open(path, encoding="latin-1", newline="") as file:
            text = file.read()
        lines = []
        rest = text
        while rest:                                  # logical lines: {{{ ... }}} belongs to its line
            end = 0
            while True:
                newline = rest.find("\n", end)
                newline = len(rest) if newline < 0 else newline
                if rest[end:newline].rstrip("\r").endswith("{{{"):
                    close = rest.find("\n}}}", newline)
                    if close < 0:
                        close = rest.find("}}}", newline) - 1
                    end = close + 4
                    continue
                end = newline
                break
            lines.append(rest[:end])
            rest = rest[end + 1:]
        self.headers = {}
        position = 0
        for position, line in enumerate(lines):
            if line.startswith("#"):
                continue
            match = re.match(r"([a-z_]+):\s*(.*)$", line)
            if not match:
                break
            self.headers[match.group(1)] = match.group(2).strip()
        self.lines = [line for line in lines[position:] if line.strip() and not line.startswith("#")]
        base = os.path.dirname(path)
        mbox = path + ".mbox"
        self.messages = read_mbox(mbox if os.path.exists(mbox) else os.path.join(base, "default.mbox"))
        self.connections = int(self.headers.get("connections", "1"))


class Run:
    def __init__(self, script, host, port, user, password):
        self.script = script
        self.host, self.port, self.user, self.password = host, port, user, password
        self.variables = {"mailbox": MAILBOX, "user": user, "username": user, "password": password}
        self.matcher = Matcher(self.variables)
        self.clients = []
        self.next_message = 0
        self.checks = 0

    def run(self):
        try:
            self.prepare()
            self.play()
        finally:
            for client in self.clients:
                client.close()
        return self.checks

    def login(self):
        client = Client(self.host, self.port)
        client.plain('LOGIN "%s" "%s"' % (self.user, self.password))
        return client

    def clean(self):
        client = self.login()
        boxes = [tokens(line, True) for line in client.plain('LIST "" *')[0]]
        for box in sorted((str(b[3]) for b in boxes if b[0].upper() == "LIST"), reverse=True):
            if box.upper() != "INBOX":
                client.plain('DELETE "%s"' % box)
        for box in [tokens(line, True) for line in client.plain('LSUB "" *')[0]]:
            client.plain('UNSUBSCRIBE "%s"' % box[3])
        client.close()

    def prepare(self):
        state = self.script.headers.get("state", "selected")
        self.clean()
        for _ in range(self.script.connections):
            self.clients.append(Client(self.host, self.port) if state == "nonauth" else self.login())
        if state in ("nonauth", "auth"):
            return
        first = self.clients[0]
        first.plain("CREATE " + MAILBOX)
        if state == "created":
            return
        count = self.script.headers.get("messages", "0")
        count = len(self.script.messages) if count == "all" else int(count)
        for _ in range(count):
            self.append(first, "")
        if state == "selected":
            for client in self.clients:
                client.plain("SELECT " + MAILBOX)

    def append(self, client, arguments):
        text, date = self.script.messages[self.next_message % len(self.script.messages)]
        self.next_message += 1
        arguments = arguments or MAILBOX + ((" " + date) if date else "")
        return client.plain("APPEND %s {%d+}\r\n%s" % (arguments, len(text), text))

    def expand(self, text):
        text = text.replace("$$", "\0")

        def value(match):
            name = match.group(1) or match.group(2)
            if name not in self.variables:
                raise Failure("variable $%s was never set" % name)
            found = self.variables[name]
            return '"%s"' % found if isinstance(found, Str) and "/" not in match.string and name.startswith("date") else found
        text = re.sub(r"\$\{(\w+)\}|\$([A-Za-z_]\w*)", value, text)
        return text.replace("\0", "$")

    def literals(self, text):
        """{{{ }}} as literals that do not wait."""
        def literal(match):
            body = match.group(2)
            if not match.group(1):
                body = body.replace("\r\n", "\n").replace("\n", "\r\n")
            return "%s{%d+}\r\n%s" % (match.group(1), len(body), body)
        return re.sub(r"(?s)(~?)\{\{\{\n(.*?)\n?\}\}\}", literal, text)

    def play(self):
        lines = self.script.lines
        at = 0
        while at < len(lines):
            at = self.group(lines, at)

    def split(self, line):
        """connection, rest"""
        match = re.match(r"(\d) (.*)$", line, re.S) if self.script.connections > 1 else None
        return (int(match.group(1)) - 1, match.group(2)) if match else (0, line)

    def group(self, lines, at):
        number, text = self.split(lines[at])
        match = re.match(r'(ok|no|bad|"") (.*)$', text, re.S | re.I)
        if match:
            expectation = [] if match.group(1) == '""' else [match.group(1)]
            end = at + 1
            while end < len(lines) and re.match(r"[*!?] ", lines[end]):
                end += 1
            self.command(number, match.group(2), expectation, lines[at + 1:end])
            return end
        if re.match(r"tag\d ", text):
            return self.pipeline(lines, at)
        end = at + 1                                 # the form with the result after the untagged replies
        while end < len(lines) and re.match(r"[*!?] ", lines[end]):
            end += 1
        if end >= len(lines):
            raise Failure("no result for " + text)
        _, result = self.split(lines[end])
        self.command(number, text, tokens(result, False), lines[at + 1:end])
        return end + 1

    def command(self, number, text, result, expected):
        client = self.clients[number]
        client.count += 1
        tag = self.variables["tag"] = "t%d" % client.count
        words = text.split(None, 2)
        if words[0].lower() == "append" and "{{{" not in text:
            where = self.expand(text[6:].strip())
            message, date = self.script.messages[self.next_message % len(self.script.messages)]
            self.next_message += 1
            where = where or MAILBOX
            client.send(tag, "APPEND %s%s {%d+}\r\n%s" % (where, " " + date if date else "", len(message), message))
        else:
            client.send(tag, self.literals(self.expand(text)))
        untagged, tagged = client.until(tag)
        self.check(text, untagged, tagged, result, expected)

    def check(self, text, untagged, tagged, result, expected):
        self.checks += 1
        bound = {}
        if result and not self.matcher.ordered(result, tokens(tagged, True)[:len(result)], bound):
            raise Failure("%r got %r, expected %r" % (text, tagged, result))
        self.variables.update(bound)
        got = [tokens(line, True) for line in untagged]
        numbered = self.renumbered(got)
        used = set()
        for line in expected:
            self.checks += 1
            want = tokens(line[2:], False)
            # One reply may satisfy several lines, but an unused one is preferred.
            order = sorted(range(len(got)), key=lambda i: (i in used, i)) if line[0] == "*" else range(len(got))
            for index in order:
                bound = {}
                if self.matcher.reply(self.with_numbers(want, numbered[index]), got[index], bound):
                    break
            else:
                if line[0] == "*":
                    raise Failure("%r: missing %r in\n    %s" % (text, line, "\n    ".join(untagged)))
                continue
            if line[0] == "!":
                raise Failure("%r: must not come: %r" % (text, untagged[index]))
            used.add(index)
            self.variables.update(bound)

    @staticmethod
    def renumbered(got):
        """For each reply, what the numbers before the command have become."""
        gone = []
        out = []
        for reply in got:
            out.append(list(gone))
            if len(reply) == 2 and isinstance(reply[1], str) and reply[1].lower() == "expunge":
                number = int(reply[0])               # back to the numbering before the command
                for earlier in sorted(gone):
                    number += 1 if earlier <= number else 0
                gone.append(number)
        return out

    @staticmethod
    def with_numbers(want, gone):
        if want and isinstance(want[0], str) and re.fullmatch(r"\$\d+", want[0]):
            number = int(want[0][1:])
            return [str(number - sum(1 for n in gone if n < number))] + want[1:]
        return want

    def pipeline(self, lines, at):
        """tagN command lines, sent together; then untagged replies and tagN results."""
        sent = []
        while at < len(lines):
            number, text = self.split(lines[at])
            match = re.match(r"(tag\d) (.*)$", text, re.S)
            if not match or match.group(2) in ("ok", "no", "bad"):
                break
            sent.append((number, match.group(1)))
            self.clients[number].send(match.group(1), self.expand(match.group(2)))
            at += 1
        expected = []
        results = {}
        while at < len(lines):
            number, text = self.split(lines[at])
            match = re.match(r"(tag\d) (ok|no|bad)$", text)
            if match:
                results[(number, match.group(1))] = match.group(2)
            elif re.match(r"[*!?] ", lines[at]):
                expected.append(lines[at])
            else:
                break
            at += 1
        untagged = []
        for number, tag in sent:
            more, tagged = self.clients[number].until(tag)
            untagged += more
            if not tagged.lower().startswith(results.get((number, tag), "")):
                raise Failure("%s got %r" % (tag, tagged))
        self.check("pipeline", untagged, "OK", [], expected)
        return at


def capabilities(host, port, user, password):
    client = Client(host, port)
    client.plain('LOGIN "%s" "%s"' % (user, password))
    line = client.plain("CAPABILITY")[0][0]
    client.close()
    return set(line.upper().split()[1:])


def run_scripts(host, port, user, password, directory, names=None, verbose=False):
    """{name: None when passed, "skipped: ..." or the failure}"""
    have = capabilities(host, port, user, password)
    out = {}
    for name in sorted(names or os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.endswith(".mbox") or not os.path.isfile(path):
            continue
        script = Script(path)
        missing = [c for c in script.headers.get("capabilities", "").upper().split() if c not in have]
        if missing:
            out[name] = "skipped: server lacks " + " ".join(missing)
        else:
            try:
                Run(script, host, port, user, password).run()
                out[name] = None
            except (Failure, OSError, ValueError, IndexError) as error:
                out[name] = "%s: %s" % (type(error).__name__, error)
        if verbose:
            print("%-32s %s" % (name, out[name] or "ok"), flush=True)
    return out


if __name__ == "__main__":
    words = sys.argv[1:]
    verbose = "-v" in words
    words = [w for w in words if w != "-v"]
    results = run_scripts(words[0], int(words[1]), words[2], words[3], words[4], words[5:], verbose=True)
    failed = [n for n, r in results.items() if r and not r.startswith("skipped")]
    print("%d passed, %d failed, %d skipped" % (sum(r is None for r in results.values()), len(failed),
                                                sum(bool(r) and r.startswith("skipped") for r in results.values())))
    sys.exit(bool(failed))
