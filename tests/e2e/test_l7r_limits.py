# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of a connection, each reached and passed by one, and two L7Rs beside each other."""

import contextlib
import re
import socket
import struct
import time

import pytest

from brokerlink import Broker
from fakenode import NX_SERVER, check_log
from farm import wait_until
from oldclients import Answer, PerlClient, Wire, basic, first_nx_bytes, request
from vmbox import network_of

SECOND_PORT = 8444
FARM = {'services': False, 'slots': 1,
        'settings': {'log.level': 'DEBUG', 'l7r.limit.handshake': '1s', 'l7r.limit.head': '1s',
                     'l7r.limit.unauthenticated': '2s', 'l7r.limit.idle': '3s',
                     'l7r.limit.connections.per_source': '6', 'l7r.beat': '1s', 'l7r.sweep': '1s',
                     'l7r.instance.timeout': '6s', 'l7r.timeout.takeover': '2s'}}


@pytest.fixture(autouse=True)
def nobody_left(farm):
    """Connections of one test do not count for the next."""
    yield
    wait_until(lambda: not connections(farm), 10, 'all connections to be closed')


def connections(farm):
    """Those that the workers have."""
    out = farm.run(['sh', '-c', 'for p in $(pgrep -x qvd-l7r-worker); do '
                    'ls -l /proc/$p/fd | grep -c "socket:"; done']).stdout.split()
    # Master, broker, listening socket.
    return sum(int(n) - 3 for n in out)


def where(farm):
    return (farm.address, farm.l7r_port)


def seconds_until_closed(sock, limit=10):
    began = time.monotonic()
    sock.settimeout(limit)
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            pass
    return time.monotonic() - began


def test_a_handshake_that_does_not_come(farm, node):
    with socket.create_connection(where(farm)) as sock:
        assert 0.8 < seconds_until_closed(sock) < 2
    with socket.create_connection(where(farm)) as sock:
        sock.sendall(b'\x16\x03\x01\x02')      # the beginning of a ClientHello
        assert 0.8 < seconds_until_closed(sock) < 2
    with socket.create_connection(where(farm)) as sock:
        sock.sendall(b'GET /qvd/ping HTTP/1.1\r\n\r\n')
        assert seconds_until_closed(sock) < 0.5


def test_a_head_that_does_not_end(farm, node):
    wire = Wire(where(farm))
    wire.send(b'GET /qvd/ping HTTP/1.1\r\nX: y\r\n')
    began = time.monotonic()
    assert Answer(wire).status == 408
    assert 0.8 < time.monotonic() - began < 2
    assert wire.record() == b''
    wire.close()


def test_a_head_that_is_too_long(farm, node):
    wire = Wire(where(farm))
    wire.send(b'GET /qvd/ping HTTP/1.1\r\nX: ' + b'y' * 17000 + b'\r\n\r\n')
    assert Answer(wire).status == 431
    wire.close()


def test_without_a_login_a_connection_ends(farm, node):
    """However busy it is: 2 s in this farm."""
    wire = Wire(where(farm))
    began = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() - began < 10:
            wire.send(request('/qvd/ping'))
            assert Answer(wire).status == 200
            time.sleep(0.2)
    assert 1.8 < time.monotonic() - began < 3.5
    wire.close()


def test_with_a_login_it_may_idle(farm, node, vm):
    """3 s in this farm, more than the 2 s of a connection without a login."""
    wire = Wire(where(farm))
    auth = [('Authorization', basic('alice', vm.password))]
    for _ in range(2):
        wire.send(request('/qvd/list_of_vm', auth))
        assert Answer(wire).status == 200
        time.sleep(2.5)
    began = time.monotonic()
    assert wire.record() == b''
    assert time.monotonic() - began < 2
    wire.close()


def test_connections_of_one_address(farm, node):
    """l7r.limit.connections.per_source is 6 here: six are served, a seventh is not."""
    wires = [Wire(where(farm)) for _ in range(6)]
    for wire in wires:
        wire.send(request('/qvd/ping'))
        assert Answer(wire).status == 200
    with pytest.raises(OSError):
        Wire(where(farm))
    wires[0].close()

    def served():
        try:
            Wire(where(farm)).close()
            return True
        except OSError:
            return False
    wait_until(served, 3, 'a place for another connection')
    for wire in wires[1:]:
        wire.close()


# Two L7Rs ---------------------------------------------------------------------------------------------

@pytest.fixture(name='second')
def second_fixture(farm, node):
    """Another qvd-l7r of the same farm, on a port inside its network."""
    with open(farm.path('etc/node.conf'), encoding='utf-8') as f:
        text = f.read()
    with open(farm.path('etc/second.conf'), 'w', encoding='utf-8') as f:
        f.write(text + f'l7r.address = 127.0.0.1\nl7r.port = {SECOND_PORT}\n')
    log = farm.path('log/second.log')
    farm.run(['sh', '-c', 'exec setsid /usr/lib/qvd/qvd-l7r -f /etc/qvd/second.conf '
              '>/var/log/qvd/second.log 2>&1 </dev/null & echo $! >/run/qvd/second.pid'])

    def accepts():
        with open(log, encoding='utf-8') as f:
            text = f.read()
        return 'accept connections' in text and 'instance ' in text
    wait_until(accepts, 10, 'the second L7R')
    with open(farm.path('run/second.pid'), encoding='ascii') as f:
        pid = f.read().strip()
    yield pid
    farm.run(['sh', '-c', f'kill {pid} 2>/dev/null; while kill -0 {pid} 2>/dev/null; do :; done'],
             check=False)


