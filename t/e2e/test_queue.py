#!/usr/bin/env python3
"""The queue from submission to its end: sendmail, cleanup, qmgr, bounce, showq, postqueue, postsuper, under postern-master,
with a delivery agent written here that does as the recipient's name says.

Runs a private instance as an ordinary user (as "nobody" when run by root) in a temporary directory.
"""
import fcntl
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

from suite import BIN, Scratch, as_nobody

PROGRAMS = ["postern-master", "cleanup", "pickup", "postdrop", "qmgr", "bounce", "showq", "sendmail", "postqueue", "postsuper"]

AGENT = r'''#!/usr/bin/env python3
import array, os, select, signal, socket, struct, sys, threading, time
os.write(int(os.environ["POSTERN_STATUS_FD"]), b"A")
listener = socket.socket(fileno=3)
listener.setblocking(True)
draining = threading.Event()
signal.signal(signal.SIGHUP, lambda *_: draining.set())
busy = []   # conversations
directory = sys.argv[-1]
record = os.open(directory + "/deliveries", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
log = os.open(directory + "/log", os.O_WRONLY | os.O_APPEND)

class Reader:
    def __init__(self, data): self.data, self.at = data, 0
    def number(self, size):
        self.at += size
        return int.from_bytes(self.data[self.at - size:self.at], "little")
    def text(self):
        size = self.number(4)
        self.at += size
        return self.data[self.at - size:self.at].decode()

def text(value):
    value = value.encode()
    return struct.pack("<I", len(value)) + value

def receive(client, size):
    data, fds = b"", array.array("i")
    while len(data) < size:
        piece, extra, _, _ = client.recvmsg(size - len(data), socket.CMSG_SPACE(64))
        if not piece:
            return None, fds
        for level, kind, more in extra:
            fds.frombytes(more[:len(more) // 4 * 4])
        data += piece
    return data, fds

def serve(client):
    busy.append(client)
    try:
        talk(client)
    finally:
        busy.remove(client)

def talk(client):
    client.sendall(struct.pack("<IBBH", 0, 2, 0, 0))     # ready
    while True:
        head, fds = receive(client, 8)
        if head is None:
            return
        try:
            converse(client, head, fds)
        except OSError:   # qmgr is gone
            return
        finally:
            for fd in fds:
                os.close(fd)

def converse(client, head, fds):
    if True:
        size = struct.unpack("<I", head[:4])[0]
        body, more = receive(client, size)
        fds.extend(more)
        r = Reader(body)
        queue_id, has_fd = r.text(), r.number(1)
        headers, body_extent = (r.number(8), r.number(8)), (r.number(8), r.number(8))
        transport, nexthop, sender = r.text(), r.text(), r.text()
        for _ in range(r.number(4)):
            address, original, orcpt, notify, expanded, index = r.text(), r.text(), r.text(), r.number(1), r.number(1), r.number(4)
            word = address.split("@")[0].split("-")[0]
            if word == "die" and not os.path.exists(directory + "/died"):
                open(directory + "/died", "w").close()
                os._exit(1)
            if word == "slow":
                time.sleep(0.05)
            outcome, dsn, reason = {"bounce": (3, "5.1.1", 'unknown user: "%s"' % address.split("@")[0]),
                                    "defer": (2, "4.2.0", "mailbox is busy")}.get(word, (1, "2.0.0", "delivered"))
            if word == "later" and not os.path.exists(directory + "/now"):
                outcome, dsn, reason = 2, "4.2.0", "not now"
            if outcome == 1:
                os.write(record, ("%s %s %s\n" % (queue_id, address, sender)).encode())
                if word == "keep":
                    with open(directory + "/kept-" + address, "wb") as kept:
                        kept.write(os.pread(fds[0], headers[1], headers[0]) + os.pread(fds[0], body_extent[1], body_extent[0]))
            os.write(log, ("Nov 22 10:00:00 x postfix/agent[1]: %s: to=<%s>, relay=agent, dsn=%s, status=%s (%s)\n" % (
                queue_id, address, dsn, {1: "sent", 2: "deferred", 3: "bounced"}[outcome], reason)).encode())
            answer = struct.pack("<IB", index, outcome) + text(dsn) + text(reason) + text("") + text("agent") + text("") + text("") + text("") + b"\0"
            client.sendall(struct.pack("<IBBH", len(answer), 0, 0, 0) + answer)

while not draining.is_set():
    try:
        client, _ = listener.accept()
    except BlockingIOError:
        select.select([listener], [], [], 0.1)
        continue
    client.setblocking(True)
    threading.Thread(target=serve, args=(client,), daemon=True).start()
listener.close()
while busy:
    time.sleep(0.05)
'''

