"""A small internet of the test's own: a network namespace in which this process and its children have many addresses, and
an unbound of Debian's that all of them ask.  Needs root."""
import ctypes
import os
import shutil
import signal
import subprocess

import debian_tools
from suite import wait_listening

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
DNS = "192.0.2.53"

UNBOUND = """
server:
  interface: {dns}
  port: 53
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{dir}"
  use-syslog: no
  verbosity: 0
  access-control: 0.0.0.0/0 allow
  do-ip6: no
  module-config: "{modules}"
  unblock-lan-zones: yes
{zones}
{clauses}
forward-zone:
  name: "servfail.zz."
  forward-addr: 192.0.2.99
forward-zone:
  name: "98.51.198.in-addr.arpa."
  forward-addr: 192.0.2.99
remote-control:
  control-enable: no
"""


class World:
    """`records` are lines of a zone file, "name type data"; `zones` the names that end here.  Names below "silent.zz" are
    never answered, those below "servfail.zz" fail.  `files` maps zones to files of their own, perhaps signed; with `anchors`,
    a file, answers are validated."""

    def __init__(self, where, addresses, zones, records, files=None, anchors=None):
        self.where = where
        self.unpacked = where + "/debian"
        program = shutil.which("unbound")
        environment = dict(os.environ)
        if not program:
            if not debian_tools.fetch(self.unpacked, "unbound", "libprotobuf-c1"):
                raise RuntimeError("unbound is not installed and cannot be fetched")
            program, environment = self.unpacked + "/usr/sbin/unbound", debian_tools.environment(self.unpacked)
        self.enter(addresses)
        text = '  local-zone: "silent.zz." deny\n' + "".join('  local-zone: "%s" static\n' % zone for zone in zones)
        text += "".join("  local-data: '%s'\n" % record for record in records)
        self.clauses = '  trust-anchor-file: "%s"\n' % anchors if anchors else ""
        for zone, path in (files or {}).items():
            self.clauses += 'auth-zone:\n  name: "%s"\n  zonefile: "%s"\n  for-downstream: no\n  for-upstream: yes\n  fallback-enabled: no\n' % (zone, path)
        self.modules = "validator iterator" if anchors else "iterator"
        self.write(text)
        self.text = text
        self.process = subprocess.Popen([program, "-d", "-c", where + "/unbound.conf"], env=environment, stdin=subprocess.DEVNULL)
        wait_listening(53, kind="udp")

    def write(self, zones):
        with open(self.where + "/unbound.conf", "w") as file:
            file.write(UNBOUND.format(dns=DNS, dir=self.where, zones=zones, clauses=self.clauses, modules=self.modules))

    def replace(self, old, new):
        """From here on the record `old` is `new`; what others have in their caches stays there."""
        self.text = self.text.replace("'%s'" % old, "'%s'" % new)
        self.write(self.text)
        self.process.send_signal(signal.SIGHUP)

    def enter(self, addresses):
        """From here on this process is in the namespaces."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
            raise RuntimeError("unshare: " + os.strerror(ctypes.get_errno()))
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in [DNS] + list(addresses):
            subprocess.run(["ip", "address", "add", address + "/32", "dev", "lo"], check=True)
        with open(self.where + "/resolv.conf", "w") as file:
            file.write("nameserver %s\noptions timeout:1 attempts:2 trust-ad\n" % DNS)
        with open(self.where + "/hosts", "w") as file:
            file.write("127.0.0.1 localhost\n")
        for name in ("resolv.conf", "hosts"):
            subprocess.run(["mount", "--bind", self.where + "/" + name, os.path.realpath("/etc/" + name)], check=True)

    def close(self):
        self.process.terminate()
        self.process.wait()
