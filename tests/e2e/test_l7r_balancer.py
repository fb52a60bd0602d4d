# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancers before the L7R: plain HTTP behind one that does TLS, the PROXY header, and whose address
counts. The addresses of this file: 127.0.0.9 is the trusted balancer, 127.0.0.7x are clients."""

import contextlib
import os
import re
import shutil
import socket
import subprocess

import pytest

from fakenode import FakeNode, NX_SERVER, check_log
from farm import make_farm, wait_until
from oldclients import Answer, PerlClient, Wire, basic, first_nx_bytes, request

BALANCER = '127.0.0.9'
SETTINGS = {'log.level': 'DEBUG', 'l7r.sweep': '1h', 'l7r.trusted_proxies': f'{BALANCER}, ::9/128',
            'l7r.limit.handshake': '1s', 'l7r.limit.connections.per_source': '6'}
FARM = {'services': False, 'slots': 2,
        'settings': {**SETTINGS, 'l7r.use_ssl': '0', 'l7r.address': '127.0.0.1'}}

V2 = b'\r\n\r\n\0\r\nQUIT\n'
PING = b'GET /qvd/ping HTTP/1.1\r\n\r\n'


def v1(source):
    return f'PROXY TCP4 {source} 127.0.0.1 4711 8443\r\n'.encode()


def v2(source, command=1):
    body = socket.inet_aton(source) + socket.inet_aton('127.0.0.1') + b'\x12\x67\x20\xfb'
    return V2 + bytes([0x20 | command, 0x11, 0, len(body)]) + body


class Plain:
    """A connection without TLS that begins with these bytes; speaks as Wire does."""

    def __init__(self, farm, header, source=BALANCER):
        self.socket = socket.create_connection((farm.address, farm.l7r_port), 10, (source, 0))
        self.socket.sendall(header)

    def send(self, data):
        self.socket.sendall(data)

    def record(self):
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b''

    def close(self):
        self.socket.close()

    def ask(self, path='/qvd/ping', auth=None):
        self.send(request(path, [('Authorization', auth)] if auth else []))
        return Answer(self)


def served(farm, header, source=BALANCER):
    """Whether such a connection gets its ping answered; and the connection."""
    wire = Plain(farm, header, source)
    try:
        return wire.ask().status == 200, wire
    except (ConnectionError, BrokenPipeError):
        return False, wire


def log_of(farm):
    return farm.log_tail('l7r', 1000000)


@pytest.mark.parametrize('header,who', [
    (v1('127.0.0.71'), '127.0.0.71'), (v2('127.0.0.72'), '127.0.0.72'),
    (b'PROXY TCP6 2001:db8::73 2001:db8::1 1 2\r\n', '2001:db8::73'),
    (b'PROXY TCP6 ::ffff:192.0.2.74 ::1 1 2\r\n', '192.0.2.74'),
    (b'PROXY UNKNOWN\r\n', BALANCER), (v2('127.0.0.75', 0), BALANCER)],
    ids=['v1', 'v2', 'v1 IPv6', 'mapped', 'unknown', 'local'])
def test_the_address_of_the_header_is_the_clients(farm, node, vm, header, who):
    mark = len(log_of(farm))
    good, wire = served(farm, header)
    assert good
    assert wire.ask('/qvd/list_of_vm', basic(vm.login, 'wrong')).status == 401
    wire.close()
    wait_until(lambda: re.search(rf'connection \d+ from {re.escape(who)}: ', log_of(farm)[mark:]), 5,
               f'{who} in the log')
    # As the source of a login a balancer is nobody.
    login = 'a balancer itself' if who == BALANCER else who
    wait_until(lambda: f'login refused: a password from {login}' in log_of(farm)[mark:], 5,
               f'the login from {login}')


def test_a_header_in_pieces(farm, node):
    for header in (v1('127.0.0.71'), v2('127.0.0.71')):
        wire = Plain(farm, b'')
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header + PING:
            wire.send(bytes([byte]))
        assert Answer(wire).status == 200
        # And with all that follows in one piece.
        wire.close()
        wire = Plain(farm, header + PING)
        assert Answer(wire).status == 200
        wire.close()


@pytest.mark.parametrize('header', [
    PING, b'PROXY TCP4 127.0.0.71\r\n' + PING, b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n' + PING,
    V2 + b'\x31\x11\0\x0c' + bytes(12), V2 + b'\x21\x11\0\x04' + bytes(4),
    b'\x16\x03\x01\x02\0\x01'],
    ids=['none', 'cut', 'bare LF', 'version', 'too short', 'TLS'])
def test_a_balancer_must_send_one(farm, node, header):
    wire = Plain(farm, header)
    assert wire.record() == b''
    wire.close()
    assert f'balancer {BALANCER} (l7r.trusted_proxies): it sends no PROXY header, or a wrong one' \
        in log_of(farm)


def test_a_header_that_does_not_come(farm, node):
    """l7r.limit.handshake is 1 s here."""
    for begin in (b'', b'PROXY TCP4 127', V2 + b'\x21'):
        wire = Plain(farm, begin)
        wire.socket.settimeout(3)
        assert wire.record() == b''
        wire.close()


@pytest.mark.parametrize('header', [v1('127.0.0.71'), v2('127.0.0.71')], ids=['v1', 'v2'])
def test_from_others_a_header_is_no_request(farm, node, header):
    wire = Plain(farm, header + PING, source='127.0.0.71')
    assert Answer(wire).status == 400
    assert wire.record() == b''
    wire.close()


def test_connections_are_counted_for_each_client_over_all_workers(farm, node):
    """l7r.limit.connections.per_source is 6, there are two workers; the balancer's own and another
    client's do not count."""
    farm.run(['sh', '-c', 'test $(pgrep -xc qvd-l7r-worker) = 2'])
    with contextlib.ExitStack() as stack:
        def one(header, source=BALANCER):
            good, wire = served(farm, header, source)
            stack.callback(wire.close)
            return good
        assert all(one(v1('127.0.0.76')) for _ in range(6))
        assert not any(one(v1('127.0.0.76')) for _ in range(4))
        assert ('warn: connection from 127.0.0.76 refused: too many of that address '
                '(l7r.limit.connections.per_source)') in log_of(farm)
        assert not one(v2('127.0.0.76'))
        assert not one(b'', '127.0.0.76')       # it is the same one without a balancer
        assert one(v1('127.0.0.77'))
        assert all(one(v2('127.0.0.76', 0)) for _ in range(9))
        assert all(one(v1(BALANCER)) for _ in range(9))
    wait_until(lambda: served(farm, v1('127.0.0.76'))[0], 5, 'the places to be free')


