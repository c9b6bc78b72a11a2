"""Zones with real DNSSEC signatures, and the certificates that their TLSA records speak of.  Needs ldnsutils of Debian's, which is
fetched where it is not installed."""
import hashlib
import os
import shutil
import subprocess

import debian_tools

ZONE = """$ORIGIN {zone}.
$TTL 300
@ SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 300
@ NS ns.{zone}.
ns A 192.0.2.53
{records}
"""


class Signer:
    """Files are made below `where`; anchors() is the file of all zones' keys."""

    def __init__(self, where):
        self.where, self.environment, self.programs = where, dict(os.environ), ""
        self.anchor_lines = []
        if not shutil.which("ldns-signzone"):
            if not debian_tools.fetch(where + "/ldns", "ldnsutils", "libldns3"):
                raise RuntimeError("ldnsutils is not installed and cannot be fetched")
            self.environment, self.programs = debian_tools.environment(where + "/ldns"), where + "/ldns/usr/bin/"

    def run(self, program, *words):
        return subprocess.run([self.programs + program, *words], cwd=self.where, env=self.environment, check=True,
                              stdout=subprocess.PIPE).stdout.decode()

    def zone(self, name, records, signed=True, spoil=None):
        """A zone file of `records`.  `spoil`, a pair of texts: put in place of each other once it is signed, so that what is
        signed and what is said differ."""
        path = "%s/%s.zone" % (self.where, name)
        with open(path, "w") as file:
            file.write(ZONE.format(zone=name, records="\n".join(records)))
        if not signed:
            return path
        key = self.run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name).strip()
        with open("%s/%s.key" % (self.where, key)) as file:
            self.anchor_lines.append(file.read())
        self.run("ldns-signzone", "-f", path + ".signed", path, key)
        if spoil:
            with open(path + ".signed") as file:
                text = file.read()
            if spoil[0] not in text:
                raise RuntimeError("%s has no %s" % (name, spoil[0]))
            with open(path + ".signed", "w") as file:
                file.write(text.replace(*spoil))
        return path + ".signed"

    def anchors(self):
        path = self.where + "/anchors.key"
        with open(path, "w") as file:
            file.write("; keys of this test's zones\n" + "".join(self.anchor_lines))
        return path


class Authority:
    """Certificates by openssl(1)."""

    def __init__(self, where):
        self.where = where
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                     "/CN=Test authority", "-addext", "keyUsage=critical,keyCertSign", "-keyout", where + "/ca.key", "-out", where + "/ca.pem")
        self.certificate = where + "/ca.pem"

    @staticmethod
    def openssl(*words):
        return subprocess.run(["openssl", *words], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def issue(self, name):
        """(chain, key) for the host `name`; the chain ends with the authority's own certificate, as DANE-TA wants it."""
        base = "%s/%s" % (self.where, name)
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + name, "-keyout",
                     base + ".key", "-out", base + ".csr")
        with open(base + ".san", "w") as file:
            file.write("subjectAltName=DNS:%s\n" % name)
        self.openssl("x509", "-req", "-in", base + ".csr", "-CA", self.certificate, "-CAkey", self.where + "/ca.key", "-CAcreateserial",
                     "-days", "2", "-extfile", base + ".san", "-out", base + ".leaf")
        with open(base + ".pem", "w") as chain:
            for part in (base + ".leaf", self.certificate):
                with open(part) as file:
                    chain.write(file.read())
        return base + ".pem", base + ".key"

    def self_signed(self, name, days=2):
        """`days` may be negative: it has expired."""
        base = "%s/self-%s" % (self.where, name)
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + name,
                     "-keyout", base + ".key", "-out", base + ".csr")
        self.openssl("x509", "-req", "-in", base + ".csr", "-signkey", base + ".key", "-days", str(days), "-out", base + ".pem")
        return base + ".pem", base + ".key"


def tlsa(usage, selector, matching, path):
    """"3 1 1 AB12..." for the first certificate of the PEM file."""
    if selector == 0:
        der = Authority.openssl("x509", "-in", path, "-outform", "DER")
    else:
        public = Authority.openssl("x509", "-in", path, "-noout", "-pubkey")
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, stdout=subprocess.PIPE).stdout
    data = {0: der.hex(), 1: hashlib.sha256(der).hexdigest(), 2: hashlib.sha512(der).hexdigest()}[matching]
    return "%d %d %d %s" % (usage, selector, matching, data)


