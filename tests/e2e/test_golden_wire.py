# SPDX-License-Identifier: GPL-3.0-or-later
"""Each row of tests/golden/l7r.txt, and what else the wire owes to the clients that exist: shared
variables, retries, counters."""

import base64
import hashlib
import json
import os
import re
import time

import pytest

from fakenode import NX_SERVER
from farm import TOP, wait_until
from oldclients import Answer, PerlClient, Wire, basic, first_nx_bytes, request
from steps import Holds, Rows

SERVICES = ('l7r', 'api')
FARM = {'services': False,
        'settings': {'log.level': 'DEBUG', 'l7r.timeout.vm_stop': '1s', 'l7r.takeover.max': '1000',
                     'l7r.beat': '1s', 'l7r.auth.plugins.head': 'tester',
                     'l7r.auth.throttle.source.free': '500', 'l7r.auth.throttle.account.free': '50',
                     'l7r.limit.connections.per_source': '1000', 'l7r.auth.env.max': '3',
                     'l7r.auth.env.size': '100', 'l7r.authd.timeout': '4s'}}
TOKENS = {name: name.replace('-', '') + 'x' * 30 for name in (
    'token', 'token-of-mine', 'token-expired', 'token-of-blocked', 'token-of-shut', 'token-once')}


# 4: the order of the texts, with our one for "retry every 2 s" of step 1.
INFOS = ['Session acquired', 'Aborting contending session', 'Assigning VM', 'Starting virtual machine',
         'Waiting for VM to reach state running', 'Starting X session', 'Waiting for X session',
         'Connecting X session', 'Connection established']