MAIN_CF = """
queue_directory = {dir}/queue
transit_directory = {transit}
data_directory = {dir}/data
daemon_directory = {dir}/libexec
command_directory = {dir}/libexec
sendmail_path = {dir}/libexec/sendmail
maillog_file = {dir}/log
maillog_file_prefixes = {dir}
myhostname = here.example
mydestination = here.example
fast_flush_domains = off.example
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
local_transport = agent
default_transport = smtp
transport_maps = inline:{{ off.example=agent }}
inet_interfaces = loopback-only
inet_protocols = ipv4
minimal_backoff_time = 2s
queue_run_delay = 2s
maximal_backoff_time = 4s
transport_retry_time = 2s
service_throttle_time = 1s
notify_classes =
"""

MASTER_CF = """
pickup  unix n - n 60 1 pickup
cleanup unix n - n - 2 cleanup
qmgr    unix n - n 300 1 qmgr
bounce  unix - - n - 1 bounce
defer   unix - - n - 1 bounce
trace   unix - - n - 1 bounce
showq   unix n - n - 1 showq
agent   unix - - n - 1 agent {dir}
"""


class Instance(Scratch):
    def __init__(self):
        super().__init__("postern-queue-")
        for name in ("libexec", "etc", "queue", "data"):
            os.mkdir(self.path(name))
        for name in PROGRAMS:
            shutil.copy(os.path.join(BIN, name), self.path("libexec"))
        self.write("libexec/agent", AGENT)
        self.write("log", "")
        os.chmod(self.path("libexec/agent"), 0o755)
        self.write("etc/main.cf", MAIN_CF.format(dir=self.dir, transit=self.make_transit()))
        self.write("etc/master.cf", MASTER_CF.replace("{dir}", self.dir))
        self.give_away()

    def run(self, *words, input=None, check=None):
        result = subprocess.run([os.path.join(BIN, words[0]), *words[1:]], input=input, text=True, timeout=60, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, preexec_fn=as_nobody,
                                env={"MAIL_CONFIG": os.path.join(self.dir, "etc"), "PATH": os.environ["PATH"], "TZ": "UTC"})
        if check is not None and result.returncode != check:
            raise AssertionError("%s: status %d: %s" % (" ".join(words), result.returncode, result.stdout))
        return result

    def control(self, *words):
        return self.run("postern", "-c", os.path.join(self.dir, "etc"), *words)

    def start(self):
        result = self.control("start")
        if result.returncode != 0:
            raise AssertionError(result.stdout + self.log())

    def stop(self):
        self.control("abort")
        self.wait_for(lambda: self.control("status").returncode != 0, 30, "the instance ends")

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir)
        self.remove_transit()

    def send(self, sender, *recipients, body="hello\n", options=()):
        self.run("sendmail", "-i", "-f", sender, *options, *recipients, input="Subject: test\n\n" + body, check=0)

    def deliveries(self):
        try:
            with open(os.path.join(self.dir, "deliveries")) as file:
                return [line.split() for line in file.read().splitlines()]
        except FileNotFoundError:
            return []

    def listing(self):
        text = self.run("postqueue", "-j", check=0).stdout
        return [json.loads(line) for line in text.splitlines()]

    def queue_files(self):
        return [path for path in glob.glob(self.dir + "/queue/*/*")
                if path.split("/")[-2] in ("maildrop", "transit", "incoming", "active", "deferred", "hold", "corrupt")
                and not os.path.basename(path).startswith(("tmp.", "lock."))]

    def pids(self, name):
        found = []
        for path in glob.glob("/proc/[0-9]*/exe"):
            try:
                if os.readlink(path) == os.path.join(self.dir, "libexec", name):
                    found.append(int(path.split("/")[2]))
            except OSError:
                pass
        return found


class QueueTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        missing = [name for name in PROGRAMS if not os.path.exists(os.path.join(BIN, name))]
        if missing:
            raise unittest.SkipTest("not built: " + " ".join(missing))

    def setUp(self):
        self.suite = Instance()
        self.addCleanup(self.suite.remove)
        self.suite.start()

    def test_a_message_is_delivered_and_removed(self):
        self.suite.send("me@here.example", "keep-a@here.example", "ok-b@here.example")
        self.suite.wait_log(r": removed")
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")
        self.assertEqual(sorted(line[1] for line in self.suite.deliveries()), ["keep-a@here.example", "ok-b@here.example"])
        log = self.suite.log()
        self.assertRegex(log, r"postfix/qmgr\[\d+\]: [0-9A-F]+: from=<me@here.example>, size=\d+, nrcpt=2 \(queue active\)\n")
        with open(self.suite.dir + "/kept-keep-a@here.example") as file:
            self.assertTrue(file.read().endswith("\n\nhello\n"))

    def test_the_sender_is_told_of_a_failure_with_the_whole_message(self):
        self.suite.send("keep-me@here.example", "bounce-x@here.example", "ok-y@here.example", body="line one\nline two\n")
        path = self.suite.dir + "/kept-keep-me@here.example"
        self.suite.wait_for(lambda: os.path.exists(path), 20, "notice")
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")
        with open(path) as file:
            notice = file.read()
        self.assertIn("Subject: Undelivered Mail Returned to Sender\n", notice)
        self.assertIn("Content-Type: multipart/report; report-type=delivery-status;\n", notice)
        self.assertIn("Final-Recipient: rfc822; bounce-x@here.example\n", notice)
        self.assertNotIn("ok-y@", notice.split("Content-Description: Undelivered")[0])
        self.assertIn("\n\nline one\nline two\n\n--", notice)
        self.assertRegex(self.suite.log(), r": sender non-delivery notification: [0-9A-F]+\n")

    def test_success_reports_and_null_senders(self):
        self.suite.send("keep-me@here.example", "ok-y@here.example", options=("-N", "success"))
        path = self.suite.dir + "/kept-keep-me@here.example"
        self.suite.wait_for(lambda: os.path.exists(path), 20, "report")
        with open(path) as file:
            self.assertIn("Subject: Successful Mail Delivery Report\n", file.read())
        self.suite.send("", "bounce-z@here.example")
        self.suite.wait_log(r"bounce-z.*status=bounced")
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")
        self.assertEqual(self.suite.log().count("notification:"), 1)

    def test_mail_without_a_transport_waits_with_a_clear_reason(self):
        self.suite.send("me@here.example", "far@elsewhere.example")
        self.suite.wait_log(r"to=<far@elsewhere.example>, relay=none, delay=\S+, delays=\S+, dsn=4.3.0, status=deferred "
                            r"\(mail transport unavailable\)")
        self.assertIn("warning: connect to transport private/smtp: ", self.suite.log())
        entry = self.suite.wait_for(lambda: [e for e in self.suite.listing() if e["queue_name"] == "deferred"], 20, "listing")[0]
        self.assertEqual(entry["sender"], "me@here.example")
        self.assertEqual(entry["recipients"], [{"address": "far@elsewhere.example", "delay_reason": "mail transport unavailable"}])
        text = self.suite.run("postqueue", "-p", check=0).stdout
        self.assertRegex(text, r"^-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
                               r"[0-9A-F]{6,}[ *]+\d+ [A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d  me@here.example\n +"
                               r"\(mail transport unavailable\)\n {41}far@elsewhere.example\n\n-- \d+ Kbytes in 1 Request\.\n$")

    def test_retry_flush_and_flush_one(self):
        self.suite.send("me@here.example", "later-a@here.example")
        self.suite.wait_for(lambda: [e for e in self.suite.listing() if e["queue_name"] == "deferred"], 20, "deferral")
        attempts = self.suite.log().count("(not now)")
        self.suite.wait_for(lambda: self.suite.log().count("(not now)") > attempts, 20, "second attempt by the clock")
        open(self.suite.dir + "/now", "w").close()
        entry = self.suite.wait_for(lambda: [e for e in self.suite.listing() if e["queue_name"] == "deferred"], 20, "deferral")[0]
        self.suite.run("postqueue", "-i", entry["queue_id"], check=0)
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")
        os.remove(self.suite.dir + "/now")
        self.suite.send("me@here.example", "later-b@off.example")
        self.suite.wait_for(lambda: [e for e in self.suite.listing() if e["queue_name"] == "deferred"], 20, "deferral")
        open(self.suite.dir + "/now", "w").close()
        self.suite.run("postqueue", "-s", "off.example", check=0)
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")
        self.suite.run("postqueue", "-f", check=0)
        self.assertEqual(self.suite.run("postqueue", "-p", check=0).stdout, "Mail queue is empty\n")

    def test_postsuper_on_a_running_system(self):
        for name in "abc":
            self.suite.send("me@here.example", "later-%s@here.example" % name)
        self.suite.wait_for(lambda: len([e for e in self.suite.listing() if e["queue_name"] == "deferred"]) == 3, 20, "deferrals")
        ids = {e["recipients"][0]["address"]: e["queue_id"] for e in self.suite.listing()}
        held, deleted, requeued = (ids["later-%s@here.example" % name] for name in "abc")
        said = self.suite.run("postsuper", "-h", held, "-d", deleted, "-r", requeued, check=0).stdout
        self.assertEqual(said, "postsuper: %s: removed\npostsuper: Deleted: 1 message\npostsuper: %s: placed on hold\n"
                               "postsuper: Placed on hold: 1 message\npostsuper: %s: requeued\npostsuper: Requeued: 1 message\n"
                               % (deleted, held, requeued))
        open(self.suite.dir + "/now", "w").close()
        self.suite.run("postqueue", "-f", check=0)
        self.suite.run("sendmail", "-q", check=0)
        self.suite.wait_for(lambda: any(d[1] == "later-c@here.example" for d in self.suite.deliveries()), 70, "delivery of the requeued one")
        self.assertEqual([e["queue_name"] for e in self.suite.listing()], ["hold"])
        self.assertRegex(self.suite.run("postqueue", "-p", check=0).stdout, r"\n%s! +\d+ " % held)
        self.assertEqual(self.suite.run("postsuper", "-H", "ALL", check=0).stdout, "postsuper: Released from hold: 1 message\n")
        self.suite.wait_for(lambda: any(d[1] == "later-a@here.example" for d in self.suite.deliveries()), 20, "delivery of the held one")
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")
        self.assertFalse(any(d[1] == "later-b@here.example" for d in self.suite.deliveries()))
        bad = self.suite.run("postsuper", "-d", "ALL", "nonsense")
        self.assertEqual((bad.returncode, bad.stdout), (1, "postsuper: fatal: invalid directory name: nonsense\n"))

    def put_in_transit(self, address):
        """A message that is deferred, and then as if it were delivered for the first time: its queue id, and its file."""
        self.suite.send("me@here.example", address)
        queue_id = self.suite.wait_log(r"(\w+): to=<%s>, .* status=deferred" % address).group(1)
        deferred, path = self.suite.path("queue/deferred/" + queue_id), self.suite.path("queue/transit/" + queue_id)
        self.suite.wait_for(lambda: os.path.exists(deferred), 20, "deferral")
        self.suite.stop()
        shutil.copy2(deferred, path)
        os.chown(path, self.suite.uid, self.suite.gid)
        os.unlink(deferred)
        return queue_id, path

    @unittest.skipUnless(os.path.isdir("/dev/shm"), "no memory for messages in transit")
    def test_the_commands_and_a_message_in_transit_when_the_system_is_down(self):
        queue_id, path = self.put_in_transit("later-a@here.example")
        self.assertIn('{"queue_name": "incoming", "queue_id": "%s", ' % queue_id, self.suite.run("postqueue", "-j", check=0).stdout)
        self.assertIn("*** ENVELOPE RECORDS transit/%s ***\n" % queue_id, self.suite.run("postcat", "-q", queue_id, check=0).stdout)
        self.assertIn("placed on hold", self.suite.run("postsuper", "-h", queue_id, check=0).stdout)
        held = self.suite.path("queue/hold/" + queue_id)
        self.assertEqual(self.suite.queue_files(), [held])
        shutil.move(held, path)
        os.chown(path, self.suite.uid, self.suite.gid)
        self.assertEqual(self.suite.run("postsuper", "-d", "ALL", check=0).stdout, "postsuper: Deleted: 1 message\n")
        self.assertEqual(self.suite.queue_files(), [])

    @unittest.skipUnless(os.path.isdir("/dev/shm"), "no memory for messages in transit")
    def test_a_copy_of_a_message_that_is_half_moved_is_left_alone(self):
        """Else what is deleted came back, for the next queue manager would find but the other half."""
        queue_id, path = self.put_in_transit("later-a@here.example")
        copy, moving = self.suite.path("queue/incoming/" + queue_id), os.path.join(os.path.dirname(path), "move." + queue_id)
        shutil.copy2(path, copy)
        os.chown(copy, self.suite.uid, self.suite.gid)
        os.rename(path, moving)
        for which in (queue_id, "ALL"):
            self.assertIn("%s: still in transit" % queue_id, self.suite.run("postsuper", "-d", which, check=0).stdout)
        self.assertTrue(os.path.exists(copy) and os.path.exists(moving))

    @unittest.skipUnless(os.path.isdir("/dev/shm"), "no memory for messages in transit")
    def test_the_commands_and_a_message_that_an_agent_has_in_transit(self):
        queue_id, path = self.put_in_transit("later-a@here.example")
        with open(path, "rb") as agent:
            fcntl.flock(agent, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.suite.start()
            self.assertEqual([(e["queue_name"], e["queue_id"]) for e in self.suite.listing()], [("incoming", queue_id)])
            for which in (queue_id, "ALL"):
                said = self.suite.run("postsuper", "-d", which, check=0).stdout
                self.assertIn("postsuper: warning: %s: still in transit, and left alone: " % queue_id, said)
                self.assertIn("postsuper: Deleted: 0 messages\n", said)
            self.assertEqual([e["queue_id"] for e in self.suite.listing()], [queue_id])
        self.assertIn("Deleted: 1 message\n", self.suite.run("postsuper", "-d", queue_id, check=0).stdout)
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")

    def test_the_commands_find_qmgr_under_another_name(self):
        self.suite.stop()
        self.suite.write("etc/master.cf", MASTER_CF.replace("{dir}", self.suite.dir).replace("qmgr    unix", "manager unix"))
        with open(os.path.join(self.suite.dir, "etc/main.cf"), "a") as settings:
            settings.write("queue_service_name = manager\nminimal_backoff_time = 600s\nqueue_run_delay = 600s\nmaximal_backoff_time = 600s\n")
        self.suite.start()
        self.suite.send("a@far.example", "later-one@here.example")
        queue_id = self.suite.wait_log(r"(\w+): to=<later-one@here.example>, .* status=deferred").group(1)
        self.suite.wait_for(lambda: glob.glob(self.suite.dir + "/queue/deferred/" + queue_id), 20, "deferral")
        self.suite.run("postsuper", "-h", queue_id, check=0)
        self.suite.run("postsuper", "-H", queue_id, check=0)   # tells qmgr too, or it would wait for its next scan
        self.suite.write("now", "")
        self.suite.run("postqueue", "-i", queue_id, check=0)
        self.suite.wait_log(queue_id + ": removed")
        self.suite.send("a@far.example", "two@off.example")
        self.assertEqual(self.suite.run("postqueue", "-s", "off.example", check=0).stdout, "")
        self.suite.run("postqueue", "-f", check=0)

    def test_the_commands_when_the_system_is_down(self):
        self.suite.send("me@here.example", "defer-a@here.example")
        self.suite.wait_for(lambda: [e for e in self.suite.listing() if e["queue_name"] == "deferred"], 20, "deferral")
        self.suite.stop()
        text = self.suite.run("postqueue", "-p", check=0).stdout
        self.assertIn("warning: Mail system is down -- accessing queue directly (Connect to the ", text)
        self.assertIn("defer-a@here.example", text)
        flush = self.suite.run("postqueue", "-f")
        self.assertEqual((flush.returncode, flush.stdout), (69, "postqueue: fatal: Cannot flush mail queue - mail system is down\n"))
        self.assertEqual(self.suite.run("postsuper", "-d", "ALL", check=0).stdout, "postsuper: Deleted: 1 message\n")
        self.assertEqual(self.suite.queue_files(), [])

    def test_an_agent_that_dies_gets_the_message_again(self):
        self.suite.send("me@here.example", "die-a@here.example")
        self.suite.wait_for(lambda: any(d[1] == "die-a@here.example" for d in self.suite.deliveries()), 30, "delivery")
        self.suite.wait_for(lambda: not self.suite.queue_files(), 20, "empty queue")

    def test_reload_repeats_no_delivery(self):
        for number in range(30):
            self.suite.send("me@here.example", *["slow-%d-%d@here.example" % (number, i) for i in range(3)])
            if number % 6 == 5:
                self.assertEqual(self.suite.control("reload").returncode, 0)
        self.suite.wait_for(lambda: not self.suite.queue_files(), 60, "empty queue")
        addresses = [delivery[1] for delivery in self.suite.deliveries()]
        self.assertEqual(len(set(addresses)), 90)
        again = sorted(address for address in set(addresses) if addresses.count(address) > 1)
        self.assertEqual(again, [], "delivered again after reload:\n" + self.suite.log())

    def test_killing_qmgr_loses_nothing_and_repeats_no_finished_delivery(self):
        messages, kills = 40, 0
        for number in range(messages):
            self.suite.send("me@here.example", *["%s-%d-%d@here.example" % (random.choice(["ok", "slow"]), number, i) for i in range(5)])
            if number % 4 == 3:
                pid = self.suite.wait_for(lambda: self.suite.pids("qmgr"), 20, "qmgr process")[0]
                time.sleep(random.random() / 5)
                os.kill(pid, signal.SIGKILL)
                kills += 1
        self.suite.wait_for(lambda: not self.suite.queue_files(), 90, "empty queue")
        counts = {}
        for queue_id, address, _ in self.suite.deliveries():
            counts[address] = counts.get(address, 0) + 1
        self.assertEqual(len(counts), messages * 5)
        twice = sum(count - 1 for count in counts.values())
        print("killed qmgr %d times; %d of %d deliveries happened again (they were in flight)" % (kills, twice, messages * 5))
        self.assertGreaterEqual(kills, 5)
        self.assertLessEqual(twice, kills * 10)


if __name__ == "__main__":
    unittest.main(verbosity=2)
