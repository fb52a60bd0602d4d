# SPDX-License-Identifier: GPL-3.0-or-later
"""Existing clients, to the first NX bytes of a real desktop; and every answer of the reference.

Expected answers are typed from the description of the protocol; each row names its section there.
"""

import base64
import json
import time

import pytest

from oldclients import (Answer, CClient, PerlClient, QtClient, Wire, basic, first_nx_bytes,
                        request)

FARM = {'image': 'minimal', 'users': ['perl', 'qt', 'clib']}


def address(farm):
    return (farm.address, farm.l7r_port)


def only_vm(rows, name):
    assert [row['name'] for row in rows] == [name]
    return rows[0]['id']


@pytest.mark.parametrize('make,login', [(PerlClient, 'perl'), (QtClient, 'qt'),
                                        (CClient, 'clib')])
def test_first_nx_bytes_of_a_real_desktop(farm, make, login):
    client = make(address(farm), login, farm.users[login])
    vm = only_vm(client.list(), login)
    answer = client.connect(vm)
    # Something to show while it starts, but few: the C client reads one record a second (§11).
    assert 1 <= len(answer.infos), answer.infos
    assert answer.info_records <= 3, answer.infos
    assert first_nx_bytes(client.wire, answer).startswith(b'NXPROXY-3.5.0')
    row = farm.vm_row(login)
    assert (row['state'], row['user_state']) == ('running', 'connected')
    if login == 'clib':
        # Its first connection stays open all session, and still answers (§11).
        assert client.list()[0]['state'] == 'running'
        client.lists.close()
    client.wire.close()


def test_a_running_desktop_needs_few_records(farm):
    """The same again, now that the machine runs: no wait of a second for each 102 (§11.2)."""
    client = PerlClient(address(farm), 'perl', farm.users['perl'])
    vm = only_vm(client.list(), 'perl')
    began = time.monotonic()
    answer = client.connect(vm)
    assert first_nx_bytes(client.wire, answer).startswith(b'NXPROXY-3.5.0')
    assert answer.info_records <= 2
    assert time.monotonic() - began < 5
    client.wire.close()


def test_restart_as_qt_does_it(farm):
    client = QtClient(address(farm), 'qt', farm.users['qt'])
    vm = only_vm(client.list(), 'qt')
    answer = client.stop(vm)
    assert answer.status == 200
    assert answer.body == b'Machine stopped\r\n'
    assert farm.vm_row('qt')['state'] == 'stopped'
    # On the same connection: the machine starts again.
    answer = client.connect(vm)
    assert first_nx_bytes(client.wire, answer).startswith(b'NXPROXY-3.5.0')
    client.wire.close()


