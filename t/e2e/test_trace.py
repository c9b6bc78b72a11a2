#!/usr/bin/env python3
"""postern trace: what it says is what happens."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from suite import BIN, ROOT  # noqa: E402

MAIN_CF = """
command_directory = {bin}
myhostname = mail.example.org
mydestination = localhost, example.org
local_recipient_maps = inline:{{anna=x}}
virtual_alias_maps = inline:{{ sales@example.org=anna@example.org, {{ all@example.org = anna@example.org, bob@example.net }} }}
virtual_mailbox_domains = virtual.example
virtual_mailbox_maps = inline:{{ carl@virtual.example=carl }}
transport_maps = inline:{{ example.net=smtp:[192.0.2.7]:2500, lost.example=nowhere:, {{ closed.example = error:5.7.1 closed }} }}
sender_dependent_relayhost_maps = inline:{{ @out.example=[192.0.2.9]:587 }}
"""


class Trace(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = tempfile.TemporaryDirectory(prefix="postern-e2e-")
        with open(cls.where.name + "/main.cf", "w") as file:
            file.write(MAIN_CF.format(bin=BIN))
        with open(ROOT + "/conf/master.cf") as shipped, open(cls.where.name + "/master.cf", "w") as file:
            file.write(shipped.read())

    @classmethod
    def tearDownClass(cls):
        cls.where.cleanup()

    def run_it(self, *words):
        return subprocess.run([BIN + "/postern", "-c", self.where.name, "trace", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)

    def trace(self, *words, status=0):
        """The steps as pairs."""
        done = self.run_it("--json", *words)
        self.assertEqual(done.returncode, status, done.stdout)
        return [(step["step"], step["text"]) for step in json.loads(done.stdout)["steps"]]

    def test_an_alias_leads_to_a_local_user(self):
        steps = self.trace("sales@example.org")
        self.assertIn(("mydestination", "lists example.org (example.org)"), steps)
        self.assertIn(("recipient", "anna@example.org"), steps)
        self.assertTrue(any(name == "transport" and text.startswith("local (local, ") for name, text in steps), steps)

    def test_each_recipient_of_an_alias_is_followed(self):
        steps = self.trace("all@example.org")
        self.assertEqual([text for name, text in steps if name == "recipient"], ["anna@example.org", "bob@example.net"])
        self.assertIn(("host", "192.0.2.7[192.0.2.7]:2500"), steps)

    def test_who_is_unknown_is_refused(self):
        steps = self.trace("nobody@example.org", status=1)
        self.assertIn(("refused", "550 User unknown in local recipient table (unknown_local_recipient_reject_code)"), steps)
        steps = self.trace("nobody@virtual.example", status=1)
        self.assertIn(("refused", "550 User unknown in virtual mailbox table (unknown_virtual_mailbox_reject_code)"), steps)

    def test_error_transport_and_missing_service(self):
        self.assertIn(("bounced", "5.7.1 closed"), self.trace("x@closed.example", status=1))
        steps = self.trace("x@lost.example", status=75)
        self.assertEqual(steps[-1], ("deferred", self.where.name + '/master.cf has no service "nowhere"'))

    def test_the_sender_counts(self):
        steps = self.trace("-f", "me@out.example", "you@far.example")
        self.assertIn(("host", "192.0.2.9[192.0.2.9]:587"), steps)

    def test_text_lines_up_and_usage_helps(self):
        lines = self.run_it("sales@example.org").stdout.splitlines()
        self.assertEqual(lines[0], "sales@example.org")
        column = lines[1].index("lists example.org")
        self.assertTrue(all(line[column - 1] == " " and line[column] != " " for line in lines[1:]), lines)
        self.assertIn("usage: postern trace", self.run_it().stdout)


if __name__ == "__main__":
    unittest.main()
