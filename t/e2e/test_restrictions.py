#!/usr/bin/env python3
"""Restrictions that ask the DNS or a policy server, in a small internet of the test's own with Debian's unbound.  Where Postfix
is installed it gets the same configuration and the same clients, and must give the same replies.  Needs root."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import debian_tools
import postfix_peer
from dns_world import World
from suite import PATIENCE, Suite, smtp_replies, wait_listening

BASE = int(os.environ.get("POSTERN_TEST_PORT", "23000"))
ZONES = ["example.", "2.0.192.in-addr.arpa."]
RECORDS = [
    "good.example. A 192.0.2.10", "good.example. TXT \"v=spf1 ip4:192.0.2.10 -all\"",
    "10.2.0.192.in-addr.arpa. PTR good.example.", "11.2.0.192.in-addr.arpa. PTR good.example.",
    "22.2.0.192.in-addr.arpa. PTR friend.example.", "friend.example. A 192.0.2.22",
    "13.2.0.192.in-addr.arpa. PTR x.servfail.zz.",
    "mxonly.example. MX 10 good.example.", "nullmx.example. MX 0 .", "alias.example. CNAME good.example.", "six.example. AAAA 2001:db8::1",
    # lists
    "20.2.0.192.rbl.example. A 127.0.0.2", "20.2.0.192.rbl.example. TXT \"see http://rbl.example/\"", "21.2.0.192.rbl.example. A 127.0.0.11",
    "22.2.0.192.wl.example. A 127.0.0.3", "friend.example.rhswl.example. A 127.0.0.3",
    "listed.example.dbl.example. A 127.0.1.2", "good.example.dbl.example. A 127.0.1.2", "example.org.dbl.example. A 127.0.1.2", "listed.example. A 192.0.2.77",
    # hosts behind names
    "viamx.example. MX 10 mx.bad.example.", "mx.bad.example. A 192.0.2.70", "viaip.example. MX 10 mx.other.example.", "mx.other.example. A 192.0.2.66",
    "viaok.example. MX 10 mx.ok.example.", "mx.ok.example. A 192.0.2.71", "direct.example. A 192.0.2.66",
    "vians.example. NS ns.bad.example.", "ns.bad.example. A 192.0.2.72", "viansip.example. NS ns.other.example.", "ns.other.example. A 192.0.2.66",
    "a.sub.vians.example. A 192.0.2.73",
    # backup MX
    "mail.example.org. A 192.0.2.10",
    "backup.example. MX 10 first.example.", "backup.example. MX 20 mail.example.org.", "first.example. A 192.0.2.80",
    "primary.example. MX 10 mail.example.org.", "primary.example. MX 20 first.example.", "elsewhere.example. MX 10 first.example.",
]
ADDRESSES = ["192.0.2.%d" % n for n in (10, 11, 12, 13, 20, 21, 22)] + ["198.51.100.1"]
OK = "250 2.1.5 Ok"
RCPT = "fred@example.org"
DENIED = "554 5.7.1 <%s>: Relay access denied"

# recipient restrictions and other options -> clients: (address, HELO, sender, recipient, reply to RCPT)
GOOD, FORGED, NAMELESS, FAILING = "192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13"
CASES = {
    "reject_unknown_client_hostname": [
        (GOOD, "c.example", "s@good.example", RCPT, OK),
        (FORGED, "c.example", "s@good.example", RCPT, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.11]")],
    "reject_unknown_client_hostname -o unknown_client_reject_code=550": [
        (NAMELESS, "c.example", "s@good.example", RCPT, "550 5.7.25 Client host rejected: cannot find your hostname, [192.0.2.12]"),
        (FORGED, "c.example", "s@good.example", RCPT, "550 5.7.25 Client host rejected: cannot find your hostname, [192.0.2.11]"),
        (FAILING, "c.example", "s@good.example", RCPT, "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.13]")],
    "reject_unknown_reverse_client_hostname -o unknown_client_reject_code=550": [
        (FORGED, "c.example", "s@good.example", RCPT, OK),
        (NAMELESS, "c.example", "s@good.example", RCPT, "550 5.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.12]"),
        ("198.51.100.1", "c.example", "s@good.example", RCPT, "450 4.7.1 Client host rejected: cannot find your reverse hostname, [198.51.100.1]")],
    "reject_unknown_helo_hostname": [
        (GOOD, "good.example", "s@good.example", RCPT, OK), (GOOD, "mxonly.example", "s@good.example", RCPT, OK),
        (GOOD, "six.example", "s@good.example", RCPT, OK), (GOOD, "[192.0.2.10]", "s@good.example", RCPT, OK),
        (GOOD, "absent.example", "s@good.example", RCPT, "450 4.7.1 <absent.example>: Helo command rejected: Host not found")],
    "reject_unknown_helo_hostname -o unknown_hostname_reject_code=550": [
        (GOOD, "absent.example", "s@good.example", RCPT, "550 5.7.1 <absent.example>: Helo command rejected: Host not found"),
        (GOOD, "x.servfail.zz", "s@good.example", RCPT, "450 4.7.1 <x.servfail.zz>: Helo command rejected: Host not found")],
    "reject_unknown_helo_hostname,reject -o unknown_helo_hostname_tempfail_action=defer": [
        (GOOD, "x.servfail.zz", "s@good.example", RCPT, "450 4.7.1 <x.servfail.zz>: Helo command rejected: Host not found")],
    "reject_unknown_sender_domain": [
        (GOOD, "c.example", "s@good.example", RCPT, OK), (GOOD, "c.example", "s@mxonly.example", RCPT, OK), (GOOD, "c.example", "s@alias.example", RCPT, OK),
        (GOOD, "c.example", "", RCPT, OK), (GOOD, "c.example", "s@[192.0.2.1]", RCPT, OK),
        (GOOD, "c.example", "s@absent.example", RCPT, "450 4.1.8 <s@absent.example>: Sender address rejected: Domain not found"),
        (GOOD, "c.example", "s@x.servfail.zz", RCPT, "450 4.1.8 <s@x.servfail.zz>: Sender address rejected: Domain not found"),
        (GOOD, "c.example", "s@nullmx.example", RCPT,
         "550 5.7.27 <s@nullmx.example>: Sender address rejected: Domain nullmx.example does not accept mail (nullMX)")],
    "reject_unknown_sender_domain,permit -o unknown_address_reject_code=550": [
        (GOOD, "c.example", "s@x.servfail.zz", RCPT, "450 4.1.8 <s@x.servfail.zz>: Sender address rejected: Domain not found"),
        (GOOD, "c.example", "s@x.silent.zz", RCPT, "450 4.1.8 <s@x.silent.zz>: Sender address rejected: Domain not found")],
    "permit_dnswl_client,x.servfail.zz,reject": [
        (GOOD, "c.example", "s@good.example", RCPT, "450 4.7.1 <192.0.2.10>: Client host rejected: Service unavailable")],
    "reject_unknown_sender_domain,reject": [
        (GOOD, "c.example", "s@x.servfail.zz", RCPT, "554 5.7.1 <fred@example.org>: Recipient address rejected: Access denied")],
    "reject_unknown_recipient_domain,reject -o smtpd_relay_restrictions=permit -o unknown_address_reject_code=550": [
        (GOOD, "c.example", "s@good.example", "r@absent.example", "550 5.1.2 <r@absent.example>: Recipient address rejected: Domain not found"),
        (GOOD, "c.example", "s@good.example", "r@nullmx.example",
         "556 5.1.10 <r@nullmx.example>: Recipient address rejected: Domain nullmx.example does not accept mail (nullMX)"),
        (GOOD, "c.example", "s@good.example", "r@good.example", "554 5.7.1 <r@good.example>: Recipient address rejected: Access denied")],
    "reject_rbl_client,rbl.example": [
        (GOOD, "c.example", "s@good.example", RCPT, OK),
        ("192.0.2.20", "c.example", "s@good.example", RCPT,
         "554 5.7.1 Service unavailable; Client host [192.0.2.20] blocked using rbl.example; see http://rbl.example/"),
        ("192.0.2.21", "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Client host [192.0.2.21] blocked using rbl.example")],
    "reject_maps_rbl -o maps_rbl_domains=wl.example,rbl.example": [
        ("192.0.2.21", "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Client host [192.0.2.21] blocked using rbl.example")],
    "reject_rbl_client,rbl.example=127.0.0.[2..10]": [
        ("192.0.2.20", "c.example", "s@good.example", RCPT,
         "554 5.7.1 Service unavailable; Client host [192.0.2.20] blocked using rbl.example; see http://rbl.example/"),
        ("192.0.2.21", "c.example", "s@good.example", RCPT, OK)],
    "reject_rbl_client,rbl.example=127.0.0.[1;5..7;11]": [
        ("192.0.2.20", "c.example", "s@good.example", RCPT, OK),
        ("192.0.2.21", "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Client host [192.0.2.21] blocked using rbl.example")],
    "reject_rbl_client,x.servfail.zz": [(GOOD, "c.example", "s@good.example", RCPT, OK)],
    "reject_rbl_client,rbl.example -o rbl_reply_maps=texthash:{dir}/rbl -o maps_rbl_reject_code=571": [
        ("192.0.2.20", "c.example", "s@good.example", RCPT, "571 5.7.9 192.0.2.20 is on rbl.example, see http://rbl.example/, Client host")],
    "reject_rbl_client,rbl.example -o rbl_reply_maps=texthash:{dir}/rbl.bad": [
        ("192.0.2.20", "c.example", "s@good.example", RCPT, "450 4.7.1 Service unavailable")],
    "reject_rhsbl_sender,dbl.example": [
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Sender address [s@good.example] blocked using dbl.example"),
        (GOOD, "c.example", "s@mxonly.example", RCPT, OK), (GOOD, "c.example", "", RCPT, OK), (GOOD, "c.example", "s@[192.0.2.1]", RCPT, OK)],
    "reject_rhsbl_helo,dbl.example": [
        (GOOD, "listed.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Helo command [listed.example] blocked using dbl.example"),
        (GOOD, "c.example", "s@good.example", RCPT, OK)],
    "reject_rhsbl_client,dbl.example": [
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Client host [good.example] blocked using dbl.example"),
        (FORGED, "c.example", "s@good.example", RCPT, OK)],
    "reject_rhsbl_reverse_client,dbl.example": [
        (FORGED, "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Unverified Client host [good.example] blocked using dbl.example")],
    "reject_rhsbl_recipient,dbl.example": [
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Recipient address [fred@example.org] blocked using dbl.example")],
    "permit_dnswl_client,wl.example=127.0.0.[2..5],permit_rhswl_client,nolist.example,reject": [
        ("192.0.2.22", "c.example", "s@good.example", RCPT, OK),
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 <fred@example.org>: Recipient address rejected: Access denied")],
    "permit_rhswl_client,rhswl.example,reject": [
        ("192.0.2.22", "c.example", "s@good.example", RCPT, OK),
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 <fred@example.org>: Recipient address rejected: Access denied")],
    "permit_dnswl_client,wl.example -o smtpd_relay_restrictions=permit_dnswl_client,wl.example,reject_unauth_destination": [
        ("192.0.2.22", "c.example", "s@good.example", "r@elsewhere.example", DENIED % "r@elsewhere.example")],
    "check_client_access,texthash:{dir}/nameless": [
        ("192.0.2.20", "c.example", "s@good.example", RCPT, "554 5.7.1 <unknown[192.0.2.20]>: Client host rejected: no name"),
        ("192.0.2.22", "c.example", "s@good.example", RCPT, OK),
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 <good.example[192.0.2.10]>: Client host rejected: bad network")],
    "check_sender_mx_access,texthash:{dir}/hosts": [
        (GOOD, "c.example", "s@good.example", RCPT, OK), (GOOD, "c.example", "", RCPT, OK),
        (GOOD, "c.example", "s@viamx.example", RCPT, "554 5.7.1 <s@viamx.example>: Sender address rejected: bad mail host"),
        (GOOD, "c.example", "s@viaip.example", RCPT, "554 5.7.1 <s@viaip.example>: Sender address rejected: bad address"),
        (GOOD, "c.example", "s@direct.example", RCPT, "554 5.7.1 <s@direct.example>: Sender address rejected: bad address"),
        (GOOD, "c.example", "s@[192.0.2.66]", RCPT, "554 5.7.1 <s@[192.0.2.66]>: Sender address rejected: bad address"),
        (GOOD, "c.example", "s@nullmx.example", RCPT, OK), (GOOD, "c.example", "s@absent.example", RCPT, OK),
        (GOOD, "c.example", "s@x.servfail.zz", RCPT, OK),
        (GOOD, "c.example", "s@viaok.example", RCPT, "451 4.3.5 Server configuration error")],
    "check_sender_ns_access,texthash:{dir}/hosts": [
        (GOOD, "c.example", "s@vians.example", RCPT, "554 5.7.1 <s@vians.example>: Sender address rejected: bad name server"),
        (GOOD, "c.example", "s@a.sub.vians.example", RCPT, "554 5.7.1 <s@a.sub.vians.example>: Sender address rejected: bad name server"),
        (GOOD, "c.example", "s@viansip.example", RCPT, "554 5.7.1 <s@viansip.example>: Sender address rejected: bad address"),
        (GOOD, "c.example", "s@good.example", RCPT, OK)],
    "check_sender_a_access,texthash:{dir}/hosts": [
        (GOOD, "c.example", "s@direct.example", RCPT, "554 5.7.1 <s@direct.example>: Sender address rejected: bad address"),
        (GOOD, "c.example", "s@viamx.example", RCPT, OK), (GOOD, "c.example", "s@good.example", RCPT, OK)],
    "check_helo_mx_access,texthash:{dir}/hosts,check_helo_ns_access,texthash:{dir}/hosts,check_helo_a_access,texthash:{dir}/hosts": [
        (GOOD, "viamx.example", "s@good.example", RCPT, "554 5.7.1 <viamx.example>: Helo command rejected: bad mail host"),
        (GOOD, "vians.example", "s@good.example", RCPT, "554 5.7.1 <vians.example>: Helo command rejected: bad name server"),
        (GOOD, "direct.example", "s@good.example", RCPT, "554 5.7.1 <direct.example>: Helo command rejected: bad address"),
        (GOOD, "good.example", "s@good.example", RCPT, OK)],
    "check_client_mx_access,texthash:{dir}/clients,check_reverse_client_hostname_a_access,texthash:{dir}/clients": [
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 <good.example[192.0.2.10]>: Client host rejected: not this one"),
        (FORGED, "c.example", "s@good.example", RCPT, "554 5.7.1 <good.example>: Unverified Client host rejected: not this one"),
        (NAMELESS, "c.example", "s@good.example", RCPT, OK)],
    "check_recipient_mx_access,texthash:{dir}/hosts,reject -o smtpd_relay_restrictions=permit": [
        (GOOD, "c.example", "s@good.example", "r@viamx.example", "554 5.7.1 <r@viamx.example>: Recipient address rejected: bad mail host"),
        (GOOD, "c.example", "s@good.example", "r@good.example", "554 5.7.1 <r@good.example>: Recipient address rejected: Access denied")],
    "permit -o smtpd_relay_restrictions=permit_mx_backup,reject_unauth_destination": [
        (GOOD, "c.example", "s@good.example", "r@backup.example", OK), (GOOD, "c.example", "s@good.example", RCPT, OK),
        (GOOD, "c.example", "s@good.example", "r@primary.example", DENIED % "r@primary.example"),
        (GOOD, "c.example", "s@good.example", "r@elsewhere.example", DENIED % "r@elsewhere.example"),
        (GOOD, "c.example", "s@good.example", "r@absent.example", DENIED % "r@absent.example"),
        (GOOD, "c.example", "s@good.example", "r%elsewhere.example@backup.example", DENIED % "r%elsewhere.example@backup.example")],
    "permit -o smtpd_relay_restrictions=permit_mx_backup,reject_unauth_destination -o permit_mx_backup_networks=192.0.2.0/24": [
        (GOOD, "c.example", "s@good.example", "r@backup.example", OK)],
    "permit -o smtpd_relay_restrictions=permit_mx_backup,reject_unauth_destination -o permit_mx_backup_networks=10.0.0.0/8": [
        (GOOD, "c.example", "s@good.example", "r@backup.example", DENIED % "r@backup.example")],
    "defer_if_permit": [(GOOD, "c.example", "s@good.example", RCPT,
                         "450 4.7.0 <fred@example.org>: Recipient address rejected: defer_if_permit requested")],
    "defer_if_permit,reject": [(GOOD, "c.example", "s@good.example", RCPT,
                                "554 5.7.1 <fred@example.org>: Recipient address rejected: Access denied")],
    "defer_if_reject,reject": [(GOOD, "c.example", "s@good.example", RCPT,
                                "450 4.7.0 <fred@example.org>: Recipient address rejected: defer_if_reject requested")],
    "reject -o smtpd_client_restrictions=defer_if_permit": [
        (GOOD, "c.example", "s@good.example", RCPT, "554 5.7.1 <fred@example.org>: Recipient address rejected: Access denied")],
    "permit -o smtpd_client_restrictions=defer_if_permit": [
        (GOOD, "c.example", "s@good.example", RCPT, "450 4.7.0 <good.example[192.0.2.10]>: Client host rejected: defer_if_permit requested")],
    "reject_unknown_sender_domain,reject_unknown_helo_hostname,reject_rbl_client,rbl.example -o smtpd_dns_reply_filter=regexp:{dir}/dns": [
        (GOOD, "good.example", "s@mxonly.example", RCPT, OK), (GOOD, "good.example", "s@listed.example", RCPT, OK),
        (GOOD, "listed.example", "s@good.example", RCPT, OK),
        (GOOD, "good.example", "s@absent.example", RCPT, "450 4.1.8 <s@absent.example>: Sender address rejected: Domain not found"),
        ("192.0.2.20", "good.example", "s@good.example", RCPT, OK),
        ("192.0.2.21", "good.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Client host [192.0.2.21] blocked using rbl.example")],
    "permit_dnswl_client,wl.example,reject_rbl_client,rbl.example,reject -o smtpd_dns_reply_filter=regexp:{dir}/dns.txt": [
        ("192.0.2.20", "good.example", "s@good.example", RCPT, "554 5.7.1 Service unavailable; Client host [192.0.2.20] blocked using rbl.example"),
        ("192.0.2.22", "c.example", "s@good.example", RCPT, "450 4.7.1 <192.0.2.22>: Client host rejected: Service unavailable")],
    "check_sender_mx_access,texthash:{dir}/hosts -o smtpd_dns_reply_filter=regexp:{dir}/dns": [
        (GOOD, "c.example", "s@viamx.example", RCPT, OK),
        (GOOD, "c.example", "s@viaip.example", RCPT, "554 5.7.1 <s@viaip.example>: Sender address rejected: bad address")],
    "reject_unknown_sender_domain -o smtpd_dns_reply_filter=regexp:{dir}/dns.bad": [
        (GOOD, "c.example", "s@good.example", RCPT, "450 4.1.8 <s@good.example>: Sender address rejected: Domain not found")],
    "warn_if_reject,reject_unknown_sender_domain": [
        (GOOD, "c.example", "s@x.servfail.zz", RCPT, OK), (GOOD, "c.example", "s@absent.example", RCPT, OK)],
}
# what the policy server below does for a recipient -> reply
POLICY_REPLIES = {
    "dunno": OK, "ok": OK, "prepend": OK, "hold": OK,
    "reject": "554 5.7.1 <reject@example.org>: Recipient address rejected: go away",
    "defer": "450 4.7.1 <defer@example.org>: Recipient address rejected: not now",
    "deferifpermit": "450 4.7.1 <deferifpermit@example.org>: Recipient address rejected: greylisted",
    "code": "553 5.1.2 <code@example.org>: Recipient address rejected: no such thing",
    "broken": "451 4.3.5 <broken@example.org>: Recipient address rejected: Server configuration problem",
    "hangup": "451 4.3.5 <hangup@example.org>: Recipient address rejected: Server configuration problem",
    "silent": "451 4.3.5 <silent@example.org>: Recipient address rejected: Server configuration problem",
    "unknownaction": "451 4.3.5 Server configuration error",
}
TABLES = {
    "rbl": "rbl.example $rbl_code 5.7.9 $rbl_what is on $rbl_domain${rbl_reason?, $rbl_reason}, $rbl_class\n",
    "rbl.bad": "rbl.example not a reply\n",
    "hosts": "mx.bad.example REJECT bad mail host\nns.bad.example REJECT bad name server\n192.0.2.66 REJECT bad address\nmx.ok.example OK\n",
    "clients": "192.0.2.10 REJECT not this one\n",
    "nameless": "unknown REJECT no name\n192.0.2.20 OK\n192.0.2.22 OK\n192.0.2 REJECT bad network\n",
    "dns": "/^(mxonly|viamx)\\.example\\. [0-9]+ IN MX 10 / ignore\n/ IN A 192\\.0\\.2\\.77$/ IGNORE\n/ IN A 127\\.0\\.0\\.2$/ IGNORE\n",
    "dns.txt": "/ IN TXT see / IGNORE\n/^22\\.2\\.0\\.192\\.wl/ IGNORE\n",
    "dns.bad": "/./ REJECT\n",
}
MAIN = """
smtpd_peername_lookup = yes
inet_interfaces = all
mynetworks = 127.0.0.0/8
smtpd_client_restrictions =
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
parent_domain_matches_subdomains =
"""


def smtp(address, port, commands):
    return smtp_replies(port, commands, "192.0.2.10", address)


def services(first_port, tables):
    """master.cf lines for all cases; ports by case."""
    lines, ports = "", {}
    for number, case in enumerate(CASES):
        ports[case] = first_port + number
        restrictions, *options = case.format(dir=tables).split(" -o ")
        options = "".join(" -o %s" % option for option in options)
        lines += "192.0.2.10:%d inet n - n - 1 smtpd -o smtpd_recipient_restrictions=%s%s\n" % (ports[case], restrictions, options)
    return lines, ports


class Postfix:
    """Debian's, with a configuration of its own."""

    def __init__(self, where, master):
        self.dir = where + "/postfix"
        postfix_peer.lay_out(self.dir, """virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:x
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
""" + MAIN, master)

    def __enter__(self):
        done = postfix_peer.control(self.dir, "start")
        if done.returncode != 0:
            raise AssertionError(done.stdout.decode())
        return self

    def __exit__(self, *_):
        postfix_peer.control(self.dir, "stop")


