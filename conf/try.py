#!/usr/bin/env python3
"""make try: a private mail server made of what lies in conf/, on high ports of this host only, with one user.

    try.py start BUILD     makes DIR, starts the server, shows a first message coming back, says how to use it
    try.py stop BUILD      stops it and removes DIR

DIR is BUILD/try; for root, who gives the server to the user `nobody`, it is /var/tmp/postern-try.
"""
import email.utils
import imaplib
import os
import poplib
import pwd
import grp
import shutil
import socket
import ssl
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NOBODY = 65534
USER, DOMAIN, PASSWORD = "user", "example.org", "postern"
PORTS = {"smtp": 2525, "submission": 2587, "submissions": 2465, "imap": 2143, "imaps": 2993, "pop3": 2110, "pop3s": 2995}

OVERRIDES = """
# --- added by make try ------------------------------------------------------------------------------------
queue_directory = {dir}/queue
data_directory = {dir}/data
daemon_directory = {dir}/bin
command_directory = {dir}/bin
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
mail_owner = {owner}
network_owner = {owner}
auth_owner = {owner}
setgid_group = {group}
myhostname = mail.{domain}
mydestination = localhost
alias_maps = texthash:{dir}/etc/aliases
alias_database = texthash:{dir}/etc/aliases
inet_interfaces = loopback-only
inet_protocols = ipv4
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = inline:{{ {user}@{domain}={user}/ }}
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
first_valid_uid = 1
auth_passdbs = passwd-file:{dir}/etc/users
auth_userdbs = passwd-file:{dir}/etc/users
mail_location = maildir:~
smtpd_tls_cert_file = {dir}/etc/cert.pem
smtpd_tls_key_file = {dir}/etc/key.pem
smtpd_tls_security_level = may
ssl_cert_file = {dir}/etc/cert.pem
ssl_key_file = {dir}/etc/key.pem
"""


def owner():
    return NOBODY if os.geteuid() == 0 else os.geteuid()


def drop():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def directory(build):
    return "/var/tmp/postern-try" if os.geteuid() == 0 else os.path.abspath(os.path.join(build, "try"))


def command(where, program, *words, stdin=None):
    environment = dict(os.environ, MAIL_CONFIG=where + "/etc")
    return subprocess.run([where + "/bin/" + program, *words], input=stdin, env=environment, preexec_fn=drop)


def master_cf():
    """conf/master.cf with each network service on its high port of the loopback interface, TLS services switched on."""
    out = []
    for line in open(os.path.join(HERE, "master.cf")):
        words = line.lstrip("#").split()
        if len(words) >= 8 and words[1] == "inet" and words[0] in PORTS:
            line = "127.0.0.1:%d %s\n" % (PORTS[words[0]], " ".join(words[1:]))
            uncommented = True
        elif line.startswith("#    -o") and out and uncommented:
            line = line[1:]
        elif line.startswith(" "):
            pass
        else:
            uncommented = False
        # nobody can become another user here: chroot and user switches are for the installed server
        out.append(line)
    return "".join(out)


def make(where, build):
    shutil.rmtree(where, ignore_errors=True)
    for name in ("", "etc", "bin", "mail", "mail/" + USER, "queue", "data"):
        os.makedirs(os.path.join(where, name), exist_ok=True)
    os.chmod(where + "/data", 0o700)
    for program in os.listdir(os.path.join(build, "bin")):
        shutil.copy(os.path.join(build, "bin", program), where + "/bin")
    uid = owner()
    gid = pwd.getpwuid(uid).pw_gid
    values = dict(dir=where, owner=pwd.getpwuid(uid).pw_name, group=grp.getgrgid(gid).gr_name, uid=uid, gid=gid, user=USER,
                  domain=DOMAIN)
    with open(os.path.join(HERE, "main.cf")) as main_cf, open(where + "/etc/main.cf", "w") as out:
        # What try sets is taken out of the shipped file, so that nothing is set twice.
        ours = {line.split("=")[0].strip() for line in OVERRIDES.split("\n") if "=" in line}
        out.write("".join(line for line in main_cf if line.split("=")[0].strip() not in ours))
        out.write(OVERRIDES.format(**values))
    with open(where + "/etc/master.cf", "w") as out:
        out.write(master_cf())
    shutil.copy(os.path.join(HERE, "aliases"), where + "/etc/aliases")
    with open(where + "/etc/users", "w") as out:
        out.write("%s@%s:{PLAIN}%s:%d:%d::%s/mail/%s::\n" % (USER, DOMAIN, PASSWORD, uid, gid, where, USER))
        out.write("%s:{PLAIN}%s:%d:%d::%s/mail/%s::\n" % (USER, PASSWORD, uid, gid, where, USER))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", where + "/etc/key.pem", "-out", where + "/etc/cert.pem"],
                   check=True, stderr=subprocess.DEVNULL)
    os.chmod(where + "/etc/key.pem", 0o600)
    os.chmod(where + "/etc/users", 0o600)
    if os.geteuid() == 0:
        for folder, _, names in os.walk(where):
            for path in [folder] + [os.path.join(folder, name) for name in names]:
                os.chown(path, uid, gid)


