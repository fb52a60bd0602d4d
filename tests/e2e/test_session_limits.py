# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit of each step of docs/session-steps.md, and what can go wrong in each: what the client is
told, and that the VM is free afterwards."""

import os
import re
import subprocess
import time

import pytest

from fakenode import NX_SERVER
from farm import TOP, wait_until
from later import Later
from oldclients import Answer, PerlClient, QtClient, Wire, basic, first_nx_bytes, request
from steps import Gate, Holds, Lock, Rows, row_of

FARM = {'services': False,
        'settings': {'log.level': 'DEBUG', 'l7r.authd.timeout': '2s', 'l7r.timeout.database': '1500ms',
                     'l7r.timeout.worker': '1s', 'l7r.timeout.vm_start': '3s',
                     'l7r.timeout.vm_stop': '1s', 'l7r.timeout.x_start': '1s',
                     'l7r.timeout.vma': '1500ms', 'l7r.timeout.dial': '500ms',
                     'l7r.timeout.takeover': '500ms',
                     'path.l7r.auth.plugins': '/etc/qvd/auth', 'l7r.auth.remember': '1s', 'l7r.sweep': '1h', 'l7r.takeover.max': '1000'}}


@pytest.fixture(name='hold')
def hold_fixture(farm, node):
    return Holds(farm, node)


@pytest.fixture(name='rows', autouse=True)
def rows_fixture(farm, vm):
    """The rows taken by a test; after it the VM is free and running, and nothing waits."""
    yield Rows(farm)
    wait_until(lambda: vm.row()['user_state'] == 'disconnected', 15, 'the VM to be free')
    vm.node.psql(f'UPDATE vm_runtimes SET blocked = false WHERE vm_id = {vm.id}')
    vm.set_running()


def where(farm):
    return (farm.address, farm.l7r_port)


class Asker:
    """A connection that sends requests of one user."""

    def __init__(self, farm, vm):
        self.wire = Wire(where(farm))
        self.auth = ('Authorization', basic(vm.login, vm.password))

    def send(self, path):
        self.wire.send(request(path, [self.auth]))

    def ask(self, path):
        self.send(path)
        return Answer(self.wire)


def connect(farm, vm, make=PerlClient):
    """(client, its answer that comes)."""
    client = make(where(farm), vm.login, vm.password)
    return client, Later(lambda: client.connect(vm.id))


def refused(answer, text, status=503):
    answer = answer.result(30) if isinstance(answer, Later) else answer
    assert answer.status == status, (answer.status, answer.body)
    assert text in answer.body.decode(), answer.body


# Before a session is claimed --------------------------------------------------------------------------

@pytest.mark.parametrize('path, step, text', [
    ('/qvd/authenticate_user', 'auth', 'the login took too long'),
    ('/qvd/create_auth_token', 'token', 'the token took too long'),
    ('/qvd/list_of_vm', 'list', 'the database does not answer'),
    ('/qvd/ping', 'host', 'the database does not answer'),
    ('/qvd/stop_vm?id={vm}', 'stop', 'the database does not answer'),
])
def test_limit_and_abort_before_a_session(farm, vm, hold, path, step, text):
    asker, leaver = Asker(farm, vm), Asker(farm, vm)
    for each in (asker, leaver):
        if step not in ('auth', 'host'):
            each.ask('/qvd/list_of_vm')     # known from now on
    if step == 'host':
        time.sleep(1.1)     # what was read of the node holds for a second
    path, rows = path.format(vm=vm.id), Rows(farm)
    with getattr(hold, step)(vm):
        asker.send(path)
        rows.entered(step)
        leaver.send(path)
        wait_until(lambda: [r[2] for r in rows.all()].count(step) == 2, 5, 'the second request')
        leaver.wire.reset()
        rows.wait(f'{step} abort')
        refused(Answer(asker.wire), text)
        rows.wait(f'{step} limit')
    asker.wire.close()


def test_a_login_that_authd_refuses_or_takes(farm, vm, rows):
    asker = Asker(farm, vm)
    assert asker.ask('/qvd/authenticate_user').json() == {}
    assert set(asker.ask('/qvd/create_auth_token').json()) == {'auth_params_id', 'auth_token'}
    asker.auth = ('Authorization', basic(vm.login, 'wrong'))
    refused(asker.ask('/qvd/list_of_vm'), 'Unauthorized', 401)
    asker.wire.close()
    assert {('auth', 'answered', 'gone'), ('auth', 'token', 'token'), ('token', 'answered', 'gone'),
            ('auth', 'refused', 'gone')} <= set(rows.all())


def test_a_token_of_a_user_who_was_deleted_meanwhile(farm, node, vm, rows):
    """Known on this connection, and gone."""
    user, password = node.add_user('leaves')
    asker = Asker(farm, vm)
    asker.auth = ('Authorization', basic('leaves', password))
    assert asker.ask('/qvd/list_of_vm').json() == []
    node.psql(f'DELETE FROM users WHERE id = {user}')
    refused(asker.ask('/qvd/create_auth_token'), 'Unauthorized', 401)
    rows.wait('token refused')
    asker.wire.close()


def test_a_database_that_refuses(farm, node, vm, rows):
    asker = Asker(farm, vm)
    node.psql('REVOKE SELECT ON osfs FROM qvd_l7r')
    refused(asker.ask('/qvd/list_of_vm'), 'The database cannot be reached')
    node.psql('GRANT SELECT ON osfs TO qvd_l7r')
    rows.wait('list refused')
    refused(asker.ask('/qvd/stop_vm?id=999999'), 'not found', 404)
    refused(asker.ask('/qvd/stop_vm'), 'id', 422)
    rows.wait('stop refused', 'host refused')
    asker.wire.close()


def test_a_vm_that_does_not_stop(farm, vm, rows):
    asker, leaver = Asker(farm, vm), Asker(farm, vm)
    leaver.send(f'/qvd/stop_vm?id={vm.id}')
    rows.entered('stopping')
    leaver.wire.reset()
    rows.wait('stopping abort')
    refused(asker.ask(f'/qvd/stop_vm?id={vm.id}'), 'Timeout: the VM did not stop in time', 408)
    rows.wait('stopping limit')
    vm.set_stopped()
    assert asker.ask(f'/qvd/stop_vm?id={vm.id}').body == b'Machine stopped\r\n'
    rows.wait('stop answered')
    asker.wire.close()


def test_a_vm_that_stops(farm, vm, rows):
    asker = Asker(farm, vm)
    asker.send(f'/qvd/stop_vm?id={vm.id}')
    rows.entered('stopping')
    vm.set_stopped()
    assert Answer(asker.wire).body == b'Machine stopped\r\n'
    rows.wait('stopping answered')
    asker.wire.close()


# The claim ------------------------------------------------------------------------------------------

def test_a_claim_that_takes_too_long(farm, vm, hold, rows):
    """Twice l7r.timeout.database, and once more until its outcome does not matter; the client goes
    when it is told, which changes nothing."""
    with hold.claim(vm):
        client, answer = connect(farm, vm)
        refused(answer, 'the database does not answer')
        client.wire.close()
        rows.wait('claim limit', 'unclaim abort', 'unclaim limit')
    # The statement came through all the same: the next look finds that nobody has that session.
    farm.run(['sh', '-c', 'kill -HUP $(pgrep -o -x qvd-l7r)'])


def test_a_claim_that_nobody_wants_any_more_is_given_back(farm, vm, hold, rows):
    with hold.claim(vm):
        client, _ = connect(farm, vm)
        rows.entered('claim')
        client.wire.socket.shutdown(2)
        rows.wait('claim abort')
    rows.wait('unclaim done', 'close done')
    assert rows.all(vm)[-1] == ('close', 'done', 'gone')


def test_a_claim_of_a_taken_vm_that_nobody_wants_any_more(farm, vm, hold, rows):
    first, answer = connect(farm, vm)
    assert first_nx_bytes(first.wire, answer.result()) == NX_SERVER
    with hold.claim(vm):
        client, _ = connect(farm, vm)
        wait_until(lambda: [r[2] for r in rows.all()].count('claim') == 2, 5, 'the second claim')
        client.wire.socket.shutdown(2)
        rows.wait('claim abort')
    rows.wait('unclaim hold')
    first.wire.close()


def test_a_claim_that_is_refused_when_nobody_wants_it(farm, node, vm, rows):
    lock = Lock(farm, row_of(vm))
    client, _ = connect(farm, vm)
    rows.entered('claim')
    client.wire.socket.shutdown(2)
    rows.wait('claim abort')
    lock.release(f"UPDATE vm_runtimes SET blocked = true WHERE vm_id = {vm.id}")
    rows.wait('unclaim refused')
    refused(connect(farm, vm)[1], 'under maintenance', 403)
    rows.wait('claim refused')


def test_a_block_reaches_an_open_connection(farm, node, vm):
    asker = Asker(farm, vm)
    assert asker.ask('/qvd/list_of_vm').status == 200
    node.psql(f'UPDATE users SET blocked = true WHERE id = {vm.user_id}')
    wait_until(lambda: asker.ask('/qvd/list_of_vm').status == 401, 5, 'the refusal', interval=0.2)
    node.psql(f'UPDATE users SET blocked = false WHERE id = {vm.user_id}')
    wait_until(lambda: asker.ask('/qvd/list_of_vm').status == 200, 5, 'the login', interval=0.2)


# The session ----------------------------------------------------------------------------------------

def test_a_former_session_that_does_not_end(farm, vm, hold, rows):
    """It hangs in its reset, for longer than l7r.timeout.takeover: the new one does not wait."""
    with hold.reset(vm) as held:
        _, first = connect(farm, vm)
        refused(first, 'does not take the connection')
        rows.entered('reset')
        held.reopen()
        second, answer = connect(farm, vm, QtClient)
        rows.wait('takeover limit')
        assert first_nx_bytes(second.wire, answer.result()) == NX_SERVER
    second.wire.close()


def test_who_waits_for_a_former_session_may_go(farm, vm, hold, rows):
    with hold.reset(vm):
        _, first = connect(farm, vm)
        refused(first, 'does not take the connection')
        rows.entered('reset')
        second, _ = connect(farm, vm, QtClient)
        rows.entered('takeover')
        second.wire.socket.shutdown(2)
        rows.wait('takeover abort', 'reset abort')


def test_a_vm_that_does_not_start(farm, vm, hold, rows):
    with hold.wait(vm):
        refused(connect(farm, vm)[1], 'the VM did not start in time')
        rows.wait('wait limit')
        vm.set_stopped()
        _, answer = connect(farm, vm)
        rows.entered('wait')
        wait_until(lambda: vm.row()['vm_cmd'] == 'start', 5, 'the order')
        vm.node.psql("UPDATE vm_runtimes SET vm_state = 'starting_2', vm_cmd = NULL "
                     f'WHERE vm_id = {vm.id}')
        vm.set_stopped(blocked='no network')
        refused(answer, 'it failed to start')
        rows.wait('wait refused')


# What hkd writes when a VM expires, and a moment before it has written it.
ENDS_SOON = {'restart': "vm_cmd = 'start'", 'stop': "vm_cmd = 'stop'",
             'expired': "vm_expiration_hard = now() - interval '1 ms'"}


@pytest.mark.parametrize('order', sorted(ENDS_SOON))
def test_a_vm_that_is_about_to_end_is_waited_for(node, farm, vm, rows, order):
    """Nobody is let in to be cut in a moment: he gets the next run."""
    node.psql(f'UPDATE vm_runtimes SET {ENDS_SOON[order]} WHERE vm_id = {vm.id}')
    calls = len(vm.called('x_start'))
    client, answer = connect(farm, vm)
    rows.entered('wait')
    node.psql("UPDATE vm_runtimes SET vm_state = 'stopping_1', vm_expiration_hard = NULL "
              f'WHERE vm_id = {vm.id}')
    vm.set_stopped()
    wait_until(lambda: vm.row()['vm_cmd'] == 'start', 10, 'the next run')
    assert len(vm.called('x_start')) == calls
    vm.set_running()
    assert answer.result(30).status == 101
    client.wire.close()


def test_a_vm_whose_tag_no_image_has(farm, node, vm):
    """A tag may be set before an image has it: who logs in is told, and the log tells which."""
    node.psql(f"UPDATE vms SET di_tag = 'nosuch' WHERE id = {vm.id}")
    vm.set_stopped()
    refused(connect(farm, vm)[1], 'no published image has its tag')
    assert 'refused in claim: no published image of the OSF desk has the tag nosuch' in \
        farm.log_tail('l7r', 20000)
    node.psql(f"UPDATE vms SET di_tag = 'default' WHERE id = {vm.id}")
    vm.set_running()


@pytest.mark.parametrize('state', ['sleeps', 'does not answer'])
def test_a_desktop_that_does_not_start(farm, vm, hold, rows, state):
    """qvd-rpc under SIGSTOP: our own limit. An agent that hangs: whoever notices first."""
    if state == 'sleeps':
        with hold.stopped('qvd-rpc'):
            refused(connect(farm, vm)[1], 'the desktop did not start in time')
        rows.wait('prepare limit')
        return
    with hold.prepare(vm):
        answer = connect(farm, vm)[1].result()
        assert answer.status == 503 and b'not available: ' in answer.body


def test_an_agent_that_refuses(farm, vm, rows):
    vm.on('x_start', 503, 'stopped', 'no such hook')
    refused(connect(farm, vm)[1], 'its desktop did not start')
    del vm.answers['x_start']
    rows.wait('prepare refused')


def test_a_worker_that_does_not_say_whether_the_client_is_there(farm, vm, hold, rows):
    client, dials = PerlClient(where(farm), vm.login, vm.password), vm.dials
    with hold.ask(vm, client):
        answer = Later(lambda: client.connect(vm.id))
        rows.wait('ask limit')
    refused(answer, 'the server is busy')
    assert vm.dials == dials



def test_a_desktop_whose_port_takes_nothing(farm, vm, hold, rows):
    with hold.dial(vm):
        refused(connect(farm, vm)[1], 'the desktop does not take the connection')
        rows.wait('dial limit')


def test_the_desktop_refuses_and_the_agent_is_told(farm, vm, hold, rows):
    with hold.reset(vm):
        refused(connect(farm, vm)[1], 'the desktop does not take the connection')
        rows.wait('dial refused')
    with hold.reset(vm), hold.stopped('qvd-authd'):
        pass
    rows.wait('reset done')


def test_a_reset_that_is_not_answered(farm, vm, hold, rows):
    """qvd-rpc sleeps from the dial on."""
    with hold.dial(vm):
        _, answer = connect(farm, vm)
        rows.entered('dial')
        with hold.stopped('qvd-rpc'):
            refused(answer, 'does not take the connection')
            rows.wait('reset limit')


def test_a_switch_that_takes_too_long(farm, vm, hold, rows):
    with hold.switch(vm) as held:
        _, answer = connect(farm, vm)
        refused(answer, 'the database does not answer')
        rows.wait('switch limit')
        held.release()


def test_who_goes_while_his_session_is_switched(farm, vm, hold, rows):
    """The dial was not used, which the agent is told."""
    with hold.switch(vm) as held:
        client, _ = connect(farm, vm)
        rows.entered('switch')
        client.wire.socket.shutdown(2)
        rows.wait('switch abort')
        held.release()
    rows.wait('close done')


def test_a_switch_that_finds_an_order_to_leave(farm, node, vm, rows):
    """The notification was lost."""
    vm.answers['x_start'] = gate = Gate(first=lambda: node.psql(
        "SET qvd.notify = 'store'; UPDATE vm_runtimes SET user_cmd = 'abort' "
        f'WHERE vm_id = {vm.id}'))
    gate.open.set()
    refused(connect(farm, vm)[1], 'disconnected by an administrator')
    del vm.answers['x_start']
    rows.wait('switch abort')


def test_a_switch_that_finds_a_stopped_vm(farm, node, vm, rows):
    vm.answers['x_start'] = gate = Gate(first=lambda: node.psql(
        "SET qvd.notify = 'store'; UPDATE vm_runtimes SET vm_state = 'stopping_1' "
        f'WHERE vm_id = {vm.id}'))
    gate.open.set()
    refused(connect(farm, vm)[1], 'the virtual machine has stopped')
    del vm.answers['x_start']
    rows.wait('switch refused')
    vm.set_running()


@pytest.mark.parametrize('order, word', [('restart', 'it is restarted now'),
                                         ('stop', 'it is stopped now'),
                                         ('expired', 'it is restarted now')])
def test_a_switch_that_finds_a_vm_about_to_end(farm, node, vm, rows, order, word):
    vm.answers['x_start'] = gate = Gate(first=lambda: node.psql(
        f"SET qvd.notify = 'store'; UPDATE vm_runtimes SET {ENDS_SOON[order]} "
        f'WHERE vm_id = {vm.id}'))
    gate.open.set()
    refused(connect(farm, vm)[1], word)
    del vm.answers['x_start']
    rows.wait('switch refused')
    node.psql(f'UPDATE vm_runtimes SET vm_expiration_hard = NULL WHERE vm_id = {vm.id}')


def test_a_session_that_carried_nothing(farm, vm, rows):
    """Its dial was not used, which the agent is told."""
    client, answer = connect(farm, vm)
    assert answer.result().status == 101
    client.wire.close()
    rows.wait('connected unused', 'reset done')
    assert [c[0] for c in vm.calls][-1] == 'x_reset'


@pytest.mark.parametrize('used', [True, False])
def test_a_session_that_is_cut(farm, node, vm, rows, used):
    client, answer = connect(farm, vm)
    answer = answer.result()
    if used:
        assert first_nx_bytes(client.wire, answer) == NX_SERVER
    node.psql(f"UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm.id}")
    assert client.wire.record() == b''
    rows.wait('connected abort', 'cut ended' if used else 'cut unused')


def test_a_worker_that_does_not_cut(farm, node, vm, hold, rows):
    client, answer = connect(farm, vm)
    assert first_nx_bytes(client.wire, answer.result()) == NX_SERVER
    with hold.cut(client.wire.socket.getsockname()[1]):
        node.psql(f"UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = {vm.id}")
        rows.entered('cut')
        vm.set_stopped()
        rows.wait('cut abort', 'cut limit')
    assert client.wire.record() == b''


# The end --------------------------------------------------------------------------------------------

def test_an_end_that_cannot_be_written(farm, vm, hold, rows):
    client, answer = connect(farm, vm)
    assert first_nx_bytes(client.wire, answer.result()) == NX_SERVER
    with hold.later(vm):
        client.wire.close()
        rows.wait('close refused', 'later limit')
        assert vm.row()['user_state'] == 'connected'
    rows.wait('close done')


def test_an_end_that_is_not_written_in_time(farm, vm, hold, rows):
    client, answer = connect(farm, vm)
    assert first_nx_bytes(client.wire, answer.result()) == NX_SERVER
    with hold.claim(vm):
        client.wire.close()
        rows.wait('connected ended', 'close limit')
    rows.wait('close done')


def test_who_is_refused_may_go_before_the_end_is_written(farm, vm, hold, rows):
    """Told at once, he goes, and later too: the end is written all the same."""
    vm.on('x_start', 503, 'stopped', 'no')
    with hold.later(vm):
        client, answer = connect(farm, vm)
        refused(answer, 'its desktop did not start')
        rows.wait('close refused')
        client.wire.close()
    del vm.answers['x_start']
    rows.wait('close done')
    # In the midst of the statement, too.
    vm.answers['x_start'] = gate = Gate((503, {'state': 'stopped', 'error': 'no'}))
    client, answer = connect(farm, vm)
    assert gate.asked.wait(10)
    lock = Lock(farm, row_of(vm))
    gate.open.set()
    refused(answer, 'its desktop did not start')
    rows.wait('close abort')
    lock.release()
    del vm.answers['x_start']


def test_a_stop_of_the_l7r_finds_ends_that_wait(farm, node, vm, hold, rows):
    """TERM while an end waits for the database: it is kept, then written."""
    client, answer = connect(farm, vm)
    assert first_nx_bytes(client.wire, answer.result()) == NX_SERVER
    with hold.later(vm):
        client.wire.close()
        rows.wait('close refused')
        stop = Later(lambda: farm.stop_service('l7r', 'SIGTERM'))
        rows.wait('later abort')
    stop.result(30)
    assert vm.row()['user_state'] == 'disconnected'
    farm.start_service('l7r')


# A plugin of others -------------------------------------------------------------------------------

def build(farm, source, path):
    """With what is installed, by the command of the manual."""
    include = os.path.join(farm.tree, 'usr/include/qvd')
    subprocess.run(['cc', '-Wall', '-Werror', '-shared', '-fPIC', f'-I{include}', '-o', path, source],
                   check=True)
    os.chmod(path, 0o644)


class Pool:
    """tests/lib/plugin-pool.c; what it does is a setting of its own."""

    def __init__(self, farm, node, vm, other):
        self.farm, self.node, self.vm, self.other = farm, node, vm, other
        folder = farm.path('etc/auth')
        os.makedirs(folder)
        self.file = os.path.join(folder, 'pool.so')
        build(farm, os.path.join(TOP, 'tests/lib/plugin-pool.c'), self.file)
        self.set('auth.pool.vms', other.id)
        self.set('l7r.auth.plugins', 'pool')

    def set(self, key, value):
        self.node.psql(f"DELETE FROM configs WHERE key = '{key}'; "
                       f"INSERT INTO configs (key, value) VALUES ('{key}', '{value}')")

    def does(self, what):
        self.set('auth.pool.does', what)

    def list(self, password=None, login=None):
        wire = Wire(where(self.farm))
        wire.send(request('/qvd/list_of_vm', [
            ('Authorization', basic(login or self.vm.login, password or self.vm.password))]))
        answer = Answer(wire)
        wire.close()
        return answer.status, [row['id'] for row in answer.json()] if answer.status == 200 else None

    def until(self, what, wanted):
        """Until the setting has arrived, and the list is this."""
        self.does(what)
        wait_until(lambda: self.list() == wanted, 15, f'{what}: {wanted}')


@pytest.fixture(name='pool', scope='module')
def pool_fixture(farm, node, vm):
    made = Pool(farm, node, vm, node.add_vm('bob'))
    yield made
    node.psql("DELETE FROM configs WHERE key LIKE 'auth.%' OR key = 'l7r.auth.plugins'")


def test_a_plugin_lists_other_vms_and_lets_him_in(farm, pool):
    """auth-plugins 2: list_of_vm replaces the list, one yes of allow_access_to_vm is enough, and
    what before_connect_to_vm sets arrives in the VM."""
    pool.until('lists', (200, [pool.other.id]))
    client = PerlClient(where(farm), pool.vm.login, pool.vm.password)
    assert first_nx_bytes(client.wire, client.connect(pool.other.id)) == NX_SERVER
    assert pool.other.called('x_start')[-1][2]['custom.pool'] == 'alice'
    client.wire.close()
    wait_until(lambda: pool.other.row()['user_state'] == 'disconnected', 10, 'the VM to be free')
    pool.set('auth.pool.vms', '')
    pool.until('lists', (200, []))
    refused(PerlClient(where(farm), pool.vm.login, pool.vm.password).connect(pool.other.id),
            'not allowed', 403)
    pool.set('auth.pool.vms', pool.other.id)


def test_the_plugin_of_the_manual(farm, pool):
    """docs/administration.md, "A plugin of your own"."""
    with open(os.path.join(TOP, 'docs/administration.md'), encoding='utf-8') as f:
        text = re.search(r'```c\n(.*?)```', f.read(), re.S).group(1)
    with open(farm.path('shared.c'), 'w', encoding='utf-8') as f:
        f.write(text)
    build(farm, farm.path('shared.c'), farm.path('etc/auth/shared.so'))
    pool.set('auth.shared.vm', pool.other.id)
    pool.set('l7r.auth.plugins', 'shared')
    wait_until(lambda: pool.list() == (200, [pool.vm.id]), 10, 'the plugin')
    client = PerlClient(where(farm), pool.vm.login, pool.vm.password)
    assert first_nx_bytes(client.wire, client.connect(pool.other.id)) == NX_SERVER
    client.wire.close()
    wait_until(lambda: pool.other.row()['user_state'] == 'disconnected', 10, 'the VM to be free')
    assert f'plugin: user {pool.vm.user_id} asks for VM {pool.other.id}' in farm.log_tail('l7r', 9999)
    pool.set('l7r.auth.plugins', 'pool')


def test_a_plugin_that_says_nonsense(farm, pool):
    """Too many VMs, verdicts that are none, names without an end: as if it had said nothing."""
    pool.until('nonsense', (200, [pool.vm.id]))
    assert pool.list('wrong') == (401, None)
    refused(PerlClient(where(farm), pool.vm.login, pool.vm.password).connect(pool.other.id),
            'not allowed', 403)


@pytest.mark.parametrize('end, word', [('crashes', 'plugins of tenant 1: signal 11'),
                                       ('hangs', 'no answer within l7r.authd.timeout')])
def test_a_plugin_that_crashes_or_hangs(farm, pool, end, word):
    """Who asks is told to come again, each time; then all is as before."""
    pool.until('lists', (200, [pool.other.id]))
    began = time.monotonic()
    pool.until(end, (503, None))
    assert time.monotonic() - began < 6     # l7r.authd.timeout is 2 s
    wait_until(lambda: word in farm.log_tail('l7r', 1000000), 10, 'its end')
    pool.until('lists', (200, [pool.other.id]))
    assert 'qvd-authd: signal' not in farm.log_tail('l7r', 1000000)


@pytest.fixture(name='carol')
def carol_fixture(node, pool, vm):
    """Of another tenant, with other plugins: a function that lists as she."""
    node.psql("INSERT INTO tenants (id, name) VALUES (50, 'lab')")
    node.psql("INSERT INTO users (tenant_id, login, password) SELECT 50, 'carol', password FROM "
              f"users WHERE id = {vm.user_id}")
    node.psql("UPDATE configs SET tenant_id = 1 WHERE key = 'l7r.auth.plugins'")
    yield lambda: pool.list(login='carol@lab')[0]
    node.psql("DELETE FROM configs WHERE tenant_id = 50; "
              "UPDATE configs SET tenant_id = -1 WHERE key = 'l7r.auth.plugins'; "
              "DELETE FROM users WHERE tenant_id = 50; DELETE FROM tenants WHERE id = 50")


def test_a_tenant_whose_plugin_crashes_is_alone_with_it(pool, carol):
    """However often it crashes, nothing is started again and nobody else waits."""
    pool.until('crashes', (503, None))
    for _ in range(20):
        began = time.monotonic()
        assert (pool.list(), carol()) == ((503, None), 200)
        assert time.monotonic() - began < 2
    pool.until('lists', (200, [pool.other.id]))


def test_a_tenant_whose_plugin_hangs_is_alone_with_it(node, pool, carol):
    """Half of the processes are left to others, with plugins or without."""
    pool.until('hangs', (503, None))
    for plugins in ('default', 'pool'):
        node.psql("DELETE FROM configs WHERE tenant_id = 50; INSERT INTO configs (tenant_id, key, "
                  f"value) VALUES (50, 'l7r.auth.plugins', '{plugins}'), (50, 'auth.pool.does', '')")
        wait_until(lambda: carol() == 200, 10, 'her plugins')
        hanging = [Later(pool.list) for _ in range(5)]  # an account has five tries at once
        assert [carol() for _ in range(5)] == [200] * 5
        assert not any(each.done() for each in hanging)     # l7r.authd.timeout is 2 s
        assert {each.result(30)[0] for each in hanging} == {503}
    pool.until('lists', (200, [pool.other.id]))


@pytest.mark.parametrize('fault, word', [
    ('gone', 'there is no plugin "pool2"'), ('of others', 'nobody else can change'),
    ('no library', 'pool2.so'), ('another version', 'another version of QVD')])
def test_a_plugin_that_cannot_be_loaded(farm, pool, fault, word):
    """Nobody can log in, and the log says why."""
    path = pool.file.replace('pool.so', 'pool2.so')
    if fault == 'of others':
        with open(path, 'wb'):
            os.chmod(path, 0o666)
    elif fault == 'no library':
        with open(path, 'wb') as f:
            f.write(b'x')
    elif fault == 'another version':
        subprocess.run(['cc', '-shared', '-fPIC', '-x', 'c', '-o', path, '-'], check=True,
                       input=b'const unsigned qvd_auth_plugin[4] = {99};')
    pool.set('l7r.auth.plugins', 'pool2')
    wait_until(lambda: pool.list()[0] == 503, 10, 'a refusal')
    assert word in farm.log_tail('l7r', 20000)
    pool.set('l7r.auth.plugins', 'pool')
    wait_until(lambda: pool.list()[0] == 200, 10, 'the plugin')
    if os.path.exists(path):
        os.remove(path)
