"""An instance whose disk loses its power: queue, mailboxes, data and configuration are on an ext4 file system of its own, log and
programs elsewhere."""
import contextlib
import os
import shutil
import tempfile
import time

from ext4_disk import Ext4Disk
from killing import kill
from suite import NOBODY, Suite, wait_until

MEGABYTE = 1 << 20
# The smallest journal there is, so that it is full and checkpointed all the time.
MKFS = ("-b", "4096", "-J", "size=4")

OUTSIDE = """
maillog_file = %(outside)s/log
maillog_file_prefixes = %(outside)s
daemon_directory = %(outside)s/bin
command_directory = %(outside)s/bin
sendmail_path = %(outside)s/bin/sendmail
"""


class PowerSuite(Suite):
    def __init__(self, disk, outside, extra, master_extra, **more):
        self.disk, self.outside = disk, outside
        os.chown(outside, NOBODY, NOBODY)
        os.chmod(outside, 0o755)
        super().__init__(OUTSIDE % {"outside": outside} + extra, master_extra, directory=disk.where, keep=True, **more)
        # What was written so far is not to be lost at the first power failure.
        disk.unmount()
        disk.mount()

    def path(self, name):
        return os.path.join(self.outside if name.split("/")[0] in ("log", "bin") else self.dir, name)

    def end_processes(self):
        wait_until(lambda: not kill(self, "all"), "all processes have ended")

    def lose_power(self, seconds=0):
        """The moment in which it fails.  The processes live that much longer."""
        moment = self.disk.cut()
        time.sleep(seconds)
        self.end_processes()
        return moment

    def come_back(self):
        for name in os.listdir(self.transit) if self.transit else ():   # what is in memory does not
            shutil.rmtree(os.path.join(self.transit, name))
        self.disk.unmount()
        if not self.disk.mount():
            raise AssertionError("the file system cannot be mounted any more")
        self.start()


@contextlib.contextmanager
def power_suite(extra="", master_extra="", megabytes=512, **more):
    """A PowerSuite that is running, or None, with a notice, where there cannot be one."""
    if os.geteuid() != 0:
        print("notice: mounting a file system needs root")
        yield None
        return
    where, outside = tempfile.mkdtemp(prefix="postern-power-"), tempfile.mkdtemp(prefix="postern-power-")
    disk = Ext4Disk(where, megabytes * MEGABYTE, *MKFS)
    made, mail = disk.make(), None
    try:
        able = made and disk.cut() is not None
        if not able:
            print("notice: no ext4 file system to be had here that can be shut down")
            yield None
            return
        disk.unmount()
        disk.mount()
        mail = PowerSuite(disk, outside, extra, master_extra, **more)
        with mail:
            yield mail
    finally:
        if mail:
            mail.end_processes()
            mail.remove_transit()
        if made:
            disk.remove()
        os.rmdir(where)
        shutil.rmtree(outside, ignore_errors=True)
