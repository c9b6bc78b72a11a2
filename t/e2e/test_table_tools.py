#!/usr/bin/env python3
"""postmap, postalias and newaliases on files in a scratch directory."""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, os.environ.get("BUILD", "build"), "bin"))
failures = 0


def run(program, *args, stdin=b""):
    """Exit status, standard output, standard error."""
    done = subprocess.run([os.path.join(BIN, program), "-c", ".", *args], input=stdin, capture_output=True, timeout=30)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def check(what, got, expected):
    global failures
    if got != expected:
        failures += 1
        print(f"FAILED {what}\n  expected {expected!r}\n  got      {got!r}")


def write(name, content):
    with open(name, "wb") as file:
        file.write(content)


def postmap():
    write("t", b'a b\nC  d e \n"x y" z\nfoo\n k: v\nbad: v\na dup\nlonely\n\xff v\n')
    warnings = ('postmap: warning: t, line 6: record is in "key: value" format; is this an alias file?\n'
                'postmap: warning: t.{0}: duplicate entry: "a"\n'
                'postmap: warning: t, line 8: expected format: key whitespace value\n'
                'postmap: warning: t, line 9: non-UTF-8 input "? v" -- ignoring this line\n')
    for kind in ("lmdb", "cdb"):
        check(kind, run("postmap", kind + ":t"), (0, "", warnings.format(kind)))
        status, listing, _ = run("postmap", "-s", kind + ":t")
        check(kind + " -s", (status, sorted(listing.splitlines())),
              (0, ['"x y"\tz', "a\tb", "bad:\tv", "c\td e", "foo\tk: v"]))
        check(kind + " -q", run("postmap", "-q", "C", kind + ":t"), (0, "d e\n", ""))
        check(kind + " -q missing", run("postmap", "-q", "nobody", kind + ":t"), (1, "", ""))
        check(kind + " -q -", run("postmap", "-q", "-", kind + ":t", stdin=b"zz\nA\nfoo\n"), (0, "A\tb\nfoo\tk: v\n", ""))
    check("first table wins", run("postmap", "-q", "foo", "static:s", "lmdb:t"), (0, "s\n", ""))
    check("-i", run("postmap", "-i", "lmdb:t", stdin=b"new value\n"), (0, "", ""))
    check("-i kept the rest", run("postmap", "-q", "-", "lmdb:t", stdin=b"new\na\n"), (0, "new\tvalue\na\tb\n", ""))
    check("-i -r", run("postmap", "-ir", "lmdb:t", stdin=b"a 2\n"), (0, "", ""))
    check("replaced", run("postmap", "-q", "a", "lmdb:t"), (0, "2\n", ""))
    check("-d", run("postmap", "-d", "new", "lmdb:t"), (0, "", ""))
    check("-d again", run("postmap", "-d", "new", "lmdb:t"), (1, "", ""))
    check("-i cdb", run("postmap", "-i", "cdb:t", stdin=b"x y\n")[0], 1)
    check("hash is lmdb", run("postmap", "-q", "a", "hash:t"), (0, "2\n", ""))
    check("types without files", run("postmap", "regexp:t")[0], 1)
    write("u", b"b 2\nA x y\nb 3\n")
    again = 'postmap: warning: texthash:u, line 3: duplicate entry: "b"\n'
    check("-s texthash", run("postmap", "-s", "texthash:u"), (0, "a\tx y\nb\t2\n", again))
    check("-fs texthash", run("postmap", "-f", "-s", "texthash:u"), (0, "A\tx y\nb\t2\n", again))
    check("-s inline", run("postmap", "-s", "inline:{a=b,c=d}"), (0, "a\tb\nc\td\n", ""))
    check("-s static", run("postmap", "-s", "static:x"), (1, "", "postmap: fatal: table static:x: sequence operation is not supported\n"))
    os.unlink("u")
    os.mkdir("d")
    check("-s of a directory", run("postmap", "-s", "texthash:d"), (1, "", "postmap: fatal: read d: Is a directory\n"))
    check("a directory as source", run("postmap", "lmdb:d"), (1, "", "postmap: fatal: read d: Is a directory\n"))
    os.rmdir("d")
    check("no source", run("postmap", "lmdb:none"), (1, "", "postmap: fatal: open none: No such file or directory\n"))
    check("no index", run("postmap", "-q", "a", "lmdb:none")[0], 1)
    check("nothing left over", sorted(os.listdir(".")), ["main.cf", "t", "t.cdb", "t.lmdb"])


def modes():
    write("secret", b"a b\n")
    os.chmod("secret", 0o600)
    run("postmap", "lmdb:secret")
    check("mode is inherited", os.stat("secret.lmdb").st_mode & 0o777, 0o600)
    run("postmap", "-p", "lmdb:secret")
    check("-p does not inherit", os.stat("secret.lmdb").st_mode & 0o777, 0o644)


def messages():
    write("checks", b"/^subject: a/ HEADER\n/^body/ BODY\n")
    mail = b"From: x\nSubject: a\n b\n\nbody 1\nother\n"
    check("-h", run("postmap", "-h", "-q", "-", "regexp:checks", stdin=mail), (0, "Subject: a\n b\tHEADER\n", ""))
    check("-b", run("postmap", "-b", "-q", "-", "regexp:checks", stdin=mail), (0, "body 1\tBODY\n", ""))


def aliases():
    write("aliases", b'root: a,b, |"cmd x"\nFoo: bar\nx@y: z\n')
    check("postalias", run("postalias", "lmdb:aliases"),
          (0, "", "postalias: warning: aliases, line 3: name must be local\n"))
    check("postalias -s", run("postalias", "-s", "lmdb:aliases"), (0, 'foo:\tbar\nroot:\ta, b, |"cmd x"\n', ""))
    os.unlink("aliases.lmdb")
    check("newaliases", run("newaliases")[0], 0)
    check("newaliases made it", run("postmap", "-q", "root", "lmdb:aliases"), (0, 'a, b, |"cmd x"\n', ""))


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    write("main.cf", b"alias_database = lmdb:aliases\n")
    postmap()
    modes()
    messages()
    aliases()
    os.chdir("/")
print("test_table_tools: " + ("FAILED" if failures else "passed"))
sys.exit(1 if failures else 0)
