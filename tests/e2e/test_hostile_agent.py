# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that lies, floods, hangs or speaks no HTTP: the user is told that his desktop did not
start, nothing of it reaches him or harms the next, and no process ends."""

import contextlib
import json
import time

import pytest

from fakenode import NX_SERVER
from farm import wait_until
from oldclients import PerlClient, first_nx_bytes

FARM = {'services': False,
        'settings': {'log.level': 'DEBUG', 'l7r.timeout.x_start': '1s', 'l7r.takeover.max': '1000'}}
CANARY = 'canary-of-a-hostile-agent'


@pytest.fixture(name='vm', scope='module')
def vm_fixture(node):
    return node.add_vm('mallory')


def good():
    return json.dumps({'state': 'listening', 'text': CANARY}).encode()


def unsigned(_, sock, signed):
    sock.sendall(signed(200, good()).replace(b'QVD-Auth', b'QVD-Other'))


def wrong_mac(_, sock, signed):
    head, _, mac = signed(200, good()).partition(b'v1 ')
    sock.sendall(head + b'v1 ' + (b'0' if mac[:1] != b'0' else b'1') + mac[1:])


def mac_of_another_body(_, sock, signed):
    sock.sendall(signed(200, good()).replace(b'listening', b'suspended'))


def mac_of_another_status(_, sock, signed):
    sock.sendall(signed(403, good()).replace(b'HTTP/1.1 403', b'HTTP/1.1 200'))


def silence(_, sock, _signed):
    sock.recv(1)


def cut_in_the_midst(_, sock, signed):
    sock.sendall(signed(200, good())[:-5])


def no_http(_, sock, _signed):
    sock.sendall(b'\x00\xff' * 500 + CANARY.encode())


def endless_head(_, sock, _signed):
    with contextlib.suppress(OSError):
        sock.sendall(b'HTTP/1.1 200 OK\r\n')
        for _ in range(10000):
            sock.sendall(b'X-More: ' + b'y' * 1000 + b'\r\n')


def endless_body(_, sock, signed):
    with contextlib.suppress(OSError):
        sock.sendall(signed(200, b'[' + b'1,' * 5_000_000 + b'1]'))


def no_length(_, sock, signed):
    with contextlib.suppress(OSError):
        sock.sendall(signed(200, good()).replace(b'Content-Length', b'X-Length'))
        for _ in range(1000):
            sock.sendall(b'z' * 10000)


def deep_json(_, sock, signed):
    sock.sendall(signed(200, b'[' * 8000 + b']' * 8000))


def no_object(_, sock, signed):
    sock.sendall(signed(200, b'"listening"'))


def wrong_types(_, sock, signed):
    sock.sendall(signed(200, b'{"state": 7, "error": {"a": []}}'))


def hundreds(_, sock, signed):
    """1xx without end."""
    with contextlib.suppress(OSError):
        for _ in range(100000):
            sock.sendall(b'HTTP/1.1 102 Processing\r\n\r\n')


HOSTILE = [unsigned, wrong_mac, mac_of_another_body, mac_of_another_status, silence,
           cut_in_the_midst, no_http, endless_head, endless_body, no_length, deep_json, no_object,
           wrong_types, hundreds]


def connect(farm, vm):
    client = PerlClient((farm.address, farm.l7r_port), vm.login, vm.password)
    return client, client.connect(vm.id)


@pytest.mark.parametrize('raw', HOSTILE, ids=lambda f: f.__name__)
def test_hostile_agent(farm, vm, raw):
    vm.raw = raw
    began, dials = time.monotonic(), vm.dials
    _, answer = connect(farm, vm)
    vm.raw = None
    assert answer.status == 503, answer.body
    assert b'not available: ' in answer.body and CANARY.encode() not in answer.body
    assert vm.dials == dials
    assert time.monotonic() - began < 15
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 10, 'the VM to be free')


@pytest.mark.parametrize('said, told', [
    ('a\r\nSet-Cookie: x\r\n\r\nb', 'a'), ('\x1b[2Jclear', 'clear'), ('x' * 5000, 'x' * 50)])
def test_what_a_refusal_may_tell(farm, vm, said, told):
    """403 passes its words on: as one line of text, bounded."""
    vm.on('x_start', 403, 'stopped', said)
    _, answer = connect(farm, vm)
    vm.answers.clear()
    assert answer.status == 403 and 'Set-Cookie' not in answer.headers
    body = answer.body.decode()
    assert told in body and len(body) < 400
    assert body.count('\n') == 1 and body.endswith('\r\n')
    assert all(c.isprintable() or c in '\r\n' for c in body), body
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 10, 'the VM to be free')


def test_afterwards_all_is_well(farm, node, vm):
    other = node.add_vm('alice')
    for machine in (vm, other):
        client, answer = connect(farm, machine)
        assert first_nx_bytes(client.wire, answer) == NX_SERVER
        client.wire.close()
        wait_until(lambda: machine.row()['user_state'] == 'disconnected', 10, 'the VM to be free')  # pylint: disable=cell-var-from-loop
    assert CANARY not in farm.log_tail('l7r', 100000)