def test_a_worker_that_dies_takes_its_counts_with_it(farm, node):
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            good, wire = served(farm, v1('127.0.0.78'))
            assert good
            stack.callback(wire.close)
        assert not served(farm, v1('127.0.0.78'))[0]
        farm.run(['pkill', '-9', '-x', 'qvd-l7r-worker'])
        wait_until(lambda: served(farm, v1('127.0.0.78'))[0], 10, 'a place')


def test_failures_are_counted_for_the_client(farm, node, vm):
    """30 wrong tokens are free; then that address waits, and nobody else behind the balancer."""
    wrong = 'Bearer d3Jvbmc='
    good = basic(vm.login, vm.password)

    def fail(header, times):
        wire = Plain(farm, header)
        for _ in range(times):
            assert wire.ask('/qvd/list_of_vm', wrong).status == 401
        return wire
    fail(v1('127.0.0.79'), 34).close()
    wait_until(lambda: re.search(r'127\.0\.0\.79 \(too many failures\)', log_of(farm)), 5,
               'a word of it')
    for header in (v1('127.0.0.70'), v1(BALANCER), b'PROXY UNKNOWN\r\n'):
        wire = fail(header, 1)
        assert wire.ask('/qvd/list_of_vm', good).status == 200
        wire.close()
    # The balancer's own never wait, however many.
    for header in (v1(BALANCER), b'PROXY UNKNOWN\r\n'):
        wire = fail(header, 40)
        assert wire.ask('/qvd/list_of_vm', good).status == 200
        wire.close()
    assert set(re.findall(r'from (\S*) \(too many failures\)', log_of(farm))) == {'127.0.0.79'}


def test_plain_http_is_told(farm, node):
    """And refused where it could be met by everybody."""
    assert 'l7r.use_ssl = 0: passwords are not encrypted on the way to 127.0.0.1' in log_of(farm)
    with open(farm.path('etc/node.conf'), encoding='utf-8') as f:
        text = f.read()
    with open(farm.path('etc/star.conf'), 'w', encoding='utf-8') as f:
        f.write(text + 'l7r.address = *\n')
    done = farm.run(['/usr/lib/qvd/qvd-l7r', '-f', '/etc/qvd/star.conf', '--check-config'],
                    check=False)
    assert done.returncode != 0
    assert 'l7r.use_ssl = 0 needs a named l7r.address' in done.stdout + done.stderr


