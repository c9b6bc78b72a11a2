"""An ext4 file system of a test's own, in a file, whose power can fail."""
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import time

from suite import wait_until

# EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32), and its EXT4_GOING_FLAGS_NOLOGFLUSH
SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
NO_LOG_FLUSH = 2


# sched.h and sys/mount.h
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def hide_mounts():
    """From now on this process, and those it starts, mount for themselves only: another who makes a mount namespace gets a copy of
    everybody's mounts, and would keep a file system whose power has failed.  Before there are threads.  False when it may not."""
    libc = ctypes.CDLL(None)
    return libc.unshare(CLONE_NEWNS) == 0 and libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0


class Ext4Disk:
    """Mounted at the directory `where`, which must exist; its image lies beside it.  Needs root."""

    def __init__(self, where, size_bytes, *mkfs_words):
        self.where, self.image, self.mounted = where, where + ".img", False
        self.size_bytes, self.mkfs_words = size_bytes, mkfs_words

    def make(self):
        """A fresh one, mounted.  False, and nothing is left, where that cannot be had."""
        with open(self.image, "wb") as file:
            file.truncate(self.size_bytes)
        command = ["mkfs.ext4", "-q", "-F", *self.mkfs_words, self.image]
        if shutil.which(command[0]) and subprocess.run(command).returncode == 0 and self.mount():
            os.chmod(self.where, 0o755)
            return True
        os.unlink(self.image)
        return False

    def mount(self):
        """After a power failure, with what its journal brings back."""
        self.mounted = subprocess.run(["mount", "-o", "loop", self.image, self.where], stderr=subprocess.DEVNULL).returncode == 0
        return self.mounted

    def cut(self):
        """The power fails: nothing reaches the image any more, and all that asks for it fails with EIO.  Yields the moment before
        that, or None where the kernel cannot do it."""
        disk = os.open(self.where, os.O_RDONLY | os.O_DIRECTORY)
        try:
            moment = time.monotonic()
            fcntl.ioctl(disk, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
            return moment
        except OSError:
            return None
        finally:
            os.close(disk)

    def unmount(self):
        """Processes that were killed may be a moment from letting it go."""
        def gone():
            self.mounted = subprocess.run(["umount", self.where], stderr=subprocess.DEVNULL).returncode != 0
            return not self.mounted
        if self.mounted:
            wait_until(gone, "nobody uses %s any more" % self.where)

    def remove(self):
        """Of a disk that make() has made."""
        self.unmount()
        os.unlink(self.image)
