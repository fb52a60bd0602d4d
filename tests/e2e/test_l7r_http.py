# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge of the L7R: heads that are no good, each with its status and the end of the connection;
heads over their limit by one byte; slow, half-closed and hasty clients."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from fakenode import NX_SERVER, check_log
from farm import wait_until
from oldclients import Answer, NX_HELLO, PerlClient, Wire, basic, first_nx_bytes, request

HEAD_SIZE = 2000
FARM = {'services': False, 'slots': 2,
        'settings': {'log.level': 'DEBUG', 'l7r.sweep': '1h', 'l7r.limit.head': '1s',
                     'l7r.limit.handshake': '1s', 'l7r.limit.head.size': str(HEAD_SIZE),
                     'l7r.limit.send': '1s', 'l7r.progress.interval': '500ms'}}

PING = b'GET /qvd/ping HTTP/1.1\r\n\r\n'


def where(farm):
    return (farm.address, farm.l7r_port)


def get(target='/qvd/ping', *lines, end=b'\r\n', method=b'GET'):
    """A request's bytes; lines are its headers."""
    if isinstance(target, str):
        target = target.encode()
    return end.join([method + b' ' + target + b' HTTP/1.1', *lines, b'', b''])


# name, bytes, status. After each the connection ends, and what is behind it is not served.
BAD = [
    ('two lengths', get('/qvd/ping', b'Content-Length: 0', b'Content-Length: 0'), 400),
    ('lengths that differ', get('/qvd/ping', b'Content-Length: 0', b'content-length: 5'), 400),
    ('a list of lengths', get('/qvd/ping', b'Content-Length: 0, 0'), 400),
    ('a signed length', get('/qvd/ping', b'Content-Length: +0'), 400),
    ('a length in hex', get('/qvd/ping', b'Content-Length: 0x0'), 400),
    ('a length without digits', get('/qvd/ping', b'Content-Length: '), 400),
    ('a length beyond 64 bits', get('/qvd/ping', b'Content-Length: 18446744073709551616'), 400),
    ('a length and chunks', get('/qvd/ping', b'Content-Length: 0', b'Transfer-Encoding: chunked'),
     400),
    ('two codings', get('/qvd/ping', b'Transfer-Encoding: chunked', b'Transfer-Encoding: x'), 400),
    ('another coding', get('/qvd/ping', b'Transfer-Encoding: gzip'), 501),
    ('chunked and another', get('/qvd/ping', b'Transfer-Encoding: chunked, identity'), 501),
    ('chunked after a tab', get('/qvd/ping', b'Transfer-Encoding:\tchunked'), 400),
    ('a body', get('/qvd/ping', b'Content-Length: 5') + b'hello', 413),
    ('chunks', get('/qvd/ping', b'Transfer-Encoding: chunked') + b'0\r\n\r\n', 413),
    ('a folded header', get('/qvd/ping', b'A: b', b' c'), 400),
    ('a folded first header', get('/qvd/ping', b' A: b'), 400),
    ('a blank before the colon', get('/qvd/ping', b'Host : a'), 400),
    ('no colon', get('/qvd/ping', b'Host'), 400),
    ('no name', get('/qvd/ping', b': a'), 400),
    ('a name with a bracket', get('/qvd/ping', b'A(: b'), 400),
    ('a NUL in a value', get('/qvd/ping', b'A: b\0c'), 400),
    ('a NUL in a name', get('/qvd/ping', b'A\0B: c'), 400),
    ('a NUL in the target', get(b'/qvd/ping\0'), 400),
    ('a bell in a value', get('/qvd/ping', b'A: \a'), 400),
    ('a DEL in a value', get('/qvd/ping', b'A: \x7f'), 400),
    ('two of Host', get('/qvd/ping', b'Host: a', b'Host: b'), 400),
    ('two of Authorization', get('/qvd/ping', b'Authorization: a', b'Authorization: b'), 400),
    ('an absolute target', get('http://other/qvd/ping'), 400),
    ('an authority', get('other:443', method=b'CONNECT'), 400),
    ('a star', get('*', method=b'OPTIONS'), 400),
    ('two blanks', b'GET  /qvd/ping HTTP/1.1\r\n\r\n', 400),
    ('a blank at the end', b'GET /qvd/ping HTTP/1.1 \r\n\r\n', 400),
    ('a blank in the target', b'GET /qvd/ ping HTTP/1.1\r\n\r\n', 400),
    ('a blank first', b' GET /qvd/ping HTTP/1.1\r\n\r\n', 400),
    ('no version', b'GET /qvd/ping\r\n\r\n', 400),
    ('lower case', b'GET /qvd/ping http/1.1\r\n\r\n', 400),
    ('1.0', b'GET /qvd/ping HTTP/1.0\r\n\r\n', 505),
    ('2', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400),
    ('LF, then CRLF', b'GET /qvd/ping HTTP/1.1\nA: b\r\n\r\n', 400),
    ('CRLF, then LF', b'GET /qvd/ping HTTP/1.1\r\nA: b\n\n', 400),
    ('a lone CR', b'GET /qvd/ping HTTP/1.1\r\nA: b\rC: d\r\n\r\n', 400),
    ('only CRs, at once', b'GET /qvd/ping HTTP/1.1\rA: b\r\r', 400),
    ('two CRs', b'GET /qvd/ping HTTP/1.1\r\r\n\r\n', 400),
    ('a hundred and one headers', get('/qvd/ping', *[b'A: b'] * 101), 431),
]