def dialogue(address, port, helo, sender, recipient):
    replies = smtp(address, port, ["EHLO " + helo, "MAIL FROM:<%s>" % sender, "RCPT TO:<%s>" % recipient])
    return replies[3]


class Restrictions(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.where = tempfile.mkdtemp(prefix="postern-restrictions-")
        cls.addClassCleanup(shutil.rmtree, cls.where, True)
        os.chmod(cls.where, 0o755)
        cls.spf = cls.where + "/spf"
        cls.has_spf = debian_tools.fetch(cls.spf, "python3-authres", "python3-dns", "python3-spf", "python3-spf-engine",
                                         "postfix-policyd-spf-python")   # before there is no way out
        cls.world = World(cls.where, ADDRESSES, ZONES, RECORDS)
        cls.addClassCleanup(cls.world.close)
        for name, text in TABLES.items():
            with open(cls.where + "/" + name, "w") as file:
                file.write(text)
        master, cls.ports = services(BASE + 30, cls.where)
        cls.policy = ScriptedPolicy()
        master += cls.policy.services(BASE + 80)
        cls.addClassCleanup(cls.policy.close)
        cls.mail = Suite(MAIN, master, users=("fred", "wilma", "prepend"))
        cls.addClassCleanup(cls.mail.stop)
        cls.mail.start()
        wait_listening(*cls.ports.values())

    def check(self, ports):
        wrong = []
        for case, clients in CASES.items():
            for client in clients:
                reply = dialogue(client[0], ports[case], *client[1:4])
                if reply != client[4]:
                    wrong.append("%s\n  %s\n  got    %s\n  wanted %s" % (case, " ".join(client[:4]), reply, client[4]))
        self.assertFalse(wrong, "\n" + "\n".join(wrong))

    def test_replies(self):
        self.check(self.ports)

    def test_postfix_gives_the_same_replies(self):
        if not shutil.which("postfix") or not os.path.exists("/usr/share/postfix/master.cf.dist"):
            self.skipTest("Postfix is not installed")
        master, ports = services(BASE + 130, self.where)
        master += self.policy.services(BASE + 180)
        with Postfix(self.where, master):
            wait_listening(*ports.values())
            self.check(ports)
            self.assertEqual({who: self.rcpt(who, BASE + 181) for who in POLICY_REPLIES}, POLICY_REPLIES)
            theirs = self.policy_dialogue(BASE + 180)
        ours = self.policy_dialogue(BASE + 80)
        newer = ("compatibility_level", "mail_version")   # since Postfix 3.8
        self.assertEqual([[name for name in request if name not in newer] for request in ours],
                         [[name for name in request if name not in newer] for request in theirs], "names and order of attributes")
        for mine, other in zip(ours, theirs):
            differing = {name for name in other if mine[name] != other[name]}
            self.assertLessEqual(differing - set(newer), {"client_port", "server_port", "instance", "queue_id"}, (mine, other))

    # --- policy servers --------------------------------------------------------------------------------------

    def policy_dialogue(self, port):
        """What the policy server was asked by one message with two recipients."""
        self.policy.requests.clear()
        replies = smtp(GOOD, port, ["EHLO c.example", "MAIL FROM:<s@good.example> SIZE=1000", "RCPT TO:<fred@example.org>", "RCPT TO:<wilma@example.org>",
                                    "DATA", "Subject: x\r\n\r\nhello\r\n.", "QUIT"])
        self.assertEqual([reply[:3] for reply in replies], ["220", "250", "250", "250", "250", "354", "250", "221"])
        return list(self.policy.requests)

    def test_policy_requests(self):
        requests = self.policy_dialogue(BASE + 80)
        self.assertEqual([request["protocol_state"] for request in requests], ["RCPT", "RCPT", "DATA", "END-OF-MESSAGE"])
        first, _, data, end = requests
        self.assertEqual({name: first[name] for name in ("request", "protocol_name", "client_address", "client_name", "reverse_client_name",
                                                         "helo_name", "sender", "recipient", "recipient_count", "size", "server_address")},
                         {"request": "smtpd_access_policy", "protocol_name": "ESMTP", "client_address": GOOD, "client_name": "good.example",
                          "reverse_client_name": "good.example", "helo_name": "c.example", "sender": "s@good.example", "recipient": RCPT,
                          "recipient_count": "0", "size": "1000", "server_address": GOOD})
        self.assertEqual((data["recipient"], data["recipient_count"], end["recipient_count"]), ("", "2", "2"))
        self.assertEqual(len({request["instance"] for request in requests}), 1)
        self.assertEqual(first["server_port"], str(BASE + 80))

    def rcpt(self, recipient, port=BASE + 81):
        return smtp(GOOD, port, ["EHLO c.example", "MAIL FROM:<s@good.example>", "RCPT TO:<%s@example.org>" % recipient])[3]

    def test_policy_actions(self):
        self.assertEqual({who: self.rcpt(who) for who in POLICY_REPLIES}, POLICY_REPLIES)
        self.assertIn("warning: problem talking to server inet:127.0.0.1:%d: " % self.policy.port, self.mail.log())

    def test_policy_server_over_a_unix_socket_with_settings_of_its_own(self):
        self.policy.requests.clear()
        self.assertEqual(self.rcpt("reject", BASE + 82), "554 5.7.1 <reject@example.org>: Recipient address rejected: go away")
        self.assertEqual(self.policy.requests[-1]["policy_context"], "mine")
        self.policy.requests.clear()
        begin = time.monotonic()
        self.assertEqual(self.rcpt("silent", BASE + 82), OK, "default_action=DUNNO")
        spent = time.monotonic() - begin
        self.assertTrue(0.9 <= spent < 20 * PATIENCE, "timeout=1s instead of 100s: %.1f s" % spent)
        self.assertEqual(len(self.policy.requests), 1, "try_limit=1")

    def test_a_connection_is_used_again_and_a_lost_one_replaced(self):
        before = self.policy.connections
        for _ in range(5):
            self.assertEqual(self.rcpt("dunno"), OK)
        self.assertLessEqual(self.policy.connections - before, 1)
        self.policy.drop_all()
        self.assertEqual(self.rcpt("dunno"), OK)
        before = self.policy.connections
        for _ in range(4):
            self.assertEqual(self.rcpt("dunno", BASE + 83), OK)
        self.assertGreaterEqual(self.policy.connections - before, 2, "request_limit=2")

    def test_policy_server_that_is_not_there(self):
        self.assertEqual(self.rcpt("dunno", BASE + 84), "451 4.3.5 <dunno@example.org>: Recipient address rejected: Server configuration problem")

    def test_prepend(self):
        replies = smtp(GOOD, BASE + 81, ["EHLO c.example", "MAIL FROM:<s@good.example>", "RCPT TO:<prepend@example.org>", "DATA",
                                         "Subject: prepended\r\n\r\nhello\r\n."])
        self.assertTrue(replies[-1].startswith("250 2.0.0 Ok: queued"), replies)
        message = self.mail.wait_for(lambda: self.mail.messages("prepend"), 20, "the message arrives")[0]
        self.assertIn("\nX-Policy: was here\n", message)

    def test_debians_spf_policy_server(self):
        if not self.has_spf:
            self.skipTest("postfix-policyd-spf-python cannot be fetched")
        self.policy.serve_program(BASE + 99, ["/usr/bin/python3", self.spf + "/usr/bin/policyd-spf"], debian_tools.environment(self.spf))
        self.assertEqual(self.rcpt("fred", BASE + 85), OK)
        reply = smtp("192.0.2.20", BASE + 85, ["EHLO c.example", "MAIL FROM:<s@good.example>", "RCPT TO:<fred@example.org>"])[3]
        self.assertRegex(reply, r"^550 5\.7\.23 <fred@example.org>: Recipient address rejected: Message rejected due to: SPF fail")


class ScriptedPolicy:
    """A policy server that does what the recipient's local part says."""
    ANSWERS = {"ok": "OK", "reject": "REJECT go away", "defer": "DEFER not now", "deferifpermit": "DEFER_IF_PERMIT greylisted",
               "code": "553 5.1.8 no such thing", "prepend": "PREPEND X-Policy: was here", "hold": "HOLD look at this",
               "unknownaction": "no_such_restriction"}

    def __init__(self):
        self.requests, self.connections, self.open, self.listeners = [], 0, [], []
        self.port = BASE + 98
        self.listen(socket.AF_INET, ("127.0.0.1", self.port))
        self.path = tempfile.mkdtemp(prefix="postern-policy-") + "/socket"
        os.chmod(os.path.dirname(self.path), 0o755)
        self.listen(socket.AF_UNIX, self.path)
        os.chmod(self.path, 0o666)

    def services(self, port):
        check = "-o smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:%d " % self.port
        lists = (check + check.replace("recipient_restrictions", "data_restrictions") + check.replace("recipient_restrictions", "end_of_data_restrictions"),
                 check + "-o smtpd_policy_service_timeout=1s",
                 "-o {smtpd_recipient_restrictions=check_policy_service {unix:%s, timeout=1s, try_limit=1, default_action=DUNNO, policy_context=mine}}"
                 % self.path,
                 check + "-o smtpd_policy_service_request_limit=2",
                 "-o smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:1",
                 "-o smtpd_recipient_restrictions=check_policy_service,inet:127.0.0.1:%d" % (BASE + 99))
        return "".join("192.0.2.10:%d inet n - n - 1 smtpd %s\n" % (port + i, options) for i, options in enumerate(lists))

    def listen(self, family, where):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(20)
        self.listeners.append(listener)
        threading.Thread(target=self.accept, args=(listener, self.serve), daemon=True).start()

    def accept(self, listener, serve):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(self, client):
        self.connections += 1
        self.open.append(client)
        request = {}
        for line in client.makefile("r"):
            line = line.rstrip("\n")
            if line:
                name, value = line.split("=", 1)
                request[name] = value
                continue
            self.requests.append(request)
            who, request = request["recipient"].split("@")[0], {}
            if who == "hangup":
                break
            if who == "silent":
                continue
            text = "nonsense\n\n" if who == "broken" else "action=%s\n\n" % self.ANSWERS.get(who, "DUNNO")
            client.sendall(text.encode())
        client.shutdown(socket.SHUT_RDWR)
        client.close()

    def serve_program(self, port, words, environment):
        """A policy server as spawn(8) runs it: on standard input and output."""
        def run(client):
            subprocess.run(words, stdin=client, stdout=client, env=environment)
            client.close()
        listener = socket.create_server(("127.0.0.1", port))
        self.listeners.append(listener)
        threading.Thread(target=self.accept, args=(listener, run), daemon=True).start()

    def drop_all(self):
        for client in self.open:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()
        time.sleep(0.2)

    def close(self):
        for listener in self.listeners:
            listener.close()
        shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("mount"):
        print("skipped: needs root, ip and mount")
        sys.exit(77)
    unittest.main()