def read_rows():
    rows = []
    with open(os.path.join(TOP, 'tests/golden/l7r.txt'), encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            if line.strip() and not line.startswith('#'):
                cells = [cell.strip() for cell in line.rstrip('\n').split(' | ')]
                assert len(cells) == 7, f'line {number}: {len(cells)} cells'
                rows.append((number, *cells))
    return rows


ROWS = read_rows()


@pytest.fixture(name='world', scope='module')
def world_fixture(farm, node):
    """alice has the VMs mine, idle, app and far, the last on another node; bob has bobs."""
    return World(farm, node)


class World:
    def __init__(self, farm, node):
        self.farm, self.node = farm, node
        self.where, self.back = 'normal', None
        self.mine = node.add_vm('alice')
        node.psql("UPDATE vms SET name = 'mine' WHERE name = 'alice'")
        self.passwords = {'alice': self.mine.password}
        for login in ('bob', 'blocked-user', 'tenant-user'):
            self.passwords[login] = node.add_user(login)[1]
        self.ids = {'mine': self.mine.id}
        node.psql(
            "INSERT INTO tenants (id, name, blocked) VALUES (70, 'shut', true);"
            "UPDATE users SET tenant_id = 70 WHERE login = 'tenant-user';"
            "UPDATE users SET blocked = true WHERE login = 'blocked-user';"
            "INSERT INTO osfs (name, is_application) VALUES ('app', true);"
            "INSERT INTO hosts (name, address) VALUES ('elsewhere', '127.0.0.2');"
            "UPDATE host_runtimes SET state = 'running', ok_ts = now(), usable_ram = 8000, "
            'usable_cpu = 8000, free_ram = 0.9, free_cpu = 0.9 '
            "WHERE host_id = (SELECT id FROM hosts WHERE name = 'elsewhere')")
        for number, (name, osf, owner) in enumerate((('idle', 'desk', 'alice'), ('app', 'app', 'alice'),
                                                     ('far', 'desk', 'alice'), ('bobs', 'desk', 'bob'))):
            node.psql("INSERT INTO vms (name, user_id, osf_id, ip) SELECT "
                      f"'{name}', u.id, o.id, '10.9.1.{number + 1}' FROM users u, osfs o "
                      f"WHERE u.login = '{owner}' AND o.name = '{osf}'")
            self.ids[name] = int(node.psql(f"SELECT id FROM vms WHERE name = '{name}'")[0][0])
        node.psql("UPDATE vm_runtimes SET vm_state = 'running', host_id = (SELECT id FROM hosts "
                  f"WHERE name = 'elsewhere') WHERE vm_id = {self.ids['far']}")
        for name, token in TOKENS.items():
            owner = {'token-of-blocked': 'blocked-user', 'token-of-shut': 'tenant-user'}.get(
                name, 'alice')
            node.psql(
                'INSERT INTO user_tokens (token_hash, user_id, vm_id, expiration, multi_use) SELECT '
                f"'\\x{hashlib.sha256(token.encode()).hexdigest()}', id, "
                f"{self.ids['mine'] if name == 'token-of-mine' else 'NULL'}, now() + interval "
                f"'{-1 if name == 'token-expired' else 60} min', {name != 'token-once'} FROM users "
                f"WHERE login = '{owner}'")

    def authorization(self, who):
        if who == 'token-raw':
            return f'Bearer {TOKENS["token"]}'
        if who.startswith('token'):
            token = TOKENS.get(who, 'guessed' + 'y' * 36)
            return 'Bearer ' + base64.b64encode(token.encode()).decode()
        login, colon, password = who.partition(':')
        name = re.split('[@#]', login)[0].lower()
        return basic(login, password if colon else self.passwords[name])

    def become(self, where):
        """Stays so until the next."""
        if where == self.where:
            return
        self.mine.answers.clear()
        before, after = WORLDS[where](self)
        for sql in (self.back, before):
            if sql:
                self.node.psql(sql)
        if 'host' in (before or '') + (self.back or ''):
            time.sleep(1.1)     # what was read of the node holds for a second
        self.where, self.back = where, after


def vm_set(what, back):
    return lambda w: (f'UPDATE vm_runtimes SET {what} WHERE vm_id = {w.ids["mine"]}',
                      f'UPDATE vm_runtimes SET {back} WHERE vm_id = {w.ids["mine"]}')


def host_set(what, back, name=None):
    def both(w):
        host = f"(SELECT id FROM hosts WHERE name = '{name or w.farm.nodename}')"
        return (f'UPDATE host_runtimes SET {what} WHERE host_id = {host}',
                f'UPDATE host_runtimes SET {back} WHERE host_id = {host}')
    return both


def agent_says(status, error):
    def say(w):
        w.mine.on('x_start', status, 'stopped', error)
        return None, None
    return say


def no_desktop(w):
    return (f'UPDATE vm_runtimes SET vm_x_port = 4999 WHERE vm_id = {w.ids["mine"]}',
            f'UPDATE vm_runtimes SET vm_x_port = 4100 WHERE vm_id = {w.ids["mine"]}')


WORLDS = {
    'normal': lambda w: (None, None),
    'vm-blocked': vm_set('blocked = true', 'blocked = false'),
    'vm-zombie': vm_set("vm_state = 'zombie_1'", "vm_state = 'running'"),
    'vm-starting': vm_set("vm_state = 'starting_2'", "vm_state = 'running'"),
    'vm-stopping': vm_set("vm_state = 'stopping_1'", "vm_state = 'running'"),
    'node-blocked': host_set('blocked = true', 'blocked = false'),
    'node-stopping': host_set("state = 'stopping'", "state = 'running'"),
    'node-unknown': lambda w: (f"UPDATE hosts SET name = 'unknown' WHERE name = '{w.farm.nodename}'",
                               f"UPDATE hosts SET name = '{w.farm.nodename}' WHERE name = 'unknown'"),
    'far-blocked': host_set('blocked = true', 'blocked = false', 'elsewhere'),
    'far-down': host_set("state = 'lost'", "state = 'running'", 'elsewhere'),
    'no-room': lambda w: ("UPDATE osfs SET memory = 100000 WHERE name = 'desk'",
                          "UPDATE osfs SET memory = 256 WHERE name = 'desk'"),
    'agent-refuses': agent_says(503, 'a hook failed'),
    'agent-forbids': agent_says(403, 'no such account'),
    'no-desktop': no_desktop,
}


def head_of(world, who, text):
    flags, rest = re.fullmatch(r'(?:\[(.*?)\] )?(.*)', text).groups()
    flags = flags or ''
    for name, number in world.ids.items():
        rest = rest.replace('{' + name + '}', str(number))
    if flags == 'raw':
        return rest.replace('\\n', '\r\n').encode()
    line, *headers = rest.split('; ')
    method, target = line.split(' ')
    headers = [tuple(h.split(': ', 1)) for h in headers]
    if method == 'UPGRADE':
        method, headers = 'GET', [*headers, ('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]
    if who != '-':
        headers.append(('Authorization', world.authorization(who)))
    version = flags[2:] if flags.startswith('v=') else 'HTTP/1.1'
    data = request(target, headers, end='\n' if flags == 'lf' else '\r\n', version=version,
                   method=method)
    return b'\r\n\r\n' + data if flags == 'blank' else data


def check_body(world, answer, wanted):
    for name, number in world.ids.items():
        wanted = wanted.replace('{' + name + '}', str(number))
    if wanted.startswith('json:'):
        assert answer.json() == json.loads(wanted[5:])
    elif wanted.startswith('~'):
        assert wanted[1:] in answer.body.decode(), answer.body
    elif wanted != '-':
        assert answer.body == wanted.replace('\\r\\n', '\r\n').encode()


@pytest.mark.parametrize('row', ROWS, ids=[f'line{row[0]}-{row[1]}-{row[2]}-{row[3]}' for row in ROWS])
def test_row(farm, world, row):
    _, _, where, who, text, status, headers, body = row
    world.become(where)
    wire = Wire((farm.address, farm.l7r_port))
    wire.send(head_of(world, who, text))
    answer = Answer(wire)
    assert answer.status == int(status), (answer.status, answer.body)
    for wanted in headers.split(';') if headers != '-' else ():
        name, _, value = wanted.partition('=')
        assert answer.headers.get(name) == value, answer.headers
    if answer.status == 101:
        assert first_nx_bytes(wire, answer) == NX_SERVER
        assert answer.infos[0] == 'Session acquired'
        assert answer.infos == sorted(set(answer.infos), key=INFOS.index)
    else:
        check_body(world, answer, body)
    # 11.3: an error of connect closes, all else may go on (11.4) but what is no HTTP.
    if 'connect_to_vm' in text and answer.status not in (101, 405):
        assert wire.record() == b''
    elif answer.status not in (101, 400, 505):
        wire.send(request('/qvd/ping'))
        assert Answer(wire).status in (200, 503)
    wire.close()
    if answer.status == 101:
        wait_until(lambda: world.mine.row()['user_state'] == 'disconnected', 10, 'the VM to be free')
    if 'stop_vm' in text and status == '408':
        world.mine.set_running()


def test_every_path_refusal_and_state_has_a_row():
    """Those of l7r-protocol 3 and 4."""
    text = ' '.join(row[4] for row in ROWS)
    for path in ('ping', 'list_of_vm', 'list_of_applications', 'authenticate_user',
                 'create_auth_token', 'connect_to_vm', 'stop_vm'):
        assert f'/qvd/{path}' in text
    connects = {int(row[5]) for row in ROWS if 'connect_to_vm' in row[4]}
    assert {101, 401, 403, 404, 422, 426, 503} <= connects
    assert {200, 401, 403, 404, 408, 422, 503} <= {int(r[5]) for r in ROWS if 'stop_vm' in r[4]}
    assert {row[2] for row in ROWS} == set(WORLDS)


# What is shared -------------------------------------------------------------------------------------

def share(farm, world, variables, path='/qvd/list_of_vm'):
    headers = [('Authorization', world.authorization('alice'))]
    headers += [('Auth-' + name.encode().hex(), base64.b64encode(value.encode()).decode())
                for name, value in variables]
    wire = Wire((farm.address, farm.l7r_port))
    wire.send(request(path, headers))
    answer = Answer(wire)
    wire.close()
    return answer


def test_shared_variables_reach_the_plugins(farm, world):
    """auth-plugins 8: by the plugin "tester", which tells names only."""
    begin = os.path.getsize(farm.path('log/l7r.log'))
    secret = 'canary-1234-in-the-environment'
    assert share(farm, world, [('LANG', secret), ('SSO_TICKET', 'x' + secret)],
                 '/qvd/list_of_vm?file_name=my-letter.odt').status == 200

    def told():
        with open(farm.path('log/l7r.log'), encoding='utf-8') as f:
            f.seek(begin)
            return f.read()
    line = 'tester: 2 shared variables: LANG SSO_TICKET; a file name'
    wait_until(lambda: line in told(), 5, 'the line of the tester')
    for text in (secret, 'my-letter', base64.b64encode(secret.encode()).decode()):
        assert text not in told()


def test_what_is_shared_has_limits(farm, world):
    """3 variables and 100 bytes in this farm."""
    assert share(farm, world, [(f'V{n}', '') for n in range(3)]).status == 200
    assert share(farm, world, [(f'V{n}', '') for n in range(4)]).status == 431
    assert share(farm, world, [('N', 'v' * 97)]).status == 200
    assert share(farm, world, [('N', 'v' * 98)]).status == 431
    answer = share(farm, world, [('N', 'v' * 5000)])
    assert (answer.status, answer.body) == (431, b'The shared environment is too long\r\n')


def told_since(farm, begin):
    with open(farm.path('log/l7r.log'), encoding='utf-8') as f:
        f.seek(begin)
        return f.read()


def test_plugins_hear_of_each_request(farm, world):
    """auth-plugins 2: before_list_of_vms, before_connect_to_vm, also when the login is not asked for
    again; their parameters reach the agent; a no of allow_access_to_vm changes nothing."""
    world.become('normal')
    begin = os.path.getsize(farm.path('log/l7r.log'))
    client = PerlClient((farm.address, farm.l7r_port), 'alice', world.passwords['alice'])
    client.list()
    client.list()
    assert first_nx_bytes(client.wire, client.connect(world.ids['mine'])) == NX_SERVER
    assert world.mine.called('x_start')[-1][2]['custom.tester'] == 'was here'
    client.wire.close()
    user = world.mine.user_id
    wait_until(lambda: f'tester: user {user} connects to VM {world.ids["mine"]}' in
               told_since(farm, begin), 5, 'the connection to be told')
    text = told_since(farm, begin)
    assert text.count(f'tester: user {user} lists') == 2 and text.count('shared variables') == 1
    wait_until(lambda: world.mine.row()['user_state'] == 'disconnected', 10, 'the VM to be free')


def test_plugins_that_cannot_be_asked(farm, node, world):
    """Under SIGSTOP, until l7r.authd.timeout (4 s in this farm), and killed in the midst of it."""
    hold = Holds(farm, node)
    auth = ('Authorization', world.authorization('alice'))

    def known():
        wire = Wire((farm.address, farm.l7r_port))
        wire.send(request('/qvd/list_of_vm', [auth]))
        assert Answer(wire).status == 200
        return wire
    waits, leaves, dies = known(), known(), known()
    rows = Rows(farm)
    with hold.auth():
        for number, wire in enumerate((waits, leaves), 1):
            wire.send(request('/qvd/list_of_vm', [auth]))
            wait_until(lambda: [r[2] for r in rows.all()].count('hook') == number, 5, 'the hook')  # pylint: disable=cell-var-from-loop
        leaves.reset()
        rows.wait('hook abort')
        answer = Answer(waits)
        assert answer.status == 503 and b'the login took too long' in answer.body
        rows.wait('hook limit')
        dies.send(request('/qvd/list_of_vm', [auth]))
        wait_until(lambda: [r[2] for r in rows.all()].count('hook') == 3, 5, 'the hook')
        hold.signal('qvd-authd', '-KILL')
        answer = Answer(dies)
        assert answer.status == 503 and b'Logins are not possible now' in answer.body
        rows.wait('hook refused')
    for wire in (waits, dies):
        wire.close()

    def again():
        wire, answer = list_with(farm, auth[1])
        wire.close()
        return answer.status == 200
    wait_until(again, 15, 'the new authd')


# Tokens on the wire ---------------------------------------------------------------------------------

def list_with(farm, authorization):
    wire = Wire((farm.address, farm.l7r_port))
    wire.send(request('/qvd/list_of_vm', [('Authorization', authorization)]))
    return wire, Answer(wire)


def test_a_single_use_token_lives_as_long_as_its_connection(farm, world):
    """l7r-protocol 10: re-sent with each request, compared with what was accepted here; a replay on
    another connection is refused."""
    auth = world.authorization('token-once')
    wire, answer = list_with(farm, auth)
    assert answer.status == 200
    wire.send(request(f'/qvd/connect_to_vm?id={world.ids["mine"]}', [
        ('Authorization', auth), ('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]))
    answer = Answer(wire)
    assert first_nx_bytes(wire, answer) == NX_SERVER
    replay, answer = list_with(farm, auth)
    assert answer.status == 401
    for each in (wire, replay):
        each.close()


def test_a_token_that_was_made_works_until_it_expires(farm, node, world):
    """9: base64 with a newline behind it; l7r.auth.token.expiration; many times."""
    node.psql("INSERT INTO configs (key, value) VALUES ('l7r.auth.token.expiration', '1h')")

    def life():
        made = share(farm, world, [], '/qvd/create_auth_token').json()['auth_token']
        assert made.endswith('\n')
        token = base64.b64decode(made).decode()
        digest = hashlib.sha256(token.encode()).hexdigest()
        left = node.psql("SELECT extract(epoch FROM expiration - now())::int FROM user_tokens "
                         f"WHERE token_hash = '\\x{digest}'")[0][0]
        return made.strip() if 3000 < int(left) <= 3600 else None
    made = wait_until(life, 5, 'the setting to hold')
    for _ in range(2):
        wire, answer = list_with(farm, 'Bearer ' + made)
        assert answer.status == 200
        wire.close()
    node.psql('UPDATE user_tokens SET expiration = now()')
    wire, answer = list_with(farm, 'Bearer ' + made)
    assert answer.status == 401
    wire.close()
    node.psql("DELETE FROM configs WHERE key = 'l7r.auth.token.expiration'")


def test_a_token_makes_none_that_lives_longer(farm, node, world):
    """On a connection that knows it, and after its end none at all."""
    auth = world.authorization('token')
    wire = Wire((farm.address, farm.l7r_port))
    digest = hashlib.sha256(base64.b64decode(auth.split(' ')[1])).hexdigest()
    node.psql("UPDATE user_tokens SET expiration = now() + interval '2 s' "
              f"WHERE token_hash = '\\x{digest}'")

    def make():
        wire.send(request('/qvd/create_auth_token', [('Authorization', auth)]))
        return Answer(wire)
    made = base64.b64decode(make().json()['auth_token'])
    first, second = (node.psql(f"SELECT expiration FROM user_tokens WHERE token_hash = '\\x{d}'")
                     for d in (digest, hashlib.sha256(made).hexdigest()))
    assert second <= first
    wait_until(lambda: make().status == 401, 5, 'the end of the first')
    wire.close()
    node.psql("UPDATE user_tokens SET expiration = now() + interval '1 h'")


def test_a_token_of_one_vm_makes_none_for_others(farm, node, world):
    node.psql('UPDATE user_tokens SET expiration = now() + interval \'1 h\'')
    wire = Wire((farm.address, farm.l7r_port))
    wire.send(request('/qvd/create_auth_token', [
        ('Authorization', world.authorization('token-of-mine'))]))
    made = Answer(wire).json()['auth_token'].strip()
    wire.close()
    wire = Wire((farm.address, farm.l7r_port))
    wire.send(request(f'/qvd/connect_to_vm?id={world.ids["idle"]}', [
        ('Authorization', 'Bearer ' + made), ('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]))
    assert Answer(wire).status == 403
    wire.close()


# Retries and counters -------------------------------------------------------------------------------

def test_five_quick_retries_are_borne(farm, world):
    """11.3: after an error of connect the Perl client tries five times, 25 ms apart."""
    world.become('normal')
    world.mine.on('x_start', 503, 'stopped', 'not yet')
    for _ in range(6):
        client = PerlClient((farm.address, farm.l7r_port), 'alice', world.passwords['alice'])
        assert client.connect(world.ids['mine']).status == 503
        client.wire.close()
        time.sleep(0.025)
    world.mine.answers.clear()
    client = PerlClient((farm.address, farm.l7r_port), 'alice', world.passwords['alice'])
    began = time.monotonic()
    assert first_nx_bytes(client.wire, client.connect(world.ids['mine'])) == NX_SERVER
    assert time.monotonic() - began < 2
    client.wire.close()
    wait_until(lambda: world.mine.row()['user_state'] == 'disconnected', 10, 'the VM to be free')


COUNTERS = ('http_requests', 'auth_attempts', 'auth_ok', 'nx_attempts', 'nx_ok', 'short_sessions')


def counters(node):
    values = node.psql(f"SELECT {', '.join(COUNTERS)} FROM host_counters WHERE host_id = {node.id}")[0]
    return dict(zip(COUNTERS, map(int, values)))


def at_rest(farm, node):
    """All that was counted is written: with the next beat but one nothing changes."""
    seen = [None]

    def same():
        before, seen[0] = seen[0], counters(node)
        return before == seen[0]
    wait_until(same, 15, 'the counters to rest', interval=1.5)
    told = json.loads(farm.qa('--format', 'JSON', 'host', 'counters', '-f', f'id={node.id}'))[0]
    assert {name: told[name] for name in COUNTERS} == seen[0], told
    return seen[0]


def test_counters_to_the_digit(farm, node, world):
    """database: http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok, short_sessions."""
    before = at_rest(farm, node)
    wire = Wire((farm.address, farm.l7r_port))
    for _ in range(3):
        wire.send(request('/qvd/ping'))
        Answer(wire)
    for _ in range(4):      # one attempt: known on this connection from then on
        wire.send(request('/qvd/list_of_vm', [('Authorization', world.authorization('alice'))]))
        assert Answer(wire).status == 200
    for _ in range(2):
        wire.send(request('/qvd/list_of_vm', [('Authorization', basic('alice', 'wrong'))]))
        assert Answer(wire).status == 401
    wire.send(request('/qvd/authenticate_user'))    # no attempt
    assert Answer(wire).status == 401
    wire.close()
    client = PerlClient((farm.address, farm.l7r_port), 'alice', world.passwords['alice'])
    assert first_nx_bytes(client.wire, client.connect(world.ids['mine'])) == NX_SERVER
    client.wire.close()
    wait_until(lambda: world.mine.row()['user_state'] == 'disconnected', 10, 'the VM to be free')
    world.become('no-desktop')
    client = PerlClient((farm.address, farm.l7r_port), 'alice', world.passwords['alice'])
    assert client.connect(world.ids['mine']).status == 503
    world.become('normal')
    after = at_rest(farm, node)
    assert {k: after[k] - before[k] for k in COUNTERS} == {
        'http_requests': 12, 'auth_attempts': 5, 'auth_ok': 3, 'nx_attempts': 2, 'nx_ok': 1,
        'short_sessions': 1}


def test_counters_of_the_last_moment_are_written_by_a_stop(farm, node, world):
    """And a long session is not short: the limit is 120 s."""
    farm.stop_service('l7r', 'SIGTERM')
    node.psql("INSERT INTO configs (key, value) VALUES ('l7r.short_session', '0')")
    farm.start_service('l7r')
    before = at_rest(farm, node)
    client = PerlClient((farm.address, farm.l7r_port), 'alice', world.passwords['alice'])
    assert first_nx_bytes(client.wire, client.connect(world.ids['mine'])) == NX_SERVER
    farm.stop_service('l7r', 'SIGTERM')
    after = counters(node)
    assert {k: after[k] - before[k] for k in COUNTERS} == {
        'http_requests': 1, 'auth_attempts': 1, 'auth_ok': 1, 'nx_attempts': 1, 'nx_ok': 1,
        'short_sessions': 0}
    farm.start_service('l7r')