UPGRADE = [('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]
LOWER = [('Connection', 'upgrade'), ('Upgrade', 'qvd/1.0')]
# section, path, headers beside Authorization, credentials, status, body or None
ANSWERS = [
    ('3', '/qvd/ping', [], None, 200, b'I am alive!\r\n'),
    ('3', '/qvd/ping', [], 'wrong', 200, b'I am alive!\r\n'),
    ('2', '/qvd/list_of_vm', [], None, 401, None),
    ('2', '/qvd/list_of_vm', [], 'wrong', 401, None),
    ('2', '/qvd/list_of_vm', [], 'unknown', 401, None),
    ('2', '/qvd/list_of_applications', [], None, 401, None),
    ('2', '/qvd/authenticate_user', [], 'wrong', 401, None),
    ('2', '/qvd/create_auth_token', [], 'wrong', 401, None),
    ('2', '/qvd/stop_vm?id=1', [], 'wrong', 401, None),
    ('2', '/qvd/connect_to_vm?id=1', UPGRADE, 'wrong', 401, None),
    ('3', '/qvd/list_of_applications', [], 'right', 200, b'[]'),
    ('3', '/qvd/authenticate_user', [], 'right', 200, b'{}'),
    ('3', '/qvd/stop_vm', [], 'right', 422, None),
    ('3', '/qvd/stop_vm?id=999999', [], 'right', 404, None),
    ('3', '/qvd/stop_vm?id=OTHER', [], 'right', 403, None),
    ('4', '/qvd/connect_to_vm?id=OWN', [], 'right', 426, None),
    ('4', '/qvd/connect_to_vm?id=OWN', [('Connection', 'Upgrade'), ('Upgrade', 'VNC')], 'right',
     426, None),
    ('4', '/qvd/connect_to_vm', UPGRADE, 'right', 422, None),
    ('4', '/qvd/connect_to_vm?id=OWN&password=x', UPGRADE, 'right', 403, None),
    ('4', '/qvd/connect_to_vm?id=OWN&qvd.vm.user.name=root', UPGRADE, 'right', 403, None),
    ('4', '/qvd/connect_to_vm?id=999999', UPGRADE, 'right', 404, None),
    ('4', '/qvd/connect_to_vm?id=999999', LOWER, 'right', 404, None),
    ('4', '/qvd/connect_to_vm?id=OTHER', UPGRADE, 'right', 403, None),
    ('1', '/qvd/nothing', [], 'right', 404, None),
    ('1', '/', [], None, 404, None),
]


@pytest.mark.parametrize('row', ANSWERS, ids=lambda r: f'{r[0]}-{r[1]}-{r[3]}-{r[4]}')
def test_answers_of_the_reference(farm, row):
    _, path, headers, credentials, status, body = row
    path = path.replace('OWN', farm.vm_row('perl')['id'])
    path = path.replace('OTHER', farm.vm_row('qt')['id'])
    auth = {'right': basic('perl', farm.users['perl']), 'wrong': basic('perl', 'nonsense'),
            'unknown': basic('nobody-of-that-name', 'nonsense')}.get(credentials)
    wire = Wire(address(farm))
    wire.send(request(path, ([('Authorization', auth)] if auth else []) + headers))
    answer = Answer(wire)
    assert answer.status == status, answer.body
    if body is not None:
        if body[:1] in b'[{':
            assert answer.json() == json.loads(body)
        else:
            assert answer.body == body
    if status == 401:
        assert answer.headers['WWW-Authenticate'] == 'Basic realm="QVD"'
    if status >= 400:
        assert answer.headers['Content-Type'].startswith('text/plain')
    wire.close()


@pytest.mark.parametrize('data,status', [
    (request('/qvd/ping', version='HTTP/1.0'), 505),
    (request('/qvd/ping', version='HTTP/2.0'), 505),
    (b'GET /qvd/ping HTTP/1.1\r\nno colon here\r\n\r\n', 400),
    (b'nonsense\r\n\r\n', 400),
    (b'GET /qvd/ping HTTP/1.1\rX: y\r\n\r\n', 400),
    (b'\r\n\r\nGET /qvd/ping HTTP/1.1\r\n\r\n', 200),
    (b'GET /qvd/ping HTTP/1.1\n\n', 200),
], ids=['1.0', '2.0', 'no colon', 'nonsense', 'lone CR', 'blank lines first', 'bare LF'])
def test_syntax(farm, data, status):
    """Section 1: HTTP/1.1 only, else 505; syntax errors 400; LF or CRLF; leading blank lines."""
    wire = Wire(address(farm))
    wire.send(data)
    assert Answer(wire).status == status
    wire.close()


def test_a_connection_serves_many_requests(farm):
    """Section 10: credentials are sent with each request, and the connection stays."""
    wire = Wire(address(farm))
    auth = basic('perl', farm.users['perl'])
    for _ in range(20):
        wire.send(request('/qvd/list_of_vm', [('Authorization', auth)]))
        assert Answer(wire).status == 200
        wire.send(request('/qvd/ping'))
        assert Answer(wire).status == 200
    # In odd pieces, as networks deliver them.
    for byte in request('/qvd/list_of_vm', [('Authorization', auth)]):
        wire.send(bytes([byte]))
    assert Answer(wire).status == 200
    wire.close()


def test_tokens(farm):
    """Sections 2, 3 and 9: a token opens the same doors, for its user only."""
    wire = Wire(address(farm))
    wire.send(request('/qvd/create_auth_token',
                      [('Authorization', basic('perl', farm.users['perl']))]))
    answer = Answer(wire)
    assert answer.status == 200
    made = answer.json()
    assert made['auth_params_id']
    # "base64 with a trailing newline; trim before use"
    assert made['auth_token'].endswith('\n')
    token = made['auth_token'].strip()
    assert len(base64.b64decode(token, validate=True)) >= 32
    other = Wire(address(farm))
    other.send(request('/qvd/list_of_vm', [('Authorization', f'Bearer {token}')]))
    answer = Answer(other)
    assert answer.status == 200
    assert [row['name'] for row in answer.json()] == ['perl']
    forged = base64.b64encode(b'x' * 64).decode()
    third = Wire(address(farm))
    third.send(request('/qvd/list_of_vm', [('Authorization', f'Bearer {forged}')]))
    assert Answer(third).status == 401
    for connection in (wire, other, third):
        connection.close()
    assert token not in farm.log_tail('l7r', 100000)


def test_login_with_a_tenant(farm):
    """Section 11.7: user@tenant and user#tenant."""
    tenant = farm.psql("SELECT t.name FROM tenants t JOIN users u ON u.tenant_id = t.id "
                       "WHERE u.login = 'perl'")[0][0]
    for separator in '@#':
        client = PerlClient(address(farm), f'perl{separator}{tenant}', farm.users['perl'])
        assert [row['name'] for row in client.list()] == ['perl']
        client.wire.close()


def test_after_a_refused_connect_the_connection_is_closed(farm):
    """Section 11.3: head and body, then close."""
    client = CClient(address(farm), 'clib', farm.users['clib'])
    client.list()
    assert client.connect(999999).status == 404     # the close is checked in connect()
    assert client.stop().status == 422
    client.lists.close()


def test_takeover_from_each_to_the_next(farm):
    """Section 4.1: the desktop goes to whoever came last, whatever client had it before."""
    former = None
    for make in (PerlClient, QtClient, CClient, PerlClient):
        client = make(address(farm), 'perl', farm.users['perl'])
        vm = only_vm(client.list(), 'perl')
        answer = client.connect(vm)
        assert first_nx_bytes(client.wire, answer).startswith(b'NXPROXY-3.5.0')
        if former:
            while former.wire.record():
                pass
        former = client
    assert farm.vm_row('perl')['user_state'] == 'connected'
    former.wire.close()
