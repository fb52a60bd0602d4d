# SPDX-License-Identifier: GPL-3.0-or-later
"""The session machine with a real PostgreSQL and authd, and a node and VMs that do as told."""

import contextlib
import re
import subprocess
import threading
import time

import pytest

from fakenode import NX_SERVER, check_log
from farm import wait_until
from later import Later
from oldclients import Answer, PerlClient, QtClient, Wire, basic, first_nx_bytes, request

FARM = {'services': False,
        'settings': {'log.level': 'DEBUG', 'l7r.timeout.vm_stop': '3s', 'l7r.sweep': '1h',
                     'l7r.takeover.window': '30s', 'l7r.timeout.dial': '2s', 'l7r.relay.half_close': '1s'}}


@pytest.fixture(name='vm')
def vm_fixture(node, request):  # pylint: disable=redefined-outer-name
    """A running VM with a user of its own; afterwards nothing waits and the counts are right."""
    made = node.add_vm(re.sub(r'\W', '-', request.node.name)[:60].lower())
    yield made
    made.close()


def where(farm):
    return (farm.address, farm.l7r_port)


def client_of(farm, vm, make=PerlClient):
    return make(where(farm), vm.login, vm.password)


def connected(farm, vm, make=PerlClient):
    """A client with its desktop's first bytes."""
    client = client_of(farm, vm, make)
    assert first_nx_bytes(client.wire, client.connect(vm.id)) == NX_SERVER
    return client


def session_row(node, vm):
    """The last session of a VM as a dictionary."""
    keys = ('id', 'ended', 'end_reason', 'connected', 'tls_ms', 'auth_ms', 'claim_ms', 'start_ms',
            'x_start_ms', 'dial_ms', 'first_byte_ms', 'bytes_in', 'bytes_out')
    rows = node.psql(f"SELECT {', '.join(keys)} FROM sessions WHERE vm_id = {vm.id} "
                     'ORDER BY id DESC LIMIT 1')
    return dict(zip(keys, rows[0])) if rows else None


def wait_free(node, vm, timeout=8):
    """The VM is in no session, and the last one's row is ended."""
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', timeout, 'the VM to be free')
    wait_until(lambda: session_row(node, vm)['ended'], timeout, 'the session to be ended')
    return session_row(node, vm)


def assigned_is_the_count(node):
    assigned, count = node.psql('SELECT (SELECT sum(assigned) FROM host_runtimes), '
                                '(SELECT count(host_id) FROM vm_runtimes)')[0]
    assert assigned == count


def test_a_session_from_end_to_end(farm, node, vm):
    client = connected(farm, vm)
    row = vm.row()
    assert row['user_state'] == 'connected'
    client.wire.send(b'x' * 1000)
    got = b''
    while len(got) < 1000:
        got += client.wire.record()
    assert got == b'x' * 1000
    client.wire.close()
    session = wait_free(node, vm)
    assert session['id'] == row['session_id']
    assert session['end_reason'] == 'closed by the client'
    assert int(session['bytes_in']) == 1000 + 49 and int(session['bytes_out']) == 1000 + 21
    # Of a running VM all phases but start are known, and told by one line.
    assert session['start_ms'] == ''
    for phase in ('tls', 'auth', 'claim', 'x_start', 'dial', 'first_byte'):
        assert int(session[phase + '_ms']) < 5000, phase
    wait_until(lambda: f'[s:{session["id"]} u:{vm.user_id} vm:{vm.id}] session ended' in
               farm.log_tail('l7r', 1000), 3, 'the line of the session')
    # x_start: once, its serial is the session.
    assert [(c[0], str(c[1])) for c in vm.calls] == [('x_start', session['id'])]