def wait_for(condition, what, where):
    for _ in range(300):
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    sys.exit("make try: %s did not happen; see %s/mail.log" % (what, where))


def listening():
    try:
        socket.create_connection(("127.0.0.1", PORTS["imap"]), 5).close()
        return True
    except OSError:
        return False


def fetch_imap():
    client = imaplib.IMAP4("127.0.0.1", PORTS["imap"])
    client.login(USER, PASSWORD)
    client.select("INBOX")
    _, numbers = client.search(None, "ALL")
    found = None
    if numbers[0]:
        found = client.fetch(numbers[0].split()[-1], "(BODY.PEEK[])")[1][0][1].decode()
    client.logout()
    return found


def fetch_pop3():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = poplib.POP3_SSL("127.0.0.1", PORTS["pop3s"], context=context)
    client.user(USER)
    client.pass_(PASSWORD)
    count, octets = client.stat()
    client.quit()
    return count, octets


def start(build):
    where = directory(build)
    if os.path.exists(where + "/etc/main.cf"):
        command(where, "postern", "-c", where + "/etc", "stop")
    make(where, build)
    done = command(where, "postern", "-c", where + "/etc", "start")
    if done.returncode != 0:
        sys.exit("make try: the server did not start; see %s/mail.log" % where)
    wait_for(listening, "listening for IMAP", where)
    text = "From: postmaster@%s\nTo: %s@%s\nDate: %s\nSubject: It works\n\nThis message went through sendmail, the queue and\n" \
           "delivery, and came back over IMAP.\n" % (DOMAIN, USER, DOMAIN, email.utils.formatdate())
    command(where, "sendmail", "-t", stdin=text.encode())
    message = wait_for(fetch_imap, "the first message's arrival", where)
    count, octets = fetch_pop3()
    print("\nThe first message, as IMAP shows it:\n\n    " + message.replace("\r\n", "\n").strip().replace("\n", "\n    "))
    print("\nPOP3 over TLS sees %d message of %d octets.\n" % (count, octets))
    print("""Your mail server runs in %(where)s, for this host only.

  account     %(user)s@%(domain)s, user name %(user)s, password %(password)s
  read        IMAP 127.0.0.1 port %(imap)d (STARTTLS) or %(imaps)d (TLS); POP3 port %(pop3)d (STLS) or %(pop3s)d (TLS)
  send        SMTP 127.0.0.1 port %(smtp)d; with log-in: %(submission)d (STARTTLS) or %(submissions)d (TLS)

  echo hello | MAIL_CONFIG=%(where)s/etc %(where)s/bin/sendmail %(user)s@%(domain)s
  swaks --server 127.0.0.1 --port %(smtp)d --to %(user)s@%(domain)s --from me@%(domain)s
  mutt -f imap://%(user)s@127.0.0.1:%(imap)d/INBOX

  log         %(where)s/mail.log
  settings    %(where)s/etc/main.cf, master.cf; then %(where)s/bin/postern -c %(where)s/etc reload
  stop        make try-stop
""" % dict(PORTS, where=where, user=USER, domain=DOMAIN, password=PASSWORD))


def stop(build):
    where = directory(build)
    if not os.path.exists(where + "/etc/main.cf"):
        print("nothing to stop: %s is not there" % where)
        return
    command(where, "postern", "-c", where + "/etc", "stop")
    shutil.rmtree(where, ignore_errors=True)
    print("stopped, and removed " + where)


if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
    sys.exit(__doc__)
{"start": start, "stop": stop}[sys.argv[1]](sys.argv[2])
