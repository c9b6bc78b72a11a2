"""Daemons are killed at random moments while messages come in: what test_kill.py and its like share."""
import contextlib
import os
import random
import re
import signal
import subprocess
import threading
import time

from suite import as_nobody


class Sender(threading.Thread):
    """Sends messages one after another until told to stop, and notes which were accepted."""

    def __init__(self, mail, name):
        super().__init__()
        self.mail, self.label = mail, name
        self.accepted, self.failed, self.count, self.stopping = [], 0, 0, False

    def next_id(self):
        self.count += 1
        return "%s-%d" % (self.label, self.count)

    def run(self):
        while not self.stopping:
            self.burst()


def start_sendmail(mail, sender, *recipients):
    """sendmail(1), which waits for a message on its standard input."""
    return subprocess.Popen([mail.path("bin/sendmail"), "-f", sender or "<>", *recipients], stdin=subprocess.PIPE,
                            env=dict(os.environ, MAIL_CONFIG=mail.path("etc")), preexec_fn=as_nobody,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def while_sending(senders, during):
    """Calls `during` while they send; returns what was accepted."""
    for sender in senders:
        sender.start()
    try:
        during()
    finally:
        for sender in senders:
            sender.stopping = True
        for sender in senders:
            sender.join()
    return [message for sender in senders for message in sender.accepted]


def send_signal(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def kill(mail, victim):
    """Ends one process of that kind, or all; "reload" replaces all of them in an orderly way.  True when there was one."""
    pids = mail.pids()
    if victim == "reload":
        send_signal(pids.get("postern-master", []), signal.SIGHUP)
        return "postern-master" in pids
    if victim == "all":
        chosen = [pid for some in pids.values() for pid in some]
    else:
        chosen = pids.get("postern-master" if victim == "master" else victim, [])[:]
        random.shuffle(chosen)
        chosen = chosen[:1]
    send_signal(chosen, signal.SIGKILL)
    return bool(chosen)


def restart(mail):
    """The master may be dead: its children end by themselves, then it starts again."""
    mail.wait_for(lambda: mail.control("status").returncode == 0 or mail.control("start").returncode == 0, 30, "the mail system starts again")


def choose_seed(name, rounds):
    """What the environment's variable `name` says, or the time."""
    seed = int(os.environ.get(name, str(int(time.time()))))
    random.seed(seed)
    print("seed %d, %d rounds" % (seed, rounds))


class Havoc:
    """Kills one of `victims` now and then."""

    def __init__(self, victims, rounds, pause):
        self.victims, self.rounds, self.pause, self.kills = victims, rounds, pause, {}
        choose_seed("KILL_SEED", rounds)

    def wreak(self, mail):
        for _ in range(self.rounds):
            time.sleep(random.uniform(*self.pause))
            victim = random.choice(self.victims)
            if kill(mail, victim):
                self.kills[victim] = self.kills.get(victim, 0) + 1
            if victim in ("master", "all"):
                restart(mail)

    def show(self):
        print("kills: %s" % ", ".join("%s %d" % item for item in sorted(self.kills.items())))


def delivered(mail):
    """How often each message is in fred's mailbox, by the id in its subject."""
    found = {}
    for text in mail.messages("fred"):
        match = re.search(r"^Subject: id=(\S+)$", text, re.M)
        if match:
            found[match.group(1)] = found.get(match.group(1), 0) + 1
    return found


@contextlib.contextmanager
def log_kept(mail):
    """What `mail` has logged in the end, however that came, is in the file that KILL_LOG names, if it does."""
    try:
        yield
    finally:
        if os.environ.get("KILL_LOG"):
            with open(os.environ["KILL_LOG"], "w") as file:
                file.write(mail.log())