def test_parameters_reach_the_agent_and_later_sources_win(farm, node, vm):
    """l7r-protocol 4.5: client, then OSF, DI, user, VM; and what only the server says."""
    node.psql(
        "WITH p AS (INSERT INTO properties_list (key, tenant_id) SELECT k, 1 FROM unnest("
        "ARRAY['custom.a', 'custom.b', 'custom.c', 'qvd.vm.user.name']) k RETURNING id, key), "
        'q AS (INSERT INTO qvd_object_properties_list (property_id, qvd_object) '
        "SELECT id, o FROM p, unnest(ARRAY['osf', 'user', 'vm']) o RETURNING id, property_id, "
        "qvd_object), o AS (INSERT INTO osf_properties SELECT f.id, q.id, 'osf' FROM q, osfs f "
        "WHERE q.qvd_object = 'osf'), u AS (INSERT INTO user_properties "
        f"SELECT {vm.user_id}, q.id, 'user' FROM q JOIN p ON p.id = q.property_id "
        "WHERE q.qvd_object = 'user' AND p.key <> 'custom.a') INSERT INTO vm_properties "
        f"SELECT {vm.id}, q.id, 'vm' FROM q JOIN p ON p.id = q.property_id "
        "WHERE q.qvd_object = 'vm' AND p.key = 'custom.c'")
    wire = Wire(where(farm))
    wire.send(request(f'/qvd/connect_to_vm?id={vm.id}&custom.a=client&custom.d=a+b%2Bc'
                      '&qvd.client.timezone=Etc/UTC',
                      [('Authorization', basic(vm.login, vm.password)),
                       ('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]))
    answer = Answer(wire)
    assert answer.status == 101
    parameters = vm.called('x_start')[0][2]
    wanted = {'custom.a': 'osf', 'custom.b': 'user', 'custom.c': 'vm', 'custom.d': 'a b+c',
              'qvd.client.timezone': 'Etc/UTC', 'qvd.vm.user.name': vm.login,
              'host_address': '127.0.0.1',
              'qvd.slave.key': answer.headers['X-QVD-Slave-Key']}
    assert {k: parameters.get(k) for k in wanted} == wanted
    wire.close()
    node.psql('DELETE FROM properties_list')
    wait_free(node, vm)


def test_a_stopped_vm_is_started(farm, node, vm):
    vm.set_stopped()
    client = client_of(farm, vm)
    answer = Later(lambda: client.connect(vm.id))
    wait_until(lambda: vm.row()['vm_cmd'] == 'start', 5, 'the order to start')
    row = vm.row()
    assert (row['vm_state'], row['user_state'], row['host_id']) == ('stopped', 'connecting',
                                                                     str(node.id))
    assigned_is_the_count(node)
    node.psql(f"UPDATE vm_runtimes SET vm_state = 'starting_1', vm_cmd = NULL WHERE vm_id = {vm.id}")
    vm.set_running()
    answer = answer.result()
    assert first_nx_bytes(client.wire, answer) == NX_SERVER
    assert answer.infos[0] == 'Session acquired'
    assert answer.info_records <= 3
    assert int(session_row(node, vm)['start_ms']) >= 0
    client.wire.close()
    wait_free(node, vm)
    assigned_is_the_count(node)


def test_a_start_that_fails_is_told(farm, node, vm):
    vm.set_stopped()
    client = client_of(farm, vm)
    answer = Later(lambda: client.connect(vm.id))
    wait_until(lambda: vm.row()['vm_cmd'] == 'start', 5, 'the order to start')
    node.psql(f"UPDATE vm_runtimes SET vm_state = 'starting_2', vm_cmd = NULL WHERE vm_id = {vm.id}")
    vm.set_stopped(blocked='no network')
    answer = answer.result()
    assert answer.status == 503
    assert b'not available: it failed to start. Retry later' in answer.body
    assert answer.headers['Retry-After'] == '5'
    assert client.wire.record() == b''      # an error of connect closes (11.3)
    wait_free(node, vm)
    assigned_is_the_count(node)
    # Blocked now: maintenance, 403 (section 4).
    client = client_of(farm, vm)
    answer = client.connect(vm.id)
    assert answer.status == 403 and b'maintenance' in answer.body


def test_takeover_of_a_connected_session(farm, node, vm):
    first = connected(farm, vm)
    former = vm.row()['session_id']
    second = connected(farm, vm, QtClient)
    assert first.wire.record() == b''
    row = vm.row()
    assert row['user_state'] == 'connected' and int(row['session_id']) > int(former)
    ended, reason = node.psql(f"SELECT ended, end_reason FROM sessions WHERE id = {former}")[0]
    assert ended and reason == 'taken over by another connection'
    second.wire.send(b'still here')
    assert second.wire.record() == b'still here'
    # The former's late close has changed nothing of the second.
    assert vm.row()['session_id'] == row['session_id']
    second.wire.close()
    wait_free(node, vm)


def test_takeover_of_a_session_that_is_connecting(farm, node, vm):
    vm.set_stopped()
    clients = [client_of(farm, vm) for _ in range(2)]
    first = Later(lambda: clients[0].connect(vm.id))
    wait_until(lambda: vm.row()['vm_cmd'] == 'start', 5, 'the order to start')
    second = Later(lambda: clients[1].connect(vm.id))
    answer = first.result(5)
    assert answer.status == 503 and b'taken over' in answer.body
    vm.set_running()
    assert first_nx_bytes(clients[1].wire, second.result()) == NX_SERVER
    assert len(vm.called('x_start')) == 1 and vm.dials == 1
    clients[1].wire.close()
    wait_free(node, vm)
    assigned_is_the_count(node)


def test_takeovers_have_a_limit(farm, node, vm):
    """l7r.takeover.max (3) within 30 s: the limit is reached, and one more is refused."""
    clients = [connected(farm, vm) for _ in range(4)]
    refused = client_of(farm, vm)
    answer = refused.connect(vm.id)
    assert answer.status == 503 and b'too often' in answer.body
    # The one who has it keeps it.
    clients[3].wire.send(b'mine')
    assert clients[3].wire.record() == b'mine'
    clients[3].wire.close()
    wait_free(node, vm)
    # Free again: that is no takeover.
    connected(farm, vm).wire.close()
    wait_free(node, vm)


def test_a_client_that_goes_away_while_it_waits(farm, node, vm):
    vm.set_stopped()
    client = client_of(farm, vm)
    Later(lambda: client.connect(vm.id))
    wait_until(lambda: vm.row()['vm_cmd'] == 'start', 5, 'the order to start')
    client.wire.socket.shutdown(2)
    assert wait_free(node, vm)['end_reason'] == 'the client has gone'
    vm.set_running()
    assert vm.calls == [] and vm.dials == 0


def test_no_dial_for_a_client_that_has_gone(farm, node, vm):
    """The dial comes last: a client that goes while the desktop starts leaves it untouched."""
    goes, gone = threading.Event(), threading.Event()

    def x_start():
        goes.set()
        gone.wait(10)
        return 200, {'state': 'listening'}
    vm.answers['x_start'] = x_start
    client = client_of(farm, vm)
    Later(lambda: client.connect(vm.id))
    assert goes.wait(10)
    client.wire.socket.shutdown(2)
    wait_free(node, vm)
    gone.set()
    assert vm.dials == 0


def test_a_dial_that_fails_is_told_to_the_agent(farm, node, vm):
    vm.desktop.shutdown(2)
    vm.desktop.close()
    client = client_of(farm, vm)
    answer = client.connect(vm.id)
    assert answer.status == 503 and b'does not take the connection' in answer.body
    session = wait_free(node, vm)
    assert [(c[0], str(c[1])) for c in vm.calls] == [('x_start', session['id']),
                                                     ('x_reset', session['id'])]


@pytest.mark.parametrize('status,error,wanted,text', [
    (403, 'the login is not allowed', 403, b'the login is not allowed'),
    (409, 'overtaken', 503, b'another session has it'),
    (503, 'hook failed', 503, b'its desktop did not start'),
])
def test_what_the_agent_refuses(farm, node, vm, status, error, wanted, text):
    vm.on('x_start', status, 'stopped', error)
    answer = client_of(farm, vm).connect(vm.id)
    assert answer.status == wanted and text in answer.body
    wait_free(node, vm)
    assert vm.dials == 0


def test_an_administrator_disconnects(farm, node, vm):
    client = connected(farm, vm)
    node.psql(f"UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm.id}")
    began = time.monotonic()
    assert client.wire.record() == b''
    assert time.monotonic() - began < 2
    assert wait_free(node, vm)['end_reason'] == 'disconnected by an administrator'


def test_a_vm_that_stops_ends_its_session(farm, node, vm):
    client = connected(farm, vm)
    vm.set_stopped()
    assert client.wire.record() == b''
    assert wait_free(node, vm)['end_reason'] == 'the virtual machine has stopped'


def test_a_desktop_that_closes_ends_its_session(farm, node, vm):
    client = connected(farm, vm)
    vm.streams[0].shutdown(2)
    assert client.wire.record() == b''
    assert wait_free(node, vm)['end_reason'] == 'closed by the desktop'


def ask(farm, vm, path):
    wire = Wire(where(farm))
    wire.send(request(path, [('Authorization', basic(vm.login, vm.password))]))
    return Answer(wire)


def test_stop_vm(farm, node, vm):
    """l7r-protocol 3: 200 once it has stopped, 408 when it does not, 503 in a state unfit."""
    answer = Later(lambda: ask(farm, vm, f'/qvd/stop_vm?id={vm.id}'))
    wait_until(lambda: vm.row()['vm_cmd'] == 'stop', 5, 'the order to stop')
    vm.set_stopped()
    answer = answer.result(3)
    assert (answer.status, answer.body) == (200, b'Machine stopped\r\n')
    assert ask(farm, vm, f'/qvd/stop_vm?id={vm.id}').status == 200
    vm.set_running()
    assert ask(farm, vm, f'/qvd/stop_vm?id={vm.id}').status == 408    # 3 s in this farm
    node.psql(f"UPDATE vm_runtimes SET vm_state = 'zombie_1' WHERE vm_id = {vm.id}")
    assert ask(farm, vm, f'/qvd/stop_vm?id={vm.id}').status == 503
    vm.set_stopped()


def host_set(node, **columns):
    node.psql('UPDATE host_runtimes SET ' + ', '.join(f"{k} = '{v}'" for k, v in columns.items()))
    time.sleep(1.1)     # what was read of the node holds for a second


def test_the_state_of_the_node(farm, node, vm):
    """l7r-protocol 3 and 4."""
    host_set(node, blocked='t')
    assert (ask(farm, vm, '/qvd/ping').status, ask(farm, vm, '/qvd/ping').body) == (
        503, b'Server is blocked\r\n')
    assert client_of(farm, vm).connect(vm.id).status == 503
    host_set(node, blocked='f', state='stopping')
    answer = ask(farm, vm, '/qvd/ping')
    assert (answer.status, answer.body) == (503, b'Server is stopping\r\n')
    assert ask(farm, vm, '/qvd/list_of_vm').status == 503
    host_set(node, state='running')
    assert ask(farm, vm, '/qvd/ping').status == 200


def test_no_room_names_no_node_to_users(farm, node, vm):
    vm.set_stopped()
    node.psql("UPDATE osfs SET memory = 100000 WHERE name = 'desk'")
    answer = client_of(farm, vm).connect(vm.id)
    node.psql("UPDATE osfs SET memory = 256 WHERE name = 'desk'")
    assert answer.status == 503 and b'no node has room for it' in answer.body
    assert farm.nodename.encode() not in answer.body
    assert 'needs 100000 MB' in farm.log_tail('l7r', 100)
    assert vm.row()['user_state'] == 'disconnected'


def test_applications_are_listed_apart(farm, node, vm):
    node.psql("INSERT INTO osfs (name, is_application) VALUES ('app', true)")
    node.psql(f"INSERT INTO vms (name, user_id, osf_id, ip) SELECT 'app', {vm.user_id}, id, "
              "'10.9.9.9' FROM osfs WHERE name = 'app'")
    assert [v['name'] for v in ask(farm, vm, '/qvd/list_of_vm').json()] == [vm.login]
    apps = ask(farm, vm, '/qvd/list_of_applications').json()
    assert [(v['name'], v['state'], v['is_application']) for v in apps] == [('app', 'stopped', 1)]


def pump(client, vm, size=20 << 20):
    """The desktop sends while the client does not read; then all of it arrives."""
    stream = vm.streams[-1]
    block = bytes(range(256)) * 256

    def send():
        for _ in range(size // len(block)):
            stream.sendall(block)
    sender = Later(send)
    time.sleep(1)
    got = 0
    while got < size:
        data = client.wire.record()
        assert data, 'closed in the midst'
        for i in (0, len(data) - 1):
            assert data[i] == (got + i) % 256
        got += len(data)
    sender.result()


def worker_memory(farm):
    out = farm.run(['sh', '-c', 'for p in $(pgrep -x qvd-l7r-worker); do '
                    'grep VmRSS /proc/$p/status; done']).stdout
    return [int(line.split()[1]) for line in out.splitlines()]


def test_a_slow_reader_costs_no_memory(farm, node, vm):
    vm.echo = False
    client = connected(farm, vm)
    before = max(worker_memory(farm))
    pump(client, vm)
    assert max(worker_memory(farm)) - before < 4096     # kB
    client.wire.close()
    wait_free(node, vm)


def test_half_close(farm, node, vm):
    """The desktop ends its direction: the client gets all of it, then the end."""
    client = connected(farm, vm)
    vm.streams[0].sendall(b'last words')
    vm.streams[0].shutdown(1)
    assert client.wire.record() == b'last words'
    assert client.wire.record() == b''
    client.wire.close()
    wait_free(node, vm)


def test_parameters_over_their_limit_are_refused_and_harm_nobody(farm, node, vm):
    """8,000 bytes of names and values: the session beside it goes on."""
    client = connected(farm, vm)
    wire = Wire(where(farm))
    wire.send(request(f'/qvd/connect_to_vm?id={vm.id}&custom.x=' + 'y' * 9000,
                      [('Authorization', basic(vm.login, vm.password)),
                       ('Connection', 'Upgrade'), ('Upgrade', 'QVD/1.0')]))
    answer = Answer(wire)
    assert answer.status == 403 and b'too long' in answer.body
    client.wire.send(b'on')
    assert client.wire.record() == b'on'
    client.wire.close()
    wait_free(node, vm)


# Settings of the database -----------------------------------------------------------------------------

def serial_of(farm):
    wire = Wire(where(farm))
    number = wire.tls.get_peer_certificate().get_serial_number()
    wire.close()
    return number


def test_a_certificate_of_the_database_is_taken_at_once(farm, node, vm, tmp_path):
    """ssl_configs over the files, without a restart; a bad one changes nothing."""
    client = connected(farm, vm)
    before = serial_of(farm)
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt',
                    'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=other', '-days', '10',
                    '-keyout', tmp_path / 'key', '-out', tmp_path / 'cert'], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cert, key = (tmp_path / 'cert').read_text(), (tmp_path / 'key').read_text()
    node.psql("INSERT INTO ssl_configs VALUES ('l7r.ssl.cert', "
              f"'{cert}'), ('l7r.ssl.key', '{key}')")
    wait_until(lambda: serial_of(farm) != before, 5, 'the certificate of the database')
    new = serial_of(farm)
    node.psql("UPDATE ssl_configs SET value = 'nonsense' WHERE key = 'l7r.ssl.cert'")
    wait_until(lambda: 'certificate: ' in farm.log_tail('l7r', 200), 5, 'a word of it')
    assert serial_of(farm) == new
    node.psql('DELETE FROM ssl_configs')
    wait_until(lambda: serial_of(farm) == before, 5, 'the certificate of the files')
    chat(client, b'never cut')
    client.wire.close()
    wait_free(node, vm)


def test_a_setting_of_the_database_holds_at_once(farm, node, vm):
    """l7r.takeover.max is 3: with 1 the second takeover is refused."""
    node.psql("INSERT INTO configs (key, value) VALUES ('l7r.takeover.max', '1')")
    wait_until(lambda: node.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = "
                                 "'qvd-l7r' AND query LIKE '%ssl_configs%' AND state_change > "
                                 "now() - interval '5 s'") != [['0']], 5, 'the settings to be read')
    first, second = connected(farm, vm), connected(farm, vm)
    answer = client_of(farm, vm).connect(vm.id)
    node.psql("DELETE FROM configs WHERE key = 'l7r.takeover.max'")
    assert answer.status == 503 and b'too often' in answer.body
    chat(second, b'mine')
    for client in (first, second):
        client.wire.close()
    wait_free(node, vm)


# Processes that die ---------------------------------------------------------------------------------

def pid_of(farm, name):
    """The pid inside the farm of the newest process of that name."""
    return farm.run(['pgrep', '-n', '-x', name[:15]]).stdout.strip()


def kill(farm, name):
    pid = pid_of(farm, name)
    farm.run(['kill', '-9', pid])
    return pid


def chat(client, text):
    client.wire.send(text)
    got = b''
    while len(got) < len(text):
        piece = client.wire.record()
        assert piece, 'the session has ended'
        got += piece
    assert got == text


def test_a_broker_that_dies_takes_no_session_with_it(farm, node, vm):
    client = connected(farm, vm)
    session = vm.row()['session_id']
    instance = node.psql('SELECT l7r_instance_id FROM vm_runtimes WHERE l7r_instance_id IS NOT '
                         'NULL')[0][0]
    kill(farm, 'qvd-l7r-broker')
    chat(client, b'1' * 5000)
    wait_until(lambda: ask(farm, vm, '/qvd/ping').status == 200, 10, 'the new broker')
    chat(client, b'2' * 5000)
    wait_until(lambda: ask(farm, vm, '/qvd/list_of_vm').status == 200, 10, 'the new authd')
    row = vm.row()
    assert (row['user_state'], row['session_id']) == ('connected', session)
    assert node.psql('SELECT count(*) FROM l7r_instances')[0][0] == '1'
    assert node.psql('SELECT id FROM l7r_instances')[0][0] == instance
    # It is known to the new one: an administrator can end it, and its end is written.
    node.psql(f"UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm.id}")
    while client.wire.record():
        pass
    assert wait_free(node, vm)['bytes_in'] == str(10000 + 49)


def test_a_request_that_waits_when_the_broker_dies_gets_503(farm, node, vm):
    vm.set_stopped()
    client = client_of(farm, vm)
    answer = Later(lambda: client.connect(vm.id))
    wait_until(lambda: vm.row()['vm_cmd'] == 'start', 5, 'the order to start')
    kill(farm, 'qvd-l7r-broker')
    assert answer.result(5).status == 503
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 10, 'the orphan to be ended')
    assert session_row(node, vm)['end_reason'] == 'lost by its L7R'


def test_a_worker_that_dies_ends_its_own_sessions(farm, node, vm):
    client = connected(farm, vm)
    for _ in range(farm.slots):
        kill(farm, 'qvd-l7r-worker')
    with contextlib.suppress(OSError):
        client.wire.record()
    assert wait_free(node, vm)['end_reason'] == 'its worker has ended'
    wait_until(lambda: pid_of(farm, 'qvd-l7r-worker'), 5, 'a new worker')
    again = connected(farm, vm)
    again.wire.close()
    wait_free(node, vm)


def test_a_reload_loses_no_connection_and_no_session(farm, node, vm):
    client = connected(farm, vm)
    master = farm.service('l7r')['pid']
    failures, stop = [], threading.Event()

    def knock():
        while not stop.is_set():
            try:
                if ask(farm, vm, '/qvd/list_of_vm').status not in (200, 503):
                    failures.append('status')
            except OSError as error:
                failures.append(error)
    before = pid_of(farm, 'qvd-l7r-worker')
    knocking = Later(knock)
    for _ in range(3):
        farm.run(['kill', '-HUP', str(master)])
        wait_until(lambda: pid_of(farm, 'qvd-l7r-worker') != before, 10, 'new workers')
        before = pid_of(farm, 'qvd-l7r-worker')
        chat(client, b'on and on')
    stop.set()
    knocking.result()
    assert not failures
    client.wire.close()
    wait_free(node, vm)
    # The old generations go when their last connection has gone.
    wait_until(lambda: len(farm.run(['pgrep', '-x', 'qvd-l7r-worker']).stdout.split()) ==
               farm.slots, 10, 'the old workers to end')


def test_the_database_is_away(farm, node, vm):
    client = connected(farm, vm)
    other = node.add_vm('stays-connected')
    stays = connected(farm, other)
    farm.stop_service('postgres', 'SIGQUIT')
    chat(client, b'still relayed')
    answer = client_of(farm, vm).connect(vm.id)
    assert answer.status == 503 and answer.headers['Retry-After']
    assert ask(farm, vm, '/qvd/ping').status == 503
    # It ends while nobody can write it down.
    client.wire.close()
    time.sleep(0.5)
    farm.start_service('postgres')
    session = wait_free(node, vm, 20)
    assert session['end_reason'] == 'closed by the client'
    assert session['bytes_in'] == str(49 + len(b'still relayed'))
    wait_until(lambda: ask(farm, vm, '/qvd/list_of_vm').status == 200, 20, 'the database again')
    chat(stays, b'and this one goes on')
    assert other.row()['user_state'] == 'connected'
    stays.wire.close()
    wait_free(node, other)
    connected(farm, vm).wire.close()
    wait_free(node, vm)
    assigned_is_the_count(node)


def test_at_the_end_nothing_waits(farm, node):
    """After all of the above."""
    wait_until(lambda: node.psql("SELECT count(*) FROM vm_runtimes WHERE user_state <> "
                                 "'disconnected'")[0][0] == '0', 10, 'all VMs to be free')
    assert node.psql('SELECT count(*) FROM sessions WHERE ended IS NULL') == [['0']]
    assigned_is_the_count(node)
    check_log(farm)
