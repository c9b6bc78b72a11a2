"""Programs of Debian packages that a test needs and the machine lacks: fetched and unpacked below a directory of the test's
own, so that nothing is installed and no service starts."""
import glob
import os
import shutil
import subprocess


def fetch(where, *packages):
    """Unpacks packages below `where`; False when there is no apt or no way to the archive."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return False
    os.makedirs(where, exist_ok=True)
    done = subprocess.run(["apt-get", "download", *packages], cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=300)
    archives = glob.glob(where + "/*.deb")
    if done.returncode != 0 or len(archives) < len(packages):
        return False
    for archive in archives:
        subprocess.run(["dpkg", "-x", archive, where], check=True)
        os.unlink(archive)
    return True


def environment(where):
    """For running what was unpacked."""
    libraries = ":".join(glob.glob(where + "/usr/lib/*-linux-gnu") + [where + "/usr/lib"])
    return dict(os.environ, LD_LIBRARY_PATH=libraries, PYTHONPATH=where + "/usr/lib/python3/dist-packages",
                PATH="%s/usr/sbin:%s/usr/bin:%s" % (where, where, os.environ.get("PATH", "/usr/bin:/bin")))