def connected(address, farm, vm, inside=False):
    if inside:
        with network_of(farm.pid):
            client = PerlClient(address, vm.login, vm.password)
    else:
        client = PerlClient(address, vm.login, vm.password)
    assert first_nx_bytes(client.wire, client.connect(vm.id)) == NX_SERVER
    return client


def instances(node):
    return [row[0] for row in node.psql('SELECT id FROM l7r_instances ORDER BY id')]


def test_takeover_between_two_l7rs(farm, node, vm, second):
    first = connected(where(farm), farm, vm)
    former = vm.row()['session_id']
    began = time.monotonic()
    other = connected(('127.0.0.1', SECOND_PORT), farm, vm, inside=True)
    assert time.monotonic() - began < 1.9       # the former has said that it ended
    assert first.wire.record() == b''
    row = vm.row()
    assert row['user_state'] == 'connected' and int(row['session_id']) > int(former)
    assert node.psql(f'SELECT ended IS NOT NULL FROM sessions WHERE id = {former}') == [['t']]
    # And back.
    again = connected(where(farm), farm, vm)
    assert other.wire.record() == b''
    again.wire.close()
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 5, 'the VM to be free')


def test_a_disconnect_reaches_the_l7r_of_the_session(farm, node, vm, second):
    """Whichever it is, within a second."""
    for address, inside in ((where(farm), False), (('127.0.0.1', SECOND_PORT), True)):
        client = connected(address, farm, vm, inside)
        began = time.monotonic()
        node.psql(f"UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm.id}")
        assert client.wire.record() == b''
        assert time.monotonic() - began < 1
        wait_until(lambda: vm.row()['user_state'] == 'disconnected', 5, 'the VM to be free')


def test_an_l7r_that_dies_holds_nobody(farm, node, vm, second):
    """kill -9 of all of it: a connection elsewhere takes over after l7r.timeout.takeover (2 s), and
    what nobody takes is freed after l7r.instance.timeout (6 s)."""
    lost = node.add_vm('bob')
    cut = [connected(('127.0.0.1', SECOND_PORT), farm, machine, inside=True)
           for machine in (vm, lost)]
    assert len(instances(node)) == 2
    # Its group, at once: a broker that outlives its worker ends the sessions in good order.
    farm.run(['kill', '-9', '--', f'-{second}'])
    for dead in cut:
        assert dead.wire.record() == b''
    began = time.monotonic()
    client = connected(where(farm), farm, vm)
    assert time.monotonic() - began < 4
    client.wire.close()
    wait_until(lambda: lost.row()['user_state'] == 'disconnected', 20, 'the other to be free')
    wait_until(lambda: len(instances(node)) == 1, 5, 'the instance to be forgotten')
    assert node.psql(f"SELECT end_reason FROM sessions WHERE vm_id = {lost.id}") == [
        ['its L7R is gone']]


def test_a_stop_closes_what_is_open(farm, node, vm):
    """The last test: the service ends in order, and leaves no session and no instance behind."""
    client = connected(where(farm), farm, vm)
    farm.stop_service('l7r', 'SIGTERM')
    assert client.wire.record() == b''
    assert vm.row()['user_state'] == 'disconnected'
    assert node.psql('SELECT end_reason FROM sessions ORDER BY id DESC LIMIT 1') == [
        ['the server is stopping']]
    assert instances(node) == []
    check_log(farm)
    assert farm.run(['pgrep', '-f', 'qvd-(l7r|authd|rpc)'], check=False).stdout == ''


HOSTILE = {'l7r.limit.connections': 3, 'l7r.sessions.max': 5}


def test_a_worker_that_tells_of_too_many_connections(farm, node):
    """No honest one has more than l7r.limit.connections: what is over is refused, not kept."""
    broker = Broker(farm, HOSTILE)
    wait_until(lambda: broker.ask(1)[0] == 401, 20, 'the database')
    assert [broker.ask(conn)[0] for conn in (2, 3, 1, 3)] == [401] * 4
    many = (503, 'Too many connections. Retry later')
    assert [broker.ask(conn) for conn in range(4, 100)] == [many] * 96
    assert broker.ask(2)[0] == 401
    broker.send('gone', conn=2)
    assert [broker.ask(conn)[0] for conn in (4, 2)] == [401, 503]
    assert re.findall('worker 0 tells of more .*', broker.end()) == [
        'worker 0 tells of more connections than l7r.limit.connections: refused']


@pytest.mark.parametrize('count, words', [
    (5, []), (1000, ['worker 0 tells of more sessions than l7r.sessions.max: refused'])])
def test_a_worker_that_tells_of_too_many_sessions(farm, node, count, words):
    broker = Broker(farm, HOSTILE)
    broker.send('resync', sessions=struct.pack(f'<{count}Q', *range(10 ** 9, 10 ** 9 + count)))
    wait_until(lambda: broker.ask(1)[0] == 401, 20, 'the database')
    assert re.findall('worker 0 tells of more .*', broker.end()) == words