def test_qvdclient_without_tls(farm, node, vm, tmp_path):
    done = subprocess.run(farm.client_command(vm.login, '--no-ssl', '--list'),
                          env={**farm.client_env(), 'HOME': str(tmp_path),
                               'QVDPASSWORD': vm.password},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == 0 and vm.login in done.stdout, done.stderr


# A real one --------------------------------------------------------------------------------------------

class Haproxy:
    """Listens with or without TLS of its own and goes on to the L7R as 127.0.0.9."""

    def __init__(self, farm, folder, bind, server):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address = self.listener.getsockname()
        config = os.path.join(folder, 'haproxy.cfg')
        with open(config, 'w', encoding='ascii') as f:
            f.write('global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n'
                    '  timeout client 60s\n  timeout server 60s\nlisten l7r\n'
                    f'  bind fd@{self.listener.fileno()} {bind}\n'
                    f'  server one {farm.address}:{farm.l7r_port} source {BALANCER} {server}\n')
        self.log = open(os.path.join(folder, 'haproxy.log'), 'wb')
        self.process = subprocess.Popen(['haproxy', '-db', '-f', config], stdout=self.log,
                                        stderr=self.log, stdin=subprocess.DEVNULL,
                                        pass_fds=[self.listener.fileno()])

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        self.listener.close()
        self.log.close()


def desktop_by(haproxy, vm, monkeypatch, source):
    monkeypatch.setattr(Wire, 'source', (source, 0))
    client = PerlClient(haproxy.address, vm.login, vm.password)
    assert client.list()
    assert first_nx_bytes(client.wire, client.connect(vm.id)) == NX_SERVER
    client.wire.send(b'x' * 1000)
    got = b''
    while len(got) < 1000:
        got += client.wire.record()
    assert got == b'x' * 1000
    client.wire.close()


def test_a_desktop_behind_haproxy_that_does_tls(farm, node, vm, tmp_path, monkeypatch):
    """TLS ends at haproxy, which tells the client's address by version 2."""
    pem = tmp_path / 'both.pem'
    with open(pem, 'w', encoding='ascii') as out:
        for name in ('cert.pem', 'key.pem'):
            with open(farm.path('etc/certs', name), encoding='ascii') as f:
                shutil.copyfileobj(f, out)
    haproxy = Haproxy(farm, tmp_path, f'ssl crt {pem}', 'send-proxy-v2')
    try:
        desktop_by(haproxy, vm, monkeypatch, '127.0.0.61')
    finally:
        haproxy.close()
    wait_until(lambda: re.search(r'session ended.*127\.0\.0\.61|127\.0\.0\.61.*session ended',
                                 log_of(farm)), 5, 'the session with its real address')


def test_a_desktop_behind_haproxy_that_passes_tls_on(tmp_path, monkeypatch):
    """TLS ends at the L7R, behind the header of version 1; clients come directly too."""
    farm = make_farm({'services': False, 'settings': SETTINGS})
    haproxy = None
    try:
        farm.init_database()
        farm.start_service('l7r')
        node = FakeNode(farm)
        vm = node.add_vm('bob')
        haproxy = Haproxy(farm, tmp_path, '', 'send-proxy check check-send-proxy inter 200ms')
        desktop_by(haproxy, vm, monkeypatch, '127.0.0.62')
        monkeypatch.setattr(Wire, 'source', ('127.0.0.63', 0))
        client = PerlClient((farm.address, farm.l7r_port), vm.login, vm.password)
        assert client.list()
        client.wire.close()
        # A header from somebody else is no TLS.
        with socket.create_connection((farm.address, farm.l7r_port), 5) as sock:
            sock.sendall(v1('127.0.0.64') + PING)
            with contextlib.suppress(ConnectionResetError):
                assert b'HTTP' not in sock.recv(100)
        assert '127.0.0.62' in log_of(farm) and '127.0.0.64' not in log_of(farm)
        check_log(farm)
        node.close()
    finally:
        if haproxy:
            haproxy.close()
        farm.destroy()