@pytest.mark.parametrize('data,status', [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_two_readers_could_read_differently(farm, node, data, status):
    wire = Wire(where(farm))
    wire.send(data + PING)
    answer = Answer(wire)
    assert answer.status == status
    assert answer.headers['Content-Type'] == 'text/plain'
    assert answer.headers['Connection'] == 'close'
    assert len(answer.body) < 100 and answer.body.endswith(b'\r\n')
    assert wire.record() == b''
    wire.close()


# target, method, status: the connection stays.
GOOD_HEADS = [
    ('/', b'GET', 404), ('/qvd', b'GET', 404), ('/qvd/', b'GET', 404), ('/qvd/pin', b'GET', 404),
    ('/qvd/ping/', b'GET', 404), ('//qvd/ping', b'GET', 404), ('/qvd/../qvd/ping', b'GET', 404),
    ('/QVD/PING', b'GET', 404), ('/qvd/ping', b'get', 405), ('/qvd/ping', b'POST', 405),
    ('/qvd/ping', b'DELETE', 405), ('/qvd/ping', b'OPTIONS', 405), ('/qvd/ping', b'PATCH', 405),
    ('/qvd/p%69ng', b'GET', 200), ('/qvd/ping?', b'GET', 200), ('/qvd/ping?&&a&=b', b'GET', 200),
    ('/qvd/ping%00', b'GET', 400), ('/qvd/ping%0', b'GET', 400), ('/qvd/ping%zz', b'GET', 400),
    ('/qvd/ping%', b'GET', 400), ('/qvd/ping?a=%', b'GET', 400), ('/qvd/ping?%c3%28', b'GET', 400),
    ('/qvd/ping?a=%ff', b'GET', 400), ('/qvd/ping?a=%c0%af', b'GET', 400),
    ('/qvd/ping?a=%ed%a0%80', b'GET', 400), ('/qvd/ping?a=%c3%a9', b'GET', 200),
    ('/qvd/ping?id=1&id=1', b'GET', 400), ('/qvd/ping?' + '&'.join(['a'] * 500), b'GET', 400),
]


@pytest.mark.parametrize('target,method,status', GOOD_HEADS,
                         ids=[f'{m.decode()} {t[:30]}' for t, m, _ in GOOD_HEADS])
def test_targets_and_methods(farm, node, target, method, status):
    wire = Wire(where(farm))
    wire.send(get(target, method=method))
    answer = Answer(wire)
    assert answer.status == status
    if status == 405:
        assert answer.headers['Allow'] == 'GET'
    wire.send(PING)
    assert Answer(wire).status == 200
    wire.close()


UPGRADE = [('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]


@pytest.mark.parametrize('query,status', [
    ('', 422), ('id', 422), ('id=', 422), ('id=x', 422), ('id=-1', 422), ('id=0', 422),
    ('id=1.5', 422), ('id=0x1', 422), ('id=99999999999999999999', 422), ('id=1&id=2', 400),
    ('ID=1', 403), ('id=1&password=x', 403), ('id=1&qvd.client', 403)])
def test_parameters_of_connect(farm, node, vm, query, status):
    wire = Wire(where(farm))
    wire.send(request('/qvd/connect_to_vm?' + query,
                      [('Authorization', basic(vm.login, vm.password)), *UPGRADE]))
    got = Answer(wire).status
    assert got == (422 if query == 'ID=1' else status)
    wire.close()


# Sizes --------------------------------------------------------------------------------------------

def head_of(size):
    """A ping of just so many bytes."""
    bare = len(get('/qvd/ping', b'A: '))
    data = get('/qvd/ping', b'A: ' + b'x' * (size - bare))
    assert len(data) == size
    return data


def test_a_head_of_the_limit_and_one_byte_more(farm, node):
    """l7r.limit.head.size is 2000 here; live from the database."""
    def status(size):
        wire = Wire(where(farm))
        wire.send(head_of(size))
        answer = Answer(wire)
        wire.close()
        return answer.status
    assert status(HEAD_SIZE) == 200
    assert status(HEAD_SIZE + 1) == 431
    node.psql("INSERT INTO configs (key, value) VALUES ('l7r.limit.head.size', '40000')")
    wait_until(lambda: status(HEAD_SIZE + 1) == 200, 5, 'the new limit')
    assert status(40000) == 200
    assert status(40001) == 431
    node.psql("DELETE FROM configs WHERE key = 'l7r.limit.head.size'")
    wait_until(lambda: status(HEAD_SIZE + 1) == 431, 5, 'the limit of the file')


def test_a_head_without_end(farm, node):
    """No more is read than the limit, however much comes."""
    wire = Wire(where(farm))
    wire.send(b'GET /qvd/ping HTTP/1.1\r\nA: ' + b'x' * 100000)
    assert Answer(wire).status == 431
    wire.close()
    wire = Wire(where(farm))
    with contextlib.suppress(OSError):
        for _ in range(1000):
            wire.send(b'\r\n' * 2000)       # blank lines before a request are no head
    wire.close()
    check_log(farm)


# Slow, half-closed and hasty clients -------------------------------------------------------------------

def test_a_byte_at_a_time_is_in_time_or_not(farm, node):
    """l7r.limit.head (1 s) counts from the first byte; a trickle does not extend it."""
    wire = Wire(where(farm))
    for i in range(len(PING)):
        wire.send(PING[i:i + 1])
    assert Answer(wire).status == 200
    began = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in b'GET /qvd/ping HTTP/1.1\r\nA: ' + b'x' * 100:
            wire.send(bytes([byte]))
            time.sleep(0.1)
            if time.monotonic() - began > 1.5:
                break
    assert Answer(wire).status == 408
    assert wire.record() == b''
    assert time.monotonic() - began < 3
    wire.close()


def test_pipelined_requests_are_answered_in_order(farm, node, vm):
    auth = [('Authorization', basic(vm.login, vm.password))]
    wire = Wire(where(farm))
    wire.send(PING + request('/qvd/list_of_vm', auth) + get('/nothing') + PING
              + request('/qvd/list_of_vm'))
    data, wanted = b'', [200, 200, 404, 200, 401]
    got = []
    while len(got) < len(wanted):
        head, sep, rest = data.partition(b'\r\n\r\n')
        if not sep:
            data += wire.record()
            continue
        length = int(head.lower().split(b'content-length: ')[1].split(b'\r\n')[0])
        while len(rest) < length:
            rest += wire.record()
        got.append(int(head.split()[1]))
        data = rest[length:]
    assert got == wanted and data == b''
    wire.close()


def test_nx_bytes_behind_the_request(farm, node, vm):
    """A hasty client sends its first NX bytes with the request: the desktop gets them."""
    wire = Wire(where(farm))
    wire.send(request(f'/qvd/connect_to_vm?id={vm.id}',
                      [('Authorization', basic(vm.login, vm.password)), *UPGRADE]) + NX_HELLO)
    answer = Answer(wire)
    assert answer.status == 101 and answer.body == b''
    assert wire.record() == NX_SERVER
    assert vm.greetings[-1] == NX_HELLO
    wire.close()
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 8, 'the VM to be free')


def half_close(farm, data):
    """Sends, says that nothing more comes, and reads to the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    got = b''
    with socket.create_connection(where(farm), 10) as sock:
        def step(call, *args):
            while True:
                try:
                    return call(*args)
                except ssl.SSLWantReadError:
                    ours = outgoing.read()
                    if ours:
                        sock.sendall(ours)
                    piece = sock.recv(65536)
                    if piece:
                        incoming.write(piece)
                    else:
                        incoming.write_eof()
        step(tls.do_handshake)
        tls.write(data)
        sock.sendall(outgoing.read())
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ssl.SSLError, ConnectionResetError):
            while True:
                piece = step(tls.read, 65536)
                if not piece:
                    break
                got += piece
    return got


def test_a_client_that_sends_no_more_gets_its_answers(farm, node, vm):
    auth = [('Authorization', basic(vm.login, vm.password))]
    assert half_close(farm, PING).startswith(b'HTTP/1.1 200 OK\r\n')
    got = half_close(farm, request('/qvd/list_of_vm', auth) + PING)
    assert got.count(b'HTTP/1.1 200 OK\r\n') == 2 and b'I am alive!' in got
    assert half_close(farm, b'GET /qvd/ping HTT') == b''
    assert half_close(farm, b'') == b''


def test_but_no_desktop(farm, node, vm):
    """Who has closed his side cannot use one: none is begun, or what was begun is let go."""
    dials = vm.dials
    got = half_close(farm, request(f'/qvd/connect_to_vm?id={vm.id}', [
        ('Authorization', basic(vm.login, vm.password)), *UPGRADE]))
    assert b' 101 ' not in got
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 8, 'the VM to be free')
    assert vm.dials == dials


def test_progress_comes_seldom_and_only_when_it_is_new(farm, node):
    """l7r.progress.interval is 500 ms here: a start of 2 s with many steps, few 102s."""
    vm = node.add_vm('starts', running=False)
    client = PerlClient(where(farm), vm.login, vm.password)
    seen = []
    record = client.wire.record

    def told():
        data = record()
        seen.extend([time.monotonic()] * data.count(b'HTTP/1.1 102'))
        return data
    client.wire.record = told
    starter = threading.Timer(2, vm.set_running)
    starter.start()
    answer = client.connect(vm.id)
    starter.join()
    assert first_nx_bytes(client.wire, answer) == NX_SERVER
    assert 2 <= len(answer.infos) == len(set(answer.infos)) <= 5
    assert answer.infos[0] == 'Session acquired'
    assert all(later - former > 0.45 for former, later in zip(seen, seen[1:]))
    client.wire.close()


def test_an_answer_that_is_not_taken(farm, node):
    """l7r.limit.send is 1 s: pipelined requests whose answers nobody reads end the connection."""
    wire = Wire(where(farm))
    wire.socket.settimeout(10)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            wire.send(get('/nothing') * 500)
    wire.close()
